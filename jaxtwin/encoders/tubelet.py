"""The default encoder: convolutions on pairs of frames, then along time."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jaxtwin.data.base import ClipFormat
from jaxtwin.encoders.base import (
    AbstractEncoder,
    Clip,
    convolve2d,
    he_kernel,
    layer_norm,
    normalise,
)


class TubeletEncoder(AbstractEncoder):
    """The default encoder: 2D convolutions on pairs of frames, then convolutions along time.

    Pairs of successive frames, downsampled by two, are cut into patches of 4 × 4 pixels. A linear
    map turns each patch into a vector, which avoids convolutions at full resolution. Two 2D
    convolutions (the first of stride 2, from 14 × 14 to 7 × 7 positions) are followed by a linear
    map over all positions and two convolutions along time. The head receives the mean, maximum and
    minimum over time, because the volumes to be predicted are themselves extremes over time. A
    forward pass takes 0.12 GFLOP per clip, compared with 0.79 for `Conv3DEncoder` (counted by
    XLA), and consists of layers that XLA runs fast on a CPU.
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
        beside: int = 0,
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
            he_kernel((3, 3, stem, channels), keys[1]),
            he_kernel((3, 3, channels, channels), keys[2]),
        ]
        self.scales = [jnp.ones(stem, jnp.float32), jnp.ones(channels, jnp.float32)]
        self.place = eqx.nn.Linear(places * channels, width, dtype=jnp.float32, key=keys[3])
        self.along_time = [
            eqx.nn.Conv1d(width, width, 3, padding="SAME", dtype=jnp.float32, key=k)
            for k in keys[4:6]
        ]
        self.head = eqx.nn.MLP(
            3 * width + beside, free, 128, 1, jax.nn.silu, dtype=jnp.float32, key=keys[6]
        )

    def features(self, clip: Clip) -> Float[Array, " feature"]:
        """Return the mean, maximum and minimum over time of the last layer."""
        frames, size, _ = clip.shape
        x = normalise(clip)
        x = x.reshape(frames, size // 2, 2, size // 2, 2).mean(axis=(2, 4))
        side = size // 8
        x = x.reshape(frames // 2, 2, side, 4, side, 4).transpose(0, 2, 4, 1, 3, 5)
        x = x.reshape(frames // 2, side, side, 32).astype(self.patch.weight.dtype)
        x = jax.nn.silu(jax.vmap(jax.vmap(jax.vmap(self.patch)))(x))
        x = jax.nn.silu(convolve2d(layer_norm(x, self.scales[0]), self.kernels[0], 2))
        x = x + jax.nn.silu(convolve2d(layer_norm(x, self.scales[1]), self.kernels[1], 1))
        x = jax.nn.silu(jax.vmap(self.place)(x.reshape(len(x), -1))).T
        for along_time in self.along_time:
            x = x + jax.nn.silu(along_time(x))
        return jnp.concatenate([x.mean(axis=1), x.max(axis=1), x.min(axis=1)])
