"""Costs of decisions against small cases by hand, and their limits."""

import numpy as np
import pytest

from jaxtwin.analysis.decisions import (
    cheapest_threshold,
    decision_costs,
    net_benefit,
    treatment_threshold,
)


def test_costs_by_hand():
    ill = np.array([True, True, False, False, False])
    treated = np.array([True, False, True, False, False])
    np.testing.assert_array_equal(decision_costs(treated, ill, 5.0), [0, 5, 1, 0, 0])
    assert treatment_threshold(4.0) == 0.2
    with pytest.raises(ValueError, match=r"k=0\.0: expected the positive cost"):
        treatment_threshold(0.0)


def test_treating_all_or_none_costs_what_the_prevalence_says():
    ill = np.arange(100) < 30
    for k in (0.5, 1.0, 20.0):
        assert decision_costs(np.ones(100, bool), ill, k).mean() == pytest.approx(0.7)
        assert decision_costs(np.zeros(100, bool), ill, k).mean() == pytest.approx(0.3 * k)


def test_true_probabilities_are_the_cheapest():
    """Against every other threshold on the same probabilities."""
    random = np.random.default_rng(0)
    p = random.beta(0.5, 1.5, 50_000)
    ill = random.uniform(size=50_000) < p
    for k in (1.0, 5.0, 20.0):
        best = decision_costs(p > treatment_threshold(k), ill, k).mean()
        assert best == pytest.approx(np.minimum(1 - p, k * p).mean(), rel=0.03)
        # Chosen on the same patients, a threshold may be cheaper by chance, but hardly.
        chosen = cheapest_threshold(p, ill, k)
        assert decision_costs(p > chosen, ill, k).mean() <= best + 1e-12
        assert chosen == pytest.approx(treatment_threshold(k), abs=0.1)
        for off in (0.4, 2.5):
            worse = decision_costs(p > off * treatment_threshold(k), ill, k).mean()
            assert worse > 1.02 * best


def test_the_cheapest_threshold_by_hand():
    scores = np.array([1.0, 2.0, 3.0, 4.0])
    assert cheapest_threshold(scores, np.array([False, False, True, True]), 3.0) == 2.5
    # One ill patient below a healthy one: missed if cheap, else the healthy one is treated.
    mixed = np.array([False, True, False, True])
    assert cheapest_threshold(scores, mixed, 5.0) == 1.5
    assert cheapest_threshold(scores, mixed, 0.5) == 3.5
    assert cheapest_threshold(scores, np.ones(4, bool), 1.0) < 1
    assert cheapest_threshold(scores, np.zeros(4, bool), 1.0) == np.inf
    # Equal scores are not separated.
    assert cheapest_threshold(np.ones(3), np.array([True, False, False]), 1.0) == np.inf
    assert cheapest_threshold(np.ones(3), np.array([True, False, False]), 3.0) == -np.inf
    with pytest.raises(ValueError, match="1 of them not finite"):
        cheapest_threshold(np.array([1.0, np.nan]), np.array([True, False]), 1.0)


def test_net_benefit_is_prevalence_less_cost():
    random = np.random.default_rng(1)
    chance, ill = random.uniform(size=400), random.uniform(size=400) < 0.2
    for k in (1.0, 5.0, 20.0):
        t = treatment_threshold(k)
        cost = decision_costs(chance > t, ill, k).mean()
        found = net_benefit((chance > t)[:, None], ill, np.array([t]))
        np.testing.assert_allclose(found, ill.mean() - cost / k)
    t = np.array([0.0, 0.1, 0.5])
    everybody = net_benefit(np.ones((400, 3), bool), ill, t)
    np.testing.assert_allclose(everybody, ill.mean() - (1 - ill.mean()) * t / (1 - t))
    np.testing.assert_array_equal(net_benefit(np.zeros((400, 3), bool), ill, t), [0, 0, 0])
    # Who knows everything has the prevalence.
    np.testing.assert_allclose(net_benefit(np.tile(ill[:, None], 3), ill, t), [ill.mean()] * 3)
    with pytest.raises(ValueError, match="below 1"):
        net_benefit(np.ones((400, 1), bool), ill, np.array([1.0]))
