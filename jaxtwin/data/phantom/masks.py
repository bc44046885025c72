"""Label maps of phantom clips: cavity, myocardium and left atrium of every frame."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from jaxtwin.data.phantom.geometry import (
    BLOCK,
    drift_at,
    frame_times,
    image_to_heart,
    motion_at,
    pixel_grid,
    sector,
)
from jaxtwin.data.phantom.heart import (
    Heart,
    Motion,
    PhantomBeat,
    cavity_radius,
    is_within,
    motion_of,
    to_material,
)
from jaxtwin.data.phantom.view import View
from jaxtwin.data.simpson import ATRIUM, CAVITY, MYOCARDIUM


def labels_at(
    heart: Heart,
    motion: Motion,
    x: Float[Array, "*shape"],
    z: Float[Array, "*shape"],
    x_rest: Float[Array, "*shape"],
    z_rest: Float[Array, "*shape"],
) -> Int[Array, "*shape"]:
    """Return the label of points of the heart's plane.

    Args:
        heart: The heart at end diastole.
        motion: Its configuration at this instant.
        x: Distance from the long axis [cm].
        z: Height along the long axis [cm].
        x_rest: `x` of the same tissue at end diastole, from `to_material`.
        z_rest: `z` of the same tissue at end diastole.
    """
    inside = (z > motion.apex) & (z < motion.length)
    radius = cavity_radius(heart, motion, jnp.clip(z, motion.apex, motion.length))
    wall = jnp.where(is_within(heart, x_rest, z_rest, heart.wall), MYOCARDIUM, 0)
    atrium = jnp.where(is_within(heart, x_rest, z_rest, 0.0), ATRIUM, 0)
    labels = jnp.where(z < motion.length, wall, atrium)
    return jnp.where(inside & (jnp.abs(x) < radius), CAVITY, labels)


@jax.jit
def _labels(
    beat: PhantomBeat, view: View, times: Float[Array | np.ndarray, " time"]
) -> UInt8[Array, "time height width"]:
    heart, (across, down) = view.heart, pixel_grid(view)
    visible = sector(view)

    def frame(motion: Motion, drift: Float[Array, ""]):
        x, z = image_to_heart(view, drift, across, down)
        labels = labels_at(heart, motion, x, z, *to_material(heart, motion, x, z))
        return jnp.where(visible, labels, 0).astype(jnp.uint8)

    motions = motion_at(motion_of(beat, heart), beat, view, jnp.asarray(times))
    return jax.vmap(frame)(motions, drift_at(view, jnp.asarray(times)))


def label_maps(beat: PhantomBeat, view: View) -> UInt8[np.ndarray, "time 112 112"]:
    """Return the label map of every frame of a clip.

    The cavity is what a reader traces: papillary muscles, trabeculae and false tendons belong to
    it, and it ends at the mitral annulus.

    Args:
        beat: One cycle, repeated for the duration of the clip.
        view: View of the clip, from `draw_view`.

    Returns:
        Labels as in CAMUS: 1 is the cavity, 2 the myocardium, 3 the left atrium, 0 anything else
        and everything outside the sector.
    """
    beat = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), beat)
    times = frame_times(view)
    blocks = [
        np.asarray(_labels(beat, view, np.resize(times[start : start + BLOCK], BLOCK)))
        for start in range(0, len(times), BLOCK)
    ]
    labels = np.concatenate(blocks)[: len(times)]
    return labels[:, :, ::-1] if view.mirrored else labels
