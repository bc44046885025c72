"""Errors are zero at the truth, and hidden where there is no answer."""

import dataclasses

import numpy as np
import pytest

from jaxtwin.cohorts.simulate import simulate_cohort
from jaxtwin.methods.scores import score_curves
from jaxtwin.methods.tasks import CurveTask
from jaxtwin.models.left_heart import SEVEN, LeftHeart
from jaxtwin.parameters import Box
from tests.systems import Windkessel

TASK = CurveTask(LeftHeart(), SEVEN, "V_lv", 0.2, ("P_lv", "P_ao"), samples=60, known="T_c")


@pytest.fixture(scope="module")
def truth():
    theta = SEVEN.sample(4, seed=1).astype(np.float32)
    return simulate_cohort(LeftHeart(), SEVEN, theta, phases=60)


def estimate(truth, curves=None, **changes):
    own = {c: getattr(truth.recording.waveforms, c) for c in TASK.channels}
    told = {
        "maximum": truth.recording.maximum.V_lv,
        "minimum": truth.recording.minimum.V_lv,
        "theta": np.asarray(truth.theta),
    }
    return TASK.estimate(own if curves is None else curves, **(told | changes))


def test_no_error_at_the_truth(truth):
    scores = score_curves(TASK, estimate(truth), truth)
    assert {"EF_error", "EF_resimulated", "V_lv_error", "P_lv_resimulated", "theta"} < set(scores)
    for name, values in scores.items():
        # An area of thousands, of the emulated loop's few points.
        atol = 2e-3 if name.startswith("stroke_work") else 1e-4
        np.testing.assert_allclose(values, 0, atol=atol, err_msg=name)


def test_errors_are_those_that_were_made(truth):
    theta = np.asarray(truth.theta).copy()
    theta[:, 2] += 0.1 * (SEVEN.high[2] - SEVEN.low[2]) * np.where(theta[:, 2] < 2, 1, -1)
    curves = {"V_lv": truth.recording.waveforms.V_lv + 3.0}
    scores = score_curves(TASK, estimate(truth, curves, theta=theta), truth)
    np.testing.assert_allclose(scores["V_lv_error"], 3, rtol=1e-4)
    np.testing.assert_allclose(scores["theta_E_max"], 0.1, rtol=1e-3)
    # The known period does not dilute the mean.
    np.testing.assert_allclose(scores["theta"], 0.1 / 6, rtol=1e-3)
    assert np.all(scores["EF_resimulated"] > 0.1)
    assert "P_lv_error" not in scores
    volumes = score_curves(TASK, estimate(truth, minimum=0.9 * truth.recording.minimum.V_lv), truth)
    expected = 10 * truth.recording.minimum.V_lv / truth.recording.maximum.V_lv
    np.testing.assert_allclose(volumes["EF_error"], expected, rtol=1e-3)


def test_a_failure_is_no_number_and_spoils_no_other(truth):
    theta = np.asarray(truth.theta).copy()
    theta[1] = np.nan
    success = np.array([True, False, True, True])
    found = estimate(truth, theta=theta)._replace(success=success)
    for name, values in score_curves(TASK, found, truth).items():
        assert np.isfinite(values).tolist() == success.tolist(), name


def test_a_method_without_parameters_is_not_simulated(truth):
    scores = score_curves(TASK, estimate(truth, {}, theta=None), truth)
    assert set(scores) == {
        "EF_error",
        "EDV_error",
        "ESV_error",
        "stroke_volume_error",
        "period_error",
    }
    assert not scores["EF_error"].any() and np.isnan(scores["period_error"]).all()


class Coarse(Windkessel):
    """Too few steps for a small RC."""

    steps = 16


def test_an_estimate_that_cannot_be_simulated_is_warned_of(monkeypatch):
    # With no more steps than its own.
    monkeypatch.setattr("jaxtwin.cohorts.simulate.MOST", 1)
    box = Box.of(Windkessel.parameters, ("R", "C"))
    theta = np.array([[2.0, 2.0], [1.9, 2.0], [2.0, 1.9]], np.float32)
    task = CurveTask(Coarse(), box, "P", 0.01, samples=16)
    truth = simulate_cohort(Coarse(), box, theta, phases=16)
    found = task.estimate({"P": truth.recording.waveforms.P}, theta=np.array(theta))
    found.theta[1] = 1.0
    with pytest.warns(UserWarning, match=r"1 of 3 estimates failed \(patients 1\).*more steps"):
        scores = score_curves(task, found, truth)
    assert np.isfinite(scores["P_resimulated"]).tolist() == [True, False, True]
    assert np.isfinite(scores["P_error"]).all()


def test_arguments_in_another_order_are_named(truth, as_a_user):
    with pytest.raises(
        ValueError, match="arguments of type Estimate and of type CurveTask: expected"
    ):
        score_curves(estimate(truth), TASK, truth)


def test_the_truth_is_of_the_same_patients(truth):
    with pytest.raises(ValueError, match="an estimate of 4 patients and the truth of 3"):
        score_curves(TASK, estimate(truth), truth.take(slice(3)))
    failed = dataclasses.replace(truth, success=np.array([True, False, True, True]))
    with pytest.raises(ValueError, match="1 of 4 simulations failed"):
        score_curves(TASK, estimate(truth), failed)
