"""Distance between what was measured and what a method gives, as a share of what is allowed."""

from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from jaxtwin.methods.base import Estimate
from jaxtwin.methods.measured import Channel
from jaxtwin.physics.kernel import compiled

# The allowed error of a curve is the sum of the noise, the task's resolution, and this share of the
# curve's standard deviation, for the error of a network.
ALLOWED_SHARE = 0.1


@compiled
def _compared(channel: Channel, got: Array, values: Array, weight: Array, phases: Any) -> Array:
    return jax.vmap(channel.compare)(got, values, weight, phases)


def misfit_of(
    channel: Channel,
    values: Float[np.ndarray, "patient sample"],
    noise: Float[np.ndarray, "patient sample"],
    phases: Float[Array, "patient sample"] | None,
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
