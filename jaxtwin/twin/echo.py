"""Twins from echo recordings: segmentation, volume curve, parameters, verdict."""

import dataclasses
import warnings
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float

from jaxtwin.analysis.identifiability import Compatible, IncompatibleError, summarise
from jaxtwin.analysis.verdict import FAR, Kind, Verdict, refuse
from jaxtwin.data.base import EchoVideo
from jaxtwin.data.vitals import CUFF_ERROR
from jaxtwin.imaging.calibration import (
    EDV_RANGE,
    CurveCalibration,
    CurveFeatures,
    VolumeCurve,
    curve_features,
)
from jaxtwin.imaging.orientation import OrientationNetwork
from jaxtwin.imaging.segmenter import Measured, Segmenter, thinned
from jaxtwin.inference.information import OpenDirections
from jaxtwin.methods.base import Estimate, Learnt
from jaxtwin.methods.clips import VOLUMES
from jaxtwin.methods.posterior import Posterior, Predicted
from jaxtwin.methods.tasks import Curves, CurveTask, OutOfModelWarning
from jaxtwin.twin.build import simulate_twin
from jaxtwin.twin.signs import SIGNS, Limits, Observation, observe, reason
from jaxtwin.twin.simulation import TOGETHER, Beats, simulate_patients
from jaxtwin.twin.twin import Twin

Beside: TypeAlias = Mapping[str, Float[np.ndarray, " clip"]]
"""Numbers measured beside volume curves, by name; NaN where one was not measured."""
NOTHING: Mapping[str, Any] = MappingProxyType({})
"""Default of what is measured beside a volume curve."""
LARGEST_CUFF_ERROR = 4 * CUFF_ERROR
"""Distance of a twin's pressure from the cuff's [mmHg] beyond which the twin is doubtful."""
DRAWS, PERIODS = 800, 20
"""Number of draws of a twin's posterior, and of different periods among them."""
OPEN_DIRECTIONS = 3
"""Number of directions of which a twin says how open they are."""
LARGEST_GAP = 3.0
"""Distance of a draw's reading from the measured one, in errors, up to which they agree."""
SMALLEST_SHARE = 0.05
"""Share of the draws that has to agree with what was measured."""
SMALLEST_PERIOD_ERROR = 0.02
"""Relative error of a period, within which patients are compatible with it."""


class EchoTwin(NamedTuple):
    """What was found in a recording.

    Attributes:
        verdict: Whether to believe it.
        measured: Frames, label maps, and the cavity in each frame.
        curve: The volume curve; None if no beat was found.
        twin: The patient's twin; None if there is no curve that it could be made from.
        posterior: Patients who could have been measured so; None without a twin.
        draws: Their simulations, with waveforms at as many phases as the curve has; None without a
            twin.
        open_directions: Directions in which the measurement leaves the parameters open; None
            without a twin.
        cuff: Blood pressures that were given with the recording [mmHg], by name.
    """

    verdict: Verdict
    measured: Measured
    curve: VolumeCurve | None
    twin: Twin | None
    cuff: Mapping[str, float] = NOTHING
    draws: Predicted | None = None
    posterior: Posterior | None = None
    open_directions: OpenDirections | None = None


@dataclasses.dataclass(frozen=True)
class TwinBuilder:
    """Everything learnt that makes a twin of a recording.

    Attributes:
        segmenter: Network that labels the chambers.
        orientation: Network that tells how the heart is shown.
        calibrations: From measurements to volume curves: where the size of a pixel is known, and
            where it is not.
        learnt: From volume curves, and a cuff if its task has one beside them, to parameters; the
            period is known.
        limits: What good clips look like.
        posteriors: From volume curves, and a cuff, to distributions of the parameters: where the
            size of a pixel is known, and where it is not.
        before: Parameters of patients before anything is measured, and their readings, by name.
    """

    segmenter: Segmenter
    orientation: OrientationNetwork
    calibrations: tuple[CurveCalibration, CurveCalibration]
    learnt: Learnt[CurveTask, Curves]
    limits: Limits
    posteriors: tuple[Learnt[CurveTask, Curves], Learnt[CurveTask, Curves]]
    before: Mapping[str, Float[np.ndarray, " patient"]]

    def examine(
        self,
        recording: EchoVideo,
        pixel: tuple[float, float] | None = None,
        cuff: Mapping[str, float] = NOTHING,
    ) -> tuple[EchoTwin, Estimate | None]:
        """Measure a recording, estimate the parameters and judge, without simulating the twin.

        Args:
            recording: The recording, cropped to the sector.
            pixel: See `build`.
            cuff: See `build`.

        Returns:
            What was found, without a twin; and the estimate, or None if there is no curve that a
            twin could be made from.

        Raises:
            ValueError: If the networks have not learnt to use such a blood pressure.
        """
        known = [channel.name for channel in self.learnt.task.beside]
        if unknown := [name for name in cuff if name not in known]:
            raise ValueError(
                f"{', '.join(unknown)} beside the recording: these networks take "
                f"{', '.join(known) or 'nothing'}; train again to use a cuff"
            )
        found = self.segmenter.measure(thinned(recording), pixel)
        seen = observe(found, self.orientation)
        features = curve_features(found)
        if features is None:
            return EchoTwin(_without_curve(seen, found), found, None, None, cuff), None
        curve = self.calibrations[0 if found.pixel is not None else 1](features)
        low, high = periods(self.learnt.task)
        if not low <= curve.period <= high:
            verdict = refuse(
                f"a beat of {curve.period:.2f} s: the twin's circuit has beats of {low:.2f} to "
                f"{high:.2f} s"
            )
            return EchoTwin(verdict, found, curve, None, cuff), None
        if not curve.possible:
            low, high = EDV_RANGE
            verdict = refuse(
                f"an end-diastolic volume of {curve.EDV:.3g} mL: expected {low:g} to {high:g} mL; "
                "the cavity's outline or the size of a pixel is wrong, or the clip is unlike all "
                "that the networks have learnt from"
            )
            return EchoTwin(verdict, found, curve, None, cuff), None
        got = estimate(self.learnt, [curve], {n: np.array([x]) for n, x in cuff.items()})
        misfit = curve_misfit(self.learnt, [curve], got)
        (verdict,) = self.verdicts([seen], [features], [curve], misfit)
        return EchoTwin(with_cuff(verdict, got, cuff), found, curve, None, cuff), got

    def build(
        self,
        recording: EchoVideo,
        pixel: tuple[float, float] | None = None,
        cuff: Mapping[str, float] = NOTHING,
    ) -> EchoTwin:
        """Build the twin of a recording's patient, with a verdict.

        Args:
            recording: The recording, cropped to the sector.
            pixel: Height and width of its pixels [mm]; by default as the recording states them. If
                it does not, they are inferred from the picture, and volumes have a larger error.
            cuff: Blood pressures measured with an arm cuff [mmHg], `systolic` and `diastolic`, as
                far as they are known. A volume curve hardly tells the level of all pressures.

        Raises:
            ValueError: If the networks have not learnt to use such a blood pressure.
        """
        with ThreadPoolExecutor(1) as beside:
            # Of the first twin, the simulation takes as long to compile as all before it to run.
            compiling = beside.submit(self._compile)
            found, got = self.examine(recording, pixel, cuff)
            curve, verdict = found.curve, found.verdict
            if got is None or got.theta is None or curve is None:
                return found
            posterior = self.posterior(curve, found.measured.pixel is not None, cuff)
        measured = {
            "EDV": (curve.EDV, curve.EDV_error),
            "ESV": (curve.ESV, curve.ESV_error),
            "period": (curve.period, max(curve.period_error, SMALLEST_PERIOD_ERROR * curve.period)),
            **{name: (value, CUFF_ERROR) for name, value in cuff.items()},
        }
        errors = {f"{name}_error": getattr(curve, f"{name}_error") for name in VOLUMES}
        compiling.result()  # Whatever went wrong there is raised here.
        beats = self._simulate(np.concatenate([got.theta, posterior.theta[0]]))
        draws = beats.others()
        compatible = self.compatible(posterior, draws)
        try:
            check_support(measured, draws)
            twin = simulate_twin(
                self.learnt, got, beats, measured, verdict, errors, compatible=compatible
            )
        except IncompatibleError as error:
            refused = Verdict("refused", (*verdict.reasons, str(error)), verdict.signs)
            return found._replace(verdict=refused)
        beyond = tuple(
            f"The twin's {name} pressure is {twin.readings[name]:.0f} mmHg, the cuff's {value:.0f}."
            for name, value in cuff.items()
            if abs(twin.readings[name] - value) > CUFF_ERROR
        )
        twin = twin._replace(warnings=(*twin.warnings, *beyond))
        names = self.learnt.task.box.names
        before = np.stack([self.before[name] for name in names], axis=-1)
        opened = OpenDirections.of_draws(
            self.learnt.task.box, posterior.theta[0], before, OPEN_DIRECTIONS
        )
        return found._replace(twin=twin, draws=draws, posterior=posterior, open_directions=opened)

    def posterior(
        self, curve: VolumeCurve, scaled: bool, cuff: Mapping[str, float] = NOTHING
    ) -> Posterior:
        """Return patients who could have been measured so, as draws.

        Args:
            curve: The calibrated volume curve.
            scaled: Whether the size of a pixel is known.
            cuff: See `build`.
        """
        learnt = self.posteriors[0 if scaled else 1]
        beside = {name: np.array([value]) for name, value in cuff.items()}
        random = np.random.default_rng(0)
        # The period is measured, too.
        period = curve.period + curve.period_error * random.normal(size=PERIODS)
        low, high = periods(learnt.task)
        several = [curve._replace(period=float(x)) for x in period.clip(low, high)]
        beside = {name: np.repeat(value, PERIODS) for name, value in beside.items()}
        found = learnt.posterior(as_curves(learnt.task, several, beside), draws=DRAWS // PERIODS)
        theta = found.theta.reshape(1, -1, found.theta.shape[-1])
        return found._replace(theta=theta, success=found.success.all(keepdims=True))

    def compatible(self, posterior: Posterior, predicted: Predicted) -> Compatible:
        """Summarise the draws of one patient's posterior.

        Args:
            posterior: What `posterior` returned.
            predicted: Simulations of its draws.
        """
        values = {**posterior.parameters(), **predicted.readings}
        values = {name: x[0].astype(float) for name, x in values.items()}
        draws = posterior.theta.shape[1]
        return summarise(values, self.before, int(predicted.success.sum()), draws)

    def _compile(self) -> None:
        """Simulate the middle of the box, so that patients are simulated at once afterwards."""
        box = self.learnt.task.box
        middle = (np.asarray(box.low) + np.asarray(box.high)) / 2
        self._simulate(np.tile(middle.astype(np.float32), (TOGETHER, 1)))

    def _simulate(self, theta: Float[np.ndarray, "patient free"]) -> Beats:
        task = self.learnt.task
        return simulate_patients(task.system, task.box, theta, task.channels, task.samples)

    def verdicts(
        self,
        seen: list[Observation],
        features: list[CurveFeatures],
        curves: list[VolumeCurve],
        misfit: Float[np.ndarray, " clip"],
    ) -> list[Verdict]:
        """Return the verdict on each clip that has a volume curve.

        Args:
            seen: What was looked at in each clip.
            features: Features of their curves.
            curves: The volume curves.
            misfit: The twins' distances from them, see `Estimate`.
        """
        signs = self.limits.signs(seen, features, curves, misfit)
        return [
            self.limits.screen.judge(row, [reason(name, curve, float(m)) for name in SIGNS])
            for row, curve, m in zip(signs, curves, misfit, strict=True)
        ]


def check_support(measured: Mapping[str, tuple[float, float]], draws: Predicted) -> None:
    """Raise an IncompatibleError if hardly any draw of a posterior has the measured readings.

    A flow answers whatever it is shown. If the model can produce a measurement, most of the draws
    have its readings within a few errors.
    """
    agree = draws.success[0]
    for name, (value, error) in measured.items():
        if name in draws.readings:
            agree = agree & (np.abs(draws.readings[name][0] - value) <= LARGEST_GAP * error)
    if agree.mean() < SMALLEST_SHARE:
        what = ", ".join(f"{name} {value:.4g} ± {e:.2g}" for name, (value, e) in measured.items())
        raise IncompatibleError(
            f"hardly any patient of the box has {what}: {100 * agree.mean():.0f}% of the draws of "
            "its posterior do; check the measurement, which the model can hardly reproduce"
        )


def periods(task: CurveTask) -> tuple[float, float]:
    """Return the range of the periods of a task's box [s]."""
    column = task.box.names.index("T_c")
    return float(task.box.low[column]), float(task.box.high[column])


def _without_curve(seen: Observation, found: Measured) -> Verdict:
    if seen.quality.missing > 0.5:
        return refuse("no left ventricle is found in most frames")
    return refuse(
        f"no heartbeat is found: the cavity's volume does not repeat itself within "
        f"{found.times[-1]:.1f} s; a clip of two beats or more is needed"
    )


def with_cuff(verdict: Verdict, got: Estimate, cuff: Mapping[str, float]) -> Verdict:
    """Return a verdict that also says which of a cuff's pressures the twin does not have."""
    for name, value in cuff.items():
        nearest = float(got.readings[name][0])
        off = abs(nearest - value) / LARGEST_CUFF_ERROR
        verdict = verdict._replace(signs={**verdict.signs, name: off})
        if off > 1:
            kind: Kind = "refused" if off > FAR or verdict.kind == "refused" else "doubtful"
            because = (
                f"a {name} pressure of {value:.0f} mmHg does not go with this heart: the twin's is "
                f"{nearest:.0f} mmHg"
            )
            verdict = verdict._replace(kind=kind, reasons=(*verdict.reasons, because))
    return verdict


def measured_beside(task: CurveTask, beside: Beside, clips: int) -> dict[str, Curves] | None:
    """Return what was measured beside some volume curves as methods take it."""
    nothing = np.full(clips, np.nan)
    columns = {channel.name: beside.get(channel.name, nothing) for channel in task.beside}
    return {n: Curves(np.asarray(x, np.float32)[:, None]) for n, x in columns.items()} or None


def as_curves(task: CurveTask, curves: list[VolumeCurve], beside: Beside = NOTHING) -> Curves:
    """Return volume curves as methods take them: the period is known, the start is not."""
    values = np.stack([curve.volume for curve in curves]).astype(np.float32)
    return Curves(
        values,
        np.array([[curve.period] for curve in curves], np.float32),
        beside=measured_beside(task, beside, len(values)),
    )


def estimate(
    learnt: Learnt[CurveTask, Curves], curves: list[VolumeCurve], beside: Beside = NOTHING
) -> Estimate:
    """Estimate the parameters behind some volume curves, without a warning of misfits."""
    with warnings.catch_warnings():
        # The verdict tells of them.
        warnings.simplefilter("ignore", OutOfModelWarning)
        return learnt.estimate(as_curves(learnt.task, curves, beside))


def curve_misfit(
    learnt: Learnt[CurveTask, Curves], curves: list[VolumeCurve], got: Estimate
) -> Float[np.ndarray, " clip"]:
    """Return the twins' distances from the volume curves, whatever was measured beside them."""
    task = learnt.task
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutOfModelWarning)
        misfit = task.judge(task.check(as_curves(task, curves)), got).misfit
    assert misfit is not None
    return misfit
