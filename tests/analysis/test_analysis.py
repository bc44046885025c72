"""Limits of a twin: unfamiliar clips, and different patients with the same measurements."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtwin.analysis.familiarity import Familiarity
from jaxtwin.analysis.identifiability import compatible_patients
from jaxtwin.cohorts.draw import draw_cohort
from jaxtwin.forward.emulator import Emulator
from jaxtwin.forward.learning import train_emulator
from jaxtwin.models.left_heart import SEVEN, LeftHeart
from jaxtwin.parameters import NormalPrior
from jaxtwin.physics.base import readable, readable_names
from jaxtwin.training.loop import TrainingConfig

FEATURES = 48
PRESSURES = ("P_lv_max", "P_ao_mean")


@pytest.fixture(scope="module")
def draw():
    """Features with a few strong directions, as those of a trained network have."""
    mixing = np.random.default_rng(0).normal(size=(6, FEATURES))

    def draw(n, seed):
        random = np.random.default_rng(seed)
        strong = random.normal(size=(n, 6)) * np.array([10, 8, 6, 4, 2, 1])
        weak = 0.3 * random.normal(size=(n, FEATURES))
        return (3 + strong @ mixing + weak).astype(np.float32)

    return draw


@pytest.fixture(scope="module")
def familiarity(draw):
    return Familiarity.fit(draw(400, 1), draw(400, 2))


def share(familiarity, features):
    return float(np.mean(familiarity.recognises(jnp.asarray(features))))


def test_clips_like_those_of_training_are_recognised(familiarity, draw):
    assert share(familiarity, draw(1000, 3)) > 0.96
    distances = familiarity.distance(jnp.asarray(draw(1000, 3)))
    assert distances.dtype == jnp.float32 and np.median(distances) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x + 2,  # in a weak direction, and not by much
        lambda x: 3 + (x - 3) * 4,
        lambda x: np.random.default_rng(0).permuted(x, axis=1),
        lambda x: 0 * x,
        lambda x: x * np.nan,
    ],
    ids=["shifted", "spread", "scrambled", "empty", "nan"],
)
def test_other_clips_are_not(familiarity, draw, change):
    assert share(familiarity, change(draw(200, 3))) < 0.2


@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.99])
def test_the_threshold_is_a_quantile_of_the_held_out(draw, quantile):
    held_out = draw(400, 2)
    familiarity = Familiarity.fit(draw(400, 1), held_out, quantile=quantile)
    assert share(familiarity, held_out) == pytest.approx(quantile, abs=0.005)


def test_the_distance_is_mahalanobis(draw):
    """With every axis its own, the distance is that of the full covariance."""
    training, x = draw(400, 1), draw(5, 3)
    familiarity = Familiarity.fit(training, x, axes=FEATURES - 1)
    centred = x - training.mean(axis=0)
    inverse = np.linalg.inv(np.cov(training.T.astype(np.float64)))
    expected = np.einsum("ci,ij,cj->c", centred, inverse, centred) / FEATURES
    np.testing.assert_allclose(familiarity.distance(jnp.asarray(x)), expected, rtol=0.01)


def test_one_clip_is_like_a_batch_of_one(familiarity, draw):
    x = jnp.asarray(draw(3, 4))
    alone = jax.vmap(familiarity.distance)(x)
    np.testing.assert_allclose(alone, familiarity.distance(x), rtol=1e-5)


def test_few_clips(draw):
    """Fewer clips than features, and features that are the same for all."""
    familiarity = Familiarity.fit(draw(8, 1), draw(3, 2))
    assert np.count_nonzero(familiarity.axes.any(axis=1)) == 4
    blank = Familiarity.blank(FEATURES)  # The shapes do not depend on the number of clips.
    assert [x.shape for x in jax.tree.leaves(blank)] == [
        x.shape for x in jax.tree.leaves(familiarity)
    ]
    same = np.ones((8, FEATURES), np.float32)
    same[:, 0] = np.arange(8)
    familiarity = Familiarity.fit(same, same)
    assert share(familiarity, same) > 0.8 and share(familiarity, same + 1) == 0
    for training, held_out in ((3, 5), (8, 0)):
        with pytest.raises(ValueError, match=f"{training} training and {held_out} held-out"):
            Familiarity.fit(draw(training, 1), draw(held_out, 2))


# --- what two volumes say about a patient -----------------------------------------------------

CHANNELS = ("V_lv", "P_lv", "P_ao")


def linear_emulator(slopes):
    """An emulator that is linear in the place in the box: EDV/V_s, ESV/V_s, then the rest."""
    make = functools.partial(Emulator.create, LeftHeart(), SEVEN, CHANNELS, 4, width=1, depth=0)
    emulator = eqx.filter_eval_shape(make, key=jax.random.key(0))
    weight, bias = np.zeros((2, 18, 7), np.float32)
    bias[[0, 1], 0] = 0.4, 0.2  # EDV and ESV over V_s
    bias[6:, 0] = 1.0
    for (value, name), slope in slopes.items():
        weight[value, SEVEN.names.index(name)] = slope
    return eqx.tree_at(
        lambda e: (e.network.layers[0].weight, e.network.layers[0].bias, e.mean, e.spread),
        emulator,
        (*map(jnp.asarray, (weight, bias[:, 0], 0 * bias[:, 0], 0 * bias[:, 0] + 1)),),
    )


@pytest.fixture(scope="module")
def emulator():
    """ESV follows contractility; nothing follows the heart period."""
    return linear_emulator({(1, "E_max"): -0.1, (7, "E_max"): 0.5})


def volumes(emulator, **changes):
    values = {
        "T_c": 0.9,
        "V_0": 120,
        "E_max": 2.5,
        "E_min": 0.05,
        "R_m": 0.02,
        "R_a": 0.05,
    } | changes
    theta = np.array([values.get(name, 10) for name in SEVEN.names])
    EDV, ESV = eqx.filter_jit(emulator.read)(jnp.asarray(theta), ("EDV", "ESV"))
    return dict(zip(SEVEN.names, theta, strict=True)), float(EDV), float(ESV)


def agreeing(EDV, ESV, EDV_error, ESV_error):
    return {"EDV": (EDV, EDV_error), "ESV": (ESV, ESV_error)}


def test_a_period_that_is_measured_is_pinned_down(emulator):
    truth, EDV, ESV = volumes(emulator)
    measured = agreeing(EDV, ESV, 8.0, 6.0) | {"period": (truth["T_c"], 0.05)}
    found = compatible_patients(emulator, measured, about=PRESSURES, points=16_384)
    low, high = found.intervals["T_c"]
    assert truth["T_c"] - 0.05 <= low < high <= truth["T_c"] + 0.05
    systolic = float(emulator.read(jnp.array(list(truth.values())), ("systolic",))[0])
    alike = compatible_patients(
        emulator, {"EDV": (EDV, 8.0), "systolic": (systolic, 5.0)}, about=PRESSURES, points=16_384
    )
    assert alike.narrowing["P_ao_mean"] < 0.3


def test_the_truth_is_among_the_compatible(emulator):
    for E_max in (1.0, 2.0, 3.0):
        truth, EDV, ESV = volumes(emulator, E_max=E_max)
        found = compatible_patients(emulator, agreeing(EDV, ESV, 4.0, 3.0), points=16_384)
        assert found.drawn == 16_384 and 50 < found.points < 4_000
        for name, value in truth.items():
            low, high = found.intervals[name]
            assert low < value < high, name


def test_what_the_volumes_pin_down_and_what_they_leave_open(emulator):
    _, EDV, ESV = volumes(emulator)
    found = compatible_patients(
        emulator, agreeing(EDV, ESV, 4.0, 3.0), about=PRESSURES, points=65_536
    )
    assert set(found.narrowing) == {*SEVEN.names, "P_lv_max", "P_ao_mean"}
    assert found.narrowing["E_max"] < 0.5
    for name in ("T_c", "R_m", "R_a"):
        assert found.narrowing[name] == pytest.approx(1, abs=0.2)
    # Not a parameter, and yet known: the pressure of the filling that the volumes show.
    assert found.narrowing["P_ao_mean"] < 0.5

    better = compatible_patients(
        emulator, agreeing(EDV, ESV, 2.0, 1.0), about=PRESSURES, points=65_536
    )
    assert better.points < found.points
    assert better.narrowing["E_max"] < found.narrowing["E_max"]
    assert better.drawn == found.drawn


def test_compatible_patients_are_distributed_as_the_prior(emulator):
    """And those of one whom the prior hardly expects are still found."""
    _, EDV, ESV = volumes(emulator)
    half = np.asarray(SEVEN.low) + 0.5 * (np.asarray(SEVEN.high) - np.asarray(SEVEN.low))
    R_m = SEVEN.names.index("R_m")
    patients = SEVEN.sample(512, seed=3)
    patients = patients[patients[:, R_m] > half[R_m]]
    prior = NormalPrior.of(SEVEN, patients)
    measured = agreeing(EDV, ESV, 8.0, 6.0)
    found = compatible_patients(emulator, measured, prior=prior, points=16_384)
    anyone = compatible_patients(emulator, measured, points=16_384)
    assert found.intervals["R_m"][0] > anyone.intervals["R_m"][0] + 0.02
    nothing = compatible_patients(
        emulator, agreeing(150.0, 80.0, 1e4, 1e4), prior=prior, points=16_384
    )
    expected = np.quantile(prior.sample(SEVEN, 4_096, seed=9), (0.05, 0.95), axis=0).T
    for name, ends in zip(SEVEN.names, expected, strict=True):
        low, high = SEVEN.low[SEVEN.names.index(name)], SEVEN.high[SEVEN.names.index(name)]
        np.testing.assert_allclose(nothing.intervals[name], ends, atol=0.02 * (high - low))
    strict = NormalPrior(tuple([-6.0] * 7), tuple(map(tuple, 0.1 * np.eye(7))))
    assert compatible_patients(emulator, measured, prior=strict, points=16_384).points >= 10


def test_what_can_be_read_is_known_without_running_the_model(emulator):
    theta = jnp.asarray(SEVEN.sample(1, seed=0)[0])
    names = readable_names(LeftHeart(), lambda: emulator(theta))
    assert names == list(readable(LeftHeart(), emulator(theta)))
    assert "EF" in names and "P_la_mean" not in names


def test_a_measurement_that_says_nothing(emulator):
    found = compatible_patients(emulator, agreeing(150.0, 80.0, 1e4, 1e4), points=1024)
    assert found.points == 1024
    assert all(value == 1 for value in found.narrowing.values())


def test_seeds(emulator):
    _, EDV, ESV = volumes(emulator)
    found = [
        compatible_patients(emulator, agreeing(EDV, ESV, 9.0, 9.0), points=4096, seed=seed)
        for seed in (0, 0, 1)
    ]
    assert found[0] == found[1] != found[2]


def test_a_value_needs_an_error(emulator, as_a_user):
    with pytest.raises(ValueError, match=r"measured {'EF': 60.0}: .*\(60.0, 5.0\)"):
        compatible_patients(emulator, {"EF": 60.0})


def test_errors(emulator):
    for errors in ((0.0, 1.0), (1.0, 0.0), (-1.0, 1.0), (np.nan, 1.0)):
        with pytest.raises(ValueError, match="each with a positive error"):
            compatible_patients(emulator, agreeing(150.0, 80.0, errors[0], errors[1]))
    for EDV, ESV in ((900.0, 80.0), (np.nan, 80.0)):
        with pytest.raises(ValueError, match=r"only 0 of 16384 points"):
            compatible_patients(emulator, agreeing(EDV, ESV, 2.0, 2.0), points=1024)


@pytest.mark.slow
def test_the_left_heart(tmp_path):
    """Of a real heart, two volumes pin down the filling and leave the heart rate open."""
    cohort = draw_cohort(LeftHeart(), SEVEN, 2304, seed=1, phases=20)
    emulator = Emulator.create(LeftHeart(), SEVEN, CHANNELS, 20, key=jax.random.key(0))
    config = TrainingConfig(1500, 256, learning_rate=4e-3, evaluate_every=500)
    fitted = train_emulator(
        emulator, cohort.take(slice(2048)), cohort.take(slice(2048, None)), config,
        folder=tmp_path, seed=0, resume=False,
    )  # fmt: skip
    true = cohort.read(("EDV", "ESV"))
    inside = 0
    for i in range(2048, 2068):
        measured = agreeing(float(true["EDV"][i]), float(true["ESV"][i]), 8.0, 6.0)
        found = compatible_patients(fitted.model, measured)
        inside += sum(
            low <= value <= high
            for value, (low, high) in zip(cohort.theta[i], found.intervals.values(), strict=False)
        )
        assert found.narrowing["V_0"] < 0.9, found
        assert found.narrowing["R_m"] > 0.6, found
    assert inside > 0.8 * 20 * 7  # nine in ten are meant to be
