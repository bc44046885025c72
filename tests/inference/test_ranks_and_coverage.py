"""Checks of calibration, on distributions whose truth is known."""

import numpy as np
import pytest
from scipy.stats import differential_entropy, norm

from jaxtwin.analysis.information import _entropy, information_bits
from jaxtwin.inference import c2st, calibrate, crps, ranks, tarp

RANDOM = np.random.default_rng(0)
TRUTH = RANDOM.normal(size=2_000)
SEEN = TRUTH + 0.5 * RANDOM.normal(size=2_000)
MIDDLE, SPREAD = 0.8 * SEEN, np.sqrt(0.2)
BEFORE = RANDOM.normal(size=8_192)


def posterior(spread=SPREAD, shift=0.0):
    noise = np.random.default_rng(1).normal(size=(len(TRUTH), 400))
    return (MIDDLE + shift)[:, None] + spread * noise


def test_a_right_posterior_is_calibrated():
    found = calibrate(posterior(), TRUTH, BEFORE)
    assert abs(found.coverage90 - 0.9) < 0.02
    assert found.rank_test_p > 0.01
    np.testing.assert_allclose(found.coverage, np.arange(0.05, 1, 0.05), atol=0.035)
    assert abs(found.width90 - 2 * 1.645 * SPREAD) < 0.03
    assert abs(found.narrowing90 - SPREAD) < 0.02
    # The expected score of a normal distribution: 2σ φ(0) − σ/√π, over its own truth, is σ/√π.
    assert abs(found.crps - SPREAD / np.sqrt(np.pi)) < 0.01


@pytest.mark.parametrize("change", [{"spread": 0.7 * SPREAD}, {"shift": 0.15}])
def test_a_wrong_posterior_is_not(change):
    found = calibrate(posterior(**change), TRUTH, BEFORE)
    assert found.rank_test_p < 1e-4
    assert found.crps > calibrate(posterior(), TRUTH, BEFORE).crps


def test_ranks_of_equal_draws_are_uniform():
    """As of a reading that takes few values."""
    values = RANDOM.integers(3, size=(2_000, 50)).astype(float)
    truth = RANDOM.integers(3, size=2_000).astype(float)
    rank = ranks(values, truth)
    assert (ranks(values, truth * (1 + 1e-7)) == rank).all()
    assert abs(rank.mean() - 0.5) < 0.02 and abs(rank.std() - np.sqrt(1 / 12)) < 0.02


def test_crps_of_one_number_is_its_error():
    np.testing.assert_allclose(crps(np.full((3, 10), 2.0), np.array([2.0, 3.0, 0.5])), [0, 1, 1.5])


def test_tarp_tells_right_from_wrong():
    other = RANDOM.normal(size=len(TRUTH))
    truth = np.stack([TRUTH, other], axis=-1)
    second = RANDOM.normal(size=(len(TRUTH), 400))
    right = tarp(np.stack([posterior(), second], axis=-1), truth)
    assert right.p > 0.01 and np.abs(right.coverage - right.level).max() < 0.05
    wrong = tarp(np.stack([posterior(spread=0.5 * SPREAD), 0.5 * second], axis=-1), truth)
    assert wrong.p < 1e-4


@pytest.mark.parametrize("spread", [1.0, 0.5, 0.1])
def test_information_of_a_normal_distribution(spread):
    draws = 0.3 + spread * RANDOM.normal(size=2_000)
    exact = (-np.log(spread) + 0.5 * (spread**2 + 0.3**2 - 1)) / np.log(2)
    assert abs(information_bits(draws, BEFORE) - exact) < 0.12


def test_halving_a_range_is_a_bit_whatever_the_unit():
    before, draws = RANDOM.random(8_192), 0.5 * RANDOM.random(2_000)
    assert abs(information_bits(draws, before) - 1) < 0.08
    assert abs(information_bits(draws**3, before**3) - 1) < 0.08
    assert information_bits(np.full(50, 2.0), np.full(50, 2.0)) == 0


@pytest.mark.parametrize("n", [10, 57, 800])
def test_the_entropy_is_that_of_scipy(n):
    draws = np.random.default_rng(n).normal(size=n)
    expected = differential_entropy(draws, method="ebrahimi")
    np.testing.assert_allclose(_entropy(np.sort(draws)), expected, rtol=1e-12)


def test_information_of_a_number_with_few_values():
    before = RANDOM.integers(8, size=8_192).astype(float)
    assert information_bits(RANDOM.integers(8, size=2_000).astype(float), before) < 0.1
    assert abs(information_bits(np.full(2_000, 3.0), before) - 3) < 0.15


def test_a_classifier_tells_distributions_apart():
    random = np.random.default_rng(0)
    first, same = random.normal(size=(2, 400, 2))
    assert c2st(first, same) == pytest.approx(0.5, abs=0.06)
    # Of two normal distributions at a distance d, the best classifier is right in Φ(d/2).
    assert c2st(first, same + np.array([2.0, 0.0])) == pytest.approx(norm.cdf(1.0), abs=0.06)
    assert c2st(first, same + 10) == pytest.approx(1, abs=0.01)
    with pytest.raises(ValueError, match="5 and 400 draws: expected at least ten"):
        c2st(first[:5], same)


def test_errors():
    with pytest.raises(ValueError, match="at least two draws"):
        calibrate(np.zeros((3, 1)), np.zeros(3), BEFORE)
    with pytest.raises(ValueError, match="not finite"):
        calibrate(np.full((3, 9), np.nan), np.zeros(3), BEFORE)
    with pytest.raises(ValueError, match="not finite"):
        information_bits(np.full(50, np.inf), BEFORE)
    with pytest.raises(ValueError, match="expected 10"):
        information_bits(np.zeros(3), BEFORE)
