"""The 3D convolutional network of Kuang et al. 2024, implemented to run fast on a CPU."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from jaxtwin.data.base import ClipFormat
from jaxtwin.encoders.base import AbstractEncoder, Clip, convolve2d, normalise

_GROUPS, _EPSILON = 4, 1e-5
"""Number of groups and epsilon of the group normalisation in `Conv3DEncoder`."""

Kernel3D = Float[Array, "3 3 3 channel out"]
"""Kernel with taps along time, rows and columns."""
Video = Float[Array, "frames height width channel"]
Pooled = Float[Array, "half_frames half_height half_width out"]
PerChannel = Float[Array, " out"]

# On a CPU, XLA spends most of a training step with 3D convolutions on the first layer (whose single
# channel cannot be vectorised), on the gradients of the other layers, and on the gradient of
# max-pooling. The functions below compute a layer with matrix products, 2D convolutions and column
# sums instead, and process a batch clip by clip, so that the data of one clip stay in the cache.
_clip_by_clip = jax.custom_batching.sequential_vmap


def _convolve3d(x: Video, kernel: Kernel3D) -> Float[Array, "frames height width out"]:
    """Convolve in 3D with zero padding, as a 2D convolution with three frames as channels."""
    padded = jnp.pad(x, ((1, 1), (0, 0), (0, 0), (0, 0)))
    frames = jnp.concatenate([padded[:-2], padded[1:-1], padded[2:]], axis=-1)
    return convolve2d(frames, jnp.concatenate(list(kernel), axis=-2), 1)


def _convolve3d_transposed(
    x: Video, kernel: Kernel3D, dz: Float[Array, "frames height width out"]
) -> tuple[Video, Kernel3D]:
    """Return the gradients with respect to `_convolve3d`'s input and kernel, given its output's."""
    _, height, width, channels = x.shape
    dx = _convolve3d(dz, kernel[::-1, ::-1, ::-1].swapaxes(-1, -2))
    # The kernel's gradient is one matrix product: the 3 × 3 neighbours of every position times the
    # gradients of three frames.
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    near = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    around = jnp.pad(dz, ((1, 1), (0, 0), (0, 0), (0, 0)))
    frames = jnp.concatenate([around[2:], around[1:-1], around[:-2]], axis=-1)
    product = jnp.concatenate(near, axis=-1).reshape(-1, 9 * channels).T @ frames.reshape(
        -1, 3 * dz.shape[-1]
    )
    return dx, jnp.moveaxis(product.reshape(3, 3, channels, 3, -1), 3, 0)


# Output d of a pair reads input u of the four inputs around the pair through tap u - d.
_TAP = (np.arange(4)[:, None, None] == np.arange(3)[:, None] + np.arange(2)).astype(np.float32)
_SPREAD = np.einsum("uad,vbe,wcf->uvwabcdef", _TAP, _TAP, _TAP).reshape(64, 27, 8)


def _cubes(x: Float[Array, "frames height width"]) -> Float[Array, "cube 64"]:
    """Return the 4 × 4 × 4 inputs of each 2 × 2 × 2 block of a convolution; sizes must be even."""
    frames, height, width = (n // 2 for n in x.shape)
    x = jnp.pad(x, 1).reshape(2 * frames + 2, 2 * height + 2, width + 1, 2)
    x = jnp.concatenate([x[:, :, :-1], x[:, :, 1:]], axis=-1)
    x = x.reshape(2 * frames + 2, height + 1, 2, width, 4)
    x = jnp.concatenate([x[:, :-1, 0], x[:, :-1, 1], x[:, 1:, 0], x[:, 1:, 1]], axis=-1)
    x = x.reshape(frames + 1, 2, height, width, 16)
    x = jnp.concatenate([x[:-1, 0], x[:-1, 1], x[1:, 0], x[1:, 1]], axis=-1)
    return x.reshape(-1, 64)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _maximum(z: Float[Array, "..."], axes: tuple[int, ...]) -> Float[Array, "..."]:
    """Return the maximum over the axes; equal maxima share the gradient."""
    return z.max(axes)


def _maximum_backward(axes, residuals, gradient):
    z, largest = residuals
    hit = z == jnp.expand_dims(largest, axes)
    share = gradient / hit.sum(axes, dtype=z.dtype)
    return (jnp.where(hit, jnp.expand_dims(share, axes), 0),)


def _maximum_forward(z, axes):
    largest = z.max(axes)
    return largest, (z, largest)


_maximum.defvjp(_maximum_forward, _maximum_backward)


def _norm_and_pool(
    z: Float[Array, "*place out"], bias: PerChannel, scale: PerChannel, offset: PerChannel
) -> Pooled:
    """Apply bias, group normalisation, ReLU and max-pooling to a convolution's output.

    `z` is [frames, height, width, out], or has a separate axis for the eight positions of a pool:
    [frames / 2, height / 2, width / 2, 8, out]. Normalisation and ReLU are monotone in each
    channel, so pooling is done first and they act on a smaller array.
    """
    out = z.shape[-1]
    columns = z.reshape(-1, out)
    mean = columns.mean(axis=0)
    variance = ((columns - mean[None]) ** 2).mean(axis=0)
    # Combine the moments of the channels to those of their group.
    group = (mean + bias).reshape(_GROUPS, -1)
    middle = group.mean(axis=1, keepdims=True)
    spread = (variance.reshape(_GROUPS, -1) + (group - middle) ** 2).mean(axis=1, keepdims=True)
    middle, spread = (jnp.broadcast_to(x, group.shape).reshape(out) for x in (middle, spread))
    slope = scale * jax.lax.rsqrt(spread + _EPSILON)
    sign = jnp.where(scale < 0, -1, 1).astype(z.dtype)
    if z.ndim == 4:
        frames, height, width = (n // 2 for n in z.shape[:3])
        z = z[: 2 * frames, : 2 * height, : 2 * width]
        z, axes = z.reshape(frames, 2, height, 2, width, 2, out), (1, 3, 5)
    else:
        axes = (3,)
    largest: Array = _maximum(z * sign.reshape((1,) * (z.ndim - 1) + (out,)), axes)
    shift = offset + (bias - middle) * slope
    slope = slope * sign
    return jax.nn.relu(largest * slope.reshape(1, 1, 1, out) + shift.reshape(1, 1, 1, out))


@jax.custom_vjp
@_clip_by_clip
def _layer(
    x: Video, kernel: Kernel3D, bias: PerChannel, scale: PerChannel, offset: PerChannel
) -> Pooled:
    """Apply 3D convolution, group normalisation, ReLU and max-pooling to one clip."""
    return _norm_and_pool(_convolve3d(x, kernel), bias, scale, offset)


@_clip_by_clip
def _layer_and_convolved(x, kernel, bias, scale, offset):
    z = _convolve3d(x, kernel)
    return _norm_and_pool(z, bias, scale, offset), z


def _layer_forward(x, kernel, bias, scale, offset):
    y, z = _layer_and_convolved(x, kernel, bias, scale, offset)
    return y, (x, z, kernel, bias, scale, offset)


@_clip_by_clip
def _layer_gradient(x, z, kernel, bias, scale, offset, dy):
    dz, *others = jax.vjp(_norm_and_pool, z, bias, scale, offset)[1](dy)
    return *_convolve3d_transposed(x, kernel, dz), *others


_layer.defvjp(_layer_forward, lambda residuals, dy: _layer_gradient(*residuals, dy))


def _convolve_clip(clip: Clip, kernel: Kernel3D) -> tuple[Array, Array]:
    """Return the 3D convolution of the normalised clip, grouped by pool, and its input cubes."""
    cubes = _cubes(normalise(clip))
    matrix = jnp.einsum("upd,po->udo", _SPREAD, kernel.reshape(27, -1))
    z = cubes @ matrix.reshape(64, -1)
    return z.reshape(*(n // 2 for n in clip.shape), 8, -1), cubes


@jax.custom_vjp
@_clip_by_clip
def _first_layer(
    clip: Clip, kernel: Kernel3D, bias: PerChannel, scale: PerChannel, offset: PerChannel
) -> Pooled:
    """Apply `_layer` to the normalised clip, whose sizes must be even.

    One input and eight output channels are too few for an efficient matrix product, so the
    2 × 2 × 2 outputs of one pool are computed together.
    """
    return _norm_and_pool(_convolve_clip(clip, kernel)[0], bias, scale, offset)


@_clip_by_clip
def _first_layer_gradient(clip, kernel, bias, scale, offset, dy):
    # Recomputed, because storing it for every clip of a batch takes longer.
    z, cubes = _convolve_clip(clip, kernel)
    dz, *others = jax.vjp(_norm_and_pool, z, bias, scale, offset)[1](dy)
    product = (cubes.T @ dz.reshape(len(cubes), -1)).reshape(64, 8, -1)
    return jnp.einsum("upd,udo->po", _SPREAD, product).reshape(kernel.shape), *others


_first_layer.defvjp(
    lambda *arguments: (_first_layer(*arguments), arguments),
    lambda residuals, dy: (None, *_first_layer_gradient(*residuals, dy)),
)


class Conv3DEncoder(AbstractEncoder):
    """The 3D convolutional network of Kuang et al. 2024.

    Five 3 × 3 × 3 convolutions of 8 to 128 channels, each followed by normalisation, ReLU
    and max-pooling, then the mean over time and space. The original uses batch normalisation;
    this one uses group normalisation over the channels of one clip. On a CPU the layers are
    computed by `_layer`, which sums in a different order, is about ten times as fast as XLA's
    own 3D convolutions, and supports reverse mode only.
    """

    convolutions: list[eqx.nn.Conv3d]
    norms: list[eqx.nn.GroupNorm]
    pool: eqx.nn.MaxPool3d
    head: eqx.nn.MLP

    def __init__(self, format: ClipFormat, free: int, *, beside: int = 0, key: PRNGKeyArray):
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
        self.norms = [
            eqx.nn.GroupNorm(_GROUPS, b, eps=_EPSILON, dtype=jnp.float32) for b in channels[1:]
        ]
        self.pool = eqx.nn.MaxPool3d(2, 2)
        self.head = eqx.nn.MLP(
            128 + beside, free, 128, 1, jax.nn.relu, dtype=jnp.float32, key=head_key
        )

    def features(self, clip: Clip) -> Float[Array, " feature"]:
        """Return the mean over time and space of the last layer."""
        in_float32 = self.convolutions[0].weight.dtype == jnp.float32
        if jax.default_backend() == "cpu" and in_float32:
            return self.features_by_products(clip)
        return self.features_by_convolutions(clip)

    def features_by_convolutions(self, clip: Clip) -> Float[Array, " feature"]:
        """Return the features, computed with 3D convolutions; fast on a GPU."""
        x = normalise(clip)[None].astype(self.convolutions[0].weight.dtype)
        for layer, norm in zip(self.convolutions, self.norms, strict=True):
            x = self.pool(jax.nn.relu(norm(layer(x))))
        return x.mean(axis=(1, 2, 3))

    def features_by_products(self, clip: Clip) -> Float[Array, " feature"]:
        """Return the features, computed with matrix products and 2D convolutions; fast on a CPU."""
        weights = []
        for layer, norm in zip(self.convolutions, self.norms, strict=True):
            assert layer.bias is not None and norm.weight is not None and norm.bias is not None
            kernel = layer.weight.transpose(2, 3, 4, 1, 0)
            weights.append((kernel, layer.bias.reshape(-1), norm.weight, norm.bias))
        if any(n % 2 for n in clip.shape):
            x = _layer(normalise(clip)[..., None], *weights[0])
        else:
            x = _first_layer(clip, *weights[0])
        for layer in weights[1:]:
            x = _layer(x, *layer)
        return x.mean(axis=(0, 1, 2))
