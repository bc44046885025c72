"""Rendering of phantom clips: an apical four-chamber view of a beating heart.

`render` turns one simulated beat and one `View` into the frames of a clip. The drawn cavity has
the beat's volume at every instant, and the leaflets follow its valve flows.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt8

from jaxtwin.data.phantom.geometry import (
    SIZE,
    drift_at,
    frame_phases,
    frame_times,
    image_to_heart,
    motion_at,
    pixel_grid,
)
from jaxtwin.data.phantom.heart import Motion, PhantomBeat, cavity_radius, motion_of, to_material
from jaxtwin.data.phantom.overlay import burn_in
from jaxtwin.data.phantom.speckle import (
    decibels_to_amplitude,
    echo_textures,
    from_probe,
    texture_index,
)
from jaxtwin.data.phantom.view import View

BLOCK = 32  # frames per compiled call, so that one compilation serves clips of every length
# Number of pixels that are computed: of a sector that does not fill the frame, and of the frame.
SECTOR_PIXELS = 8192
LEAFLET_WIDTH = 0.17  # [cm] at the hinge, blurred by the beam; the tip is half as thick
LEAFLET_SPECULAR = 0.7  # fraction of a leaflet's power lost when it opens along the beam
HAZE_PERIOD = 1.4  # [s] of the near field's oscillation between two speckle patterns
NOISE_STOCK = 8 * SECTOR_PIXELS
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


@jax.jit
def sector(view: View) -> Bool[Array, "height width"]:
    """Return which pixels are inside the sector."""
    across, down = pixel_grid(view)
    depth, angle = jnp.sqrt(across * across + down * down), jnp.arctan2(across, down)
    return (depth < view.depth) & (depth > view.face) & (jnp.abs(angle) < view.half_angle)


@partial(jax.jit, static_argnames="pixels")
def _scene(
    beat: PhantomBeat,
    view: View,
    key: PRNGKeyArray,
    in_sector: Bool[Array | np.ndarray, "height width"],
    pixels: int,
) -> Scene:
    texture_key, noise_key = jax.random.split(key)
    textures = echo_textures(view, texture_key)
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
        noise=jax.random.exponential(noise_key, (NOISE_STOCK,), jnp.float32),
    )


def _leaflet(
    x: Float[Array, " pixel"],
    z: Float[Array, " pixel"],
    hinge_x: Float[Array, ""],
    hinge_z: Float[Array, ""],
    direction: float,
    angle: Float[Array, ""],
    length: Float[Array, ""],
    bow: Float[Array, ""],
) -> Float[Array, " pixel"]:
    """Return the power [0, 1] of one leaflet: a bowed line from its hinge, blurred by the beam.

    The leaflet becomes thinner and fainter towards its tip, and fainter as it opens along the
    beam.

    `direction` is the side towards which the closed leaflet points (1: lateral), `angle` its
    opening towards the apex [rad], `length` its chord and `bow` its sag towards the atrium [cm].
    """
    cosine, sine = direction * jnp.cos(angle), -jnp.sin(angle)
    along = ((x - hinge_x) * cosine + (z - hinge_z) * sine) / length
    aside = direction * ((z - hinge_z) * cosine - (x - hinge_x) * sine)
    aside = (aside - bow * 4 * along * (1 - along)) * ((1 + along) / LEAFLET_WIDTH)
    ends = jnp.clip(5 * (along + 0.1), 0.0, 1.0) * jnp.clip(1.5 * (1.0 - along), 0.0, 1.0)
    seen = 1 - LEAFLET_SPECULAR * sine * sine
    return seen * ends * ends / (1 + aside * aside) ** 3


def _leaflets(
    view: View, motion: Motion, x: Float[Array, " pixel"], z: Float[Array, " pixel"]
) -> Float[Array, " pixel"]:
    """Return the power of the mitral and the (dimmer) tricuspid leaflets."""
    heart = view.heart
    annulus = cavity_radius(heart, motion, motion.length)
    bow = 0.15 * motion.ejecting - 0.1
    # The long anterior leaflet meets the short posterior one below the annulus, off centre.
    opened = 1.1 * motion.opening
    anterior = _leaflet(x, z, -annulus, motion.length, 1.0, 0.16 + opened, 1.30 * annulus, bow)
    posterior = _leaflet(x, z, annulus, motion.length, -1.0, 0.28 + opened, 0.78 * annulus, bow)
    septal_x = -annulus - 0.9 * heart.wall
    width = heart.right_width / (1 + 0.2 * motion.emptied)
    tricuspid = motion.length - 0.5
    septal = _leaflet(x, z, septal_x, tricuspid, -1.0, 0.3 + opened, 0.45 * width, bow)
    lateral = _leaflet(x, z, septal_x - width, tricuspid, 1.0, 0.3 + opened, 0.62 * width, bow)
    mitral = anterior + 0.12 * posterior
    return decibels_to_amplitude(view.leaflets) ** 2 * (mitral + 0.08 * (septal + lateral))


# A block of frames takes three compiled calls instead of one: XLA's CPU compiler does not vectorise
# arithmetic that is fused with a lookup, and a single call takes five times as long.


@jax.jit
def _trace(
    scene: Scene, beat: PhantomBeat, view: View, times: Float[Array, " time"]
) -> tuple[Int[Array, "time pixel"], Float[Array, "time pixel"], Float[Array, "2 time"]]:
    """Return each pixel's texture cell and leaflet power, and each frame's `exchange`.

    The exchange is the weight of the second texture plane, for the tissue and for the resting
    echoes: tissue that moves out of the image plane is replaced by tissue beside it.
    """
    motions = motion_at(scene.motion, beat, view, times)

    def frame(motion: Motion, drift: Float[Array, ""]):
        x, z = image_to_heart(view, drift, scene.across, scene.down)
        cell = texture_index(*from_probe(view, *to_material(view.heart, motion, x, z)))
        return cell, _leaflets(view, motion, x, z) * scene.grain

    cell, leaflets = jax.vmap(frame)(motions, drift_at(view, times))
    turn = 2 * np.pi * (times / HAZE_PERIOD + view.drift_phase)
    moved_out = jnp.clip(OUT_OF_PLANE * motions.emptied, 0.0, 1.0)
    return cell, leaflets, jnp.stack([moved_out, 0.5 + 0.5 * jnp.sin(turn)])


@jax.jit
def _look_up(
    scene: Scene, cell: Int[Array, "time pixel"], key: PRNGKeyArray
) -> tuple[Float[Array, "time pixel"], Float[Array, "time pixel"], Float[Array, "time pixel"]]:
    """Look up the two tissue textures and the thermal noise of a block of frames."""
    start = jax.random.randint(key, cell.shape[:1], 0, NOISE_STOCK - SIZE * SIZE, jnp.int32)
    place = start[:, None] + jnp.arange(cell.shape[1], dtype=jnp.int32)[None, :]
    first, second = scene.tissue
    return first[cell], second[cell], scene.noise[place]


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


def render(beat: PhantomBeat, view: View, key: PRNGKeyArray) -> UInt8[np.ndarray, "time 112 112"]:
    """Render a whole clip.

    Args:
        beat: One cycle, repeated for the duration of the clip.
        view: View of the clip, from `draw_view`.
        key: Random key for the speckle and the noise.

    Returns:
        Brightness, 0 to 255, black outside the sector.
    """
    beat = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), beat)
    scene_key, noise_key = jax.random.split(key)
    in_sector = np.asarray(sector(view))
    pixels = SECTOR_PIXELS if in_sector.sum() <= SECTOR_PIXELS else SIZE * SIZE
    scene = _scene(beat, view, scene_key, in_sector, pixels)
    times = frame_times(view)
    frames = np.zeros((len(times), SIZE, SIZE), np.uint8)
    for start in range(0, len(times), BLOCK):
        block = frames[start : start + BLOCK]
        block_times = np.resize(times[start : start + BLOCK], BLOCK)
        cell, leaflets, exchange = _trace(scene, beat, view, block_times)
        first, second, noise = _look_up(scene, cell, jax.random.fold_in(noise_key, start))
        grey = np.asarray(_compress(scene, view, exchange, first, second, leaflets, noise))
        block[:, in_sector] = grey[: len(block), : in_sector.sum()]
    if view.mirrored:
        frames = frames[:, :, ::-1]
    return burn_in(frames, view, frame_phases(view, float(beat.period)))
