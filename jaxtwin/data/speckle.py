"""The phantom's tissue as ultrasound sees it: echo levels, and the speckle they are seen through.

One complex texture per clip holds the echoes of the tissue at end diastole, on a grid of beams
(depth, sine of the beam's angle), in cm of tissue: speckle has a fixed size along the beam and a
width that grows with depth, whatever the depth setting of the image. Frames look the texture up
through `heart_shape.to_material`, so speckle moves with the tissue.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxtwin.data.echo_view import View
from jaxtwin.data.heart_shape import outline

# The texture's grid. A phased array's beams keep their width in the sine of the angle.
DEPTH_STEP, DEPTH_CELLS = 0.05, 440  # cm
SINE_LIMIT, SINE_CELLS = 0.9, 256
SINE_STEP = 2 * SINE_LIMIT / SINE_CELLS
# The point-spread function's standard deviations: a pulse of about 1.4 mm, as a grey image of a
# low-frequency cardiac probe shows it, and a beam of a 2 cm aperture at 2.5 MHz.
PULSE_LENGTH = 0.06  # cm
BEAM_WIDTH = 0.014  # in sine of the angle: 1.4 mm at 10 cm

# Echo levels [dB] below white, at a neutral gain.
MUSCLE, SEPTUM_EXTRA, BLOOD = -21.0, 5.0, -62.0
PERICARDIUM, CRUX_EXTRA = -6.0, 8.0
LUNG = -50.0
SOFT_EDGE = 0.06  # cm, over which blood turns into wall


def decibels_to_amplitude(level: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Amplitude of an echo of a level [dB]."""
    return jnp.exp(level * float(np.log(10) / 20))


def from_probe(
    view: View, x: Float[Array, "*shape"], z: Float[Array, "*shape"]
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """Depth [cm] and sine of the angle at which the probe sees a point of the heart's plane."""
    cosine, sine = jnp.cos(view.tilt), jnp.sin(view.tilt)
    across = view.apex_x + cosine * x + sine * z
    down = view.apex_y - sine * x + cosine * z
    depth = jnp.sqrt(across * across + down * down) + 1e-3
    return depth, across / depth


def _beam_grid(view: View) -> tuple[Float[Array, "depth sine"], Float[Array, "depth sine"]]:
    """Points (x, z) [cm] of the heart's plane at which the texture is drawn."""
    depth = (jnp.arange(DEPTH_CELLS, dtype=jnp.float32) + 0.5)[:, None] * DEPTH_STEP
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
    """Mean echo level [dB below white] of the tissue at end diastole.

    `ragged` is smooth noise that roughens the chambers' borders.
    """
    heart = view.heart
    lines = outline(heart, x, z)
    roof = heart.length + heart.atrium_length
    in_atrium = jax.nn.sigmoid((z - heart.length) / 0.25)
    wall = heart.wall + (0.3 - heart.wall) * in_atrium
    outside = jnp.minimum(lines.left - wall, lines.right - 0.4)

    # Walls along the beam return little: compare the wall's normal with the beam.
    _, beam_sine = from_probe(view, x, z)
    beam_cosine = jnp.sqrt(1 - beam_sine * beam_sine)
    facing = jnp.abs(lines.normal_x * beam_sine + lines.normal_z * beam_cosine)
    lateral = jax.nn.sigmoid(x / 0.3)
    muscle = MUSCLE + SEPTUM_EXTRA * (1 - lateral) - view.drop_out * lateral * (1 - facing)
    # Fibrous, hence bright: the crux with the atrial septum, and the lateral annulus.
    crux = jnp.square((x + heart.annulus_radius + 0.35) / 0.45)
    crux = crux + jnp.square((z - heart.length - 0.4) / 0.9)
    corner = jnp.square((x - heart.annulus_radius - 0.4) / 0.5)
    corner = corner + jnp.square((z - heart.length) / 0.6)
    muscle = muscle + CRUX_EXTRA * (jnp.exp(-crux) + 0.7 * jnp.exp(-corner))

    # Beyond the heart: pericardium and the tissue behind the atria shine, lung and the right
    # side's surroundings do not.
    behind = jax.nn.sigmoid((z - roof + 0.8) / 0.5)
    shine = jnp.maximum(behind, 0.75 * lateral)
    reach = 0.45 + 1.3 * behind
    surroundings = LUNG + shine * (PERICARDIUM - LUNG) * jnp.exp(-jnp.maximum(outside, 0) / reach)
    chest_wall = jax.nn.sigmoid(-(z + 0.3) / 0.3)
    surroundings = surroundings + chest_wall * (MUSCLE - 6.0 - surroundings)

    level = surroundings + (muscle - surroundings) * jax.nn.sigmoid(-outside / 0.12)
    left = lines.left + (0.04 + 0.10 * in_atrium) * ragged
    in_cavity = jax.nn.sigmoid(-jnp.minimum(left, lines.right + 0.15 * ragged) / SOFT_EDGE)
    return level + (BLOOD - level) * in_cavity


def _gaussian(spread: float) -> np.ndarray:
    """Weights of a Gaussian, `spread` in cells, that keep the power of white noise."""
    reach = int(np.ceil(2.5 * spread))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / spread) ** 2)
    return weights / np.sqrt(np.sum(weights**2))


def _blurred(
    field: Float[Array, "depth sine"], weights: np.ndarray, axis: int
) -> Float[Array, "depth sine"]:
    """The field convolved along one axis."""
    reach = len(weights) // 2
    padding = [(0, 0), (0, 0)]
    padding[axis] = (reach, reach)
    padded = jnp.pad(field, padding, mode="edge")
    size = field.shape[axis]
    blurred = jnp.zeros_like(field)
    for start, weight in enumerate(weights):
        blurred += float(weight) * jax.lax.slice_in_dim(padded, start, start + size, axis=axis)
    return blurred


def _patches(key: PRNGKeyArray, cells: tuple[int, int]) -> Float[Array, "depth sine"]:
    """Smooth noise of unit variance on a coarse grid, brought to the texture's."""
    coarse = jax.random.normal(key, cells, jnp.float32)
    return jax.image.resize(coarse, (DEPTH_CELLS, SINE_CELLS), "cubic")


def _seen(key: PRNGKeyArray, level: Float[Array, "depth sine"]) -> Float[Array, " cell"]:
    """Power of echoes of a mean level [dB], as a screen of coarse pixels shows them.

    White complex noise times the level's amplitude, through the point-spread function: a fully
    developed speckle, whose envelope is Rayleigh distributed. The frames have a sixth of a
    scanner's resolution, and shrinking its picture averages grey values: decibels, not power.
    """
    noise = jax.random.normal(key, (2, DEPTH_CELLS, SINE_CELLS), jnp.float32)
    amplitude = decibels_to_amplitude(level) * float(np.sqrt(0.5))
    power = jnp.zeros((DEPTH_CELLS, SINE_CELLS), jnp.float32)
    for part in range(2):
        along = _blurred(noise[part] * amplitude, _gaussian(PULSE_LENGTH / DEPTH_STEP), axis=0)
        power += jnp.square(_blurred(along, _gaussian(BEAM_WIDTH / SINE_STEP), axis=1))
    log_power = jnp.log(power + 1e-8)
    log_power = _blurred(log_power, np.full(3, 1 / 3), axis=0)
    log_power = _blurred(log_power, np.full(3, 1 / 3), axis=1)
    return jnp.exp(log_power).reshape(-1)


def tissue_texture(view: View, key: PRNGKeyArray) -> Float[Array, " cell"]:
    """Power of the echoes of the tissue at end diastole, on the grid of beams, flattened."""
    noise_key, patch_key, streak_key, edge_key = jax.random.split(key, 4)
    x, z = _beam_grid(view)
    # No chamber has a smooth border: trabeculae, the atria's pouches. They even out over a beam.
    ragged = _patches(edge_key, (60, 40))
    level = tissue_level(view, x, z, ragged)
    # Muscle is patchy, and fibres that lie across the beam draw streaks.
    level = level + 4.0 * _patches(patch_key, (24, 18)) + 3.0 * _patches(streak_key, (110, 36))
    return _seen(noise_key, level)


def haze_texture(view: View, key: PRNGKeyArray) -> Float[Array, " cell"]:
    """Power of what rests in the near field: reverberations between probe and chest wall."""
    noise_key, patch_key, layer_key = jax.random.split(key, 3)
    depth = (jnp.arange(DEPTH_CELLS, dtype=jnp.float32) + 0.5)[:, None] * DEPTH_STEP
    level = view.haze + 12.0 * jnp.exp(-depth / 0.8) - 0.55 * depth * depth / (1 + 0.06 * depth)
    layers = jax.image.resize(
        jax.random.normal(layer_key, (80, 1), jnp.float32), (DEPTH_CELLS, 1), "cubic"
    )
    level = level + 3.0 * layers + 3.0 * _patches(patch_key, (30, 12))
    return _seen(noise_key, level)


def texture_index(
    depth: Float[Array, "*shape"], sine: Float[Array, "*shape"]
) -> Int[Array, "*shape"]:
    """The texture's cell at a depth [cm] and sine of the angle, nearest neighbour.

    The cells are a third of a pixel or less, so interpolation would cost more than it shows.
    """
    row = jnp.clip(depth * (1 / DEPTH_STEP), 0, DEPTH_CELLS - 1).astype(jnp.int32)
    column = jnp.clip((sine + SINE_LIMIT) * (1 / SINE_STEP), 0, SINE_CELLS - 1)
    return row * SINE_CELLS + column.astype(jnp.int32)
