"""Trials of posteriors: exact for known patients, right for two hypotheses, nobody is lost."""

import dataclasses

import numpy as np
import pytest

from jaxtwin.analysis.metrics import mean_over_draws, mean_with_interval
from jaxtwin.cohorts.simulate import simulate_cohort
from jaxtwin.methods.posterior import Posterior
from jaxtwin.models.windkessel import Windkessel, WindkesselParameters
from jaxtwin.parameters import Box
from jaxtwin.physics.solution import Event
from jaxtwin.treatments import (
    AbstractIntervention,
    Drug,
    Nothing,
    change,
    run_posterior_trial,
    run_trial,
)

BOX = Box.of(WindkesselParameters, ("SV", "R"))
T_c, Z = 0.9, 0.05


class Fragile(Windkessel):
    """A circulation that does not survive high pressures."""

    def feasible(self, recording):
        return recording.maximum.P_ao < 180


class SetResistance(AbstractIntervention):
    """R becomes 1.5."""

    def __call__(self, system, p):
        return system, change(p, R=1.5)


ARMS = {"control": Nothing(), "set": SetResistance(), "drug": Drug({"R": -0.2})}
HIGH = {"high": Event("P_ao_mean", -np.inf, 100.0)}


def posterior_of(theta, success=None, system=None):
    theta = np.asarray(theta, np.float32)
    success = np.ones(len(theta), bool) if success is None else np.asarray(success)
    return Posterior(system or Windkessel(), BOX, theta, success)


def level(endpoints):
    return np.where(endpoints["P_ao_mean"] > 90, "high", "low").tolist()


def test_patients_whose_draws_are_equal_are_those_of_a_plain_trial():
    cohort = simulate_cohort(Windkessel(), BOX, BOX.sample(12, seed=1))
    plain = run_trial(cohort, ARMS, safety=HIGH)
    trial = run_posterior_trial(
        posterior_of(np.repeat(cohort.theta[:, None], 7, axis=1)), ARMS, safety=HIGH
    )
    for name, values in plain.values.items():
        assert trial.values[name].shape == (3, 12, 7)
        for draw in range(7):
            np.testing.assert_array_equal(trial.values[name][..., draw], values)
    for of_plain, of_draws in zip(
        plain.effects("P_ao_mean", control="control", by=level, seed=3),
        trial.effects("P_ao_mean", control="control", by=level, seed=3),
        strict=True,
    ):
        assert of_plain[:5] == of_draws[:5] and of_draws.failed_draws == 0
        np.testing.assert_allclose(of_draws.difference, of_plain.difference, rtol=1e-5)
        np.testing.assert_allclose(of_draws[5:7], of_plain[5:7], rtol=1e-5)
        np.testing.assert_allclose(of_draws.standardised, of_plain.standardised, rtol=1e-4)
    for arm, events in plain.events().items():
        found = trial.event_probabilities()[arm]
        assert {name: p.sum() for name, p in found.items()} == events
    each = trial.patient_effects("P_ao_mean", "drug", control="control")
    assert np.all(each.low == each.high) and np.all(each.positive == 0)
    assert trial.units == plain.units and repr(trial).startswith(
        "PosteriorTrial(12 patients, 12 of them with a posterior of 7 draws, in the arms 'control'"
    )


def test_two_hypotheses_give_their_mean_and_probabilities():
    """Mean pressure is (R + Z) SV/T_c, so setting R to 1.5 changes it by (1.5 − R) SV/T_c."""
    theta = [[[70, 1.0], [70, 2.0], [70, 2.0], [70, 2.0]], [[45, 1.0]] * 4]
    trial = run_posterior_trial(posterior_of(theta), ARMS, safety=HIGH)
    each = trial.patient_effects("P_ao_mean", "set", control="control", level=0.99)
    flow = np.array([70, 45]) / T_c
    np.testing.assert_allclose(each.mean, np.array([-0.25, 0.5]) * flow, rtol=2e-3)
    np.testing.assert_allclose(each.low, np.array([-0.5, 0.5]) * flow, rtol=2e-3)
    # The highest of four draws, less 0.5% of 3 steps' share of the way to the next.
    np.testing.assert_allclose(each.high, np.array([0.485, 0.5]) * flow, rtol=2e-3)
    assert each.positive.tolist() == [0.25, 1.0] and each.draws.tolist() == [4, 4]
    (of_set, _) = trial.effects("P_ao_mean", control="control")
    np.testing.assert_allclose(of_set.difference.mean, each.mean.mean(), rtol=1e-5)
    np.testing.assert_allclose(of_set.control, np.mean([1.8, 1.05] * flow), rtol=2e-3)
    chance = trial.event_probabilities()
    assert chance["control"]["high"].tolist() == [0.75, 0.0]
    assert chance["set"]["high"].tolist() == [1.0, 0.0]


def test_failed_draws_and_patients_are_counted_and_left_out_of_both_arms():
    theta = np.full((4, 4, 2), [60.0, 1.0])
    theta[0, :, 1] = [0.8, 1.0, 1.2, 2.4]  # The last is not feasible before R is set.
    theta[1, :, 1] = 2.4
    theta[3] = np.nan
    posterior = posterior_of(theta, [True, True, True, False], Fragile())
    trial = run_posterior_trial(posterior, ARMS, safety=HIGH)
    assert trial.success[:, 3].sum() == 0 and trial.success[1, :3].all()
    each = trial.patient_effects("P_ao_mean", "set", control="control")
    assert each.draws.tolist() == [3, 0, 4, 0]
    np.testing.assert_allclose(each.mean[[0, 2]], 0.5 * 60 / T_c, rtol=2e-3)
    assert np.isnan(each.mean[[1, 3]]).all() and np.isnan(each.positive[[1, 3]]).all()
    (of_set, _) = trial.effects("P_ao_mean", control="control")
    assert (of_set.patients, of_set.failed, of_set.failed_draws) == (4, 2, 0.125)
    np.testing.assert_allclose(of_set.treated, 1.55 * 60 / T_c, rtol=2e-3)
    chance = trial.event_probabilities()
    assert chance["control"]["failed"].tolist() == [0.25, 1.0, 0.0, 1.0]
    assert chance["set"]["failed"].tolist() == [0.0, 0.0, 0.0, 1.0]
    np.testing.assert_array_equal(chance["set"]["high"], [1.0, 1.0, 1.0, np.nan])
    # A group contains those whose control is known.
    groups = {e.group: e for e in trial.effects("P_ao_mean", control="control", by=level)}
    assert groups["low"].patients == 2 and groups["low"].failed == 0


def test_the_interval_contains_patients_and_draws():
    random = np.random.default_rng(0)
    means, spread = random.normal(3.0, 1.0, 200), 2.0
    z = random.normal(size=(200, 400))
    z = (z - z.mean(axis=1, keepdims=True)) / z.std(axis=1, keepdims=True)
    for of_draws in (0.0, spread):
        found = mean_over_draws(means[:, None] + of_draws * z)
        expected = np.hypot(means.std(), of_draws) / np.sqrt(200)
        np.testing.assert_allclose(found.mean, means.mean())
        np.testing.assert_allclose((found.high - found.low) / (2 * 1.96), expected, rtol=0.07)
    known = mean_over_draws(np.repeat(means[:, None], 3, axis=1), seed=5)
    np.testing.assert_allclose(known, mean_with_interval(means, seed=5))


def test_draws_without_an_answer_do_not_weigh():
    values = np.array([[1.0, np.nan, np.nan], [3.0, 4.0, 5.0], [np.nan] * 3])
    found = mean_over_draws(values)
    assert found.mean == 2.5 and found.low >= 1.0 and found.high <= 5.0
    assert mean_over_draws(values[:1]) == (1.0, 1.0, 1.0)
    assert np.isnan(mean_over_draws(values[2:])).all()
    assert mean_over_draws(values[1:], level=0.5) == (4.0, 3.5, 4.5)


def test_a_subset_of_the_draws_is_kept_in_a_folder(tmp_path):
    posterior = posterior_of(np.stack([BOX.sample(6, seed=1), BOX.sample(6, seed=2)]))
    few = run_posterior_trial(posterior, ARMS, draws=4, folder=tmp_path)
    assert few.posterior.theta.shape == (2, 4, 2) and len(list(tmp_path.iterdir())) == 3
    again = run_posterior_trial(posterior, ARMS, draws=4, folder=tmp_path)
    whole = run_posterior_trial(posterior, ARMS)
    for name, values in few.values.items():
        np.testing.assert_array_equal(again.values[name], values)
        np.testing.assert_array_equal(whole.values[name][..., :4], values)


def test_an_intervention_beyond_the_bounds_names_draws():
    posterior = posterior_of(np.full((2, 3, 2), [60.0, 1.0]))
    with pytest.warns(UserWarning, match="R of 6 of 6 draws, reaching 0.1"):
        run_posterior_trial(posterior, {"control": Nothing(), "much": Drug({"R": -0.9})})


def test_slips_are_answered_with_what_to_write(as_a_user):
    posterior = posterior_of(np.full((2, 3, 2), [60.0, 1.0]))
    cohort = simulate_cohort(Windkessel(), BOX, posterior.theta[:, 0])
    with pytest.raises(ValueError, match=r"got Cohort: expected a posterior .* for run_trial"):
        run_posterior_trial(cohort, ARMS)
    with pytest.raises(ValueError, match=r"got Posterior: .* posteriors are for run_posterior_tri"):
        run_trial(posterior, ARMS)
    with pytest.raises(ValueError, match="4 draws to simulate, and the posterior has 3"):
        run_posterior_trial(posterior, ARMS, draws=4)
    with pytest.raises(ValueError, match="draws=0: expected a whole number"):
        run_posterior_trial(posterior, ARMS, draws=0)
    with pytest.raises(ValueError, match="none of the 2 patients has a posterior"):
        run_posterior_trial(posterior._replace(success=np.zeros(2, bool)), ARMS)
    with pytest.raises(ValueError, match="outside the box"):
        run_posterior_trial(posterior._replace(theta=posterior.theta + 10), ARMS)
    trial = run_posterior_trial(posterior, ARMS)
    with pytest.raises(ValueError, match="no arm 'placebo': the trial has control"):
        trial.patient_effects("output", "placebo", control="control")
    with pytest.raises(ValueError, match="no endpoint 'EF': there are systolic"):
        trial.effects("EF", control="control")
    with pytest.raises(ValueError, match="level=90: expected a probability"):
        trial.patient_effects("output", "drug", control="control", level=90)
    with pytest.raises(ValueError, match="one name for each of the 2 patients"):
        trial.effects("output", control="control", by=lambda endpoints: ["a"])
    broken = dataclasses.replace(trial, success=np.zeros_like(trial.success))
    assert np.all(broken.event_probabilities()["drug"]["failed"] == 1)
