"""Tasks with curves: one output of a system is measured over a beat or a transient."""

import dataclasses
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxtwin.cohorts.cohort import Cohort
from jaxtwin.cohorts.simulate import check_box, check_phases
from jaxtwin.identity import fingerprint
from jaxtwin.methods.base import AbstractTask, Estimate
from jaxtwin.parameters import Box, Theta
from jaxtwin.physics.base import (
    AbstractPeriodicSystem,
    AbstractRecordedSystem,
    check_channels,
    readable,
)
from jaxtwin.physics.channels import Channels, select
from jaxtwin.physics.solution import Recording

# Standard deviation of a logistic variable. With it, a normal prior on the raw parameters is close
# to a uniform prior on the box.
RAW_SPREAD = float(np.pi / np.sqrt(3))
# The allowed error of a curve is the sum of the noise, the task's resolution, and this share of the
# curve's standard deviation, for the error of a network.
ALLOWED_SHARE = 0.1
# Errors larger than this multiple of the allowed error are not noise: a good fit is at 1 or below.
LARGEST_MISFIT = 1.5


class OutOfModelWarning(UserWarning):
    """Warning that a measurement is far from a method's reconstruction of it."""


class Curves(NamedTuple):
    """Measured curves of some patients.

    Attributes:
        values: Samples of the task's channel, with noise.
        known: Values of the task's known parameters, in its order; optional if it has none.
        maximum: Label: largest value of the channel without noise; only needed by methods that
            use labels.
        minimum: Label: smallest value of the channel without noise; only needed by methods that
            use labels.
    """

    values: Float[Array | np.ndarray, "patient sample"]
    known: Float[Array | np.ndarray, "patient known"] | None = None
    maximum: Float[Array | np.ndarray, " patient"] | None = None
    minimum: Float[Array | np.ndarray, " patient"] | None = None

    def take(self, index: Any) -> "Curves":
        """Select patients by an index array, a slice or a mask."""
        beside = (None if leaf is None else leaf[index] for leaf in self[1:])
        return Curves(self.values[index], *beside)


@dataclasses.dataclass(frozen=True)
class CurveTask(AbstractTask[Curves]):
    """Task: estimate a patient's parameters from one output, sampled over a beat or transient.

    Attributes:
        system: The model.
        box: The free parameters and their bounds.
        channel: Name of the measured output.
        resolution: Size below which errors of the curve do not matter, in the channel's unit; it
            replaces a smaller noise.
        hidden: Names of outputs that are not measured and are to be estimated; a single name may
            be given as a string.
        samples: Number n of samples, at phases 0, 1/n, ... (n − 1)/n of the system's duration,
            starting at t = 0 of the system.
        known: Names of free parameters whose exact values are given with the curve, such as the
            period; a single name may be given as a string.
        noise: Standard deviation of the measurement noise, in the channel's unit.
        unknown_start: Whether the phase of the first sample is unknown, as in a clip. Curves are
            then rotated so that their first harmonic is a cosine, see `comparable`.

    Raises:
        ValueError: If the box is of another model, a channel is not an output of the system or is
            named twice, a known parameter is not free, no unknown parameter is left, or the
            samples do not coincide with steps of the simulator.
    """

    system: AbstractRecordedSystem
    box: Box
    channel: str
    resolution: float
    hidden: str | tuple[str, ...] = ()
    samples: int = 60
    known: str | tuple[str, ...] = ()
    noise: float = 0.0
    unknown_start: bool = False

    def __post_init__(self):
        for name in ("hidden", "known"):
            value = getattr(self, name)
            names = (value,) if isinstance(value, str) else tuple(value)
            object.__setattr__(self, name, names)
        check_box(self.system, self.box)
        check_channels(self.system, self.channels)
        if len(set(self.channels)) < len(self.channels):
            raise ValueError(
                f"channel {self.channel!r} is measured and {', '.join(self.hidden)} are hidden: "
                "expected each output once"
            )
        if not set(self.known) < set(self.box.names) or len(set(self.known)) < len(self.known):
            raise ValueError(
                f"known parameters {self.known}: expected some of the free ones, "
                f"{', '.join(self.box.names)}, each once, and not all"
            )
        if self.samples < 2 or not self.noise >= 0 or not self.resolution > 0:
            raise ValueError(
                f"{self.samples} samples, noise {self.noise}, resolution {self.resolution}: "
                "expected at least 2 samples, a noise of at least 0, and a positive resolution"
            )
        check_phases(self.system, self.samples)
        doubled = [name for name in self.channels if name in self.system.readings()]
        if doubled:
            raise ValueError(
                f"{', '.join(doubled)} is the name of a channel and of a reading of "
                f"{type(self.system).__name__}: rename the reading"
            )

    @property
    def channels(self) -> tuple[str, ...]:
        """Name of the measured output, then those of the hidden ones."""
        return (self.channel, *self.hidden)

    @property
    def weight(self) -> float:
        """Weight of an error: the reciprocal of the noise or the resolution."""
        return 1 / max(self.noise, self.resolution)

    def describe(self) -> dict[str, Any]:
        """Return everything on which the result of learning depends, as a JSON value."""
        start = {"unknown_start": True} if self.unknown_start else {}
        return start | {
            "measurement": "curve",
            "system": fingerprint(self.system).description["system"],
            "box": self.box.describe(),
            "channels": list(self.channels),
            "samples": self.samples,
            "known": list(self.known),
            "noise": self.noise,
            "resolution": self.resolution,
        }

    def theta(self, raw: Float[Array, " free"], known: Float[Array, " known"]) -> Theta:
        """Return θ from unbounded parameters, with the known ones replaced by their values."""
        theta = self.box.bound(raw)
        for name, value in zip(self.known, known, strict=True):
            theta = theta.at[self.box.names.index(name)].set(value)
        return theta

    def comparable(self, curve: Float[Array, " sample"]) -> Float[Array, " sample"]:
        """Return a curve as it can be compared with a measured one.

        If the start is unknown, the curve is rotated, between its samples by its Fourier series,
        so that its first harmonic is a cosine. Curves that differ in their start alone are then
        equal.
        """
        if not self.unknown_start:
            return curve
        harmonics = jnp.fft.rfft(curve)
        turn = jnp.angle(harmonics[1]) * jnp.arange(len(harmonics))
        return jnp.fft.irfft(harmonics * jnp.exp(-1j * turn), len(curve))

    def surprise(self, raw: Float[Array, " free"]) -> Float[Array, ""]:
        """Compute the negative log-prior, which is nearly uniform on the box."""
        return 0.5 * jnp.sum((raw / RAW_SPREAD) ** 2)

    def measure(self, patients: Cohort[Any], random: np.random.Generator | int) -> Curves:
        """Measure simulated patients: curves with noise, and labels without noise.

        Args:
            patients: Patients of the task's box, simulated at its phases.
            random: Random generator for the noise, or its seed. The same state gives the same
                standard draw for every size of the noise.

        Raises:
            ValueError: If the patients are of another system or box, or recorded at other phases,
                or a simulation failed.
        """
        self.check_patients(patients)
        curve = np.asarray(getattr(patients.recording.waveforms, self.channel))
        columns = [self.box.names.index(name) for name in self.known]
        noise = np.random.default_rng(random).normal(size=curve.shape)
        values = (curve + self.noise * noise).astype(np.float32)
        return Curves(
            np.asarray(jax.vmap(self.comparable)(jnp.asarray(values))),
            np.asarray(patients.theta)[:, columns],
            np.asarray(getattr(patients.recording.maximum, self.channel)),
            np.asarray(getattr(patients.recording.minimum, self.channel)),
        )

    def check_patients(self, patients: Cohort[Any]) -> None:
        """Raise a ValueError unless simulated patients belong to this task and none failed."""
        if differing := self.unlike(patients.system):
            raise ValueError(
                f"patients of {type(patients.system).__name__} for a task of "
                f"{type(self.system).__name__}: {'; '.join(differing)}; simulate them with the "
                "task's system"
            )
        phases = getattr(patients.recording.waveforms, self.channel).shape[1]
        if patients.box != self.box or phases != self.samples:
            raise ValueError(
                f"patients of the box {patients.box.describe()} at {phases} phases, for a "
                f"task on {self.box.describe()} with {self.samples} samples: simulate them in the "
                f"task's box with phases={self.samples}"
            )
        if not patients.success.all():
            raise ValueError(
                f"{patients.failures()}\nleave them out with cohort.take(cohort.success)"
            )

    def check(self, measurements: Curves, *, labels: bool = False) -> Curves:
        """Return the curves in the form that methods expect: arrays in float32, with `known`.

        Raises:
            ValueError: If they are no `Curves`, the number of samples or known values is wrong, a
                known value is outside the box, or a required label is missing.

        Warns:
            UserWarning: If curves have samples that are not finite.
        """
        if not isinstance(measurements, Curves):
            raise ValueError(
                f"measurements of type {type(measurements).__name__}: expected Curves(values, "
                "known); task.measure(cohort, seed) measures simulated patients"
            )
        values = np.asarray(measurements.values, np.float32)
        if self.unknown_start and values.ndim == 2:
            values = np.asarray(jax.vmap(self.comparable)(jnp.asarray(values)))
        if values.ndim != 2 or values.shape[1] != self.samples:
            raise ValueError(
                f"curves of shape {values.shape}: expected [patient, {self.samples}], samples at "
                f"phases 0, 1/{self.samples}, ... of the duration; interpolate them, or make the "
                "task with samples=... (for one patient, values[None])"
            )
        gaps = np.sum(~np.isfinite(values), axis=1)
        if (broken := np.flatnonzero(gaps)).size:
            shown = ", ".join(f"patient {i}: {gaps[i]} of {self.samples}" for i in broken[:5])
            warnings.warn(
                f"{broken.size} of {len(values)} curves have samples that are NaN or infinite "
                f"({shown}{', ...' * (broken.size > 5)}): methods that need all samples give no "
                "estimate of these patients (success is False); interpolate the missing samples",
                stacklevel=3,
            )
        n = len(values)
        known = np.zeros((n, 0)) if measurements.known is None else measurements.known
        known = np.asarray(known, np.float32)
        if known.shape != (n, len(self.known)):
            raise ValueError(
                f"known values of shape {known.shape}: expected one row for each of {n} curves, "
                f"and one column for each of {', '.join(self.known) or '(none)'}"
            )
        self._check_known(known)
        found = Curves(values, known)
        for name in ("maximum", "minimum"):
            label = getattr(measurements, name)
            if label is None:
                if labels:
                    raise ValueError(
                        f"the curves have no labels, and this method learns from them: give "
                        f"Curves(values, known, maximum, minimum), the extremes of {self.channel} "
                        "without noise, or choose a method that needs none, such as CurvePSSL"
                    )
                continue
            label = np.asarray(label, np.float32)
            if label.shape != (n,):
                raise ValueError(f"{name} of shape {label.shape}: expected ({n},), one per curve")
            found = found._replace(**{name: label})
        return found

    def _check_known(self, known: Float[np.ndarray, "patient known"]) -> None:
        for name, column in zip(self.known, known.T, strict=True):
            spec = self.box.specs[self.box.names.index(name)]
            low, high = np.asarray(spec.bounds, np.float32)
            outside = np.flatnonzero(~((column >= low) & (column <= high)))
            if outside.size:
                i = outside[0]
                raise ValueError(
                    f"known {name} of patient {i} is {column[i]:g}, for {outside.size} of "
                    f"{len(column)} patients outside the box: expected {low:g} to {high:g} "
                    f"{spec.unit} ({spec.meaning}); check the unit, or make a wider box"
                )

    def estimate(
        self,
        waveforms: Mapping[str, np.ndarray],
        *,
        maximum: Float[np.ndarray, " patient"] | None = None,
        minimum: Float[np.ndarray, " patient"] | None = None,
        theta: Float[np.ndarray, "patient free"] | None = None,
    ) -> Estimate:
        """Make an estimate; a patient fails if an extreme or a curve is not finite.

        Args:
            waveforms: Curves by output, [patient, phase], as far as the method gives them.
            maximum: Largest values of the measured output; by default those of its curve.
            minimum: Smallest values of the measured output; by default those of its curve.
            theta: Free parameters, if the method gives them.
        """
        largest = waveforms[self.channel].max(axis=1) if maximum is None else np.asarray(maximum)
        smallest = waveforms[self.channel].min(axis=1) if minimum is None else np.asarray(minimum)
        success = np.isfinite(largest) & np.isfinite(smallest)
        for values in waveforms.values():
            success = success & np.isfinite(values).all(axis=1)
        duration = np.full(len(success), np.nan)
        if theta is not None:
            lasting = jax.vmap(lambda v: jnp.asarray(self.system.duration(self.box.complete(v))))
            duration = np.asarray(lasting(jnp.asarray(theta)))
        recording = Recording(
            Channels((self.channel,), (largest,)),
            Channels((self.channel,), (smallest,)),
            Channels(tuple(waveforms), tuple(waveforms.values())),
            duration,
        )
        return self.estimate_from(recording, theta, success)

    def estimate_from(
        self,
        recording: Recording[Any],
        theta: Float[np.ndarray, "patient free"] | None,
        success: Bool[np.ndarray, " patient"],
    ) -> Estimate:
        """Make an estimate from recordings, with the readings that can be computed from them.

        Args:
            recording: Recordings with all outputs of the system, of which the task's channels are
                kept, or with the `Channels` that the method gives.
            theta: Free parameters, if the method gives them.
            success: Whether there is an estimate for the patient.
        """
        if not isinstance(recording.waveforms, Channels):
            recording = select(self.channels, recording)
        readings = readable(self.system, recording)
        return Estimate(recording, theta, success, readings)

    def count(self, measurements: Curves) -> int:
        """See `AbstractTask`."""
        return len(measurements.values)

    def judge(self, measurements: Curves, found: Estimate) -> Estimate:
        """Compare an estimate with the measured curves.

        The misfit is the root-mean-square difference between the measured curve and the method's
        curve, divided by noise + resolution + a tenth of the curve's standard deviation. A method
        without a curve is judged by its extremes, with twice the noise. Good fits are at 1 or
        below for any noise. A wrong unit, a wrong start of the beat or a wrong noise level gives a
        value far above 1.

        Warns:
            OutOfModelWarning: If a misfit is above 1.5. The estimates are not changed.
        """
        values = np.asarray(measurements.values)
        recording = found.recording
        if recording is None:
            return found
        if self.channel in recording.waveforms.channel_names:
            got = jnp.asarray(recording.waveforms[self.channel])
            off = np.asarray(jax.vmap(self.comparable)(got)) - values
            error, noise = np.sqrt(np.mean(off**2, axis=1)), self.noise
        else:
            off = np.stack(
                [
                    recording.maximum[self.channel] - values.max(axis=1),
                    recording.minimum[self.channel] - values.min(axis=1),
                ]
            )
            error, noise = np.sqrt(np.mean(off**2, axis=0)), 2 * self.noise
        misfit = error / (noise + self.resolution + ALLOWED_SHARE * values.std(axis=1))
        far = np.flatnonzero(found.success & (misfit > LARGEST_MISFIT))
        if far.size:
            shown = ", ".join(f"patient {i}: {misfit[i]:.3g}" for i in far[:5])
            warnings.warn(
                f"{far.size} of {len(misfit)} curves differ from the best fit found for them "
                f"(misfit above {LARGEST_MISFIT}; {shown}{', ...' * (far.size > 5)}): do not rely "
                f"on these estimates. Check the unit of {self.channel}, that the first sample is "
                "at the system's t = 0, the value of noise, and the known values; "
                "estimate.misfit contains the misfit of every patient",
                OutOfModelWarning,
                stacklevel=3,
            )
        return found._replace(misfit=misfit)


def require_period(task: CurveTask, method: Any) -> None:
    """Raise a ValueError if a method that is periodic by construction gets a transient."""
    if not isinstance(task.system, AbstractPeriodicSystem):
        raise ValueError(
            f"{type(method).__name__} knows only curves that repeat themselves, and "
            f"{type(task.system).__name__} is not an AbstractPeriodicSystem: use P-SSL, "
            "least squares or supervised regression"
        )
