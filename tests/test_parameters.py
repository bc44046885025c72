"""Parameters declared once, and the box of the free ones."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtwin.models.left_heart import SEVEN, THREE
from jaxtwin.parameters import AbstractParameters, Box, Scalar, parameter, table


class Spring(AbstractParameters):
    k: Scalar = parameter(1.0, (0.1, 10.0), symbol="k", unit="N/m", meaning="stiffness")
    zeta: Scalar = parameter(0.2, (0.0, 2.0), symbol=r"\zeta", unit="", meaning="damping")
    mass: Scalar = parameter(3.0, symbol="m", unit="kg", meaning="mass", source="a balance")


BOX = Box.of(Spring, ("zeta", "k"))


def test_specs_hold_what_was_declared():
    specs = Spring.specs()
    assert list(specs) == ["k", "zeta", "mass"]
    assert specs["k"].label == "$k$ [N/m]"
    assert specs["zeta"].label == r"$\zeta$"
    assert specs["mass"].bounds is None
    assert (specs["mass"].default, specs["mass"].source) == (3.0, "a balance")


def test_table_has_a_line_for_each_parameter():
    head, _, k, zeta, mass = table(Spring).splitlines()
    assert head.startswith("| parameter | meaning | unit |")
    assert k == "| k | stiffness | N/m | 1 | 0.1 – 10 |  |"
    assert zeta.startswith("| zeta | damping |  | 0.2 | 0 – 2 |")
    assert mass == "| mass | mass | kg | 3 | fixed | a balance |"


def test_box_keeps_the_order_of_its_names_and_its_own_bounds():
    box = Box.of(Spring, ("zeta", "k"), {"k": (1.0, 2.0)})
    assert box.describe() == {"zeta": [0.0, 2.0], "k": [1.0, 2.0]}
    assert [spec.bounds for spec in box.specs] == [(0.0, 2.0), (1.0, 2.0)]
    assert hash(box) != hash(BOX) and box != BOX


def test_complete_sets_the_free_and_leaves_the_rest():
    p = BOX.complete(jnp.array([0.5, 4.0]))
    assert (float(p.zeta), float(p.k), p.mass) == (0.5, 4.0, 3.0)
    with pytest.raises(ValueError, match="zip"):
        BOX.complete(jnp.zeros(3))


@pytest.mark.parametrize("n", [0, 1, 2, 3, 64, 100])
def test_sample_is_a_prefix_inside_the_box(n):
    theta = SEVEN.sample(n, seed=3)
    assert theta.shape == (n, 7) and theta.dtype == np.float64
    assert np.all(theta >= SEVEN.low) and np.all(theta <= SEVEN.high)
    np.testing.assert_array_equal(theta, SEVEN.sample(128, seed=3)[:n])


def test_sample_depends_on_the_seed_and_fills_the_box_evenly():
    theta = SEVEN.sample(64, seed=0)
    assert not np.any(theta == SEVEN.sample(64, seed=1))
    u = np.asarray(SEVEN.to_unit(jnp.asarray(theta)))
    # A Sobol sequence puts one point of 64 into each 64th of every side.
    np.testing.assert_array_equal(np.sort(np.floor(64 * u), axis=0)[:, 0], np.arange(64))


def test_unit_coordinates_put_the_corners_at_zero_and_one():
    corners = jnp.array([BOX.low, BOX.high])
    np.testing.assert_allclose(BOX.to_unit(corners), [[0, 0], [1, 1]], atol=1e-15)
    np.testing.assert_allclose(BOX.from_unit(BOX.to_unit(corners)), corners, rtol=1e-15)


@pytest.mark.parametrize("box", [SEVEN, THREE])
def test_bound_and_unbound_are_inverse(box):
    theta = jnp.asarray(box.sample(32, seed=0))
    np.testing.assert_allclose(box.bound(box.unbound(theta)), theta, rtol=1e-12)
    raw = jnp.linspace(-6.0, 6.0, 5 * len(box.names)).reshape(5, -1)
    np.testing.assert_allclose(box.unbound(box.bound(raw)), raw, atol=1e-11)


def test_gradient_of_bound():
    raw = jnp.array([-1.5, 0.7])
    sigmoid = 1 / (1 + np.exp(-np.asarray(raw)))
    slope = (np.array(BOX.high) - np.array(BOX.low)) * sigmoid * (1 - sigmoid)
    np.testing.assert_allclose(jax.jacfwd(BOX.bound)(raw), np.diag(slope), rtol=1e-12)
    round_trip = jax.jacrev(lambda raw: BOX.unbound(BOX.bound(raw)))(raw)
    np.testing.assert_allclose(round_trip, np.eye(2), atol=1e-12)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("raw", [-1e3, -17.0, 17.0, 1e3])
def test_bound_never_leaves_the_box(raw, dtype):
    theta = SEVEN.bound(jnp.full(7, raw, dtype))
    assert theta.dtype == dtype
    assert SEVEN.contains(theta)


def test_contains_takes_the_faces_and_refuses_nan():
    inside = jnp.array([BOX.low, BOX.high, [jnp.nan, 1.0], [1.0, 10.1], [-0.1, 1.0]])
    np.testing.assert_array_equal(BOX.contains(inside), [True, True, False, False, False])


def test_check_names_the_parameter():
    BOX.check(jnp.array([BOX.low, BOX.high]))
    BOX.check(BOX.sample(8, seed=0))
    with pytest.raises(ValueError, match=re.escape("k = 11 N/m (1 of 2) is outside")):
        BOX.check(jnp.array([[1.0, 11.0], [1.0, 1.0]]))
    with pytest.raises(ValueError, match=re.escape("zeta = nan")):
        BOX.check(jnp.array([jnp.nan, 1.0]))


@pytest.mark.parametrize("bounds", [(2.0, 3.0), (-1.0, 0.0), (3.0, -1.0), (np.nan, 3.0)])
def test_bounds_must_hold_the_default(bounds):
    with pytest.raises(ValueError, match=r"stiffness.*outside its bounds"):
        parameter(1.0, bounds, symbol="k", unit="", meaning="stiffness")


@pytest.mark.parametrize(
    ("names", "bounds", "message"),
    [
        (("k", "friction"), None, "friction"),
        (("k",), {"friction": (0.0, 1.0)}, "friction"),
        ((), None, "at least one name"),
        (("k", "k"), None, "each once"),
        (("mass",), None, r"mass \(mass\) cannot be free: it has no bounds"),
        (("k",), {"k": (2.0, 2.0)}, r"bounds of k are \(2.0, 2.0\): expected low < high"),
        (("k",), {"k": (3.0, 2.0)}, "low < high"),
        (("k",), {"k": (np.nan, 2.0)}, "low < high"),
    ],
)
def test_box_refuses(names, bounds, message):
    with pytest.raises(ValueError, match=message):
        Box.of(Spring, names, bounds)


def test_a_field_needs_a_specification():
    class Careless(AbstractParameters):
        k: Scalar = 1.0

    with pytest.raises(ValueError, match=r"Careless.k has no specification: declare it"):
        Careless.specs()
