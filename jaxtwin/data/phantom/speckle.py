"""Echo levels and speckle of the phantom's tissue.

One texture per clip holds the echoes of the tissue at end diastole, on a grid of beams (depth,
sine of the beam's angle) in cm of tissue: speckle has a fixed size along the beam and a width
that grows with depth, independent of the image's depth setting. Frames look up the texture
through `heart.to_material`, so that speckle moves with the tissue.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxtwin.data.phantom.heart import outline
from jaxtwin.data.phantom.view import PROBE_RADIUS, View

# The texture's grid. The beams of a phased array have a constant width in the sine of the angle.
DEPTH_STEP, DEPTH_CELLS = 0.05, 440  # [cm]
SINE_LIMIT, SINE_CELLS = 0.78, 224
SINE_STEP = 2 * SINE_LIMIT / SINE_CELLS
# The point-spread function's standard deviations: a pulse of about 1.4 mm, as in images of a
# low-frequency cardiac probe, and the beam of a 2 cm aperture at 2 MHz.
PULSE_LENGTH = 0.06  # [cm]
BEAM_WIDTH = 0.018  # in sine of the angle: 1.8 mm at 10 cm

# A pixel of the frame covers about three cells in each direction; scanners smooth the image too.
PIXEL_AVERAGE = np.full(5, 1 / 5)
NEAR_FIELD = 4.0  # [cm]
APERTURE_AVERAGE = np.full(15, 1 / 15)
ELSEWHERE = (DEPTH_CELLS // 2) * SINE_CELLS  # offset in cells of half the texture's depth

# Echo levels [dB] below white, at a neutral gain.
MUSCLE, SEPTUM_EXTRA, BLOOD = -25.0, 7.0, -62.0
PERICARDIUM, CRUX_EXTRA = -8.0, 10.0
LUNG = -48.0
# Distance over which blood turns into wall [cm]. Trabeculae and the slice thickness blur the
# endocardium; at the lateral wall, so does the beam's width, which lies across it.
SOFT_EDGE, SOFT_LATERAL_EXTRA = 0.11, 0.10


def decibels_to_amplitude(level: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Return the amplitude of an echo from its level [dB]."""
    return jnp.exp(level * float(np.log(10) / 20))


def from_probe(
    view: View, x: Float[Array, "*shape"], z: Float[Array, "*shape"]
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """Return depth [cm] and sine of the beam angle of points in the heart's plane."""
    cosine, sine = jnp.cos(view.tilt), jnp.sin(view.tilt)
    across = view.apex_x + cosine * x + sine * z
    down = view.apex_y - sine * x + cosine * z
    depth = jnp.sqrt(across * across + down * down) + 1e-3
    return depth, across / depth


def _depths() -> Float[Array, "depth 1"]:
    """Return the depths of the texture's rows [cm]."""
    return (jnp.arange(DEPTH_CELLS, dtype=jnp.float32) + 0.5)[:, None] * DEPTH_STEP


def _beam_grid(view: View) -> tuple[Float[Array, "depth sine"], Float[Array, "depth sine"]]:
    """Return the points (x, z) [cm] of the heart's plane at which the texture is drawn."""
    depth = _depths()
    sine = (jnp.arange(SINE_CELLS, dtype=jnp.float32) + 0.5)[None, :] * SINE_STEP - SINE_LIMIT
    across = depth * sine - view.apex_x
    down = depth * jnp.sqrt(1 - sine * sine) - view.apex_y
    cosine, sine = jnp.cos(view.tilt), jnp.sin(view.tilt)
    return cosine * across - sine * down, sine * across + cosine * down


def tissue_level(
    view: View,
    x: Float[Array, "depth sine"],
    z: Float[Array, "depth sine"],
    ragged: Float[Array, "depth sine"],
) -> Float[Array, "depth sine"]:
    """Return the mean echo level [dB below white] of the tissue at end diastole.

    `ragged` is smooth noise that roughens the chambers' borders.
    """
    heart = view.heart
    lines = outline(heart, x, z)
    roof = heart.length + heart.atrium_length
    in_atrium = jax.nn.sigmoid((z - heart.length) / 0.25)
    wall = heart.wall + (0.3 - heart.wall) * in_atrium
    outside = jnp.minimum(lines.left - wall, lines.right - 0.4)

    # Walls along the beam return weak echoes: compare the wall's normal with the beam.
    _, beam_sine = from_probe(view, x, z)
    beam_cosine = jnp.sqrt(1 - beam_sine * beam_sine)
    facing = jnp.abs(lines.normal_x * beam_sine + lines.normal_z * beam_cosine)
    lateral = jax.nn.sigmoid(x / 0.3)
    mid_septum = jnp.exp(-jnp.square((z / heart.length - 0.6) / 0.3))
    muscle = MUSCLE + SEPTUM_EXTRA * mid_septum * (1 - lateral)
    muscle = muscle - view.drop_out * lateral * (1 - facing)
    right_wall = jax.nn.sigmoid((lines.left - wall - 0.6) / 0.2)
    muscle = muscle - 0.7 * view.drop_out * right_wall * (1 - lateral)
    # The crux with the atrial septum and the lateral annulus are fibrous and therefore bright.
    crux = jnp.square((x + heart.annulus_radius + 0.35) / 0.45)
    crux = crux + jnp.square((z - heart.length - 0.4) / 0.9)
    corner = jnp.square((x - heart.annulus_radius - 0.4) / 0.5)
    corner = corner + jnp.square((z - heart.length) / 0.6)
    muscle = muscle + CRUX_EXTRA * (jnp.exp(-crux) + 0.7 * jnp.exp(-corner))

    # Outside the heart, pericardium and the tissue behind the atria are bright; lung and the
    # surroundings of the right heart are not.
    behind = jax.nn.sigmoid((z - roof + 0.8) / 0.5)
    shine = jnp.maximum(behind, lateral * (0.35 + 0.5 * facing))
    reach = 0.45 + 1.3 * behind
    surroundings = LUNG + shine * (PERICARDIUM - LUNG) * jnp.exp(-jnp.maximum(outside, 0) / reach)
    chest_wall = jax.nn.sigmoid(-(z + 0.3) / 0.3)
    surroundings = surroundings + chest_wall * (MUSCLE - 6.0 - surroundings)

    level = surroundings + (muscle - surroundings) * jax.nn.sigmoid(-outside / 0.2)
    # The outflow tract opens in front of the anterior leaflet, where the septum's base would be.
    outflow = jnp.square((x + heart.annulus_radius) / (0.6 * heart.annulus_radius))
    outflow = outflow + jnp.square((z - heart.length) / 1.2)
    opened = jnp.clip(view.outflow, 0.0, 1.0) * jnp.exp(-outflow * outflow)
    level = level + opened * (BLOOD - level)
    left = lines.left + (view.trabeculae + (0.2 - view.trabeculae) * in_atrium) * ragged
    soft = SOFT_EDGE + SOFT_LATERAL_EXTRA * lateral
    # At the border itself the level is still mostly that of the wall: the transition is in
    # decibels, so it begins to be visible only further inside.
    in_cavity = jax.nn.sigmoid(-view.edge - jnp.minimum(left, lines.right + 0.2 * ragged) / soft)
    level = level + (BLOOD - level) * in_cavity
    # Papillary muscles and false tendons lie in the blood.
    place = z / heart.length
    edge = heart.radius * jnp.sqrt(jnp.maximum(place * (1.24 - place), 0.0)) / 0.62
    body = jnp.square((place - view.papillary_level) / 0.14)
    body = jnp.exp(-body * body - jnp.square((jnp.abs(x) - 0.8 * edge) / (0.16 * heart.radius)))
    side = 1.0 - 0.6 * jax.nn.sigmoid(-x / 0.3)  # the lateral one is seen more often
    across = z - heart.length * view.tendon_level - view.tendon_slope * x
    band = jnp.exp(-jnp.square(across / 0.12)) * (jnp.abs(x) < edge)
    muscle = BLOOD + body * side * jnp.maximum(view.papillary + 4 * ragged - BLOOD, 0.0)
    tendon = BLOOD + band * jnp.maximum(view.tendon - BLOOD, 0.0)
    return jnp.maximum(level, jnp.maximum(muscle, tendon))


def _gaussian(spread: float) -> np.ndarray:
    """Return Gaussian weights, `spread` in cells, that conserve the power of white noise."""
    reach = round(2.2 * spread)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / spread) ** 2)
    return weights / np.sqrt(np.sum(weights**2))


def _blurred(
    field: Float[Array, "*batch depth sine"], weights: np.ndarray, axis: int
) -> Float[Array, "*batch depth sine"]:
    """Convolve the field along one axis."""
    reach = len(weights) // 2
    padding = [(0, 0)] * field.ndim
    padding[axis] = (reach, reach)
    padded = jnp.pad(field, padding, mode="edge")
    size = field.shape[axis]
    blurred = jnp.zeros_like(field)
    for start, weight in enumerate(weights):
        blurred += float(weight) * jax.lax.slice_in_dim(padded, start, start + size, axis=axis)
    return blurred


def _patches(key: PRNGKeyArray, cells: tuple[int, int, int]) -> Float[Array, "field depth sine"]:
    """Draw smooth noise of about unit variance on coarse grids, interpolated to the texture's."""
    coarse = jax.random.normal(key, cells, jnp.float32)
    return jax.image.resize(coarse, (cells[0], DEPTH_CELLS, SINE_CELLS), "cubic")


def _speckled(
    key: PRNGKeyArray, level: Float[Array, "texture depth sine"]
) -> Float[Array, "texture cell"]:
    """Draw the power of echoes of a mean level [dB] at the resolution of the frames.

    White complex noise times the level's amplitude, convolved with the point-spread function,
    gives fully developed speckle, whose envelope is Rayleigh distributed. The frames have a sixth
    of a scanner's resolution, and downscaling an image averages its grey values. The average is
    therefore over decibels, not over power.
    """
    noise = jax.random.normal(key, (2, *level.shape), jnp.float32)  # real, imaginary
    echoes = noise * (decibels_to_amplitude(level) * float(np.sqrt(0.5)))[None]
    echoes = _blurred(echoes, _gaussian(PULSE_LENGTH / DEPTH_STEP), axis=2)
    echoes = _blurred(echoes, _gaussian(BEAM_WIDTH / SINE_STEP), axis=3)
    log_power = jnp.log(jnp.square(echoes[0]) + jnp.square(echoes[1]) + 1e-8)
    log_power = _blurred(_blurred(log_power, PIXEL_AVERAGE, axis=1), PIXEL_AVERAGE, axis=2)
    # Close to the probe a beam is as wide as its aperture, whatever its angle.
    near = jnp.exp(-jnp.square(_depths() / NEAR_FIELD))[None]
    log_power += near * (_blurred(log_power, APERTURE_AVERAGE, axis=2) - log_power)
    return jnp.exp(log_power).reshape(level.shape[0], -1)


class Textures(NamedTuple):
    """A clip's echoes on the grid of beams, flattened.

    Attributes:
        tissue: Power of the tissue at end diastole, in the image plane and beside it.
        resting: Power of the resting echoes (reverberations near the probe, clutter further
            down), in two independent patterns.
        grain: Resting speckle of about unit power, which modulates thin structures.
    """

    tissue: Float[Array, "plane cell"]
    resting: Float[Array, "plane cell"]
    grain: Float[Array, " cell"]


@jax.jit
def _levels(
    view: View, key: PRNGKeyArray
) -> tuple[Float[Array, "depth sine"], Float[Array, "depth sine"]]:
    """Return the levels [dB] of the tissue and of the resting echoes."""
    _, broad_key, patch_key, streak_key = jax.random.split(key, 4)
    regions, clouds = _patches(broad_key, (2, 9, 8))
    edges, patches, haze_patches = _patches(patch_key, (3, 28, 20))
    streaks, haze_streaks = _patches(streak_key, (2, 110, 36))
    x, z = _beam_grid(view)
    # Muscle is patchy, whole segments are dim, and fibres that lie across the beam give streaks.
    tissue = tissue_level(view, x, z, edges) + 5.0 * regions + 4.0 * patches + 3.0 * streaks

    # Ring-down at the probe's face, then a slow decay to the level of the clutter. Layers of the
    # chest wall return echoes at the same depth in every beam.
    height = jnp.maximum(_depths() - PROBE_RADIUS, 0.0)
    haze = view.haze + 5.0 * jnp.exp(-height / 0.5) - 9.0 * jnp.square(height / view.haze_reach)
    haze = haze + 6.0 * jnp.exp(-height / 2.5) * haze_streaks[:, :1]
    resting = jnp.maximum(haze, view.clutter) + 3.0 * haze_patches + 3.0 * clouds
    return tissue, resting


# Two compiled calls: in one, XLA's CPU compiler fuses the levels with the stack of planes and does
# not vectorise them, which takes three times as long.


@jax.jit
def _textures(
    key: PRNGKeyArray, tissue: Float[Array, "depth sine"], resting: Float[Array, "depth sine"]
) -> Textures:
    planes = _speckled(
        jax.random.split(key, 4)[0], jnp.stack([tissue, tissue, jnp.zeros_like(resting)])
    )
    # The resting levels are smooth, so the same speckle can be used twice, shifted.
    grain = planes[2]
    power = jnp.square(decibels_to_amplitude(resting)).reshape(-1)
    both = jnp.stack([power * grain, power * jnp.roll(grain, ELSEWHERE)])
    return Textures(planes[:2], both, grain)


def echo_textures(view: View, key: PRNGKeyArray) -> Textures:
    """Draw a clip's textures."""
    return _textures(key, *_levels(view, key))


def texture_index(
    depth: Float[Array, "*shape"], sine: Float[Array, "*shape"]
) -> Int[Array, "*shape"]:
    """Return the index of the texture cell nearest to a depth [cm] and sine of the angle.

    The cells are a third of a pixel or less, so interpolation is not worth its cost.
    """
    row = jnp.clip(depth * (1 / DEPTH_STEP), 0, DEPTH_CELLS - 1).astype(jnp.int32)
    column = jnp.clip((sine + SINE_LIMIT) * (1 / SINE_STEP), 0, SINE_CELLS - 1)
    return row * SINE_CELLS + column.astype(jnp.int32)
