"""Networks from a clip to the raw parameters of a patient."""

import abc
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, UInt8

from jaxtwin.data.base import ClipFormat

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
        """The raw parameters of one clip."""
        return self.head(self.features(clip))


def _convolve(
    x: Float[Array, "batch height width channel"],
    kernel: Float[Array, "k k channel out"],
    stride: int,
) -> Float[Array, "batch rows columns out"]:
    """2D convolution with the channel last, the layout that XLA runs fastest on a CPU."""
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _kernel(shape: tuple[int, ...], key: PRNGKeyArray) -> Float[Array, "..."]:
    return jax.nn.initializers.he_normal()(key, shape, jnp.float32)


def _norm(
    x: Float[Array, "*place channel"], scale: Float[Array, " channel"]
) -> Float[Array, "*place channel"]:
    """Layer norm over the channels."""
    x = x - jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(x**2, axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(variance + 1e-5) * scale.reshape((1,) * (x.ndim - 1) + (-1,))


class TubeletEncoder(AbstractEncoder):
    """The default: 2D convolutions on pairs of frames, then convolutions along time.

    Two successive frames, halved in size, are cut into patches of 4 × 4 pixels; each becomes
    one vector (a matrix product, so the largest images never meet a convolution). Two
    convolutions reduce 14 × 14 places to 7 × 7, a linear map reads them all, and two
    convolutions along time follow. Mean, maximum and minimum over time go to the head: the
    volumes sought are themselves extremes over time. 0.12 GFLOP a clip forward, against 0.79
    for `Conv3DEncoder` (XLA's count), and in layers that XLA runs fast on a CPU.
    """

    patch: eqx.nn.Linear
    kernels: list[Float[Array, "3 3 channel out"]]
    scales: list[Float[Array, " channel"]]
    place: eqx.nn.Linear
    along_time: list[eqx.nn.Conv1d]
    head: eqx.nn.MLP

    def __init__(
        self,
        format: ClipFormat,
        free: int,
        *,
        channels: int = 64,
        width: int = 128,
        key: PRNGKeyArray,
    ):
        if format.size % 16 or format.frames % 2:
            raise ValueError(
                f"clips of {format.frames} frames of {format.size} pixels: TubeletEncoder needs "
                "an even number of frames and a size divisible by 16"
            )
        keys = jax.random.split(key, 7)
        stem = 48
        places = (format.size // 16) ** 2
        self.patch = eqx.nn.Linear(2 * 16, stem, dtype=jnp.float32, key=keys[0])
        self.kernels = [
            _kernel((3, 3, stem, channels), keys[1]),
            _kernel((3, 3, channels, channels), keys[2]),
        ]
        self.scales = [jnp.ones(stem, jnp.float32), jnp.ones(channels, jnp.float32)]
        self.place = eqx.nn.Linear(places * channels, width, dtype=jnp.float32, key=keys[3])
        self.along_time = [
            eqx.nn.Conv1d(width, width, 3, padding="SAME", dtype=jnp.float32, key=k)
            for k in keys[4:6]
        ]
        self.head = eqx.nn.MLP(3 * width, free, 128, 1, jax.nn.silu, dtype=jnp.float32, key=keys[6])

    def features(self, clip: Clip) -> Float[Array, " feature"]:
        """Mean, maximum and minimum over time of what convolutions saw."""
        frames, size, _ = clip.shape
        x = normalise(clip)
        x = x.reshape(frames, size // 2, 2, size // 2, 2).mean(axis=(2, 4))
        side = size // 8
        x = x.reshape(frames // 2, 2, side, 4, side, 4).transpose(0, 2, 4, 1, 3, 5)
        x = x.reshape(frames // 2, side, side, 32)
        x = jax.nn.silu(jax.vmap(jax.vmap(jax.vmap(self.patch)))(x))
        x = jax.nn.silu(_convolve(_norm(x, self.scales[0]), self.kernels[0], 2))
        x = x + jax.nn.silu(_convolve(_norm(x, self.scales[1]), self.kernels[1], 1))
        x = jax.nn.silu(jax.vmap(self.place)(x.reshape(len(x), -1))).T
        for convolve in self.along_time:
            x = x + jax.nn.silu(convolve(x))
        return jnp.concatenate([x.mean(axis=1), x.max(axis=1), x.min(axis=1)])


class Conv3DEncoder(AbstractEncoder):
    """The 3D convolutional network of Kuang et al. 2024.

    Five 3 × 3 × 3 convolutions of 8 to 128 channels, each followed by normalisation, ReLU
    and max-pooling, then the mean over time and place. The original normalises over the
    batch; here it is over the groups of one clip's channels. For comparison: XLA runs 3D
    convolutions slowly on a CPU.
    """

    convolutions: list[eqx.nn.Conv3d]
    norms: list[eqx.nn.GroupNorm]
    pool: eqx.nn.MaxPool3d
    head: eqx.nn.MLP

    def __init__(self, format: ClipFormat, free: int, *, key: PRNGKeyArray):
        if min(format.frames, format.size) < 32:
            raise ValueError(
                f"clips of {format.frames} frames of {format.size} pixels: Conv3DEncoder halves "
                "each axis five times and needs at least 32"
            )
        *keys, head_key = jax.random.split(key, 6)
        channels = (1, 8, 16, 32, 64, 128)
        self.convolutions = [
            eqx.nn.Conv3d(a, b, 3, padding=1, dtype=jnp.float32, key=k)
            for a, b, k in zip(channels, channels[1:], keys, strict=False)
        ]
        self.norms = [eqx.nn.GroupNorm(4, b, dtype=jnp.float32) for b in channels[1:]]
        self.pool = eqx.nn.MaxPool3d(2, 2)
        self.head = eqx.nn.MLP(128, free, 128, 1, jax.nn.relu, dtype=jnp.float32, key=head_key)

    def features(self, clip: Clip) -> Float[Array, " feature"]:
        """Mean over time and place of the last convolution."""
        x = normalise(clip)[None]
        for convolve, norm in zip(self.convolutions, self.norms, strict=True):
            x = self.pool(jax.nn.relu(norm(convolve(x))))
        return x.mean(axis=(1, 2, 3))


EncoderName = Literal["tubelet", "conv3d"]


def create_encoder(
    name: EncoderName, format: ClipFormat, free: int, *, key: PRNGKeyArray
) -> AbstractEncoder:
    """An untrained encoder: the default ("tubelet") or the paper's ("conv3d")."""
    encoder = TubeletEncoder if name == "tubelet" else Conv3DEncoder
    return encoder(format, free, key=key)
