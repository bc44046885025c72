"""Scores of disease against closed forms."""

import numpy as np
import pytest
from scipy import stats

from jaxtwin.analysis.detection import auroc, outlyingness


def test_the_area_is_that_of_two_normal_distributions():
    random = np.random.default_rng(0)
    ill = np.arange(600) < 200
    score = random.normal(size=600) + 1.2 * ill
    found = auroc(score, ill, resamples=500)
    # Of two normal distributions a shift apart: Φ(shift/√2).
    np.testing.assert_allclose(found.mean, stats.norm.cdf(1.2 / np.sqrt(2)), atol=0.03)
    assert found.low < found.mean < found.high and found.high - found.low < 0.12
    np.testing.assert_allclose(auroc(-score, ill, resamples=10).mean, 1 - found.mean)


def test_extremes_ties_and_missing_scores():
    ill = np.array([True, True, False, False, False])
    assert auroc(np.array([3.0, 4.0, 1.0, 2.0, 2.5]), ill, resamples=10) == (1, 1, 1)
    assert auroc(np.ones(5), ill, resamples=10).mean == 0.5
    assert auroc(np.array([3.0, np.nan, 1.0, 2.0, 4.0]), ill, resamples=10).mean == 2 / 3
    with pytest.raises(ValueError, match="0 ill patients and 5 others"):
        auroc(np.ones(5), np.zeros(5, bool))


def test_intervals_hold_the_truth_as_often_as_they_say():
    random = np.random.default_rng(1)
    truth = stats.norm.cdf(1 / np.sqrt(2))
    held = 0
    for seed in range(40):
        ill = np.arange(120) < 40
        score = random.normal(size=120) + ill
        found = auroc(score, ill, resamples=200, seed=seed)
        held += found.low <= truth <= found.high
    assert 34 <= held <= 40


def test_outliers_do_not_hide_themselves():
    """A third of the patients lies elsewhere: they count as far away, and the bulk as near."""
    random = np.random.default_rng(2)
    mix = np.array([[1.0, 0.0, 0.0], [0.9, 0.3, 0.0], [0.0, 0.0, 5.0]])
    bulk = random.normal(size=(200, 3)) @ mix.T
    far = random.normal(size=(100, 3)) @ mix.T + np.array([3.0, -3.0, 0.0])
    distance = outlyingness(np.concatenate([bulk, far]))
    ill = np.arange(300) >= 200
    assert auroc(distance, ill, resamples=10).mean > 0.99
    # Without contamination the squared distance is near χ² of three degrees of freedom.
    clean = outlyingness(bulk, share=0.99)
    np.testing.assert_allclose(np.median(clean**2), stats.chi2.median(3), rtol=0.15)
    # Another unit changes nothing.
    np.testing.assert_allclose(outlyingness(bulk * [1.0, 10.0, 0.1]), outlyingness(bulk), rtol=1e-4)


def test_too_few_patients_are_refused():
    with pytest.raises(ValueError, match="at least 10 patients"):
        outlyingness(np.ones((8, 3)))
