"""Intervals cover the mean as often as they say."""

import tracemalloc

import numpy as np
import pytest

from jaxtwin.analysis import metrics
from jaxtwin.analysis.metrics import mean_over_seeds, mean_with_interval


def test_intervals():
    """They hold the true mean as often as they say, and shrink as the square root."""
    random = np.random.default_rng(0)
    held = 0
    for seed in range(100):
        found = mean_with_interval(random.exponential(size=60), seed=seed)
        assert found.low < found.mean < found.high
        held += found.low <= 1 <= found.high
    assert 85 <= held <= 99
    few = mean_with_interval(random.normal(size=25))
    many = mean_with_interval(random.normal(size=2_500))
    assert 5 < (few.high - few.low) / (many.high - many.low) < 20


def test_intervals_of_very_many_are_those_of_the_bootstrap(monkeypatch):
    """Within the bootstrap's own noise, 3% of an interval's half; the mean is the same."""
    values = np.random.default_rng(3).exponential(size=5_000)
    bootstrap = mean_with_interval(values, seed=1)
    monkeypatch.setattr(metrics, "MANY", 4_999)
    normal = mean_with_interval(values, seed=1)
    half = (normal.high - normal.low) / 2
    assert normal.mean == bootstrap.mean and half > 0.02
    np.testing.assert_allclose(normal, bootstrap, rtol=0, atol=0.12 * half)


def test_resampling_takes_little_memory():
    """All 2,000 resamples of 20,000 at once would take 320 MB and more."""
    values = np.random.default_rng(3).normal(size=20_000)
    tracemalloc.start()
    mean_with_interval(values)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 150e6


@pytest.mark.parametrize(
    ("values", "mean"), [([2.0], 2), ([3.0, 3.0], 3), ([1.0, np.nan, 3.0], 2), ([np.nan], np.nan)]
)
def test_few_values(values, mean):
    found = mean_with_interval(np.array(values))
    np.testing.assert_equal(found.mean, mean)


@pytest.mark.parametrize("same_patients", [True, False])
def test_intervals_over_seeds_hold_the_spread_of_both(same_patients):
    """Seeds that agree leave the patients' spread; seeds that do not add their own."""
    random = np.random.default_rng(1)
    patients = random.normal(5, 1, size=(4, 50))
    if same_patients:
        patients = np.repeat(patients[:1], 4, axis=0)
    apart = patients + np.array([-2.0, -1.0, 1.0, 2.0])[:, None]

    def width(values):
        found = mean_over_seeds(list(values), same_patients=same_patients)
        np.testing.assert_allclose(found.mean, np.mean(values))
        assert found.low < found.mean < found.high
        return found.high - found.low

    # 2 · 1.96/√n, of 50 patients who are the same in all seeds, or 200; and of 4 seeds, ±1.58.
    alike = 3.92 / np.sqrt(50 if same_patients else 200)
    np.testing.assert_allclose(width(patients), alike, rtol=0.25)
    np.testing.assert_allclose(width(apart), 3.92 * 1.58 / 2, rtol=0.25)
    one = mean_over_seeds([patients[0]], same_patients=same_patients)
    plain = mean_with_interval(patients[0])
    np.testing.assert_allclose(one, plain, rtol=0.03)


def test_who_has_no_answer_is_left_out_of_the_mean_over_seeds():
    values = [np.array([1.0, np.nan, 3.0]), np.array([np.nan, 4.0, 4.0])]
    assert mean_over_seeds(values, same_patients=True).mean == 3
    assert np.isnan(mean_over_seeds([np.full(3, np.nan)], same_patients=False).mean)
    with pytest.raises(ValueError, match="expected the same ones"):
        mean_over_seeds([np.ones(2), np.ones(3)], same_patients=True)
