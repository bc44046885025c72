"""Errors: zero at the truth, NaN without an estimate, and intervals with correct coverage."""

import numpy as np
import pytest

from jaxtwin.analysis.metrics import mean_over_seeds, mean_with_interval, score_curves
from jaxtwin.cohorts.simulate import simulate_cohort
from jaxtwin.methods.base import CurveTask, Estimate
from jaxtwin.models.left_heart import SEVEN, LeftHeart

TASK = CurveTask(LeftHeart(), SEVEN, "V_lv", 0.2, ("P_lv", "P_ao"), samples=60, known=("T_c",))


@pytest.fixture(scope="module")
def truth():
    theta = SEVEN.sample(4, seed=1).astype(np.float32)
    return simulate_cohort(LeftHeart(), SEVEN, theta, phases=60)


def estimate(truth, **changes):
    own = {c: getattr(truth.recording.waveforms, c) for c in TASK.channels}
    made = Estimate.of(
        truth.recording.maximum.V_lv, truth.recording.minimum.V_lv, np.asarray(truth.theta), own
    )
    return made._replace(**changes)


def test_no_error_at_the_truth(truth):
    scores = score_curves(TASK, estimate(truth), truth)
    assert {"EF_error", "EF_resimulated", "V_lv_error", "P_lv_resimulated", "theta"} < set(scores)
    for name, values in scores.items():
        np.testing.assert_allclose(values, 0, atol=1e-4, err_msg=name)


def test_errors_are_those_that_were_made(truth):
    theta = np.asarray(truth.theta).copy()
    theta[:, 2] += 0.1 * (SEVEN.high[2] - SEVEN.low[2]) * np.where(theta[:, 2] < 2, 1, -1)
    curves = {"V_lv": truth.recording.waveforms.V_lv + 3.0}
    scores = score_curves(TASK, estimate(truth, theta=theta, waveforms=curves), truth)
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
    failed = np.array([False, True, False, False])
    scores = score_curves(TASK, estimate(truth, theta=theta, failed=failed), truth)
    for name, values in scores.items():
        assert np.isnan(values).tolist() == failed.tolist(), name


def test_a_method_without_parameters_is_not_simulated(truth):
    scores = score_curves(TASK, estimate(truth, theta=None, waveforms={}), truth)
    assert set(scores) == {"EF_error", "EDV_error", "ESV_error", "period_error"}
    assert not scores["EF_error"].any() and np.isnan(scores["period_error"]).all()


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
