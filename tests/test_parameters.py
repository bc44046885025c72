"""Parameters declared once, and the box of the free ones."""

import copy
import dataclasses
import json
import re
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from jaxtwin.models.left_heart import SEVEN, THREE, LeftHeart
from jaxtwin.parameters import AbstractParameters, Box, NormalPrior, Scalar, parameter, table


class Spring(AbstractParameters):
    k: Scalar = parameter(1.0, (0.1, 10.0), "N/m", "stiffness")
    zeta: Scalar = parameter(0.2, (0.0, 2.0), meaning="damping")
    mass: Scalar = parameter(3.0, symbol="m", unit="kg", meaning="mass", source="a balance")


BOX = Box.of(Spring, ("zeta", "k"))


def test_specs_hold_what_was_declared():
    specs = Spring.specs()
    assert list(specs) == ["k", "zeta", "mass"]
    assert specs["k"].label == "$k$ [N/m]"
    assert specs["zeta"].label == r"$\zeta$"
    assert specs["mass"].bounds is None
    assert (specs["mass"].default, specs["mass"].source) == (3.0, "a balance")
    assert specs["mass"].symbol == "m"


def test_an_inherited_parameter_keeps_the_source_of_its_class():
    class Setting(AbstractParameters):
        source: ClassVar = "a manual"
        T: Scalar = parameter(1.0)

    class Model(Setting):
        source: ClassVar = "a paper"
        k: Scalar = parameter(1.0)

    class Silent(Model):
        m: Scalar = parameter(1.0)

    assert {name: spec.source for name, spec in Silent.specs().items()} == {
        "T": "a manual",
        "k": "a paper",
        "m": "a paper",
    }


def test_symbols_come_from_names_and_sources_from_the_class():
    class Named(AbstractParameters):
        source: ClassVar = "a paper"
        E_max_lv: Scalar = parameter(2.0, (1.0, 3.0), "mmHg/mL")
        tau_s: Scalar = parameter(0.1, None, "s")
        T: Scalar = parameter(1.0, source="a watch")
        SV: Scalar = parameter(70.0)
        k_alpha: Scalar = parameter(1.0)

    specs = Named.specs()
    symbols = [spec.symbol for spec in specs.values()]
    assert symbols == ["E_{max,lv}", r"\tau_s", "T", "SV", r"k_{\alpha}"]
    assert specs["E_max_lv"].source == "a paper" and specs["T"].source == "a watch"


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ("s", r"second argument is the bounds.*parameter\(1.0, None, 's', ...\)"),
        ((0.0, np.inf), "two finite numbers"),
        ((0.0, 1.0, 2.0), "two finite numbers"),
    ],
)
def test_bounds_are_two_finite_numbers(as_a_user, bounds, message):
    with pytest.raises(ValueError, match=message):
        parameter(1.0, bounds)


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"zetta": 0.1}, TypeError, r"no parameter 'zetta' \(did you mean zeta\?\): .* k, zeta, m"),
        ({"friction": 0.1}, TypeError, "Spring has no parameter 'friction': it has k, zeta, mass"),
        ({"k": "0.8"}, ValueError, "k of Spring is '0.8': expected a number"),
        ({"k": [0.8, 0.9]}, ValueError, r"k of Spring is \[0.8, 0.9\]: .* an array under jax.vmap"),
    ],
)
def test_values_are_numbers_of_known_names(as_a_user, values, error, message):
    for make in (Spring, lambda **values: dataclasses.replace(Spring(), **values)):
        with pytest.raises(error, match=message):
            make(**values)


def test_parameters_are_made_of_whatever_jax_needs(as_a_user):
    axes: Any = Spring(k=0, zeta=None, mass=None)
    many = dataclasses.replace(Spring(), k=np.ones(3))
    assert jax.jit(jax.vmap(lambda p: Spring(k=p.k * p.mass).k, in_axes=(axes,)))(many).shape == (
        3,
    )
    assert copy.deepcopy(jax.tree.map(str, Spring())).k == "1.0"


def test_a_class_may_be_made_from_other_values():
    class Tuned(Spring):
        def __init__(self, omega, **rest):
            self.k, self.zeta, self.mass = omega**2, 0.2, rest["m"]

    assert Tuned(omega=3.0, m=1.0).k == 9.0


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


def test_complete_sets_the_free_and_leaves_the_rest(as_a_user):
    p = BOX.complete(jnp.array([0.5, 4.0]))
    assert (float(p.zeta), float(p.k), p.mass) == (0.5, 4.0, 3.0)
    for wrong in (jnp.zeros(3), jnp.zeros(1), jnp.zeros((2, 2)), 1.0):
        with pytest.raises(
            ValueError, match=r"expected shape \(2,\), one entry for each of zeta, k"
        ):
            BOX.complete(wrong)
    with pytest.raises(ValueError, match=r"in the order of the box.*: zeta, k"):
        BOX.complete({"k": 1.0, "zeta": 0.5})


@pytest.mark.parametrize("function", [BOX.bound, BOX.unbound, BOX.contains, BOX.to_unit])
def test_points_of_another_box_are_refused_under_jit_and_vmap(as_a_user, function):
    for run in (jax.jit(function), jax.vmap(function)):
        with pytest.raises(ValueError, match=r"shape \(.*3,?\): expected 2 entries .* zeta, k"):
            run(jnp.zeros((4, 3)))
    with pytest.raises(ValueError, match="expected shape"):
        jax.jit(jax.vmap(BOX.complete))(jnp.zeros((4, 3)))


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


@pytest.mark.parametrize("logarithmic", [(), ("R_a", "E_max")])
def test_arrays_of_numpy_stay_so(logarithmic):
    box = Box.of(SEVEN.parameters, SEVEN.names, logarithmic=logarithmic)
    theta = box.sample(16, seed=0).astype(np.float32)
    for rows in (theta, theta[3]):
        u, inside = box.to_unit(rows), box.contains(rows)
        assert isinstance(u, np.ndarray) and u.dtype == np.float32
        assert isinstance(inside, np.ndarray | np.bool)
        np.testing.assert_allclose(u, box.to_unit(jnp.asarray(rows)), atol=1e-6)
        np.testing.assert_array_equal(inside, box.contains(jnp.asarray(rows)))
    p = box.complete(theta[3])
    for name, value in zip(box.names, theta[3], strict=True):
        assert isinstance(getattr(p, name), jax.Array) and getattr(p, name) == value


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


@pytest.mark.parametrize(
    ("first", "message"),
    [
        (Spring(k=2.0), r"instance of Spring: pass the class, Box.of\(Spring, .*fixed="),
        (LeftHeart, "expected a subclass of AbstractParameters, here LeftHeart.parameters"),
        (LeftHeart(), "here LeftHeart.parameters"),
        (Spring.specs, "expected a subclass of AbstractParameters"),
    ],
)
def test_box_says_what_to_pass(as_a_user, first, message):
    with pytest.raises(ValueError, match=message):
        Box.of(first, "k")


def test_one_name_may_come_alone():
    assert Box.of(LeftHeart.parameters, "T_c").names == ("T_c",)


def test_fixed_values_belong_to_the_box():
    box = Box.of(Spring, "zeta", fixed={"mass": 5.0, "k": 2.0})
    p = box.complete(jnp.array([0.5]))
    assert (float(p.zeta), p.k, p.mass) == (0.5, 2.0, 5.0)
    assert box.describe() == {"zeta": [0.0, 2.0], "k": 2.0, "mass": 5.0}
    assert box == Box.of(Spring, ["zeta"], fixed={"k": 2.0, "mass": 5.0})
    assert box == Box.described(Spring, box.describe())
    others = {Box.of(Spring, "zeta"), Box.of(Spring, "zeta", fixed={"k": 2.5, "mass": 5.0}), box}
    assert len(others) == 3


@pytest.mark.parametrize(
    ("fixed", "message"),
    [
        ({"friction": 1.0}, "friction: expected parameters that are not free, out of k, mass"),
        ({"zeta": 1.0}, "names zeta: expected parameters that are not free"),
        ({"mass": np.ones(3)}, r"mass has shape \(3,\): expected one number .* a free parameter"),
        ({"mass": np.nan}, "mass is nan: expected a finite number"),
    ],
)
def test_fixed_refuses(as_a_user, fixed, message):
    with pytest.raises(ValueError, match=message):
        Box.of(Spring, "zeta", fixed=fixed)


def test_bounds_in_another_unit_are_named():
    box = Box.of(Spring, "k")
    low, high = box.low[0], box.high[0]
    with pytest.warns(UserWarning, match="bounds of k .* nothing in common with its declared"):
        Box.of(Spring, "k", {"k": (1_000 * high, 2_000 * high)})
    Box.of(Spring, "k", {"k": (low, 1_000 * high)})  # wider


def test_a_fixed_value_beyond_declared_bounds_is_named():
    with pytest.warns(UserWarning, match=r"k is fixed at 40 N/m, outside .*\(0.1, 10.0\)"):
        Box.of(Spring, "zeta", fixed={"k": 40.0})


def test_whole_numbers_do_not_round_the_bounds(as_a_user):
    box = Box.of(Spring, "k", {"k": (0.5, 2.5)})
    np.testing.assert_allclose(box.to_unit(jnp.array([1])), [0.25])
    with pytest.raises(ValueError, match="k = 3"):
        box.check(np.array([3]))
    with pytest.raises(ValueError, match="k = 0"):
        box.check(np.array([0]))


def test_a_field_needs_a_specification():
    class Careless(AbstractParameters):
        k: Scalar = 1.0  # pyright: ignore[reportAssignmentType]

    with pytest.raises(ValueError, match=r"Careless.k has no specification: declare it"):
        Careless.specs()


# Decimals of three places: nobody means a subnormal number.
numbers = st.integers(-1_000_000, 1_000_000).map(lambda n: n / 1000)
widths = st.integers(1, 1_000_000).map(lambda n: n / 1000)
sides_of_a_box = st.lists(
    st.tuples(numbers, widths).map(lambda side: (side[0], side[0] + side[1])),
    min_size=1,
    max_size=4,
)
few = settings(max_examples=12, deadline=None, derandomize=True, database=None)


def box_of(sides):
    """A box with these sides, of a class declared for it."""
    fields = {
        f"p_{i}": parameter((low + high) / 2, (low, high)) for i, (low, high) in enumerate(sides)
    }
    kind = type(
        "Drawn", (AbstractParameters,), {"__annotations__": dict.fromkeys(fields, Scalar)} | fields
    )
    return Box.of(kind, tuple(fields))


@few
@given(sides_of_a_box, st.sampled_from([np.float32, np.float64]), st.integers(0, 2**16))
def test_of_any_box(sides, dtype, seed):
    box = box_of(sides)
    low, high = np.asarray(box.low), np.asarray(box.high)
    u = np.random.default_rng(seed).uniform(size=(16, len(sides))).astype(dtype)
    u[0], u[1] = 0.0, 1.0
    theta = box.from_unit(jnp.asarray(u))
    assert theta.dtype == dtype and np.all(box.contains(theta))
    box.check(theta)
    np.testing.assert_array_equal(theta[:2], np.array([low, high], dtype))

    # Where a side is short and far from 0, the parameter itself is what rounds.
    eps = np.finfo(dtype).eps
    rounding = 4 * eps * (1 + np.maximum(np.abs(low), np.abs(high)) / (high - low))
    assert np.all(np.abs(box.to_unit(theta) - u) <= rounding)

    raw = jnp.asarray(np.linspace(-30, 30, 3 * len(sides)).reshape(3, -1), dtype)
    assert np.all(box.contains(box.bound(raw)))
    inner = np.clip(u, 0.01, 0.99)
    again = box.bound(box.unbound(box.from_unit(jnp.asarray(inner))))
    assert np.all(np.abs(box.to_unit(again) - inner) <= 4 * rounding)


@few
@given(sides_of_a_box, st.integers(0, 9), st.integers(0, 40), st.data())
def test_outside_of_any_box(sides, seed, n, data):
    box = box_of(sides)
    sample = box.sample(n, seed=seed)
    assert sample.dtype == np.float64 and np.all(box.contains(jnp.asarray(sample)))
    np.testing.assert_array_equal(box.sample(41, seed=seed)[:n], sample)

    theta = box.sample(1, seed=seed)[0]
    i = data.draw(st.integers(0, len(sides) - 1))
    low, high = sides[i]
    theta[i] = data.draw(
        st.sampled_from([low - 0.1 * (high - low), 1.1 * high - 0.1 * low, np.nan])
    )
    assert not box.contains(jnp.asarray(theta))
    with pytest.raises(ValueError, match=f"p_{i} = "):
        box.check(theta)


@few
@given(sides_of_a_box, st.data())
def test_any_description_is_read_back(sides, data):
    box = box_of(sides)
    names = data.draw(st.lists(st.sampled_from(box.names), min_size=1, unique=True))
    held = {
        name: (box.low[i] + box.high[i]) / 2
        for i, name in enumerate(box.names)
        if name not in names
    }
    some = Box.of(box.parameters, names, fixed=held)
    again = Box.described(box.parameters, json.loads(json.dumps(some.describe())))
    assert again == some and hash(again) == hash(some)


WIDE = Box.of(Spring, ("zeta", "k"), logarithmic=("k",))
"""k from 0.1 to 10, by its logarithm; zeta from 0 to 2."""


def test_a_logarithmic_side_is_scaled_by_its_ratio():
    np.testing.assert_allclose(WIDE.from_unit(jnp.array([0.5, 0.5])), [1.0, 1.0])
    np.testing.assert_allclose(WIDE.from_unit(jnp.array([0.25, 0.25])), [0.5, 10**-0.5])
    np.testing.assert_allclose(WIDE.to_unit(jnp.array([1.5, 10**0.5])), [0.75, 0.75])
    u = jnp.linspace(0.0, 1.0, 101)
    inside = WIDE.from_unit(jnp.stack([u, u], axis=1).astype(jnp.float32))
    assert WIDE.contains(inside).all()
    np.testing.assert_allclose(WIDE.to_unit(inside)[:, 1], u, atol=1e-6)


def test_a_logarithmic_side_is_sampled_evenly_by_its_logarithm():
    theta = WIDE.sample(256, seed=0)
    assert ((theta >= WIDE.low) & (theta <= WIDE.high)).all()
    assert np.mean(theta[:, 1] < 1.0) == pytest.approx(0.5, abs=0.01)
    assert np.mean(theta[:, 0] < 1.0) == pytest.approx(0.5, abs=0.01)
    np.testing.assert_array_equal(
        theta[:, 0], Box.of(Spring, ("zeta", "k")).sample(256, seed=0)[:, 0]
    )


def test_gradient_of_a_logarithmic_bound():
    raw = jnp.array([0.3, -1.2])
    check_grads(lambda raw: WIDE.bound(jnp.asarray(raw)), (raw,), order=1, modes=["fwd", "rev"])
    # On the lower face of the linear side, whose logarithm would be infinite.
    slope = jax.jacobian(WIDE.to_unit)(jnp.array([0.0, 1.0]))
    np.testing.assert_allclose(slope, [[0.5, 0.0], [0.0, 1 / np.log(100)]])


def test_a_logarithmic_box_is_described_and_told_apart():
    linear = Box.of(Spring, ("zeta", "k"))
    assert WIDE.describe() == {"zeta": [0.0, 2.0], "k": [0.1, 10.0, "logarithmic"]}
    assert Box.described(Spring, WIDE.describe()) == WIDE != linear
    assert Box.described(Spring, linear.describe()) == linear


@pytest.mark.parametrize("names", [("zeta",), "zeta", ("mass",), ("k", "length")])
def test_logarithmic_refuses(names):
    with pytest.raises(ValueError, match="expected free parameters whose lower bound is above 0"):
        Box.of(Spring, ("zeta", "k"), logarithmic=names)


# --- priors -----------------------------------------------------------------------------------


def correlated(box: Box, n: int) -> np.ndarray:
    """Patients of a box whose parameters go together."""
    raw = np.random.default_rng(0).normal(size=(n, len(box.names)))
    raw[:, 1] = 0.5 + 0.8 * raw[:, 0] + 0.3 * raw[:, 1]
    return np.asarray(box.bound(jnp.asarray(raw)))


def test_a_prior_has_the_mean_and_covariance_of_its_patients():
    theta = correlated(THREE, 4_000)
    prior = NormalPrior.of(THREE, theta)
    white = np.asarray(jax.vmap(prior.whiten)(THREE.unbound(jnp.asarray(theta))))
    np.testing.assert_allclose(white.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(np.cov(white.T), np.eye(3), atol=1e-3)
    drawn = np.asarray(THREE.unbound(jnp.asarray(prior.sample(THREE, 4_096, seed=1))))
    np.testing.assert_allclose(drawn.mean(0), prior.mean, atol=0.02)
    root = np.array(prior.root)
    np.testing.assert_allclose(np.cov(drawn.T), root @ root.T, atol=0.02)


def test_the_density_of_a_prior_is_relative_to_the_uniform_one():
    """Its mean over the box is 1, and points of the prior are where it is high."""
    prior = NormalPrior.of(THREE, correlated(THREE, 500))
    even = prior.density(THREE, THREE.sample(2**15, seed=0))
    assert even.mean() == pytest.approx(1, rel=0.02)
    own = prior.density(THREE, prior.sample(THREE, 1_024, seed=0))
    assert np.median(own) > 3 * np.median(even)
    corner = np.array([THREE.low, THREE.high])
    assert np.all(prior.density(THREE, corner) == 0)


def test_a_direction_that_no_patient_shows_is_not_infinitely_narrow():
    theta = np.repeat(correlated(THREE, 8), 2, axis=0)
    theta[:, 2] = theta[0, 2]
    prior = NormalPrior.of(THREE, theta)
    assert np.isfinite(prior.root).all()
    moved = jnp.array(prior.mean) + jnp.array([0.0, 0.0, 0.1])
    assert np.linalg.norm(prior.whiten(moved)) == pytest.approx(1, rel=0.05)


def test_a_prior_is_described_in_json():
    prior = NormalPrior.of(THREE, correlated(THREE, 50))
    assert NormalPrior.described(json.loads(json.dumps(prior.describe()))) == prior


def test_priors_of_too_few_or_strange_patients_are_refused():
    with pytest.raises(ValueError, match="3 patients for a prior of 3 parameters: expected at"):
        NormalPrior.of(THREE, correlated(THREE, 3))
    with pytest.raises(ValueError, match="is outside the box"):
        NormalPrior.of(THREE, 10 * correlated(THREE, 20))
