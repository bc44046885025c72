"""What is measured: channels, each a curve or a number, with noise, gaps, start and scale."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxtwin.methods.interpolation import comparable, fill_all, filled, ratio

# Newton steps for an unknown start. A complete curve needs none.
TURNS = 5


class Curves(NamedTuple):
    """Measurements of some patients.

    Attributes:
        values: Samples of the task's channel, with noise; NaN where one is missing.
        known: Values of the task's known parameters, in its order; optional if it has none.
        maximum: Label: largest value of the channel without noise; only needed by methods that
            use labels.
        minimum: Label: smallest value of the channel without noise; only needed by methods that
            use labels.
        noise: Standard deviation of the noise of each sample, in the unit of the values; by default
            the task's. NaN or infinite: the sample is missing.
        beside: Measurements of the channels in `task.beside` by name, values, noise and phases
            alone; [patient, 1] for a number, NaN where it was not measured.
        phases: Phases at which each patient's samples were taken, in any order, as shares of the
            duration (times divided by a known period); by default those of the channel.
    """

    values: Float[Array | np.ndarray, "patient sample"]
    known: Float[Array | np.ndarray, "patient known"] | None = None
    maximum: Float[Array | np.ndarray, " patient"] | None = None
    minimum: Float[Array | np.ndarray, " patient"] | None = None
    noise: Float[Array | np.ndarray, "patient sample"] | None = None
    beside: "Mapping[str, Curves] | None" = None
    phases: Float[Array | np.ndarray, "patient sample"] | None = None

    def take(self, index: Any) -> "Curves":
        """Select patients by an index array, a slice or a mask."""
        return jax.tree.map(lambda leaf: leaf[index], self)


@dataclasses.dataclass(frozen=True)
class Channel:
    """One thing that is measured: an output of a system as a curve, or a reading as a number.

    Attributes:
        name: Name of the output or reading.
        resolution: Size below which errors do not matter; it replaces a smaller noise.
        samples: Number n of samples of a curve, at phases 0, 1/n, ... (n − 1)/n of the system's
            duration, or their phases, increasing from 0 to below 1. 1 for a reading.
        noise: Standard deviation of the measurement noise.
        missing: Share of samples that are missing at random; of a reading, share of patients in
            whom it is not measured. If positive, networks are told the share that was measured.
        unknown_start: Whether the phase of the first sample is unknown. Curves are then compared at
            the rotation that makes their first harmonics agree. The start is independent of that of
            other channels.
        unknown_scale: Whether values are known up to a positive factor, different for each patient,
            as relative volumes are. Curves are then compared with the factor that fits best.
            Resolution and noise are shares of the curve's root mean square.

    Unless the scale is unknown, resolution and noise are in the unit of the output or reading.

    Raises:
        ValueError: If a number is out of range.
    """

    name: str
    resolution: float
    samples: int | tuple[float, ...] = 1
    noise: float = 0.0
    missing: float = 0.0
    unknown_start: bool = False
    unknown_scale: bool = False

    def __post_init__(self):
        if not isinstance(self.samples, int):
            object.__setattr__(self, "samples", tuple(map(float, self.samples)))
        if not self.noise >= 0 or not self.resolution > 0:
            raise ValueError(
                f"{self.name}: noise {self.noise}, resolution {self.resolution}: expected a noise "
                "of at least 0, and a positive resolution"
            )
        if not 0 <= self.missing < 1:
            raise ValueError(
                f"{self.name}: a share of {self.missing} of the samples is missing: expected at "
                "least 0 and less than 1"
            )
        phases = self.phases
        if not len(phases) or phases[0] < 0 or phases[-1] >= 1 or (np.diff(phases) <= 0).any():
            raise ValueError(
                f"{self.name}: samples={self.samples}: expected their number, at least 1, or "
                "increasing phases from 0 to below 1"
            )
        if self.unknown_start and not (isinstance(self.samples, int) and self.samples > 2):
            raise ValueError(
                f"{self.name}: an unknown start of {len(phases)} samples: expected the number of "
                "equally spaced samples, at least 3; missing ones are NaN"
            )
        if self.unknown_scale and len(phases) < 2:
            raise ValueError(f"{self.name}: one number of unknown scale says nothing: leave it out")

    @property
    def phases(self) -> np.ndarray:
        """Phases of the samples, as shares of the duration."""
        if isinstance(self.samples, int):
            return np.arange(self.samples) / self.samples
        return np.array(self.samples)

    def sampled(self, curve: Float[Array, " phase"], phases: Any = None) -> Float[Array, " sample"]:
        """Return a curve at the phases of the samples, between its own ones linearly.

        Args:
            curve: The curve, at equally spaced phases.
            phases: Phases of a patient's samples; by default those of the channel.
        """
        n = curve.shape[0]
        if phases is None:
            if self.samples == n:
                return curve
            place = self.phases * n
            left = np.floor(place + 1e-9).astype(int)
            share = (place - left).clip(0).astype(np.float32)
        else:
            place = jnp.where(jnp.isfinite(phases), phases, 0.0) % 1 * n
            left = jnp.floor(place).astype(int)
            share = (place - left).astype(curve.dtype)
        return jnp.asarray(1 - share) * curve[left % n] + share * curve[(left + 1) % n]

    def noisy(
        self, exact: Float[np.ndarray, "patient sample"], random: np.random.Generator
    ) -> Float[np.ndarray, "patient sample"]:
        """Return exact values with the channel's noise, in float32."""
        noise = self.noise * random.normal(size=exact.shape)
        if self.unknown_scale:
            noise = noise * np.sqrt(np.mean(exact**2, axis=1, keepdims=True))
        return (exact + noise).astype(np.float32)

    def compare(
        self,
        got: Float[Array, " phase"],
        values: Float[Array, " sample"],
        weight: Float[Array, " sample"],
        phases: Float[Array, " sample"] | None = None,
    ) -> Float[Array, " sample"]:
        """Return the weighted differences between a curve or number and the measured one.

        Args:
            got: The curve, at equally spaced phases; [1] for a reading.
            values: What was measured.
            weight: Weight of each sample; 0 where it is missing, whose value is not used.
            phases: Phases of the samples; by default those of the channel.

        Returns:
            weight · (got − values), with `got` turned and scaled as far as start and scale are
            unknown; 0 where a sample is missing.
        """
        values = jnp.where(weight > 0, values, 0.0)
        share = ratio(weight**2, jnp.max(weight) ** 2)
        if self.unknown_start:
            got = self._turned(got, values, share, phases)
        curve = self.sampled(got, phases)
        return weight * (self._factor(curve, values, share) * curve - values)

    def _factor(self, curve: Any, values: Any, share: Any) -> Any:
        """Return the factor from a curve to the measured one, by weighted least squares."""
        if not self.unknown_scale:
            return 1.0
        factor = ratio(jnp.sum(share * curve * values), jnp.sum(share * curve**2))
        return jnp.where(jnp.max(share) > 0, jnp.maximum(factor, 0.0), 1.0)

    def _turned(self, curve: Any, values: Any, share: Any, phases: Any) -> Float[Array, " sample"]:
        """Turn a curve so that its first harmonic has the phase of the measured one.

        The harmonic is that of the measured curve in which the turned one itself replaces missing
        samples, so that the right start solves this equation whatever is missing.
        """
        n = curve.shape[0]
        harmonics = jnp.fft.rfft(curve)
        order = jnp.arange(len(harmonics))
        wave = jnp.asarray(np.exp(-2j * np.pi * np.arange(n) / n), harmonics.dtype)
        there = self.phases if phases is None else jnp.where(jnp.isfinite(phases), phases, 0.0)
        there = n / len(values) * jnp.exp(-2j * np.pi * there).astype(wave.dtype)

        def turned(angle: Any, factor: Any = 1.0) -> Float[Array, " phase"]:
            return jnp.fft.irfft(factor * harmonics * jnp.exp(1j * angle * order), n)

        start = filled(jnp.where(share > 0, values, jnp.nan), phases)
        start = jnp.where(jnp.isfinite(start), start, 0.0)
        evenly = np.exp(-2j * np.pi * np.arange(len(values)) / len(values))
        evenly = jnp.asarray(evenly, wave.dtype)
        angle = jnp.angle(jnp.sum(evenly * start)) - jnp.angle(harmonics[1])

        def newton(_: Any, angle: Any) -> Any:
            whole = turned(angle)
            got = self.sampled(whole, phases)
            factor, first = self._factor(got, values, share), jnp.sum(wave * whole)
            off = jnp.sum(there * share * (values - factor * got))
            # Its slope, 1 for a complete curve, affects only how fast this converges.
            slope = jnp.sum(there * share * self.sampled(turned(angle, 1j * order), phases))
            slope = ratio((jnp.conj(first) * slope).imag, jnp.abs(first) ** 2)
            slope = jax.lax.stop_gradient(slope).clip(0.2, 2)
            return angle + jnp.angle(jnp.conj(first) * (factor * first + off)) / slope

        return turned(jax.lax.fori_loop(0, TURNS, newton, angle))

    def seen(
        self,
        values: Float[Array, " sample"],
        phases: Float[Array, " sample"] | None = None,
        *,
        periodic: bool,
    ) -> Float[Array, " input"]:
        """Return what a network is shown of a patient.

        Gaps are filled in by interpolation, samples at other phases are interpolated at equally
        spaced ones, and a curve of unknown start is rotated, see `comparable`. If all are missing,
        the values are NaN. If samples are expected to be missing, the share that was measured
        follows; which ones they are is not shown, because a network recognises the patients of its
        training by it.
        """
        shown = filled(values, phases, periodic=periodic)
        if self.unknown_start:
            shown = comparable(shown)
        share = jnp.mean(jnp.isfinite(values), dtype=shown.dtype)
        return jnp.append(shown, share) if self.missing else shown

    def check(self, measured: Curves, *, periodic: bool) -> Curves:
        """Return measured values, noise and phases as methods expect them, in float32.

        Missing samples are NaN. If the scale is unknown, values and noise are divided by the root
        mean square of the values. Complete curves of unknown start are rotated.

        Raises:
            ValueError: If shapes are wrong, the noise is negative, or a number or a curve of a
                system that is not periodic has phases.
        """
        values, size = np.asarray(measured.values, np.float32), len(self.phases)
        noise, phases = measured.noise, measured.phases
        if values.ndim != 2 or values.shape[1] != size:
            where = (
                f"samples at phases 0, 1/{size}, ... of the duration"
                if isinstance(self.samples, int)
                else "samples at the phases of its channel"
            )
            raise ValueError(
                f"curves of shape {values.shape}: expected [patient, {size}], {where}; interpolate "
                "them, or make the task with samples=... (for one patient, values[None])"
                if size > 1
                else f"{self.name} of shape {values.shape}: expected [patient, 1], one number each"
            )
        values = np.where(np.isfinite(values), values, np.float32(np.nan))
        if noise is not None:
            noise = np.asarray(noise, np.float32)
            if noise.shape != values.shape or (noise < 0).any():
                raise ValueError(
                    f"noise of {self.name} of shape {noise.shape}, smallest {np.min(noise):g}: "
                    f"expected {values.shape}, a standard deviation of at least 0 for every sample"
                )
            values = np.where(np.isfinite(noise), values, np.float32(np.nan))
        if phases is not None:
            phases = np.asarray(phases, np.float32)
            if phases.shape != values.shape or not periodic or size < 2:
                raise ValueError(
                    f"phases of {self.name} of shape {phases.shape}: expected {values.shape}, a "
                    "phase for every sample of a curve that repeats itself"
                )
            values = np.where(np.isfinite(phases), values, np.float32(np.nan))
        if self.unknown_scale:
            whole = fill_all(values, phases, periodic=periodic)
            square = np.mean(whole**2, axis=1, keepdims=True)
            unit = np.sqrt(np.where(square > 0, square, np.float32(np.nan)))
            values, noise = values / unit, None if noise is None else noise / unit
        if self.unknown_start and noise is None and phases is None:
            whole = np.isfinite(values).all(axis=1, keepdims=True)
            values = np.where(whole, comparable(values), values)
        return Curves(values, noise=noise, phases=phases)
