"""Random changes of pictures and their labels, from which a network learns what does not matter."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Float, PRNGKeyArray, UInt8

TURN = 0.3  # [rad]
SCALE = (0.75, 1.3)
SHEAR = 0.12
SHIFT = 0.1  # relative to the size of the frame
GAMMA = (0.5, 2.0)
GAIN_FIELD = 0.35  # standard deviation of the logarithm of a gain that varies over the picture
NOISE = 0.06
BLUR = 0.5  # probability
BLOTS = 3  # bright or dark spots
MIRRORED = 0.3  # probability


def augment(
    frames: UInt8[Array, "channel height width"],
    labels: UInt8[Array, "height width"],
    *,
    key: PRNGKeyArray,
    mirrored: float = MIRRORED,
) -> tuple[Float[Array, "channel height width"], UInt8[Array, "height width"]]:
    """Mirror, turn, scale, shift, brighten, blur and blot a frame with its context and labels.

    Args:
        frames: A frame with its context.
        labels: Its label map.
        key: Random key.
        mirrored: Probability that left and right are exchanged.

    Returns:
        Brightness from 0 to 1, the same change in all channels, and the labels that go with it.
    """
    places, gain, blur, blots, grain, side = jax.random.split(key, 6)
    rows, columns = _places(labels.shape, places)
    # Some laboratories show left and right exchanged, too few to learn it from their clips.
    exchanged = jax.random.bernoulli(side, mirrored)
    columns = jnp.where(exchanged, labels.shape[1] - 1 - columns, columns)
    grey = jnp.stack(
        [map_coordinates(frame / 255, [rows, columns], order=1, cval=0.0) for frame in frames]
    )
    # The nearest label, whatever its number; outside of the picture there is no chamber.
    nearest = map_coordinates(labels, [rows, columns], order=0, cval=0)
    first, second, third = jax.random.split(gain, 3)
    low, high = np.log(GAMMA)
    gamma = jnp.exp(jax.random.uniform(first, (), jnp.float32, low, high))
    field = GAIN_FIELD * jax.random.normal(second, (4, 4), jnp.float32)
    field = jnp.exp(jax.image.resize(field, labels.shape, "cubic"))
    grey = jnp.where(jax.random.uniform(blur) < BLUR, _blurred(grey), grey)
    grey = grey**gamma * field[None] + _blots(labels.shape, blots)[None] * (grey > 0)
    spread = NOISE * jax.random.uniform(third, (), jnp.float32)
    grey += spread * jax.random.normal(grain, grey.shape, jnp.float32) * (grey > 0)
    return jnp.clip(grey, 0.0, 1.0), nearest


def _places(
    shape: tuple[int, ...], key: PRNGKeyArray
) -> tuple[Float[Array, "height width"], Float[Array, "height width"]]:
    """Return where each pixel of the changed picture is in the original."""
    draws = jax.random.uniform(key, (6,), jnp.float32, -1.0, 1.0)
    turn, middle = TURN * draws[0], (np.array(shape) - 1) / 2
    scale = jnp.exp(np.log(SCALE[0]) + np.log(SCALE[1] / SCALE[0]) * (draws[1] + 1) / 2)
    cosine, sine = jnp.cos(turn) / scale, jnp.sin(turn) / scale
    down, across = jnp.meshgrid(
        *(jnp.arange(n, dtype=jnp.float32) - m for n, m in zip(shape, middle, strict=True)),
        indexing="ij",
    )
    across, down = across * (1 + SHEAR * draws[2]) + SHEAR * draws[3] * down, down
    rows = cosine * down - sine * across + middle[0] + SHIFT * shape[0] * draws[4]
    columns = sine * down + cosine * across + middle[1] + SHIFT * shape[1] * draws[5]
    return rows, columns


def _blurred(grey: Float[Array, "channel height width"]) -> Float[Array, "channel height width"]:
    """Return the average of each pixel and its eight neighbours, nearer ones weighted more."""
    for axis in (1, 2):
        grey = 0.5 * grey + 0.25 * (jnp.roll(grey, 1, axis) + jnp.roll(grey, -1, axis))
    return grey


def _blots(shape: tuple[int, ...], key: PRNGKeyArray) -> Float[Array, "height width"]:
    """Return bright and dark spots."""
    draws = jax.random.uniform(key, (BLOTS, 5), jnp.float32)
    rows, columns = (jnp.arange(n, dtype=jnp.float32) / n for n in shape)

    def one(draw: Float[Array, "5"]) -> Float[Array, "height width"]:
        width, height = 0.02 + 0.1 * draw[2], 0.02 + 0.1 * draw[3]
        down = jnp.square((rows - draw[0]) / height)
        across = jnp.square((columns - draw[1]) / width)
        return (1.2 * draw[4] - 0.6) * jnp.exp(-down[:, None] - across[None])

    return jnp.sum(jax.vmap(one)(draws), axis=0)
