"""Encoders: outputs do not depend on the gain, nor on other clips of a batch."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtwin.data.base import ClipFormat
from jaxtwin.encoders.base import normalise
from jaxtwin.encoders.conv3d import Conv3DEncoder, _first_layer, _layer, _maximum
from jaxtwin.encoders.create import create_encoder
from jaxtwin.encoders.tubelet import TubeletEncoder

SMALL = {"tubelet": ClipFormat(frames=8, size=32), "conv3d": ClipFormat(frames=32, size=32)}
FREE = 3


def clips(format, n, seed=0):
    """Noise whose mean moves in time, of a spread like that of echo clips."""
    random = np.random.default_rng(seed)
    level = 100 + 40 * np.sin(np.arange(format.frames) + random.uniform(0, 6, size=(n, 1)))
    noise = 40 * random.normal(size=(n, format.frames, format.size, format.size))
    return np.clip(level[:, :, None, None] + noise, 0, 255).astype(np.uint8)


def untrained(name, format):
    """An encoder with weights from NumPy: JAX's initialisers take their time to compile."""
    make = functools.partial(create_encoder, name, format, FREE, key=jax.random.key(0))
    random = np.random.default_rng(0)

    def weights(leaf):
        if not isinstance(leaf, jax.ShapeDtypeStruct):
            return leaf
        size = np.sqrt(2 / max(np.prod(leaf.shape[1:]), 1))
        return jnp.asarray(size * random.normal(size=leaf.shape), leaf.dtype)

    return jax.tree.map(weights, eqx.filter_eval_shape(make))


@pytest.fixture(scope="module", params=["tubelet", "conv3d"])
def case(request):
    """An encoder, a batch, and what it says of the batch."""
    format = SMALL[request.param]
    encoder = untrained(request.param, format)
    compiled = eqx.filter_jit(lambda encoder, batch: jax.vmap(encoder)(batch))
    apply = functools.partial(compiled, encoder)
    # The third clip is black all over: a file may hold that.
    batch = clips(format, 4)
    batch[2] = 0
    return encoder, batch, apply, np.asarray(apply(jnp.asarray(batch)))


def test_create_encoder():
    for name, kind in (("tubelet", TubeletEncoder), ("conv3d", Conv3DEncoder)):
        assert type(untrained(name, SMALL[name])) is kind


def test_shapes_and_dtypes(case):
    encoder, batch, _, raw = case
    assert raw.shape == (4, FREE) and raw.dtype == np.float32
    assert np.isfinite(raw).all()
    features = jax.eval_shape(encoder.features, jnp.asarray(batch[0]))
    assert features.shape == (encoder.head.in_size,) and features.dtype == jnp.float32
    leaves = jax.tree.leaves(eqx.filter(encoder, eqx.is_inexact_array))
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float32")}


def test_a_clip_does_not_see_its_neighbours(case):
    _, batch, apply, raw = case
    order = np.array([3, 0, 1, 2])
    np.testing.assert_allclose(apply(jnp.asarray(batch[order])), raw[order], atol=1e-5)
    others = clips(ClipFormat(batch.shape[1], 16.0, batch.shape[2]), 4, seed=1)
    others[1] = batch[1]
    again = np.asarray(apply(jnp.asarray(others)))
    np.testing.assert_allclose(again[1], raw[1], atol=1e-5)
    assert np.abs(again[0] - raw[0]).max() > 1e-3


def test_frames_have_an_order(case):
    """What is told from a clip is told from its motion too."""
    _, batch, apply, raw = case
    shuffled = batch[:, np.random.default_rng(0).permutation(batch.shape[1])]
    assert np.abs(np.asarray(apply(jnp.asarray(shuffled)))[0] - raw[0]).max() > 1e-4


def test_brightness_does_not_matter(case):
    _, batch, apply, raw = case
    dimmed = np.rint(batch * 0.6).astype(np.uint8)
    change = np.abs(np.asarray(apply(jnp.asarray(dimmed))) - raw)
    spread = np.abs(raw[0] - raw[1]).max()
    assert change.max() < 0.1 * spread


def test_normalise_takes_gain_and_offset_away():
    clip = np.random.default_rng(0).integers(0, 100, (4, 32, 32)).astype(np.uint8)
    x = np.asarray(normalise(jnp.asarray(clip)))
    assert x.dtype == np.float32
    assert abs(x.mean()) < 1e-5 and x.std() == pytest.approx(1, abs=0.05)
    np.testing.assert_allclose(normalise(jnp.asarray(2 * clip)), x, atol=0.05)
    np.testing.assert_allclose(normalise(jnp.asarray(clip + np.uint8(50))), x, atol=1e-5)
    constant = jnp.full((4, 32, 32), 255, jnp.uint8)
    assert np.all(normalise(constant) == 0)


@pytest.mark.parametrize("name", ["tubelet", pytest.param("conv3d", marks=pytest.mark.slow)])
def test_a_black_clip_has_finite_gradients(name):
    format = SMALL[name]
    clip = jnp.zeros((format.frames, format.size, format.size), jnp.uint8)
    square = eqx.filter_jit(eqx.filter_grad(lambda encoder: jnp.sum(encoder(clip) ** 2)))
    for leaf in jax.tree.leaves(square(untrained(name, format))):
        assert leaf.dtype == jnp.float32 and np.isfinite(leaf).all()


@pytest.mark.parametrize(
    ("name", "frames", "size", "message"),
    [
        ("tubelet", 8, 40, r"8 frames of 40 pixels: .* divisible by 16"),
        ("tubelet", 7, 32, "even number of frames"),
        ("conv3d", 16, 64, "needs at least 32"),
        ("conv3d", 32, 16, "needs at least 32"),
    ],
)
def test_formats_that_do_not_fit(name, frames, size, message):
    format = ClipFormat(frames=frames, size=size)
    with pytest.raises(ValueError, match=message):
        create_encoder(name, format, FREE, key=jax.random.key(0))


def layer_by_xla(x, kernel, bias, scale, offset):
    """Convolution, norm of four groups, ReLU and pool by XLA's own 3D operations."""
    z = jax.lax.conv_general_dilated(
        x[None], kernel, (1, 1, 1), "SAME", dimension_numbers=("NDHWC", "DHWIO", "NDHWC")
    )[0]
    grouped = (z + bias.reshape(1, 1, 1, -1)).reshape(*z.shape[:3], 4, -1)
    mean = grouped.mean(axis=(0, 1, 2, 4), keepdims=True)
    spread = grouped.var(axis=(0, 1, 2, 4), keepdims=True)
    z = ((grouped - mean) / jnp.sqrt(spread + 1e-5)).reshape(z.shape)
    z = jax.nn.relu(z * scale.reshape(1, 1, 1, -1) + offset.reshape(1, 1, 1, -1))
    return jax.lax.reduce_window(z, -jnp.inf, jax.lax.max, (2, 2, 2, 1), (2, 2, 2, 1), "VALID")


@pytest.mark.parametrize("shape", [(4, 6, 6), (5, 7, 6)], ids=["even", "odd"])
@pytest.mark.parametrize("channels", [1, 3])
def test_layers_equal_3d_convolutions(shape, channels):
    """Values and all gradients, alone and under `vmap`; scales of both signs."""
    random = np.random.default_rng(0)
    out = 8
    weights = [
        jnp.asarray(random.normal(size=size))
        for size in ((3, 3, 3, channels, out), (out,), (out,), (out,))
    ]
    if channels == 1 and shape == (4, 6, 6):
        x = jnp.asarray(random.integers(0, 256, (2, *shape)), jnp.uint8)

        def first_layer_by_xla(clip, *weights):
            return layer_by_xla(normalise(clip).astype(jnp.float64)[..., None], *weights)

        layer, reference = _first_layer, first_layer_by_xla
        by, tolerance = range(1, 5), 1e-5  # A clip is normalised in float32.
    else:
        x = jnp.asarray(random.normal(size=(2, *shape, channels)))
        layer, reference = _layer, layer_by_xla
        by, tolerance = range(5), 1e-9
    dy = jnp.asarray(random.normal(size=(2, *(n // 2 for n in shape), out)))

    def both(layer):
        """Value and gradients of one example, and of a batch."""

        def loss(*arguments):
            x, weights, dy = arguments[0], arguments[1:5], arguments[5]
            y = jax.vmap(layer, (0, None, None, None, None))(x, *weights)
            return jnp.sum(y * dy), y

        alone = jax.grad(lambda *a: jnp.sum(layer(*a[:5]) * a[5]), tuple(by))
        return (
            jax.jit(jax.grad(loss, tuple(by), has_aux=True))(x, *weights, dy),
            jax.jit(alone)(x[0], *weights, dy[0]),
        )

    ours, theirs = jax.tree.leaves(both(layer)), jax.tree.leaves(both(reference))
    assert len(ours) == 2 * len(by) + 1
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())


@pytest.mark.parametrize(("frames", "size"), [(32, 32), (33, 34)])
def test_conv3d_by_products_is_conv3d(frames, size):
    format = ClipFormat(frames=frames, size=size)
    encoder = untrained("conv3d", format)
    batch = jnp.asarray(clips(format, 2))
    fast = jax.jit(jax.vmap(lambda clip: encoder.features_by_products(clip)))(batch)
    plain = jax.jit(jax.vmap(lambda clip: encoder.features_by_convolutions(clip)))(batch)
    np.testing.assert_allclose(fast, plain, rtol=1e-3, atol=1e-4 * float(plain.max()))


def test_equal_places_of_a_pool_share_its_gradient():
    """As with `jnp.max`; the black of a clip is equal over many pools."""
    random = np.random.default_rng(0)
    z = jnp.asarray(random.integers(0, 3, size=(3, 2, 5, 2)), jnp.float64)
    weight = jnp.asarray(random.normal(size=(3, 5)))
    ours = jax.grad(lambda z: jnp.sum(weight * jnp.asarray(_maximum(z, (1, 3)))))(z)
    np.testing.assert_allclose(ours, jax.grad(lambda z: jnp.sum(weight * z.max((1, 3))))(z))


@pytest.mark.slow
def test_cost_of_a_full_clip():
    """The default encoder costs a tenth of the paper's: about 0.1 against 1.5 GFLOP."""
    format = ClipFormat()
    clip = jax.ShapeDtypeStruct((format.frames, format.size, format.size), jnp.uint8)
    flops = {}
    for name in ("tubelet", "conv3d"):
        encoder = untrained(name, format)
        compiled = jax.jit(lambda clip, encoder=encoder: encoder(clip)).lower(clip).compile()
        flops[name] = compiled.cost_analysis()["flops"]
    assert flops["tubelet"] < 0.2e9 and flops["conv3d"] > 5 * flops["tubelet"], flops
