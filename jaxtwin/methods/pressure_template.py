"""The clinic's shortcut to a pressure-volume loop: one pressure curve for all, scaled by a cuff.

Non-invasive myocardial work takes a reference curve of ventricular pressure, stretches its parts so
that its events coincide with the patient's, and scales it by the pressure of an arm cuff (Russell
et al., "A novel clinical method for quantification of regional left ventricular pressure-strain
loop area", European Heart Journal 33(6), 2012). There the events are those of the valves; here they
are the two that a volume curve shows, beginning and end of ejection.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxtwin.cohorts.cohort import Cohort
from jaxtwin.cohorts.simulate import simulate_cohort
from jaxtwin.methods.base import (
    AbstractTrainedMethod,
    Estimate,
    Learnt,
    Sees,
    Session,
    check_counts,
)
from jaxtwin.methods.checks import require_period
from jaxtwin.methods.tasks import Curves, CurveTask
from jaxtwin.physics.base import check_channels, reading
from jaxtwin.physics.channels import Channels
from jaxtwin.physics.solution import Recording

POINTS = 240
"""Number of points of the template, half of them in systole."""
END_SYSTOLIC = 0.9
"""End-systolic pressure as a share of the cuff's systolic pressure."""


class Template(eqx.Module):
    """Knowledge of `PressureTemplate`.

    Attributes:
        curve: Mean of the pressure divided by the scale, at equal steps from the first event to the
            second in its first half, and on to the first again in its second half.
        scale: Mean of the scale among the simulated patients, in its unit.
        gain: Factor of each harmonic of a measured curve that takes the noise out of it.
    """

    curve: Float[Array | np.ndarray, " point"]
    scale: Float[Array | np.ndarray, ""]
    gain: Float[Array | np.ndarray, " harmonic"]

    @classmethod
    def of(
        cls,
        task: CurveTask,
        patients: Cohort[Any],
        random: np.random.Generator,
        *,
        output: str = "P_lv",
        scale: str = "systolic",
        threshold: float = 0.05,
    ) -> "Template":
        """Make the template of simulated patients.

        Their events are found in curves with the task's noise, as those of new patients are. The
        filter is that of Wiener, whose error is the smallest on average over these patients.

        Args:
            task: The task.
            patients: Patients of the task's system and box, simulated at its phases.
            random: Random generator of the noise.
            output: See `PressureTemplate`.
            scale: See `PressureTemplate`.
            threshold: See `PressureTemplate`.
        """
        exact = np.asarray(getattr(patients.recording.waveforms, task.channel), float)
        power = np.mean(np.abs(np.fft.rfft(exact, axis=1)) ** 2, axis=0)
        noise = task.samples * task.noise**2
        gain = power / np.where(power > 0, power + noise, 1.0)
        measured = exact + task.noise * random.normal(size=exact.shape)
        events = find_events(filtered(measured, gain), threshold)
        size = np.asarray(patients.read([scale])[scale], float)
        pressure = np.asarray(getattr(patients.recording.waveforms, output), float)
        phases = aligned_phases(np.arange(POINTS) / POINTS, events)
        curve = np.mean(interpolated(pressure / size[:, None], phases), axis=0)
        return cls(*(x.astype(np.float32) for x in (curve, np.asarray(size.mean()), gain)))


class PressureTemplate(AbstractTrainedMethod[CurveTask, Curves]):
    """The measured curve with a template of the pressure, scaled by what a cuff measures.

    The template is the mean, over patients drawn from the task's prior and simulated, of the
    pressure divided by the scale, each aligned by its events: the mean curve of the very circuit
    that made simulated test patients, which favours this method over a clinic's reference curve.

    A patient gets their own scale if the task has a channel of this name beside the curve and it
    was measured in them; otherwise, NaN included, the mean of the simulated patients. Other
    channels are not used. Patients with a gap in their curve, or a scale that is not positive,
    fail. It gives no θ; `cuff_elastance` is the clinic's estimate of E_max.

    Attributes:
        output: Name of the output to estimate, a pressure.
        scale: Name of the reading that scales it.
        threshold: Share of the curve's range by which it has fallen at the first event, and is
            above its smallest value at the second. With 0 the events are the largest and the
            smallest value, which noise moves along the plateaus of isovolumic contraction and
            relaxation.
        patients: Number of simulated patients.
    """

    sees: ClassVar = Sees("curve", labels=False, cohort=False, physics=True, beside=True)
    output: str = "P_lv"
    scale: str = "systolic"
    threshold: float = 0.05
    patients: int = 4_096

    def __check_init__(self) -> None:
        check_counts(self, "patients")
        if not 0 <= self.threshold < 0.5:
            raise ValueError(
                f"threshold of PressureTemplate is {self.threshold}: expected a share of the "
                "curve's range, at least 0 and less than 0.5"
            )

    def prepare(
        self,
        task: CurveTask,
        training: Curves | None,
        validation: Curves | None,
        session: Session,
    ) -> Learnt[CurveTask, Curves]:
        """Make the template from simulated patients; see `AbstractMethod`."""
        del training, validation
        self._check_task(task)
        n, seed, prior = self.patients, session.seed, task.prior
        theta = (
            task.box.sample(n, seed=seed) if prior is None else prior.sample(task.box, n, seed=seed)
        )
        theta = np.asarray(theta, np.float32)
        patients = simulate_cohort(task.system, task.box, theta, phases=task.samples)
        good = patients.success & np.asarray(task.system.feasible(patients.recording))
        if not good.any():
            raise ValueError(
                f"none of {len(good)} patients of the prior can be simulated: check the box"
            )
        template = Template.of(
            task,
            patients.take(np.flatnonzero(good)),
            np.random.default_rng(seed),
            output=self.output,
            scale=self.scale,
            threshold=self.threshold,
        )
        return Learnt(self, task, self.ready(task, template), template)

    def untrained(self, task: CurveTask) -> Template:
        """Return a template of zeros; see `AbstractTrainedMethod`."""
        sizes = (POINTS,), (), (task.samples // 2 + 1,)
        return Template(*(jnp.zeros(size, jnp.float32) for size in sizes))

    def ready(self, task: CurveTask, knowledge: Template) -> Callable[[Curves], Estimate]:
        """Return the function from curves to an estimate."""
        self._check_task(task)
        template, gain = (np.asarray(x, float) for x in (knowledge.curve, knowledge.gain))

        def answer(curves: Curves) -> Estimate:
            size = self.scales(knowledge, curves)
            good = np.isfinite(curves.values).all(axis=1) & (size > 0)
            values = np.where(good[:, None], np.asarray(curves.values, float), 0.0)
            volume = filtered(values, gain)
            phases = template_phases(
                np.arange(task.samples) / task.samples, find_events(volume, self.threshold)
            )
            shape = interpolated(np.broadcast_to(template, (len(size), POINTS)), phases)
            names = task.channel, self.output
            waves = [
                np.where(good[:, None], wave, np.nan) for wave in (volume, size[:, None] * shape)
            ]
            recording = Recording(
                Channels(names, tuple(wave.max(axis=1) for wave in waves)),
                Channels(names, tuple(wave.min(axis=1) for wave in waves)),
                Channels(names, tuple(waves)),
                np.full(len(size), np.nan),
            )
            return task.estimate_from(recording, None, good)

        return answer

    def scales(self, knowledge: Template, curves: Curves) -> Float[np.ndarray, " patient"]:
        """Return the scale of each patient: what was measured, otherwise the mean.

        Args:
            knowledge: What was learnt.
            curves: Checked measurements.
        """
        mean, beside = float(knowledge.scale), curves.beside or {}
        if self.scale not in beside:
            return np.full(len(curves.values), mean)
        own = np.asarray(beside[self.scale].values, float)[:, 0]
        return np.where(np.isfinite(own), own, mean)

    def _check_task(self, task: CurveTask) -> None:
        """Raise a ValueError if the task's system has no such beat, output or scale."""
        require_period(task.system, self)
        check_channels(task.system, self.output)
        reading(task.system, self.scale)
        if self.output == task.channel:
            raise ValueError(
                f"PressureTemplate is to estimate {self.output}, which this task measures: choose "
                "another output"
            )


def cuff_elastance(
    systolic: Float[np.ndarray, " patient"], ESV: Float[np.ndarray, " patient"]
) -> Float[np.ndarray, " patient"]:
    """Return the clinic's end-systolic elastance, 0.9 systolic/ESV [mmHg/mL].

    The end-systolic pressure is 0.9 of the cuff's systolic pressure (Kelly et al., "Effective
    arterial elastance as index of arterial vascular load in humans", Circulation 86(2), 1992), and
    the unstressed volume is neglected.

    Args:
        systolic: Systolic pressure [mmHg].
        ESV: End-systolic volume [mL].
    """
    return END_SYSTOLIC * systolic / ESV


def filtered(
    values: Float[np.ndarray, "patient sample"], gain: Float[np.ndarray, " harmonic"]
) -> Float[np.ndarray, "patient sample"]:
    """Return periodic curves with each harmonic multiplied by its gain."""
    return np.fft.irfft(np.fft.rfft(values, axis=1) * gain[None], values.shape[1], axis=1)


def find_events(
    values: Float[np.ndarray, "patient sample"], threshold: float
) -> Float[np.ndarray, "patient 2"]:
    """Return the phases of beginning and end of ejection, between samples linearly.

    Ejection leads from the largest to the smallest value of the curve. It begins when the curve has
    fallen by this share of its range for the last time, and ends when it is first within this share
    of the smallest value.

    Args:
        values: Curves over a period.
        threshold: The share.
    """
    n = values.shape[1]
    patient, place = np.arange(len(values)), np.arange(n)
    first = values.argmax(axis=1)
    rolled = values[patient[:, None], (first[:, None] + place) % n]
    falling = place <= rolled.argmin(axis=1)[:, None]
    high, low = rolled[:, 0], rolled.min(axis=1)
    start, end = high - threshold * (high - low), low + threshold * (high - low)

    def crossing(left: np.ndarray, level: np.ndarray) -> np.ndarray:
        before, after = rolled[patient, left], rolled[patient, (left + 1) % n]
        drop = before - after
        return left + np.where(drop > 0, (before - level) / np.where(drop > 0, drop, 1.0), 0.0)

    last = np.where(falling & (rolled >= start[:, None]), place, 0).max(axis=1)
    reached = np.where(falling & (rolled <= end[:, None]), place, n).min(axis=1)
    events = crossing(last, start), crossing(np.maximum(reached - 1, 0), end)
    return (first[:, None] + np.stack(events, axis=1)) / n % 1


def aligned_phases(
    points: Float[np.ndarray, " point"], events: Float[np.ndarray, "patient 2"]
) -> Float[np.ndarray, "patient point"]:
    """Return at which phases of each patient the points of a template are.

    Args:
        points: Places in the template, from 0 to 1: the first event at 0, the second at ½.
        events: Phases of the events of each patient.
    """
    start, ejection = _ejections(events)
    systole = 2 * points * ejection
    diastole = ejection + (2 * points - 1) * (1 - ejection)
    return (start + np.where(points < 0.5, systole, diastole)) % 1


def template_phases(
    phases: Float[np.ndarray, " sample"], events: Float[np.ndarray, "patient 2"]
) -> Float[np.ndarray, "patient sample"]:
    """Return at which places of a template phases of each patient are: `aligned_phases` inverted.

    Args:
        phases: Phases, as shares of the period.
        events: Phases of the events of each patient.
    """
    start, ejection = _ejections(events)
    since = (phases - start) % 1
    diastole = 0.5 + (since - ejection) / (1 - ejection) / 2
    return np.where(since < ejection, since / ejection / 2, diastole) % 1


def _ejections(events: Float[np.ndarray, "patient 2"]) -> tuple[np.ndarray, np.ndarray]:
    """Return beginning and duration of the ejection, [patient, 1]; half a period if it has none."""
    start = events[:, :1]
    duration = (events[:, 1:] - start) % 1
    return start, np.where(duration > 0, duration, 0.5)


def interpolated(
    curves: Float[np.ndarray, "patient sample"], phases: Float[np.ndarray, "patient point"]
) -> Float[np.ndarray, "patient point"]:
    """Return periodic curves at these phases, between samples linearly."""
    n = curves.shape[1]
    patient, place = np.arange(len(curves))[:, None], phases * n
    left = np.floor(place).astype(int)
    share = place - left
    return (1 - share) * curves[patient, left % n] + share * curves[patient, (left + 1) % n]
