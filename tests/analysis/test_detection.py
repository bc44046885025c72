"""Scores of disease detection against closed forms."""

import numpy as np
import pytest
from scipy import stats

from jaxtwin.analysis import detection
from jaxtwin.analysis.detection import (
    FEWEST,
    auroc,
    auroc_difference,
    memberships,
    outlyingness,
    probabilities,
)


def test_the_area_is_that_of_two_normal_distributions():
    random = np.random.default_rng(0)
    ill = np.arange(600) < 200
    score = random.normal(size=600) + 1.2 * ill
    found = auroc(score[None], ill)
    # Of two normal distributions a shift apart: Φ(shift/√2).
    np.testing.assert_allclose(found.mean, stats.norm.cdf(1.2 / np.sqrt(2)), atol=0.03)
    assert found.low < found.mean < found.high and found.high - found.low < 0.12
    np.testing.assert_allclose(auroc(-score[None], ill).mean, 1 - found.mean)
    # As SciPy counts it.
    counted = stats.mannwhitneyu(score[ill], score[~ill]).statistic / (200 * 400)
    assert found.mean == pytest.approx(counted)


def test_extremes_ties_and_what_cannot_be_scored():
    ill = np.array([True, True, False, False, False])
    found = auroc(np.array([[3.0, 4.0, 1.0, 2.0, 2.5]]), ill)
    # Of two ill patients nobody can say how sure that is.
    assert found.mean == 1 and np.isnan(found.low) and np.isnan(found.high)
    assert auroc(np.ones((1, 5)), ill).mean == 0.5
    assert auroc(np.array([[3.0, 1.5, 1.0, 2.0, 1.5]]), ill).mean == pytest.approx(4.5 / 6)
    with pytest.raises(ValueError, match="0 ill patients and 5 others"):
        auroc(np.ones((1, 5)), np.zeros(5, bool))
    with pytest.raises(ValueError, match="1 scores not finite"):
        auroc(np.array([[3.0, np.nan, 1.0, 2.0, 4.0]]), ill)


def test_differences_are_paired():
    """A score and the same with a little noise: their areas are alike, whatever the patients."""
    random = np.random.default_rng(6)
    ill = np.arange(200) < 60
    good = random.normal(size=200) + ill
    noisy = good + 0.1 * random.normal(size=200)
    found = auroc_difference(good[None], noisy[None], ill)
    one, other = auroc(good[None], ill), auroc(noisy[None], ill)
    assert found.mean == pytest.approx(one.mean - other.mean)
    assert found.high - found.low < 0.3 * (one.high - one.low)
    worse = auroc_difference(random.normal(size=(2, 200)), good[None], ill)
    assert worse.high < 0


def test_seeds_are_averaged_and_widen_the_interval():
    random = np.random.default_rng(3)
    ill = np.arange(400) < 200
    good, bad = random.normal(size=400) + 2 * ill, random.normal(size=400)
    both = auroc(np.stack([good, bad]), ill)
    alone = [auroc(score[None], ill) for score in (good, bad)]
    assert both.mean == pytest.approx((alone[0].mean + alone[1].mean) / 2)
    assert both.low < alone[1].high and both.high > alone[0].low


def test_intervals_hold_the_truth_as_often_as_they_say():
    random = np.random.default_rng(1)
    truth = stats.norm.cdf(1 / np.sqrt(2))
    held = 0
    for seed in range(40):
        ill = np.arange(120) < 40
        score = random.normal(size=(1, 120)) + ill
        found = auroc(score, ill, seed=seed)
        held += found.low <= truth <= found.high
    assert 34 <= held <= 40


def test_with_few_ill_the_bootstrap_knows_too_little():
    """Why intervals are not given below ten ill patients."""
    random = np.random.default_rng(7)
    truth = stats.norm.cdf(1 / np.sqrt(2))
    held = {}
    for n in (5, 10):
        ill = np.arange(100 + n) < n
        inside = 0
        for seed in range(200):
            _, drawn = detection._areas((random.normal(size=100 + n) + ill)[None], ill, 300, seed)
            low, high = np.quantile(drawn, [0.025, 0.975])
            inside += low <= truth <= high
        held[n] = inside / 200
    assert held[5] < 0.9 and held[5] < held[10] < 0.95
    few = np.arange(60) < FEWEST - 1
    assert np.isnan(auroc(random.normal(size=(1, 60)), few).low)


def test_outliers_do_not_hide_themselves():
    """A third of the patients lies elsewhere: they count as far away, and the bulk as near."""
    random = np.random.default_rng(2)
    mix = np.array([[1.0, 0.0, 0.0], [0.9, 0.3, 0.0], [0.0, 0.0, 5.0]])
    bulk = random.normal(size=(200, 3)) @ mix.T
    far = random.normal(size=(100, 3)) @ mix.T + np.array([3.0, -3.0, 0.0])
    everybody = np.concatenate([bulk, far])
    ill = np.arange(300) >= 200
    assert auroc(outlyingness(everybody, everybody)[None], ill).mean > 0.99
    # Without contamination the squared distance is near χ² of three degrees of freedom.
    clean = outlyingness(bulk, bulk)
    np.testing.assert_allclose(np.median(clean**2), stats.chi2.median(3), rtol=0.15)
    # Another unit changes nothing.
    unit = np.array([1.0, 10.0, 0.1])
    np.testing.assert_allclose(outlyingness(bulk * unit, bulk * unit), clean, rtol=1e-4)
    with pytest.raises(ValueError, match="at least 10 patients"):
        outlyingness(bulk, bulk[:8])


def test_groups_are_found_without_diagnoses():
    random = np.random.default_rng(4)
    group = random.integers(3, size=300)
    values = random.normal(size=(300, 2)) + 8 * np.array([[0, 0], [1, 0], [0, 1]])[group]
    likely = memberships(values[200:], values[:200])
    assert likely.shape == (100, 3)
    np.testing.assert_allclose(likely.sum(axis=1), 1)
    found = likely.argmax(axis=1)
    assert {len(set(found[group[200:] == k])) for k in range(3)} == {1} and len(set(found)) == 3
    one = random.normal(size=(300, 2))
    assert memberships(one, one).shape == (300, 1)
    with pytest.raises(ValueError, match="at least 32 patients"):
        memberships(values, values[:31])


def test_a_classifier_that_was_told_finds_what_a_square_shows():
    random = np.random.default_rng(5)
    values = random.normal(size=(600, 2))
    diagnosis = np.where(np.abs(values[:, 0]) > 1.2, "ill", "well")
    found = probabilities(values[400:], values[:400], diagnosis[:400].tolist())
    assert set(found) == {"ill", "well"}
    ill = diagnosis[400:] == "ill"
    assert auroc(found["ill"][None], ill).mean > 0.97
    # Of many columns that say nothing, few patients and one that says something.
    wide = random.normal(size=(300, 200))
    wide[:, 7] += 3 * (diagnosis[:300] == "ill")
    found = probabilities(wide[200:], wide[:200], diagnosis[:200].tolist())
    assert auroc(found["ill"][None], diagnosis[200:300] == "ill").mean > 0.85
    # A diagnosis of a single patient is no reason to fail.
    rare = ["rare", *diagnosis[1:400]]
    assert set(probabilities(values[400:], values[:400], rare)) == {"rare", "ill", "well"}
    with pytest.raises(ValueError, match="expected at least two"):
        probabilities(values, values[:3], ["well"] * 3)
