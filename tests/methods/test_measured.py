"""What is measured: gaps, noise of each sample, unknown start and scale, several channels."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtwin.cohorts.simulate import simulate_cohort
from jaxtwin.methods.interpolation import comparable, filled
from jaxtwin.methods.measured import Channel, Curves
from jaxtwin.methods.tasks import CurveTask
from jaxtwin.models.glucose import GlucoseTest
from jaxtwin.models.left_heart import SEVEN, LeftHeart
from jaxtwin.parameters import Box
from jaxtwin.physics.solution import Recording
from tests.systems import TwoCompartments

CURVE = Channel("x", 0.1, samples=24)
TURNED = dataclasses.replace(CURVE, unknown_start=True)
RELATIVE = dataclasses.replace(CURVE, unknown_scale=True)
EVERY_KIND = pytest.mark.parametrize(
    "channel",
    [CURVE, TURNED, RELATIVE, dataclasses.replace(TURNED, unknown_scale=True)],
    ids=["plain", "turned", "relative", "turned and relative"],
)
PHASE = np.arange(24) / 24


def wave(turn=0.0, shape=0.3):
    """A curve of two harmonics, begun at a phase of the beat."""
    angle = 2 * np.pi * (PHASE + turn)
    return jnp.asarray(5 + 2 * np.cos(angle + 0.4) + shape * np.sin(2 * angle))


def gaps(share, seed=0):
    return np.random.default_rng(seed).random(24) >= share


# --- gaps -------------------------------------------------------------------------------------


def test_gaps_are_filled_around_the_beat():
    values = jnp.array([jnp.nan, 2.0, jnp.nan, jnp.nan, 5.0, jnp.nan])
    np.testing.assert_allclose(filled(values), [3, 2, 3, 4, 5, 4], rtol=1e-6)
    ends = filled(values, periodic=False)
    np.testing.assert_allclose(ends, [2, 2, 3, 4, 5, 5], rtol=1e-6)
    assert np.isnan(filled(jnp.full(4, jnp.nan))).all()
    one = filled(jnp.array([jnp.nan, 7.0, jnp.nan]))
    np.testing.assert_array_equal(one, 7.0)
    np.testing.assert_array_equal(filled(wave()), wave())


@EVERY_KIND
def test_a_missing_sample_is_one_of_infinite_noise(channel):
    """Its value plays no part; and the likelihood tends to this as its noise grows."""
    noise = np.full(24, 0.2)
    values = np.array(wave(0.1, 0.5))

    def cost(noise, values):
        weight = 1 / jnp.maximum(noise, channel.resolution)
        error = channel.compare(wave(), jnp.asarray(values), weight)
        return float(jnp.sum(error**2))

    noise[[3, 11]] = np.inf
    missing = cost(noise, np.where(np.isfinite(noise), values, np.nan))
    assert missing == cost(noise, np.where(np.isfinite(noise), values, 1e6)) > 0
    large = np.where(np.isfinite(noise), noise, 1e5)
    assert cost(large, values) == pytest.approx(missing, rel=1e-6)
    assert cost(np.full(24, 0.2), values) != pytest.approx(missing, rel=1e-3)


@EVERY_KIND
@pytest.mark.parametrize("share", [0.0, 0.3, 0.6])
def test_what_differs_in_start_or_scale_alone_agrees_whatever_is_missing(channel, share):
    there = gaps(share)
    measured = wave(0.3 if channel.unknown_start else 0.0)
    measured = measured * (7.0 if channel.unknown_scale else 1.0)
    weight = jnp.where(there, 1 / channel.resolution, 0.0)
    error = channel.compare(wave(), jnp.where(there, measured, jnp.nan), weight)
    assert np.abs(error).max() < 2e-3 and np.all(error[~there] == 0)
    assert np.abs(channel.compare(wave(shape=1.0), measured, weight)).max() > 1


@EVERY_KIND
def test_a_patient_has_phases_of_its_own(channel):
    """In any order, beyond one beat; a curve of many samples is interpolated linearly."""
    random = np.random.default_rng(1)
    phases = random.uniform(-1, 3, 24)
    phases[5] = np.nan
    turn = 0.3 if channel.unknown_start else 0.0
    angle = 2 * np.pi * (phases + turn)
    exact = 5 + 2 * np.cos(angle + 0.4) + 0.3 * np.sin(2 * angle)
    measured = jnp.asarray(exact * (7.0 if channel.unknown_scale else 1.0))
    fine = 2 * np.pi * np.arange(480) / 480
    curve = jnp.asarray(5 + 2 * np.cos(fine + 0.4) + 0.3 * np.sin(2 * fine))
    if channel.unknown_start:  # A curve turned between its samples is as long as theirs.
        curve = wave()
    weight = jnp.where(np.isfinite(phases), 1.0, 0.0)
    error = channel.compare(curve, measured, weight, jnp.asarray(phases))
    scale = 7 if channel.unknown_scale else 1
    assert np.abs(error).max() < (0.03 if channel.unknown_start else 1e-3) * scale
    assert np.isfinite(error).all() and error[5] == 0
    assert (
        np.abs(channel.compare(wave(0.25, 1.0), measured, weight, jnp.asarray(phases))).max() > 0.5
    )


def test_a_turned_curve_is_compared_as_before_if_it_is_complete():
    """Both were rotated so that their first harmonics are cosines."""
    measured = comparable(wave(0.3, 0.6))
    got = TURNED.compare(wave(), measured, jnp.ones(24))
    np.testing.assert_allclose(got, comparable(wave()) - measured, atol=1e-6)


def test_arrays_of_numpy_are_turned_by_numpy():
    curves = np.stack([np.asarray(wave(0.3, 0.6)), np.asarray(wave())]).astype(np.float32)
    turned = comparable(curves)
    assert isinstance(turned, np.ndarray) and turned.dtype == np.float32
    np.testing.assert_allclose(turned, jax.vmap(comparable)(jnp.asarray(curves)), atol=1e-5)


@EVERY_KIND
def test_gradients_are_finite_where_values_are_not(channel):
    """In float32, under jit and vmap; one patient has nothing, another everything."""
    values = np.stack([np.asarray(wave(0.2, 0.8))] * 3)
    values[0], values[1, ::3] = np.nan, np.nan
    noise = np.where(np.isfinite(values), 0.2, np.inf)

    @jax.jit
    @jax.vmap
    def slope(values, noise):
        def cost(curve):
            weight = 1 / jnp.maximum(noise, channel.resolution)
            return jnp.sum(channel.compare(curve, values, weight) ** 2)

        return jax.grad(cost)(jnp.asarray(wave(), jnp.float32))

    found = slope(jnp.asarray(values, jnp.float32), jnp.asarray(noise, jnp.float32))
    assert np.isfinite(found).all() and np.all(found[0] == 0) and np.abs(found[1:]).max() > 0.1


@EVERY_KIND
def test_slopes_are_those_of_finite_differences(channel):
    """Also those through the start and the scale that fit best."""
    there, measured = gaps(0.3), wave(0.2, 0.8)
    weight = jnp.where(there, 2.0, 0.0)

    def cost(shape):
        curve = 5 + 2 * jnp.cos(2 * jnp.pi * PHASE) + shape * jnp.sin(4 * jnp.pi * PHASE + shape)
        return jnp.sum(channel.compare(curve, measured, weight) ** 2)

    with jax.enable_x64(True):
        slope = jax.grad(cost)(jnp.array(0.4))
        near = (cost(jnp.array(0.4 + 1e-5)) - cost(jnp.array(0.4 - 1e-5))) / 2e-5
    assert float(slope) == pytest.approx(float(near), rel=1e-4)


# --- what networks are shown ------------------------------------------------------------------


def test_networks_are_told_of_gaps_where_they_are_expected():
    values = jnp.where(gaps(0.3), wave(), jnp.nan)
    shown = CURVE.seen(values, periodic=True)
    np.testing.assert_array_equal(shown, filled(values))
    told = dataclasses.replace(CURVE, missing=0.3).seen(values, periodic=True)
    np.testing.assert_allclose(told, np.append(shown, gaps(0.3).mean()), rtol=1e-6)


def test_networks_are_shown_equally_spaced_samples():
    channel = dataclasses.replace(CURVE, missing=0.1)
    phases = jnp.asarray(np.random.default_rng(2).permutation(PHASE)).at[:3].set(jnp.nan)
    values = 5 + jnp.cos(2 * jnp.pi * phases)
    shown = channel.seen(values, phases, periodic=True)
    np.testing.assert_allclose(shown[:24], 5 + np.cos(2 * np.pi * PHASE), atol=0.2)
    assert shown[24] == 21 / 24
    nothing = channel.seen(jnp.full(24, jnp.nan), phases, periodic=True)
    assert np.isnan(nothing[:24]).all() and nothing[24] == 0


def test_networks_are_shown_the_same_wherever_a_curve_begins():
    values = np.where(gaps(0.2), wave(), np.nan)
    shown, later = (TURNED.seen(jnp.asarray(np.roll(values, k)), periodic=True) for k in (0, 5))
    np.testing.assert_allclose(shown, later, atol=1e-5)


# --- channels ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Channel("x", 0.0), "a positive resolution"),
        (lambda: Channel("x", 0.1, noise=-1.0), "noise -1.0"),
        (lambda: Channel("x", 0.1, missing=1.0), "a share of 1.0 of the samples"),
        (lambda: Channel("x", 0.1, samples=(0.5, 0.2)), "increasing phases"),
        (lambda: Channel("x", 0.1, samples=(0.2, 1.0)), "from 0 to below 1"),
        (lambda: Channel("x", 0.1, samples=(0.1, 0.5, 0.6), unknown_start=True), "equally spaced"),
        (lambda: Channel("x", 0.1, unknown_scale=True), "one number of unknown scale"),
    ],
)
def test_impossible_channels_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_channel_has_phases_of_its_own():
    curve = wave()
    some = Channel("x", 0.1, samples=(0.0, 0.25, 0.5 + 1 / 48, 0.99)).sampled(curve)
    between = (curve[12] + curve[13]) / 2
    last = curve[23] + (0.99 * 24 - 23) * (curve[0] - curve[23])
    np.testing.assert_allclose(some, [curve[0], curve[6], between, last], rtol=1e-6)
    np.testing.assert_allclose(Channel("x", 0.1, samples=12).sampled(curve), curve[::2], rtol=1e-6)


BOX = Box.of(TwoCompartments.parameters, ("T", "k", "x_0"))
TASK = CurveTask(TwoCompartments(), BOX, "x", 0.01, samples=24)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"beside": (Channel("x", 0.1, samples=24),)}, "each output once"),
        ({"beside": (Channel("y", 0.1),)}, "expected at least 2"),
        ({"beside": (Channel("z", 0.1),)}, "neither an output of TwoCompartments"),
    ],
)
def test_impossible_channels_of_a_task_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(TASK, **change)


HEART = CurveTask(
    LeftHeart(),
    SEVEN,
    "V_lv",
    0.5,
    "P_ao",
    noise=3.0,
    known="T_c",
    beside=(
        Channel("q_a", 5.0, samples=48, noise=20.0),
        Channel("systolic", 1.0, noise=5.0),
    ),
)


def test_a_transient_ends_and_has_a_start():
    glucose = GlucoseTest()
    box = Box.of(glucose.parameters, tuple(glucose.parameters.specs())[:2])
    with pytest.raises(ValueError, match="G of unknown start, and GlucoseTest is not periodic"):
        CurveTask(glucose, box, "G", 1.0, unknown_start=True)
    with pytest.raises(ValueError, match=r"of a transient up to 0\.983"):
        CurveTask(glucose, box, "G", 1.0, beside=(Channel("I", 1.0, samples=(0.1, 0.99)),))


def test_a_reading_needs_its_output():
    with pytest.raises(ValueError, match=r"systolic is read off P_ao, .*add it to `hidden`"):
        dataclasses.replace(HEART, hidden=())
    with pytest.raises(ValueError, match="systolic is a reading, a number"):
        dataclasses.replace(HEART, beside=(Channel("systolic", 1.0, samples=3),))


@pytest.fixture(scope="module")
def hearts():
    return simulate_cohort(LeftHeart(), SEVEN, SEVEN.sample(64, seed=1), phases=60)


def test_every_channel_is_measured(hearts):
    curves = HEART.measure(hearts, 0)
    assert curves.beside is not None
    assert {n: c.values.shape for n, c in curves.beside.items()} == {
        "q_a": (64, 48),
        "systolic": (64, 1),
    }
    off = curves.beside["systolic"].values[:, 0] - hearts.read(["systolic"])["systolic"]
    assert 3.5 < np.std(off) < 6.5
    # What else is measured does not change the noise of the curve.
    alone = dataclasses.replace(HEART, beside=(), missing=0.3).measure(hearts, 0)
    there = np.isfinite(alone.values)
    assert 0.65 < there.mean() < 0.75
    np.testing.assert_array_equal(alone.values[there], np.asarray(curves.values)[there])
    few = curves.take(slice(3, 5))
    np.testing.assert_array_equal(few.beside["q_a"].values, curves.beside["q_a"].values[3:5])


def test_rows_have_all_channels(hearts):
    curves = HEART.measure(hearts, 0).take(slice(2))
    curves.values[0, 5] = np.inf
    rows = HEART.rows(HEART.check(curves))
    assert rows.values.shape == rows.noise.shape == (2, 60 + 48 + 1)
    assert np.isnan(rows.values[0, 5]) and np.isinf(rows.noise[0, 5])
    assert set(rows.noise[1, :60]) == {3.0} and rows.noise[1, -1] == 5
    own = Recording(*hearts.recording.__dict__.values())
    first = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), own)
    weight = np.where(np.isfinite(rows.noise[0]), 1.0, 0.0)
    error = HEART.errors(first, jnp.asarray(rows.values[0]), jnp.asarray(weight))
    assert error[5] == 0 and float(error[-1]) == pytest.approx(
        float(hearts.read(["systolic"])["systolic"][0] - rows.values[0, -1]), abs=1e-3
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c._replace(beside=None), "nothing is measured beside V_lv: expected q_a, sys"),
        (
            lambda c: c._replace(beside=c.beside | {"systolic": Curves(np.ones((4, 2)))}),
            r"expected \[patient, 1\]",
        ),
        (
            lambda c: c._replace(beside=c.beside | {"systolic": Curves(np.ones((3, 1)))}),
            "systolic of 3 patients beside V_lv of 4",
        ),
        (lambda c: c._replace(noise=-np.ones((4, 60))), "noise of V_lv .*at least 0"),
        (lambda c: c._replace(noise=np.ones((4, 3))), r"noise of V_lv of shape \(4, 3\)"),
        (lambda c: c._replace(phases=np.ones((4, 3))), r"phases of V_lv of shape \(4, 3\)"),
    ],
)
def test_measurements_of_another_kind_are_named(hearts, change, words):
    curves = HEART.measure(hearts, 0).take(slice(4))
    with pytest.raises(ValueError, match=words):
        HEART.check(change(curves))


def test_patients_without_a_measurement_are_named(hearts):
    curves = HEART.measure(hearts, 0).take(slice(4))
    values, cuff = np.array(curves.values), np.array(curves.beside["systolic"].values)
    values[1:3], cuff[2] = np.nan, np.nan
    flow = np.full((4, 48), np.nan)
    beside = {"q_a": Curves(flow), "systolic": Curves(cuff)}
    with pytest.warns(UserWarning, match=r"nothing was measured in 1 of 4 patients \(patients 2\)"):
        checked = HEART.check(curves._replace(values=values, beside=beside))
    assert HEART.usable(checked).tolist() == [True, True, False, True]


def test_a_misfit_is_that_of_the_worst_channel(hearts):
    some = hearts.take(slice(4))
    curves = HEART.measure(some, 0)
    assert curves.beside is not None
    cuff = np.array(curves.beside["systolic"].values)
    cuff[1], cuff[3] = 10 * cuff[1], np.nan
    curves = curves._replace(beside={**curves.beside, "systolic": Curves(cuff)})
    found = HEART.estimate_from(some.recording, some.theta, some.success)
    with pytest.warns(UserWarning, match=r"1 of 4 .*patient 1: .*unit of V_lv, q_a, systolic"):
        misfit = HEART.judge(HEART.check(curves), found).misfit
    assert misfit is not None and misfit[1] > 10 and (misfit[[0, 2, 3]] < 1.3).all()


# --- an unknown scale -------------------------------------------------------------------------


def test_an_unknown_scale_leaves_no_unit(hearts):
    task = dataclasses.replace(HEART, beside=(), unknown_scale=True, resolution=0.01, noise=0.0)
    curves = task.measure(hearts, 0).take(slice(4))
    np.testing.assert_allclose(np.mean(curves.values**2, axis=1), 1, rtol=1e-5)
    noise = np.full((4, 60), 0.05, np.float32)
    a = task.check(curves._replace(noise=noise))
    assert a.noise is not None
    b = task.check(curves._replace(values=300 * curves.values, noise=300 * noise))
    np.testing.assert_allclose(a.values, b.values, rtol=1e-5)
    np.testing.assert_allclose(a.noise, np.asarray(b.noise), rtol=1e-5)
    np.testing.assert_allclose(task.check(b).values, b.values, rtol=1e-5)
    nothing = curves._replace(values=np.zeros((4, 60)))
    with pytest.warns(UserWarning, match="nothing was measured in 4 of 4"):
        task.check(nothing)


def test_what_is_declared_is_part_of_the_tasks_identity():
    plain = dataclasses.replace(HEART, beside=()).describe()
    assert not {"missing", "unknown_scale", "beside"} & set(plain)
    changed = dataclasses.replace(HEART, missing=0.1, unknown_scale=True).describe()
    assert changed["missing"] == 0.1 and changed["unknown_scale"]
    assert [channel["name"] for channel in changed["beside"]] == ["q_a", "systolic"]
    assert HEART.channels == ("V_lv", "q_a", "P_ao") and HEART.inputs == 60 + 48 + 1
