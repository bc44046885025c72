"""Phantom clips: an apical four-chamber view of a beating heart, pixel by pixel.

`render` turns one simulated beat and one `View` into the frames of a clip. The cavity that is
drawn has the beat's volume at every instant; the leaflets follow its valve flows.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray, UInt8

from jaxtwin.data.echo_view import View, draw_view
from jaxtwin.data.heart_shape import Beat, Motion, cavity_radius, motion_of, to_material
from jaxtwin.data.speckle import (
    decibels_to_amplitude,
    from_probe,
    haze_texture,
    texture_index,
    tissue_texture,
)

__all__ = ["Beat", "View", "chords", "draw_view", "frame_times", "render"]

SIZE = 112  # pixels, EchoNet-Dynamic's frames
BLOCK = 32  # frames a compiled call: one compilation serves clips of every length
# Room for the sector's pixels. Their number is half_angle / max(1.06, 1.86 sin half_angle)² of the
# frame, which peaks at 54%, plus a little for `aspect`.
SECTOR_PIXELS = 7168
SECTOR_TOP = 4.0  # pixels above the probe
PROBE_RADIUS = 0.4  # cm: the image starts at the probe's surface
CHORDS = 20  # across the cavity, as in EchoNet-Dynamic's tracings
LEAFLET_WIDTH = 0.11  # cm, as the beam blurs them
LEAFLET_LEVEL = -15.0  # dB below white


class Scene(NamedTuple):
    """What stays the same through a clip.

    Attributes:
        motion: The heart's motion on the beat's phase grid.
        tissue: Power of the tissue's echoes at end diastole (`tissue_texture`).
        in_sector: Which pixels of the frame show anything.
        across, down: Place of those pixels in the image plane [cm].
        screen: Their gain, a factor of power.
        resting: Power of the near-field echoes there.
        noise: Power of the thermal noise there.
    """

    motion: Motion
    tissue: Float[Array, " cell"]
    in_sector: Bool[Array, "height width"]
    across: Float[Array, " pixel"]
    down: Float[Array, " pixel"]
    screen: Float[Array, " pixel"]
    resting: Float[Array, " pixel"]
    noise: Float[Array, " pixel"]


def pixel_size(view: View) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Width and height [cm] of a pixel: the sector fills the frame, cut a little at the sides."""
    height = jnp.maximum(view.depth * 1.06, 1.86 * view.depth * jnp.sin(view.half_angle)) / SIZE
    return height * view.aspect, height


def _pixel_grid(view: View) -> tuple[Float[Array, "height width"], Float[Array, "height width"]]:
    """Centres of the pixels in the image plane, from the probe: across and down [cm]."""
    width, height = pixel_size(view)
    index = jnp.arange(SIZE, dtype=jnp.float32)
    across = jnp.broadcast_to((index[None, :] - (SIZE - 1) / 2) * width, (SIZE, SIZE))
    down = jnp.broadcast_to((index[:, None] - SECTOR_TOP) * height, (SIZE, SIZE))
    return across, down


def _bow(view: View, z: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Sideways shift [cm] of the long axis at a height z: a shear, which keeps every volume."""
    level = z / view.heart.length
    return view.bend * 4 * level * (1 - level) * jnp.exp(-jnp.square(level - 0.5))


def image_to_heart(
    view: View,
    drift: Float[Array, ""],
    across: Float[Array, "*shape"],
    down: Float[Array, "*shape"],
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """Image plane to the heart's plane, both in cm. `drift`: the heart's travel by breathing."""
    cosine, sine = jnp.cos(view.tilt), jnp.sin(view.tilt)
    right = across - view.apex_x - 0.4 * drift
    below = down - view.apex_y - drift
    x = cosine * right - sine * below
    z = (sine * right + cosine * below) / (1 - view.foreshortening)
    return x - _bow(view, z), z


def heart_to_image(
    view: View, drift: Float[Array, ""], x: Float[Array, "*shape"], z: Float[Array, "*shape"]
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """Inverse of `image_to_heart`."""
    cosine, sine = jnp.cos(view.tilt), jnp.sin(view.tilt)
    x, z = x + _bow(view, z), z * (1 - view.foreshortening)
    across = view.apex_x + 0.4 * drift + cosine * x + sine * z
    return across, view.apex_y + drift - sine * x + cosine * z


def frame_times(view: View) -> Float[np.ndarray, " time"]:
    """When each frame of the clip is taken [s]."""
    frames = max(int(round(float(view.duration) * float(view.frame_rate))), 2)
    return np.arange(frames, dtype=np.float32) / np.float32(view.frame_rate)


def _motion_at(
    scene_motion: Motion, beat: Beat, view: View, times: Float[Array, " time"]
) -> Motion:
    """The heart's configuration at some times, from its motion on the phase grid."""
    phases = beat.V_lv.shape[0]
    place = jnp.mod(times / beat.period + view.start_phase, 1.0) * phases
    before = jnp.clip(place.astype(jnp.int32), 0, phases - 1)
    share = place - before
    after = jnp.mod(before + 1, phases)
    return jax.tree.map(lambda leaf: leaf[before] * (1 - share) + leaf[after] * share, scene_motion)


def _drift_at(view: View, times: Float[Array, " time"]) -> Float[Array, " time"]:
    """The heart's travel by breathing [cm]."""
    return view.drift * jnp.sin(2 * np.pi * (times / view.drift_period + view.drift_phase))


@jax.jit
def _scene(beat: Beat, view: View, key: PRNGKeyArray) -> Scene:
    tissue_key, haze_key = jax.random.split(key)
    across, down = _pixel_grid(view)
    depth, angle = jnp.sqrt(across * across + down * down), jnp.arctan2(across, down)
    in_sector = (depth < view.depth) & (depth > PROBE_RADIUS) & (jnp.abs(angle) < view.half_angle)
    # Only pixels inside the sector are computed; the padding repeats the frame's first corner.
    inside = jnp.flatnonzero(in_sector, size=SECTOR_PIXELS, fill_value=0)
    across, down, depth, angle = (
        field.reshape(-1)[inside] for field in (across, down, depth, angle)
    )

    relative = depth / view.depth
    screen = view.gain + view.attenuation * (0.5 - relative)
    screen = screen - view.lateral_loss * jnp.abs(angle / view.half_angle) ** 3
    for ray in range(view.shadow_angle.shape[0]):
        from_ray = (angle - view.shadow_angle[ray]) / view.shadow_width[ray]
        # Draws below zero are views with fewer shadows.
        screen = screen - jnp.maximum(view.shadow_loss[ray], 0.0) * jnp.exp(-from_ray * from_ray)
    resting = haze_texture(view, haze_key)[texture_index(depth, jnp.sin(angle))]
    return Scene(
        motion=motion_of(beat, view.heart),
        tissue=tissue_texture(view, tissue_key),
        in_sector=in_sector,
        across=across,
        down=down,
        screen=decibels_to_amplitude(screen) ** 2,
        resting=resting,
        noise=decibels_to_amplitude(view.noise - 10.0 * (1 - relative)) ** 2,
    )


def _leaflet(x, z, hinge_x, hinge_z, direction, angle, length, bow):
    """Power [0, 1] of one leaflet: a bowed line from its hinge, brighter towards its middle.

    `direction` is the side to which the closed leaflet reaches, `angle` its opening towards the
    apex [rad], `bow` its height over its chord [cm].
    """
    cosine, sine = direction * jnp.cos(angle), -jnp.sin(angle)
    along = ((x - hinge_x) * cosine + (z - hinge_z) * sine) / length
    aside = direction * ((z - hinge_z) * cosine - (x - hinge_x) * sine)
    aside = (aside - bow * 4 * along * (1 - along)) * (1 / LEAFLET_WIDTH)
    ends = jnp.clip(8 * (along + 0.05), 0.0, 1.0) * jnp.clip(8 * (1.05 - along), 0.0, 1.0)
    return ends / (1 + aside * aside) ** 3


def _leaflets(view: View, motion: Motion, x, z):
    """Power of the mitral and, dimmer, the tricuspid leaflets relative to `LEAFLET_LEVEL`."""
    heart = view.heart
    annulus = cavity_radius(heart, motion, motion.length)
    opened = 0.15 + 1.15 * motion.opening
    bow = 0.12 * motion.ejecting
    anterior = _leaflet(x, z, -annulus, motion.length, 1.0, opened, 1.25 * annulus, bow)
    posterior = _leaflet(x, z, annulus, motion.length, -1.0, opened, 0.75 * annulus, bow)
    septal_x = -annulus - heart.wall * 0.9
    width = heart.right_width / (1 + 0.2 * motion.emptied)
    tricuspid = motion.length - 0.5
    septal = _leaflet(x, z, septal_x, tricuspid, -1.0, opened, 0.5 * width, bow)
    lateral = _leaflet(x, z, septal_x - width, tricuspid, 1.0, opened, 0.5 * width, bow)
    return anterior + posterior + 0.3 * (septal + lateral)


def _frame(scene: Scene, view: View, motion: Motion, drift, key) -> UInt8[Array, " pixel"]:
    """Grey values of the sector's pixels in one frame."""
    x, z = image_to_heart(view, drift, scene.across, scene.down)
    cell = texture_index(*from_probe(view, *to_material(view.heart, motion, x, z)))
    power = jnp.take(scene.tissue, cell, mode="clip") + scene.resting
    power = power + 10 ** (LEAFLET_LEVEL / 10) * _leaflets(view, motion, x, z)
    # The power of complex thermal noise is exponentially distributed.
    bits = jax.random.bits(key, power.shape, jnp.uint16)
    exponential = -jnp.log((bits.astype(jnp.float32) + 0.5) * (1 / 65536))
    level = jnp.log(power * scene.screen + scene.noise * exponential) * float(10 / np.log(10))
    bright = jnp.clip(1 + level / view.dynamic_range, 0.0, 1.0) ** view.contrast
    return (255 * bright + 0.5).astype(jnp.uint8)


@jax.jit
def _block(
    scene: Scene, beat: Beat, view: View, times: Float[Array, " time"], key: PRNGKeyArray
) -> UInt8[Array, "time height width"]:
    motion = _motion_at(scene.motion, beat, view, times)
    keys = jax.random.split(key, times.shape[0])
    drifts = _drift_at(view, times)
    grey = jax.vmap(_frame, in_axes=(None, None, 0, 0, 0))(scene, view, motion, drifts, keys)
    place = jnp.cumsum(scene.in_sector.reshape(-1), dtype=jnp.int32) - 1
    frames = jnp.take(grey, jnp.maximum(place, 0), axis=1).reshape(-1, SIZE, SIZE)
    return jnp.where(scene.in_sector[None], frames, jnp.uint8(0))


def render(beat: Beat, view: View, key: PRNGKeyArray) -> UInt8[np.ndarray, "time 112 112"]:
    """Render a whole clip.

    Args:
        beat: One cycle; it is repeated for as long as the clip lasts.
        view: How the clip is taken, from `draw_view`.
        key: Randomness of the speckle and the noise.

    Returns:
        Brightness, 0 to 255, black outside the sector.
    """
    beat = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), beat)
    scene_key, noise_key = jax.random.split(key)
    scene = _scene(beat, view, scene_key)
    times = frame_times(view)
    padded = np.resize(times, -(-len(times) // BLOCK) * BLOCK).reshape(-1, BLOCK)
    blocks = [
        _block(scene, beat, view, block, jax.random.fold_in(noise_key, number))
        for number, block in enumerate(padded)
    ]
    return np.concatenate([np.asarray(block) for block in blocks])[: len(times)]


@jax.jit
def _chords(beat: Beat, view: View, time: Float[Array, ""]) -> Float[Array, "line 4"]:
    motion = _motion_at(motion_of(beat, view.heart), beat, view, time[None])
    motion = jax.tree.map(lambda leaf: leaf[0], motion)
    drift = _drift_at(view, time)
    level = (jnp.arange(CHORDS, dtype=jnp.float32) + 0.5) / CHORDS
    z = level * motion.length
    radius = cavity_radius(view.heart, motion, z)
    start_x = jnp.concatenate([jnp.zeros(1, jnp.float32), -radius])
    end_x = jnp.concatenate([jnp.zeros(1, jnp.float32), radius])
    start_z = jnp.concatenate([jnp.zeros(1, jnp.float32), z])
    end_z = jnp.concatenate([motion.length[None], z])
    width, height = pixel_size(view)

    def pixels(x, z):
        across, down = heart_to_image(view, drift, x, z)
        return across / width + (SIZE - 1) / 2, down / height + SECTOR_TOP

    return jnp.stack([*pixels(start_x, start_z), *pixels(end_x, end_z)], axis=1)


def chords(beat: Beat, view: View, time: float) -> Float[np.ndarray, "line 4"]:
    """Tracing of the left ventricle at a time [s], in pixels: X1, Y1, X2, Y2.

    The first line is the long axis, apex to annulus; the others cross the cavity at right angles
    to it, at evenly spaced levels from apex to annulus.
    """
    beat = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), beat)
    return np.asarray(_chords(beat, view, jnp.float32(time)))
