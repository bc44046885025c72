"""Geometry of a phantom clip: pixels, the heart's plane, frame times and tracings."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxtwin.data.phantom.heart import Motion, PhantomBeat, cavity_radius, motion_of
from jaxtwin.data.phantom.view import SYSTOLE, View

SIZE = 112  # [pixels], as in EchoNet-Dynamic
BLOCK = 32  # frames per compiled call, so that one compilation serves clips of every length
PADDING = 256  # number of frames whose phases are computed together
CHORDS = 20  # across the cavity, as in EchoNet-Dynamic's tracings


def pixel_size(view: View) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Return width and height [cm] of a pixel.

    The sector fills the frame and is cut slightly at the sides.
    """
    height = view.depth * jnp.maximum(1.03, 1.6 * jnp.sin(view.half_angle)) / SIZE * view.zoom
    return height * view.aspect, height


def pixel_grid(view: View) -> tuple[Float[Array, "height width"], Float[Array, "height width"]]:
    """Return the pixel centres, across and down [cm] from the point where the beams would meet."""
    width, height = pixel_size(view)
    index = jnp.arange(SIZE, dtype=jnp.float32)
    across = jnp.broadcast_to((index[None, :] - (SIZE - 1) / 2) * width, (SIZE, SIZE))
    down = jnp.broadcast_to((index[:, None] - view.top) * height, (SIZE, SIZE))
    return across, down


@jax.jit
def sector(view: View) -> Bool[Array, "height width"]:
    """Return which pixels are inside the sector."""
    across, down = pixel_grid(view)
    depth, angle = jnp.sqrt(across * across + down * down), jnp.arctan2(across, down)
    return (depth < view.depth) & (depth > view.face) & (jnp.abs(angle) < view.half_angle)


def _bow(view: View, z: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Return the sideways shift [cm] of the long axis at a height z.

    The shift is a shear, which conserves every volume.
    """
    level = z / view.heart.length
    return view.bend * 4 * level * (1 - level) * jnp.exp(-jnp.square(level - 0.5))


def image_to_heart(
    view: View,
    drift: Float[Array, ""],
    across: Float[Array, "*shape"],
    down: Float[Array, "*shape"],
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """Map points of the image plane to the heart's plane, both in cm.

    `drift` is the displacement of the heart by breathing [cm].
    """
    cosine, sine = jnp.cos(view.tilt), jnp.sin(view.tilt)
    right = across - view.apex_x - 0.4 * drift
    below = down - view.apex_y - drift
    x = (cosine * right - sine * below) / (1 - view.off_axis)
    z = (sine * right + cosine * below) / (1 - view.foreshortening)
    return x - _bow(view, z), z


def heart_to_image(
    view: View, drift: Float[Array, ""], x: Float[Array, "*shape"], z: Float[Array, "*shape"]
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """Map points of the heart's plane to the image plane, the inverse of `image_to_heart`."""
    cosine, sine = jnp.cos(view.tilt), jnp.sin(view.tilt)
    x, z = (x + _bow(view, z)) * (1 - view.off_axis), z * (1 - view.foreshortening)
    across = view.apex_x + 0.4 * drift + cosine * x + sine * z
    return across, view.apex_y + drift - sine * x + cosine * z


def frame_times(view: View) -> Float[np.ndarray, " time"]:
    """Return the time of each frame of the clip [s]."""
    frames = max(round(float(view.duration) * float(view.frame_rate)), 2)
    return np.arange(frames, dtype=np.float32) / np.float32(view.frame_rate)


def phase_at(
    view: View, period: Float[Array | np.ndarray, ""] | float, times: Float[Array, " time"]
) -> Float[Array, " time"]:
    """Return the phase of the beat, 0 to 1, at given times [s].

    In an irregular rhythm, systole keeps its length, and diastole fills the rest of each beat.
    """
    starts = jnp.concatenate([jnp.zeros(1), jnp.cumsum(view.rhythm)])
    first = jnp.where(
        view.start_phase < SYSTOLE,
        view.start_phase,
        SYSTOLE + (view.start_phase - SYSTOLE) * (view.rhythm[0] - SYSTOLE) / (1 - SYSTOLE),
    )
    place = jnp.asarray(times) / period + first
    beat = jnp.clip(jnp.searchsorted(starts, place, side="right") - 1, 0, len(view.rhythm) - 1)
    since = place - starts[beat]
    stretch = (1 - SYSTOLE) / (view.rhythm[beat] - SYSTOLE)
    phase = jnp.where(since < SYSTOLE, since, SYSTOLE + (since - SYSTOLE) * stretch)
    return jnp.mod(phase, 1.0)


def frame_phases(view: View, period: float) -> Float[np.ndarray, " time"]:
    """Return the phase of the beat in each frame of the clip, 0 to 1."""
    times = frame_times(view)
    # Padded, so that few compilations serve clips of every length.
    padded = np.resize(times, -(-len(times) // PADDING) * PADDING)
    return np.asarray(_phase_at(view, jnp.float32(period), padded))[: len(times)]


def motion_at(
    scene_motion: Motion, beat: PhantomBeat, view: View, times: Float[Array, " time"]
) -> Motion:
    """Interpolate the heart's motion from the phase grid to given times."""
    phases = beat.V_lv.shape[0]
    place = phase_at(view, beat.period, times) * phases
    before = jnp.clip(place.astype(jnp.int32), 0, phases - 1)
    share = place - before
    after = jnp.mod(before + 1, phases)
    return jax.tree.map(lambda leaf: leaf[before] * (1 - share) + leaf[after] * share, scene_motion)


def drift_at(view: View, times: Float[Array, "*time"]) -> Float[Array, "*time"]:
    """Return the displacement of the heart by breathing [cm]."""
    return view.drift * jnp.sin(2 * np.pi * (times / view.drift_period + view.drift_phase))


_phase_at = jax.jit(phase_at)


@jax.jit
def _chords(beat: PhantomBeat, view: View, time: Float[Array, ""]) -> Float[Array, "line 4"]:
    motion = motion_at(motion_of(beat, view.heart), beat, view, time[None])
    motion = jax.tree.map(lambda leaf: leaf[0], motion)
    drift = drift_at(view, time)
    level = (jnp.arange(CHORDS, dtype=jnp.float32) + 0.5) / CHORDS
    z = motion.apex + level * (motion.length - motion.apex)
    radius = cavity_radius(view.heart, motion, z)
    start_x = jnp.concatenate([jnp.zeros(1, jnp.float32), -radius])
    end_x = jnp.concatenate([jnp.zeros(1, jnp.float32), radius])
    start_z = jnp.concatenate([motion.apex[None], z])
    end_z = jnp.concatenate([motion.length[None], z])
    width, height = pixel_size(view)

    def pixels(x, z):
        across, down = heart_to_image(view, drift, x, z)
        column = across / width + (SIZE - 1) / 2
        column = jnp.where(view.mirrored, SIZE - 1 - column, column)
        return column, down / height + view.top

    return jnp.stack([*pixels(start_x, start_z), *pixels(end_x, end_z)], axis=1)


def chords(beat: PhantomBeat, view: View, time: float) -> Float[np.ndarray, "line 4"]:
    """Return a tracing of the left ventricle at a time [s] as lines X1, Y1, X2, Y2 [pixels].

    The first line is the long axis from apex to annulus. The others cross the cavity at right
    angles to it, at evenly spaced levels from apex to annulus.
    """
    beat = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), beat)
    return np.asarray(_chords(beat, view, jnp.float32(time)))
