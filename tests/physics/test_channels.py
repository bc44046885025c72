"""Outputs by name: access by attribute and by item, in jit, vmap and copies."""

import copy
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtwin.models.left_heart import LeftHeart
from jaxtwin.models.lvad import LVAD
from jaxtwin.physics.base import check_channels
from jaxtwin.physics.channels import (
    Channels,
    MissingChannelError,
    channels_of,
    select,
    stack,
)
from jaxtwin.physics.solution import Recording


class Outputs(NamedTuple):
    V: jax.Array
    P: jax.Array
    q: jax.Array


OUTPUTS = Outputs(*jnp.arange(12.0).reshape(3, 4))
TWO = channels_of(("q", "V"), OUTPUTS)


def assert_two(channels, make=lambda x: x):
    assert isinstance(channels, Channels) and channels.channel_names == ("q", "V")
    for name in ("q", "V"):
        np.testing.assert_allclose(channels[name], make(getattr(OUTPUTS, name)))


def test_by_attribute_by_item_and_in_order():
    assert_two(TWO)
    assert TWO.q is TWO["q"] is OUTPUTS.q and TWO.V is TWO["V"] is OUTPUTS.V
    q, V = TWO
    assert q is OUTPUTS.q and V is OUTPUTS.V
    np.testing.assert_array_equal(stack(TWO), jnp.stack([OUTPUTS.q, OUTPUTS.V]))


def test_a_name_that_is_missing():
    for kind in (AttributeError, ValueError, MissingChannelError):
        for get in (lambda: TWO.P, lambda: TWO["P"]):
            with pytest.raises(kind, match="P is not among the channels q, V") as caught:
                get()
            assert caught.value.channel == "P"
    assert not hasattr(TWO, "P") and hasattr(TWO, "V")
    assert getattr(TWO, "P", None) is None
    with pytest.raises(ValueError, match=r"V is not among the channels \(none\)"):
        Channels((), ())["V"]
    with pytest.raises(AttributeError, match="T"):
        channels_of(("V", "T"), OUTPUTS)


def test_nested_outputs_go_by_their_own_names():
    pumped = LVAD(LeftHeart(), 9_000.0)
    assert check_channels(pumped, ("V_lv", "Q_p")) == ("V_lv", "Q_p")
    with pytest.raises(ValueError, match=r"expected at least one, all out of V_lv, .*, Q_p, R_k"):
        check_channels(pumped, "heart")


def test_names_that_tuples_and_modules_use_themselves():
    """`count` and `index` are methods of a tuple; the two fields can be reached by item."""
    names = ("count", "index", "values", "channel_names", "channel_values")
    channels = Channels(names, (1.0, 2.0, 3.0, 4.0, 5.0))
    assert (channels.count, channels.index, channels.values) == (1.0, 2.0, 3.0)
    assert [channels[name] for name in names] == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert channels.channel_names == names


def test_transformations():
    double = jax.jit(lambda channels: jax.tree.map(lambda leaf: 2 * leaf, channels))
    assert_two(double(TWO), lambda x: 2 * x)
    many = jax.vmap(lambda x: channels_of(("q", "V"), Outputs(x, 2 * x, 3 * x)))(jnp.arange(4.0))
    assert many.q.shape == (4,) and many.V.shape == (4,)
    np.testing.assert_array_equal(many.q, 3 * jnp.arange(4.0))
    total = jax.vmap(lambda channels: channels.q - channels["V"])(many)
    np.testing.assert_array_equal(total, 2 * jnp.arange(4.0))
    slope = jax.grad(lambda channels: jnp.sum(channels.V**2) + channels.q[0])(TWO)
    np.testing.assert_array_equal(slope.V, 2 * OUTPUTS.V)
    np.testing.assert_array_equal(slope.q, [1, 0, 0, 0])
    assert jax.tree.structure(TWO) != jax.tree.structure(channels_of(("V", "q"), OUTPUTS))


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_copies(duplicate):
    twin = duplicate(TWO)
    assert twin is not TWO
    assert_two(twin)
    changed = eqx.tree_at(lambda channels: channels.V, twin, jnp.zeros(4))
    np.testing.assert_array_equal(changed.V, jnp.zeros(4))
    assert_two(twin)


def test_a_recording_of_some_outputs():
    waveforms = OUTPUTS
    largest, least = (jax.tree.map(f, waveforms) for f in (jnp.max, jnp.min))
    some = select(("q", "V"), Recording(largest, least, waveforms, jnp.array(0.8)))
    assert_two(some.waveforms)
    assert_two(some.maximum, jnp.max)
    assert_two(some.minimum, jnp.min)
    assert some.duration == 0.8 and not hasattr(some.waveforms, "P")
