"""Cohorts drawn from a population have its quantiles and correlations; closed forms of the tank."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm, spearmanr

from jaxtwin.cohorts.clinic import ECHO_LABORATORY
from jaxtwin.cohorts.population import (
    Marginal,
    Population,
    _tilted,
    _without_replacement,
    compare_population,
    draw_population,
)
from jaxtwin.models.left_heart import NINE, LeftHeart
from tests.cohorts.tank import LEAKING, Tank, assert_equal

EDV = Marginal({0: 120.0, 0.5: 150.0, 0.9: 170.0, 1: 220.0}, "made up")
PERIOD = Marginal({0: 0.5, 0.25: 0.9, 0.75: 1.1, 1: 2.0}, "made up")
"""The tank's EDV is V_d + 100 and up to 50, by the leak; its period is a parameter."""

CLINIC = Population("tanks", {"EDV": EDV, "period": PERIOD}, {("EDV", "period"): -0.5})


def draw(n=400, seed=0, **options):
    return draw_population(
        Tank(), LEAKING, CLINIC, n, **{"seed": seed, "points": 4096, "phases": 8} | options
    )


def test_quantiles_and_rank_correlation_are_the_clinics():
    cohort = draw()
    assert len(cohort) == 400 and cohort.success.all() and cohort.source == "tanks"
    found = compare_population(CLINIC, cohort, [0.5, 0.9])
    np.testing.assert_allclose(found["EDV"]["clinic"], [150, 170])
    # The standard error of these quantiles is about 1 mL and 2 mL.
    np.testing.assert_allclose(found["EDV"]["cohort"], [150, 170], atol=5)
    found = compare_population(CLINIC, cohort, [0.25, 0.75])
    np.testing.assert_allclose(found["period"]["clinic"], [0.9, 1.1])
    np.testing.assert_allclose(found["period"]["cohort"], [0.9, 1.1], atol=0.05)
    values = cohort.read(["EDV", "period"])
    assert spearmanr(values["EDV"], values["period"]).statistic == pytest.approx(-0.5, abs=0.1)
    assert cohort.within(CLINIC.limits).all()


def test_what_the_clinic_does_not_tell_stays_as_the_box_has_it():
    free = Population("periods", {"period": PERIOD})
    cohort = draw_population(Tank(), LEAKING, free, 400, seed=1, points=4096, phases=8)
    V_d = cohort.theta[:, LEAKING.names.index("V_d")]
    # Uniform on (0, 100); the standard error of a quartile is 2.
    np.testing.assert_allclose(np.quantile(V_d, [0.25, 0.5, 0.75]), [25, 50, 75], atol=8)


def test_draws_are_reproducible_and_no_patient_comes_twice():
    cohort = draw()
    assert_equal(draw(), cohort)
    assert len(np.unique(cohort.theta, axis=0)) == len(cohort)
    assert not np.array_equal(draw(seed=1).theta, cohort.theta)


def test_one_free_parameter():
    box = dataclasses.replace(LEAKING, names=("T",), low=(0.5,), high=(2.0,))
    free = Population("periods", {"period": PERIOD})
    cohort = draw_population(Tank(), box, free, 50, seed=1, points=4096, phases=8)
    assert np.median(cohort.theta) == pytest.approx(1.0, abs=0.1)


def test_too_few_points_are_named():
    with pytest.warns(UserWarning, match=r"400 patients of tanks from 512 points .* points=\d+"):
        draw(points=512)
    far = Population("far", {"EDV": Marginal({0: 900.0, 1: 1000.0}, "made up")})
    with pytest.raises(ValueError, match=r"only 0 of 256 points .* limits of far"):
        draw_population(Tank(), LEAKING, far, 9, seed=0, points=256, phases=8)
    with pytest.raises(ValueError, match="no reading"):
        draw_population(
            Tank(), LEAKING, Population("x", {"shoe_size": EDV}), 9, seed=0, points=256, phases=8
        )


def test_ranks_are_interpolated_by_normal_scores():
    z = norm.ppf([0.1, 0.5, 0.8])
    known = dict(zip([0.1, 0.5, 0.8], 100 + 10 * z, strict=True))
    normal = Marginal({0: 50.0, **known, 1: 150.0}, "made up")
    np.testing.assert_allclose(normal.rank(100 + 10 * z), [0.1, 0.5, 0.8], atol=1e-4)
    np.testing.assert_allclose(
        normal.quantile([0.3, 0.6]), 100 + 10 * norm.ppf([0.3, 0.6]), atol=0.3
    )
    assert normal.rank(np.array([0.0])) < 1e-3 and normal.rank(np.array([200.0])) > 1 - 1e-3


@pytest.mark.parametrize(
    ("marginals", "correlations", "message"),
    [
        ({"EDV": Marginal({0: 1.0, 0.5: 3.0, 1: 2.0}, "")}, {}, "increasing values"),
        ({"EDV": Marginal({0.1: 1.0, 1: 2.0}, "")}, {}, "the first of 0"),
        ({"EDV": Marginal({}, "")}, {}, "the first of 0"),
        ({"EDV": EDV}, {("EDV", "EF"): 0.5}, "two of EDV"),
        ({"EDV": EDV}, {("EDV", "EDV"): 0.5}, "two of EDV"),
        ({"EDV": EDV, "period": PERIOD}, {("EDV", "period"): 1.5}, "between -1 and 1"),
    ],
)
def test_a_population_refuses(marginals, correlations, message):
    with pytest.raises(ValueError, match=message):
        Population("wrong", marginals, correlations)


def test_tilting_has_a_closed_form():
    # One indicator: the weights of both bins are scaled to the means prescribed.
    below = np.repeat([1.0, 0.0], [30, 10])
    weights = _tilted(below[:, None], np.array([0.2]), np.zeros(40))
    # λ = log(0.2/0.8 · 10/30) = −2.5, and the slack moves the mean by 1e-4 λ.
    np.testing.assert_allclose(weights @ below, 0.2 + 2.5e-4, atol=2e-5)
    np.testing.assert_allclose(weights[:30], weights[0])


def test_sampling_without_replacement_has_the_weights_as_its_odds():
    weights = np.array([0.4, 0.3, 0.2, 0.1])
    random = np.random.default_rng(0)
    drawn = np.array([_without_replacement(weights, 2, random) for _ in range(4_000)])
    assert all(len(set(pair)) == 2 for pair in drawn)
    odds = np.bincount(drawn.ravel(), minlength=4) / len(drawn)
    np.testing.assert_allclose(odds, 2 * weights, atol=0.03)
    # A patient of more than 1/n comes once, and the others share the rest.
    drawn = np.array([_without_replacement(np.array([0.8, 0.15, 0.05]), 2, random) for _ in odds])
    assert (drawn == 0).any(axis=1).all()


@pytest.mark.slow
def test_the_echo_laboratory_is_in_reach_of_the_nine_parameter_box():
    # Small, as tests are; the experiment `population` measures it with as many as a study has.
    cohort = draw_population(LeftHeart(), NINE, ECHO_LABORATORY, 200, seed=0, phases=40)
    found = compare_population(ECHO_LABORATORY, cohort, [0.05, 0.5, 0.95])
    # Of 200 patients: the standard error of the median EDV is 4 mL, of EF 0.9 points.
    np.testing.assert_allclose(found["EDV"]["cohort"][1], 82, atol=10)
    np.testing.assert_allclose(found["EF"]["cohort"][1], 59.2, atol=3)
    np.testing.assert_allclose(found["systolic"]["cohort"][1], 132.2, atol=6)
    assert 30 < found["EDV"]["cohort"][0] < 50 and 140 < found["EDV"]["cohort"][2] < 230
    assert NINE.contains(jnp.asarray(cohort.theta)).all()
    ranks = cohort.read(["EDV", "EF"])
    assert spearmanr(ranks["EDV"], ranks["EF"]).statistic == pytest.approx(-0.42, abs=0.15)
