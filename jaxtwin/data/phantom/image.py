"""Rendering of phantom clips: an apical four-chamber view of a beating heart.

`render` turns one simulated beat and one `View` into the frames of a clip, `render_labelled` into
the frames and their label maps. The drawn cavity has the beat's volume at every instant, and the
leaflets follow its valve flows.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt8

from jaxtwin.data.phantom.geometry import (
    BLOCK,
    SIZE,
    drift_at,
    frame_phases,
    frame_times,
    image_to_heart,
    motion_at,
    pixel_grid,
    sector,
)
from jaxtwin.data.phantom.heart import Motion, PhantomBeat, motion_of, to_material
from jaxtwin.data.phantom.leaflets import leaflet_power
from jaxtwin.data.phantom.masks import labels_at
from jaxtwin.data.phantom.overlay import burn_in
from jaxtwin.data.phantom.speckle import (
    Textures,
    decibels_to_amplitude,
    echo_textures,
    from_probe,
    texture_index,
)
from jaxtwin.data.phantom.view import View

# Numbers of pixels that are computed, of which a clip takes the first that holds its sector.
SECTOR_PIXELS = (8192, 10240, SIZE * SIZE)
HAZE_PERIOD = 1.4  # [s] of the near field's oscillation between two speckle patterns
NOISE_STOCK = 65_536
LABEL = 1 << 17  # number by which a pixel's label is multiplied; there are fewer texture cells
OUT_OF_PLANE = 0.7  # fraction of the speckle that is exchanged when the ventricle is empty


class Scene(NamedTuple):
    """Quantities that are constant through a clip. "Pixels" are those inside the sector.

    Attributes:
        motion: The heart's motion on the beat's phase grid.
        tissue: Power of the tissue's echoes at end diastole (`Textures.tissue`).
        across, down: Position of the pixels in the image plane [cm].
        screen: Gain of the pixels, a factor of power.
        resting: Power of the near field's echoes and of the clutter (`Textures.resting`).
        grain: Speckle that modulates the leaflets (`Textures.grain`).
        floor: Mean power of the thermal noise.
        noise: Thermal noise of unit mean power; every frame uses a random part of it.
    """

    motion: Motion
    tissue: Float[Array, "plane cell"]
    across: Float[Array, " pixel"]
    down: Float[Array, " pixel"]
    screen: Float[Array, " pixel"]
    resting: Float[Array, "plane pixel"]
    grain: Float[Array, " pixel"]
    floor: Float[Array, " pixel"]
    noise: Float[Array, " stock"]


class Clip(NamedTuple):
    """A rendered clip.

    Attributes:
        frames: Brightness, 0 to 255, black outside the sector.
        labels: Label map of each frame, as `masks.label_maps` returns it.
    """

    frames: UInt8[np.ndarray, "time 112 112"]
    labels: UInt8[np.ndarray, "time 112 112"]


@jax.jit
def _keys(key: PRNGKeyArray) -> tuple[PRNGKeyArray, PRNGKeyArray, PRNGKeyArray]:
    """Return the keys of the textures, of the stock of noise, and of the parts that frames use."""
    scene_key, noise_key = jax.random.split(key)
    texture_key, stock_key = jax.random.split(scene_key)
    return texture_key, stock_key, noise_key


@partial(jax.jit, static_argnames="pixels")
def _scene(
    beat: PhantomBeat,
    view: View,
    textures: Textures,
    key: PRNGKeyArray,
    in_sector: Bool[Array | np.ndarray, "height width"],
    pixels: int,
) -> Scene:
    across, down = pixel_grid(view)
    depth, angle = jnp.sqrt(across * across + down * down), jnp.arctan2(across, down)
    # Only pixels inside the sector are computed; the padding repeats the frame's first pixel.
    inside = jnp.flatnonzero(jnp.asarray(in_sector), size=pixels, fill_value=0)
    across, down, depth, angle = (
        field.reshape(-1)[inside] for field in (across, down, depth, angle)
    )

    cell = texture_index(depth, jnp.sin(angle))
    relative = depth / view.depth
    screen = view.gain + view.attenuation * (0.5 - relative)
    screen = screen - view.lateral_loss * jnp.abs(angle / view.half_angle) ** 3
    for ray in range(view.shadow_angle.shape[0]):
        from_ray = (angle - view.shadow_angle[ray]) / view.shadow_width[ray]
        # A draw below zero means no shadow.
        screen = screen - jnp.maximum(view.shadow_loss[ray], 0.0) * jnp.exp(-from_ray * from_ray)
    return Scene(
        motion=motion_of(beat, view.heart),
        tissue=textures.tissue,
        across=across,
        down=down,
        screen=decibels_to_amplitude(screen) ** 2,
        resting=textures.resting[:, cell],
        grain=textures.grain[cell],
        floor=decibels_to_amplitude(view.noise - 10.0 * (1 - relative)) ** 2,
        # The power of complex thermal noise is exponentially distributed.
        noise=jax.random.exponential(key, (NOISE_STOCK,), jnp.float32),
    )


# A block of frames takes three compiled calls instead of one: XLA's CPU compiler does not vectorise
# arithmetic that is fused with a lookup, and a single call takes five times as long.


@jax.jit
def _trace(
    scene: Scene, beat: PhantomBeat, view: View, times: Float[Array, " time"]
) -> tuple[Int[Array, "time pixel"], Float[Array, "time pixel"], Float[Array, "2 time"]]:
    """Return each pixel's place and leaflet power, and each frame's `exchange`.

    The place is the pixel's texture cell plus `LABEL` times its label: both follow from where the
    tissue rests, which XLA would compute once for each of two results. The exchange is the weight
    of the second texture plane, for the tissue and for the resting echoes: tissue that moves out
    of the image plane is replaced by tissue beside it.
    """
    motions = motion_at(scene.motion, beat, view, times)

    def frame(motion: Motion, drift: Float[Array, ""]):
        x, z = image_to_heart(view, drift, scene.across, scene.down)
        x_rest, z_rest = to_material(view.heart, motion, x, z)
        cell = texture_index(*from_probe(view, x_rest, z_rest))
        label = labels_at(view.heart, motion, x, z, x_rest, z_rest)
        return cell + LABEL * label, leaflet_power(view, motion, x, z) * scene.grain

    place, leaflets = jax.vmap(frame)(motions, drift_at(view, times))
    turn = 2 * np.pi * (times / HAZE_PERIOD + view.drift_phase)
    moved_out = jnp.clip(OUT_OF_PLANE * motions.emptied, 0.0, 1.0)
    return place, leaflets, jnp.stack([moved_out, 0.5 + 0.5 * jnp.sin(turn)])


@jax.jit
def _look_up(
    scene: Scene,
    place: Int[Array, "time pixel"],
    noise_key: PRNGKeyArray,
    first_frame: Int[Array | np.ndarray, ""],
) -> tuple[
    UInt8[Array, "time pixel"],
    Float[Array, "time pixel"],
    Float[Array, "time pixel"],
    Float[Array, "time pixel"],
]:
    """Return the labels and look up the two tissue textures and the thermal noise of a block."""
    key = jax.random.fold_in(noise_key, first_frame)
    start = jax.random.randint(key, place.shape[:1], 0, NOISE_STOCK - SIZE * SIZE, jnp.int32)
    further = start[:, None] + jnp.arange(place.shape[1], dtype=jnp.int32)[None, :]
    cell, labels = place % LABEL, (place // LABEL).astype(jnp.uint8)
    first, second = scene.tissue
    return labels, first[cell], second[cell], scene.noise[further]


@jax.jit
def _compress(
    scene: Scene,
    view: View,
    exchange: Float[Array, "2 time"],
    first: Float[Array, "time pixel"],
    second: Float[Array, "time pixel"],
    leaflets: Float[Array, "time pixel"],
    noise: Float[Array, "time pixel"],
) -> UInt8[Array, "time pixel"]:
    """Return the grey values for the power of the echoes."""
    tissue, rest = exchange[0, :, None], exchange[1, :, None]
    power = first * (1 - tissue) + second * tissue
    power += scene.resting[:1] * (1 - rest) + scene.resting[1:] * rest
    power = (power + leaflets) * scene.screen[None] + scene.floor[None] * noise
    decibels = jnp.log(power) * float(10 / np.log(10))
    # The logarithm of the exponentially distributed noise has a standard deviation of 5.6 dB.
    decibels += view.grain / 5.57 * (jnp.log(noise + 1e-4) * float(10 / np.log(10)) + 2.51)
    level = 1 + decibels / view.dynamic_range
    rejected = jnp.maximum(view.rejection, 0.0)
    level = (level - rejected) / (1 - rejected)
    bright = jnp.exp(view.contrast * jnp.log(jnp.clip(level, 1e-6, 1.0)))
    return (255 * bright + 0.5).astype(jnp.uint8)


def _fill(
    block: UInt8[np.ndarray, "frame height width"],
    in_sector: Bool[np.ndarray, "height width"],
    values: UInt8[np.ndarray, "time pixel"],
) -> None:
    """Set the pixels inside the sector, run by run; `block[:, in_sector]` takes 20 times longer."""
    flat = block.reshape(len(block), -1)
    ends = np.flatnonzero(np.diff(in_sector.reshape(-1), prepend=False, append=False))
    done = 0
    for begin, end in ends.reshape(-1, 2).tolist():
        flat[:, begin:end] = values[: len(block), done : done + end - begin]
        done += end - begin


def render_labelled(beat: PhantomBeat, view: View, key: PRNGKeyArray) -> Clip:
    """Render a whole clip and its label maps.

    Args:
        beat: One cycle, repeated for the duration of the clip.
        view: View of the clip, from `draw_view`.
        key: Random key for the speckle and the noise.
    """
    beat = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), beat)
    texture_key, stock_key, noise_key = _keys(key)
    in_sector = np.asarray(sector(view))
    pixels = next(number for number in SECTOR_PIXELS if number >= in_sector.sum())
    textures = echo_textures(view, texture_key)
    scene = _scene(beat, view, textures, stock_key, in_sector, pixels)
    times = frame_times(view)
    frames, labels = np.zeros((2, len(times), SIZE, SIZE), np.uint8)
    for start in range(0, len(times), BLOCK):
        block_times = np.resize(times[start : start + BLOCK], BLOCK)
        place, leaflets, exchange = _trace(scene, beat, view, block_times)
        label, first, second, noise = _look_up(scene, place, noise_key, np.asarray(start))
        grey = _compress(scene, view, exchange, first, second, leaflets, noise)
        _fill(frames[start : start + BLOCK], in_sector, np.asarray(grey))
        _fill(labels[start : start + BLOCK], in_sector, np.asarray(label))
    if view.mirrored:
        frames, labels = frames[:, :, ::-1], labels[:, :, ::-1]
    return Clip(burn_in(frames, view, frame_phases(view, float(beat.period))), labels)


def render(beat: PhantomBeat, view: View, key: PRNGKeyArray) -> UInt8[np.ndarray, "time 112 112"]:
    """Render the frames of a whole clip, see `render_labelled`."""
    return render_labelled(beat, view, key).frames
