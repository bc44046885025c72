"""Distance between what was measured and what a method gives, as a share of what is allowed."""

import warnings
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from jaxtwin.methods.estimate import Estimate
from jaxtwin.methods.measured import Channel, Curves
from jaxtwin.physics.compilation import compiled

# The allowed error of a curve is the sum of the noise, the task's resolution, and this share of the
# curve's standard deviation, for the error of a network.
ALLOWED_SHARE = 0.1
# Errors larger than this multiple of the allowed error are not noise: a good fit is at 1 or below.
LARGEST_MISFIT = 1.5


class OutOfModelWarning(UserWarning):
    """Warning that a measurement is far from a method's reconstruction of it."""


def judge(task: Any, measurements: Curves, found: Estimate) -> Estimate:
    """Return the estimate with its misfit, and warn if it is large; see `CurveTask.judge`.

    Args:
        task: A `CurveTask`.
        measurements: Checked measurements.
        found: What a method gives.
    """
    rows, judged = task.rows(measurements), {}
    parts = map(task.parts, (rows.values, rows.noise, rows.phases))
    for channel, values, noise, phases in zip(task.measured_channels, *parts, strict=True):
        misfit = misfit_of(channel, np.asarray(values), np.asarray(noise), phases, found)
        if misfit is not None and np.isfinite(values).any():
            judged[channel.name] = misfit
    if not judged:
        return found
    misfit = np.fmax.reduce(list(judged.values()))
    far = np.flatnonzero(found.success & (misfit > LARGEST_MISFIT))
    if far.size:
        shown = ", ".join(f"patient {i}: {misfit[i]:.3g}" for i in far[:5])
        warnings.warn(
            f"{far.size} of {len(misfit)} curves differ from the best fit found for them "
            f"(misfit above {LARGEST_MISFIT}; {shown}{', ...' * (far.size > 5)}): do not rely "
            f"on these estimates. Check the unit of {', '.join(judged)}, that the "
            "first sample is at the system's t = 0, the value of noise, and the known values; "
            "estimate.misfit contains the misfit of every patient",
            OutOfModelWarning,
            stacklevel=4,
        )
    return found._replace(misfit=misfit)


@compiled
def _compared(channel: Channel, got: Array, values: Array, weight: Array, phases: Any) -> Array:
    return jax.vmap(channel.compare)(got, values, weight, phases)


def misfit_of(
    channel: Channel,
    values: Float[np.ndarray, "patient sample"],
    noise: Float[np.ndarray, "patient sample"],
    phases: Float[Array | np.ndarray, "patient sample"] | None,
    found: Estimate,
) -> Float[np.ndarray, " patient"] | None:
    """Return each patient's misfit of one channel; see `CurveTask.judge`.

    Args:
        channel: The channel.
        values: Its checked samples; NaN where missing.
        noise: Standard deviation of their noise.
        phases: Their phases, if they are not the channel's.
        found: What a method gives.

    Returns:
        The misfits, NaN if nothing was measured; None if the method does not give the channel.
    """
    there, recording = np.isfinite(values), found.recording
    number = np.maximum(there.sum(axis=1), 1)

    def size(x: np.ndarray) -> np.ndarray:
        square = np.where(there, x, 0) ** 2
        return np.sqrt(np.where(there.any(axis=1), square.sum(axis=1) / number, np.nan))

    usual = size(noise)
    if channel.name in found.readings:
        error = size(np.asarray(found.readings[channel.name])[:, None] - values)
        return error / (2 * usual + channel.resolution)
    if recording is None:
        return None
    if channel.name in recording.waveforms.channel_names:
        got = np.asarray(recording.waveforms[channel.name])
        weight = np.where(there, 1 / np.maximum(noise, channel.resolution), 0)
        off = _compared(channel, got, values, weight, phases)
        error = size(np.asarray(off) / np.where(there, weight, 1))
    elif channel.name in recording.maximum.channel_names and not channel.unknown_scale:
        ends = (
            recording.maximum[channel.name] - np.where(there, values, -np.inf).max(axis=1),
            recording.minimum[channel.name] - np.where(there, values, np.inf).min(axis=1),
        )
        error, usual = np.sqrt(np.mean(np.square(ends), axis=0)), 2 * usual
    else:
        return None
    centre = np.where(there, values, 0).sum(axis=1) / number
    return error / (usual + channel.resolution + ALLOWED_SHARE * size(values - centre[:, None]))
