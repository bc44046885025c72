"""A U-Net that labels the chambers in a frame, seen with its neighbours and with the whole clip.

Ronneberger, Fischer and Brox, "U-Net: convolutional networks for biomedical image segmentation",
MICCAI 2015. Frames are folded to half their size at the input and unfolded at the output, so that
most of the work is done at half the resolution while borders are drawn at the full one (Shi et al.,
"Real-time single image and video super-resolution using an efficient sub-pixel convolutional
neural network", CVPR 2016).
"""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jaxtwin.encoders.base import convolve2d, he_kernel, layer_norm

LABELS = 4  # background, cavity, myocardium, left atrium
CHANNELS = 6  # what is seen of each frame, see `segmenter.with_context`
FOLD = 2

Image = Float[Array, "rows columns channel"]


class Block(eqx.Module):
    """Two convolutions, each normalised and followed by a GELU."""

    kernels: tuple[Float[Array, "3 3 channel out"], Float[Array, "3 3 out out"]]
    scales: tuple[Float[Array, " out"], Float[Array, " out"]]
    offsets: tuple[Float[Array, " out"], Float[Array, " out"]]

    def __init__(self, channels: int, out: int, *, key: PRNGKeyArray):
        first, second = jax.random.split(key)
        self.kernels = he_kernel((3, 3, channels, out), first), he_kernel((3, 3, out, out), second)
        self.scales = jnp.ones(out, jnp.float32), jnp.ones(out, jnp.float32)
        self.offsets = jnp.zeros(out, jnp.float32), jnp.zeros(out, jnp.float32)

    def __call__(self, x: Image) -> Float[Array, "rows columns out"]:
        """Return the features of the same resolution."""
        for kernel, scale, offset in zip(self.kernels, self.scales, self.offsets, strict=True):
            x = layer_norm(convolve2d(x[None], kernel, 1)[0], scale)
            x = jax.nn.gelu(x + offset[None, None])
        return x


class SegmentationNetwork(eqx.Module):
    """The network: a frame with its context to the logits of its labels."""

    down: tuple[Block, ...]
    up: tuple[Block, ...]
    head: Float[Array, "channel out"]
    offset: Float[Array, " out"]
    widths: tuple[int, ...] = eqx.field(static=True)

    def __init__(self, widths: tuple[int, ...] = (24, 40, 64, 96), *, key: PRNGKeyArray):
        """Initialise the weights.

        Args:
            widths: Number of channels of each level; each has half the resolution of the last.
            key: Random key.
        """
        self.widths = widths
        keys = iter(jax.random.split(key, 2 * len(widths)))
        channels = (CHANNELS * FOLD**2, *widths)
        self.down = tuple(Block(a, b, key=next(keys)) for a, b in itertools.pairwise(channels))
        self.up = tuple(
            Block(widths[k] + widths[k + 1], widths[k], key=next(keys))
            for k in reversed(range(len(widths) - 1))
        )
        self.head = he_kernel((widths[0], LABELS * FOLD**2), next(keys)) / 10
        self.offset = jnp.zeros(LABELS * FOLD**2, jnp.float32)

    def __call__(
        self, frames: Float[Array, "channel height width"]
    ) -> Float[Array, "height width label"]:
        """Return the logits of the labels of a frame.

        Args:
            frames: Brightness of the frame and its context; height and width are multiples of 16.
        """
        x = _fold(jnp.moveaxis(_standardised(frames), 0, -1))
        x = x.astype(self.down[0].kernels[0].dtype)
        kept = []
        for k, block in enumerate(self.down):
            x = block(x if k == 0 else _halved(x))
            kept.append(x)
        for block, beside in zip(self.up, reversed(kept[:-1]), strict=True):
            x = block(jnp.concatenate([_doubled(x), beside], axis=-1))
        return _unfold(x @ self.head + self.offset[None, None])


def _standardised(
    frames: Float[Array, "channel height width"],
) -> Float[Array, "channel height width"]:
    """Return the frames with mean 0 and variance 1, whatever their gain."""
    frames = frames - jnp.mean(frames)
    return frames * jax.lax.rsqrt(jnp.mean(frames**2) + 1e-6)


def _fold(x: Image) -> Float[Array, "half_rows half_columns folded"]:
    rows, columns, channels = x.shape
    x = x.reshape(rows // FOLD, FOLD, columns // FOLD, FOLD, channels)
    return x.transpose(0, 2, 1, 3, 4).reshape(rows // FOLD, columns // FOLD, -1)


def _unfold(x: Image) -> Float[Array, "double_rows double_columns unfolded"]:
    rows, columns, _ = x.shape
    x = x.reshape(rows, columns, FOLD, FOLD, -1).transpose(0, 2, 1, 3, 4)
    return x.reshape(rows * FOLD, columns * FOLD, -1)


def _halved(x: Image) -> Float[Array, "half_rows half_columns channel"]:
    rows, columns, channels = x.shape
    return x.reshape(rows // 2, 2, columns // 2, 2, channels).mean((1, 3))


def _doubled(x: Image) -> Float[Array, "double_rows double_columns channel"]:
    return jnp.repeat(jnp.repeat(x, 2, axis=0), 2, axis=1)
