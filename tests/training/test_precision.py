"""Training in bfloat16: what is cast, and what stays in float32."""

import re
import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtwin.data.base import ClipFormat
from jaxtwin.encoders.create import create_encoder
from jaxtwin.imaging import learning, orientation
from jaxtwin.imaging.learning import Examples, segmentation_loss, train_segmentation
from jaxtwin.imaging.network import CHANNELS, SegmentationNetwork
from jaxtwin.imaging.orientation import OrientationNetwork
from jaxtwin.training import precision as precisions
from jaxtwin.training.precision import check_precision, computing_in
from jaxtwin.training.settings import TrainingConfig

RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 256, (2, CHANNELS, 32, 32)).astype(np.uint8)
SHOWN = RANDOM.uniform(size=(3, orientation.SIDE, orientation.SIDE))
LABELS = RANDOM.integers(0, 4, (2, 32, 32)).astype(np.uint8)


def segmentation(precision):
    """A network and its loss on two frames of noise."""
    network = SegmentationNetwork((8, 12), key=jax.random.key(0))
    frames = jnp.asarray(GREY, jnp.float32) / 255

    def loss(network):
        network = computing_in(precision, network, lambda n: (n.head, n.offset))
        logits = jax.vmap(network)(frames)
        return jnp.mean(jax.vmap(segmentation_loss)(logits, jnp.asarray(LABELS)))

    return network, loss


def pictures(precision):
    """The same for the orientation of pictures."""
    network = OrientationNetwork(key=jax.random.key(0))
    shown = jnp.asarray(SHOWN, jnp.float32)

    def loss(network):
        return jnp.mean(computing_in(precision, network, lambda n: n.head)(shown) ** 2)

    return network, loss


def encoder(name):
    """The same for an encoder."""
    format = {"tubelet": ClipFormat(frames=8, size=32), "conv3d": ClipFormat(frames=32, size=32)}[
        name
    ]
    grey = np.random.default_rng(0).integers(0, 256, (format.frames, format.size, format.size))

    def made(precision):
        network = create_encoder(name, format, 3, key=jax.random.key(0))

        def loss(network):
            lower = computing_in(precision, network, lambda n: n.head)
            return jnp.mean((lower(jnp.asarray(grey, jnp.uint8)) - 1.0) ** 2)

        return network, loss

    return made


CASES = pytest.mark.parametrize(
    "made",
    [
        segmentation,
        encoder("tubelet"),
        pictures,
        encoder("conv3d"),
    ],
    ids=["segmentation", "tubelet", "orientation", "conv3d"],
)


def computed(function, network):
    """The types of the operands of each convolution and product of matrices."""
    arrays, static = eqx.partition(network, eqx.is_array)
    program = str(jax.make_jaxpr(lambda arrays: function(eqx.combine(arrays, static)))(arrays))
    return re.findall(r":(\w+)\[[^\]]*\] = (?:conv_general_dilated|dot_general)", program)


@CASES
def test_layers_compute_in_it_and_all_else_in_float32(made):
    network, loss = made("bfloat16")
    kinds = computed(loss, network)
    # The last maps, of segmentation and orientation one, of encoders the head's two, are not cast.
    assert kinds.count("bf16") >= 4 and 1 <= kinds.count("f32") <= 3
    plain, plain_loss = made("float32")
    assert "bf16" not in computed(plain_loss, plain)
    value, gradient = eqx.filter_eval_shape(eqx.filter_value_and_grad(loss), network)
    # A loss may be float64 where JAX's x64 mode is on, as here.
    assert value.dtype == eqx.filter_eval_shape(plain_loss, plain).dtype in ("float32", "float64")
    assert {leaf.dtype for leaf in jax.tree.leaves(gradient)} == {jnp.dtype("float32")}


@pytest.mark.slow
@CASES
def test_gradients_are_near_those_of_float32(made):
    (network, loss), (plain, plain_loss) = made("bfloat16"), made("float32")
    value, gradient = eqx.filter_jit(eqx.filter_value_and_grad(loss))(network)
    expected, right = eqx.filter_jit(eqx.filter_value_and_grad(plain_loss))(plain)
    np.testing.assert_allclose(value, expected, rtol=0.02)
    a, b = (np.concatenate([x.ravel() for x in jax.tree.leaves(g)]) for g in (gradient, right))
    assert 0 < np.linalg.norm(a - b) < 0.1 * np.linalg.norm(b)


def test_float32_is_the_network_itself():
    network, _ = segmentation("float32")
    assert computing_in("float32", network, lambda n: n.head) is network


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:bfloat16 on")
def test_what_is_learnt_is_float32(monkeypatch):
    asked, casting = [], learning.computing_in

    def noted(precision, network, keep):
        asked.append(precision)
        return casting(precision, network, keep)

    monkeypatch.setattr(learning, "computing_in", noted)
    config = TrainingConfig(steps=2, batch_size=2, evaluate_every=1)
    given = {"folder": None, "seed": 0, "resume": False}
    network, examples = segmentation("float32")[0], Examples(GREY, LABELS)
    found = {
        precision: train_segmentation(
            network, examples, examples, config, precision=precision, **given
        )
        for precision in ("float32", "bfloat16")
    }
    assert asked == ["float32", "bfloat16"]  # Traced once each.
    leaves = [jax.tree.leaves(eqx.filter(f.model, eqx.is_array)) for f in found.values()]
    assert {leaf.dtype for part in leaves for leaf in part} == {jnp.dtype("float32")}
    assert any(not np.array_equal(a, b) for a, b in zip(*leaves, strict=True))


class Device:
    device_kind = "NVIDIA"
    platform = "gpu"

    def __init__(self, capability):
        self.compute_capability = capability


def test_a_device_without_bfloat16_is_told(monkeypatch):
    with pytest.warns(UserWarning, match="bfloat16 on cpu: it works, but is slower"):
        check_precision("bfloat16")
    monkeypatch.setattr(precisions.jax, "devices", lambda: [Device("7.5")])
    with pytest.warns(UserWarning, match="bfloat16 on NVIDIA"):
        check_precision("bfloat16")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_precision("float32")
        monkeypatch.setattr(precisions.jax, "devices", lambda: [Device("9.0")])
        check_precision("bfloat16")


def test_other_precisions_are_refused():
    # Without the check of types that tests have switched on.
    plain = getattr(check_precision, "__wrapped__", check_precision)
    with pytest.raises(Exception, match="float16"):
        plain("float16")
