"""Reliability of probabilities against closed forms."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import brier_score_loss

from jaxtwin.analysis.reliability import (
    event_probability,
    reliability,
    shift_prevalence,
    wilson,
)


def within(found):
    filled = found.patients > 0
    inside = (found.low <= found.predicted) & (found.predicted <= found.high)
    return inside[filled].mean()


def test_calibrated_probabilities_lie_on_the_diagonal_and_overconfident_ones_do_not():
    random = np.random.default_rng(0)
    p = random.uniform(size=20_000)
    happened = random.uniform(size=20_000) < p
    found = reliability(p, happened, level=0.999)
    assert within(found) == 1 and found.without == 0 and found.patients.sum() == 20_000
    # Of a uniform probability: E[p (1 − p)] = 1/6; of everybody's share: 1/4.
    assert found.brier == pytest.approx(1 / 6, abs=0.004)
    assert found.brier_of_share == pytest.approx(1 / 4, abs=0.001)
    assert found.calibration_error < 0.012
    # The odds squared: as sure as from measuring twice what was measured once.
    sure = p**2 / (p**2 + (1 - p) ** 2)
    over = reliability(sure, happened, level=0.999)
    assert within(over) < 0.5
    assert over.brier > found.brier and over.calibration_error > 0.05


def test_a_small_case_by_hand():
    p = np.array([0.05, 0.15, 0.18, 0.9, 1.0, np.nan])
    happened = np.array([False, False, True, True, True, True])
    found = reliability(p, happened)
    np.testing.assert_array_equal(found.patients, [1, 2, 0, 0, 0, 0, 0, 0, 0, 2])
    empty = found.patients == 0
    for column in (found.predicted, found.observed, found.low, found.high):
        assert np.isnan(column[empty]).all() and np.isfinite(column[~empty]).all()
    np.testing.assert_allclose(found.predicted[~empty], [0.05, 0.165, 0.95])
    np.testing.assert_allclose(found.observed[~empty], [0.0, 0.5, 1.0])
    assert found.calibration_error == pytest.approx((0.05 + 2 * 0.335 + 2 * 0.05) / 5)
    assert found.brier == pytest.approx(brier_score_loss(happened[:5], p[:5]))
    assert found.share == 0.6 and found.mean == pytest.approx(0.456) and found.without == 1
    assert found.brier_of_share == pytest.approx(0.24)


def test_wilson_is_that_of_scipy():
    events, count = np.array([0, 3, 10]), np.array([10, 10, 10])
    low, high = wilson(events, count)
    for k, n, a, b in zip(events, count, low, high, strict=True):
        told = stats.binomtest(k, n).proportion_ci(method="wilson")
        np.testing.assert_allclose((a, b), (told.low, told.high), atol=1e-12)


def test_another_prevalence_is_bayes_rule():
    """Two normal distributions: probabilities for one prevalence become those for another."""
    random = np.random.default_rng(1)
    x = random.normal(size=500)

    def posterior(prevalence):
        ill, well = stats.norm.pdf(x, 1.5) * prevalence, stats.norm.pdf(x) * (1 - prevalence)
        return ill / (ill + well)

    np.testing.assert_allclose(shift_prevalence(posterior(0.9), 0.9, 0.1), posterior(0.1))
    np.testing.assert_allclose(shift_prevalence(posterior(0.3), 0.3, 0.3), posterior(0.3))
    some = shift_prevalence(np.array([0.0, np.nan, 1.0]), 0.9, 0.1)
    np.testing.assert_array_equal(some, [0.0, np.nan, 1.0])
    with pytest.raises(ValueError, match=r"prevalences 1 and 0\.1"):
        shift_prevalence(np.array([0.5]), 1.0, 0.1)


def test_draws_make_nothing_certain_and_a_failed_patient_has_no_probability():
    happens = np.array([[True] * 9, [False] * 9, [True] * 3 + [False] * 6, [True] * 9])
    found = event_probability(happens, np.array([True, True, True, False]))
    np.testing.assert_allclose(found, [0.95, 0.05, 0.35, np.nan])


def test_what_is_no_probability_is_refused():
    with pytest.raises(ValueError, match=r"1 probabilities outside \[0, 1\], the first 1.2"):
        reliability(np.array([0.5, 1.2]), np.array([True, False]))
    with pytest.raises(ValueError, match="no patient has a probability"):
        reliability(np.array([np.nan]), np.array([True]))
