"""What every encoder does, and the layers that several share."""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, UInt8

Clip = UInt8[Array, "frames size size"]


def normalise(clip: Clip) -> Float[Array, "frames size size"]:
    """Brightness of mean 0 and spread close to 1 over the clip, so that gain matters little.

    The statistics are the clip's own: no encoder here uses those of a batch.
    """
    values = clip.astype(jnp.float32)
    # One grey level more: the noise of a black clip is not worth a spread of 1.
    return (values - jnp.mean(values)) / (jnp.std(values) + 1.0)


class AbstractEncoder(eqx.Module):
    """A network that takes one clip; batches are `jax.vmap` outside.

    The raw parameters are unbounded; `Box.bound` takes them into the box.
    """

    head: eqx.AbstractVar[eqx.nn.MLP]

    @abc.abstractmethod
    def features(self, clip: Clip) -> Float[Array, " feature"]:
        """What the head sees of a clip; also used to tell whether a clip is familiar."""

    def __call__(self, clip: Clip) -> Float[Array, " free"]:
        """The raw parameters of one clip, for an encoder that is given nothing beside it."""
        return self.head(self.features(clip))


def convolve2d(
    x: Float[Array, "batch height width channel"],
    kernel: Float[Array, "k k channel out"],
    stride: int,
) -> Float[Array, "batch rows columns out"]:
    """2D convolution with the channel last, the layout that XLA runs fastest on a CPU."""
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def he_kernel(shape: tuple[int, ...], key: PRNGKeyArray) -> Float[Array, "..."]:
    """Draw a kernel by He's rule."""
    return jax.nn.initializers.he_normal()(key, shape, jnp.float32)


def layer_norm(
    x: Float[Array, "*place channel"], scale: Float[Array, " channel"]
) -> Float[Array, "*place channel"]:
    """Layer norm over the channels."""
    x = x - jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(x**2, axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(variance + 1e-5) * scale.reshape((1,) * (x.ndim - 1) + (-1,))
