"""Base class of encoders, and layers that several encoders share."""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, UInt8

Clip = UInt8[Array, "frames size size"]


def normalise(clip: Clip) -> Float[Array, "frames size size"]:
    """Normalise a clip's brightness to mean 0 and standard deviation close to 1.

    This reduces the effect of the scanner's gain. The statistics are those of the single clip; no
    encoder here uses batch statistics.
    """
    values = clip.astype(jnp.float32)
    # Adding one grey level keeps the noise of a black clip from being scaled to unit variance.
    return (values - jnp.mean(values)) / (jnp.std(values) + 1.0)


class AbstractEncoder(eqx.Module):
    """A network from one clip to raw parameters; use `jax.vmap` for batches.

    The raw parameters are unbounded; `Box.bound` maps them into the box.

    Attributes:
        head: Network from the features, and any additional inputs, to the raw parameters.
    """

    head: eqx.AbstractVar[eqx.nn.MLP]

    @abc.abstractmethod
    def features(self, clip: Clip) -> Float[Array, " feature"]:
        """Return the features of a clip, the head's input; also used to detect unfamiliar clips."""

    def __call__(self, clip: Clip) -> Float[Array, " free"]:
        """Return the raw parameters of one clip, for an encoder without additional inputs."""
        return self.head(self.features(clip))


def convolve2d(
    x: Float[Array, "batch height width channel"],
    kernel: Float[Array, "k k channel out"],
    stride: int,
) -> Float[Array, "batch rows columns out"]:
    """Convolve in 2D with the channel axis last, the layout that is fastest with XLA on a CPU."""
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def he_kernel(shape: tuple[int, ...], key: PRNGKeyArray) -> Float[Array, "..."]:
    """Draw a kernel with He initialisation."""
    return jax.nn.initializers.he_normal()(key, shape, jnp.float32)


def layer_norm(
    x: Float[Array, "*place channel"], scale: Float[Array, " channel"]
) -> Float[Array, "*place channel"]:
    """Apply layer normalisation over the channels, in float32 at least."""
    given, x = x.dtype, x.astype(jnp.promote_types(x.dtype, jnp.float32))
    x = x - jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(x**2, axis=-1, keepdims=True)
    x = x * jax.lax.rsqrt(variance + 1e-5) * scale.reshape((1,) * (x.ndim - 1) + (-1,))
    return x.astype(given)
