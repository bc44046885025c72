"""Tasks with curves: outputs of a system are measured over a beat or a transient."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxtwin.cohorts.cohort import Cohort
from jaxtwin.cohorts.simulate import check_box, check_phases
from jaxtwin.identity import fingerprint
from jaxtwin.methods.base import AbstractTask, Estimate, Sees
from jaxtwin.methods.checks import (
    check_beside,
    check_free,
    check_known,
    check_labels,
    check_measured,
    check_named_once,
    warn_of_gaps,
    warn_of_nothing,
)
from jaxtwin.methods.interpolation import comparable
from jaxtwin.methods.measured import Channel, Curves
from jaxtwin.methods.misfit import OutOfModelWarning as OutOfModelWarning
from jaxtwin.methods.misfit import judge
from jaxtwin.parameters import Box, NormalPrior, Theta
from jaxtwin.parameters.prior import LARGEST_RAW
from jaxtwin.physics.base import (
    AbstractPeriodicSystem,
    AbstractRecordedSystem,
    check_channels,
    outputs_of,
    read,
    readable,
)
from jaxtwin.physics.channels import Channels, by_name, select
from jaxtwin.physics.solution import Recording

# Standard deviation of a logistic variable. With it, a normal prior on the raw parameters is close
# to a uniform prior on the box.
RAW_SPREAD = float(np.pi / np.sqrt(3))


@dataclasses.dataclass(frozen=True)
class CurveTask(AbstractTask[Curves]):
    """Task: estimate a patient's parameters from an output, sampled over a beat or transient.

    Other outputs and readings may be measured beside it. Any of them may be missing in a patient.

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
        missing: Share of the samples that are missing at random, see `Channel`.
        unknown_scale: Whether the curve is known up to a factor, see `Channel`; resolution and
            noise are then shares of its root mean square.
        beside: What else is measured: outputs as curves, readings as numbers, such as
            `Channel("systolic", resolution=1.0, noise=5.0)`.
        prior: Distribution of θ among the patients before anything is measured; by default nearly
            uniform on the box.

    Raises:
        ValueError: If the box is of another model, a channel is not an output of the system or is
            named twice, a known parameter is not free, no unknown parameter is left, the samples
            do not coincide with steps of the simulator, or a reading in `beside` needs an output
            that is neither measured nor hidden, or the prior is of another number of
            parameters.
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
    missing: float = 0.0
    unknown_scale: bool = False
    beside: tuple[Channel, ...] = ()
    prior: NormalPrior | None = None

    def __post_init__(self):
        object.__setattr__(self, "beside", tuple(self.beside))
        for name in ("hidden", "known"):
            value = getattr(self, name)
            names = (value,) if isinstance(value, str) else tuple(value)
            object.__setattr__(self, name, names)
        check_box(self.system, self.box)
        check_channels(self.system, self.channels)
        check_named_once(self.system, self.channel, self.beside, self.hidden)
        check_free(self.box, self.known, self.prior)
        if self.samples < 2:
            raise ValueError(f"{self.samples} samples: expected at least 2")
        check_phases(self.system, self.samples)
        check_measured(self.system, self.measured_channels, self.samples, self.channels)

    def is_curve(self, channel: Channel) -> bool:
        """Return whether a channel is an output of the system, not a reading."""
        return channel.name in self._outputs

    @functools.cached_property
    def _outputs(self) -> frozenset[str]:
        """Names of the system's outputs, to find which it is traced."""
        return frozenset(by_name(outputs_of(self.system)))

    @property
    def periodic(self) -> bool:
        """Whether curves repeat themselves."""
        return isinstance(self.system, AbstractPeriodicSystem)

    @property
    def measured_channels(self) -> tuple[Channel, ...]:
        """What is measured: the task's channel, then those beside it."""
        own = Channel(
            name=self.channel,
            resolution=self.resolution,
            samples=self.samples,
            noise=self.noise,
            missing=self.missing,
            unknown_start=self.unknown_start,
            unknown_scale=self.unknown_scale,
        )
        return (own, *self.beside)

    @property
    def channels(self) -> tuple[str, ...]:
        """Name of the measured output, then other measured outputs, then the hidden ones."""
        curves = (channel.name for channel in self.beside if self.is_curve(channel))
        return (self.channel, *curves, *self.hidden)

    @property
    def resolutions(self) -> Float[np.ndarray, " entry"]:
        """Resolution of each number in a row of `rows`."""
        found = [np.full(len(c.phases), c.resolution, np.float32) for c in self.measured_channels]
        return np.concatenate(found)

    @property
    def inputs(self) -> int:
        """Number of inputs that a network is shown, see `seen`."""
        return sum(len(c.phases) + (c.missing > 0) for c in self.measured_channels)

    def describe(self) -> dict[str, Any]:
        """Return everything on which the result of learning depends, as a JSON value."""
        told: dict[str, Any] = {"unknown_start": True} if self.unknown_start else {}
        told |= {"unknown_scale": True} if self.unknown_scale else {}
        told |= {"missing": self.missing} if self.missing else {}
        told |= {"beside": [dataclasses.asdict(c) for c in self.beside]} if self.beside else {}
        told |= {"prior": self.prior.describe()} if self.prior is not None else {}
        return told | {
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
        return comparable(curve) if self.unknown_start else curve

    def rows(self, measurements: Curves) -> Curves:
        """Return checked measurements with all channels in one row, [patient, entry].

        Values are NaN, and noise is infinite, where something is missing. Phases are None if all
        patients have those of the channels.
        """
        beside = measurements.beside or {}
        parts = [measurements, *(beside[channel.name] for channel in self.beside)]
        values = np.concatenate([np.asarray(part.values) for part in parts], axis=1)
        noise = [
            np.full(part.values.shape, c.noise, np.float32) if part.noise is None else part.noise
            for part, c in zip(parts, self.measured_channels, strict=True)
        ]
        there = np.isfinite(values)
        noise = np.where(there, np.concatenate(noise, axis=1), np.float32(np.inf))
        phases = None
        if any(part.phases is not None for part in parts):
            told = [
                np.broadcast_to(c.phases.astype(np.float32), np.shape(part.values))
                if part.phases is None
                else np.asarray(part.phases)
                for part, c in zip(parts, self.measured_channels, strict=True)
            ]
            phases = np.concatenate(told, axis=1)
        return measurements._replace(values=values, noise=noise, beside=None, phases=phases)

    def parts(self, row: Any) -> list[Any]:
        """Split a row of `rows`, or an array whose last axis is one, by measured channels."""
        if row is None:
            return [None] * len(self.measured_channels)
        ends = np.cumsum([len(channel.phases) for channel in self.measured_channels])
        split = np.split if isinstance(row, np.ndarray) else jnp.split
        return split(row, ends[:-1], axis=-1)

    def seen(
        self,
        values: Float[Array, " entry"],
        phases: Float[Array, " entry"] | None = None,
    ) -> Float[Array, " input"]:
        """Return what a network is shown of one patient's row; see `Channel.seen`."""
        parts = zip(*map(self.parts, (values, phases)), strict=True)
        shown = [
            channel.seen(*part, periodic=self.periodic)
            for channel, part in zip(self.measured_channels, parts, strict=True)
        ]
        return jnp.concatenate(shown)

    def errors(
        self,
        recording: Recording[Any],
        values: Float[Array, " entry"],
        weight: Float[Array, " entry"],
        phases: Float[Array, " entry"] | None = None,
    ) -> Float[Array, " entry"]:
        """Return the weighted differences between a recording and one patient's row.

        Args:
            recording: The patient's recording at the task's samples, with the task's channels.
            values: What was measured.
            weight: Weight of each number; 0 where it is missing, see `Channel.compare`.
            phases: Phases of the samples; by default those of the channels.
        """
        found = []
        parts = zip(*map(self.parts, (values, weight, phases)), strict=True)
        for channel, part in zip(self.measured_channels, parts, strict=True):
            if self.is_curve(channel):
                got = getattr(recording.waveforms, channel.name)
            else:
                got = read(self.system, recording, channel.name)[channel.name][None]
            found.append(channel.compare(got, *part))
        return jnp.concatenate(found)

    def whiten(
        self, raw: Float[Array, " free"], known: Float[Array, " known"]
    ) -> Float[Array, " free"]:
        """Return raw parameters in units in which the prior is standard normal.

        Under a prior of their own, the unknown parameters are judged beside the known ones.
        """
        if self.prior is None:
            return raw / RAW_SPREAD
        places = np.array([self.box.names.index(name) for name in self.known], int)
        told = self.box.unbound(self.theta(raw, known)).clip(-LARGEST_RAW, LARGEST_RAW)
        return self.prior.whiten(raw.at[places].set(told[places]))

    def surprise(
        self, raw: Float[Array, " free"], known: Float[Array, " known"]
    ) -> Float[Array, ""]:
        """Compute the negative log-prior, up to a constant."""
        return 0.5 * jnp.sum(self.whiten(raw, known) ** 2)

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
        random = np.random.default_rng(random)
        recording = patients.recording
        own, *beside = self.measured_channels
        curve = np.asarray(getattr(recording.waveforms, self.channel))
        values = own.noisy(curve, random)
        # Of a generator of its own, so that the noise does not depend on what else is measured.
        (other,) = random.spawn(1)
        found = {}
        for channel in beside:
            if self.is_curve(channel):
                waveform = jnp.asarray(getattr(recording.waveforms, channel.name))
                exact = np.asarray(jax.vmap(channel.sampled)(waveform))
            else:
                exact = np.asarray(patients.read([channel.name])[channel.name])[:, None]
            found[channel.name] = Curves(channel.noisy(exact, other))
        parts = {self.channel: Curves(values), **found}
        for channel in self.measured_channels:
            whole = channel.check(parts[channel.name], periodic=self.periodic).values
            gone = other.random(whole.shape) < channel.missing
            parts[channel.name] = Curves(np.where(gone, np.float32(np.nan), whole))
        columns = [self.box.names.index(name) for name in self.known]
        return Curves(
            parts.pop(self.channel).values,
            np.asarray(patients.theta)[:, columns],
            np.asarray(getattr(recording.maximum, self.channel)),
            np.asarray(getattr(recording.minimum, self.channel)),
            beside=parts or None,
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

    def check(
        self, measurements: Curves, *, labels: bool = False, sees: Sees | None = None
    ) -> Curves:
        """Return the curves in the form that methods expect: arrays in float32, with `known`.

        Channels that the method does not use are as if they had not been measured.

        Raises:
            ValueError: If they are no `Curves`, the number of samples or known values is wrong, a
                channel beside the curve or a required label is missing, or a known value is outside
                the box.

        Warns:
            UserWarning: If nothing was measured in a patient, or curves have missing samples that
                the method does not take.
        """
        if not isinstance(measurements, Curves):
            raise ValueError(
                f"measurements of type {type(measurements).__name__}: expected Curves(values, "
                "known); task.measure(cohort, seed) measures simulated patients"
            )
        own, *_ = self.measured_channels
        found = own.check(measurements, periodic=self.periodic)
        values = np.asarray(found.values)
        beside = check_beside(
            self.channel, self.beside, measurements.beside or {}, len(values), self.periodic
        )
        if sees is not None and not sees.beside:
            beside = {
                name: Curves(np.full(np.shape(part.values), np.nan, np.float32))
                for name, part in beside.items()
            }
        n = len(values)
        known = np.zeros((n, 0)) if measurements.known is None else measurements.known
        known = np.asarray(known, np.float32)
        if known.shape != (n, len(self.known)):
            raise ValueError(
                f"known values of shape {known.shape}: expected one row for each of {n} curves, "
                f"and one column for each of {', '.join(self.known) or '(none)'}"
            )
        check_known(self.box, self.known, known)
        found = found._replace(known=known, beside=beside or None)
        warn_of_nothing(self.usable(found))
        if sees is not None and not sees.gaps:
            warn_of_gaps(values, found.noise)
            if found.phases is not None:
                raise ValueError(
                    "this method needs all samples at the phases of the task: leave out the phases "
                    "of the patients, and interpolate the curves"
                )
        return found._replace(**check_labels(measurements, self.channel, n, required=labels))

    def usable(self, measurements: Curves) -> Bool[np.ndarray, " patient"]:
        """Return in which patients anything was measured; see `AbstractTask`."""
        return np.asarray(np.isfinite(self.rows(measurements).values).any(axis=1))

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
        """Compare an estimate with what was measured.

        The misfit of a curve is the root-mean-square difference between its measured samples and
        the method's curve, divided by noise + resolution + a tenth of the curve's standard
        deviation. A method without a curve is judged by its extremes, with twice the noise. The
        misfit of a number is its error, divided by twice the noise + resolution. A patient has the
        largest misfit of the channels. Good fits are at 1 or below for any
        noise. A wrong unit, a wrong start of the beat or a wrong noise level gives a value far
        above 1.

        Warns:
            OutOfModelWarning: If a misfit is above 1.5. The estimates are not changed.
        """
        return judge(self, measurements, found)
