"""Whether a model could have produced a measurement, on a Windkessel."""

import numpy as np
import pytest
from scipy import stats

import jaxtwin as jt
from jaxtwin.inference import ModelCheck
from jaxtwin.training.progress import silent
from tests.systems import LeakyParameters, Windkessel

BOX = jt.Box.of(LeakyParameters, ("T", "R", "C"))
NOISE = 0.05
TASK = jt.CurveTask(Windkessel(), BOX, "P", 0.01, samples=24, known="T", noise=NOISE)
BRIEF = jt.TrainingConfig(
    steps=1_500, batch_size=128, learning_rate=1e-2, evaluate_every=500, patience=9
)


def measured(n=400, seed=11):
    theta = np.random.default_rng(seed).permutation(BOX.sample(n, seed=seed))
    cohort = jt.simulate_cohort(TASK.system, BOX, theta, phases=24, throw=True)
    return cohort, TASK.measure(cohort, seed)


@pytest.fixture(scope="module")
def check():
    learnt = jt.NeuralPosterior(config=BRIEF, patients=8_192, width=64, layers=3).learn(
        TASK, progress=silent
    )
    return ModelCheck.fit(learnt, patients=1_000, prior=5_000, draws=100)


def test_patients_of_the_model_raise_as_few_alarms_as_said(check):
    _, curves = measured()
    found = check(curves)
    for p in (found.predictive, found.features):
        assert stats.kstest(p, "uniform").pvalue > 0.01
        assert (p <= 0.05).mean() == pytest.approx(0.05, abs=0.035)
    assert found.prior.mean() > 0.9


def test_the_discrepancy_is_nearly_chi_squared(check):
    _, curves = measured()
    # 24 samples, and two unknown parameters.
    found = check.discrepancy(TASK.check(curves))
    assert found.mean() == pytest.approx(22, abs=1.2)
    assert found.std() == pytest.approx(np.sqrt(44), rel=0.2)


def test_curves_that_the_model_cannot_have_are_noticed(check):
    _, curves = measured()
    values = np.asarray(curves.values)
    wave = np.sin(6 * np.pi * np.arange(24) / 24).astype(np.float32)
    random = np.random.default_rng(0)
    for wrong in (
        values + 2 * NOISE * wave,
        values + np.sqrt(3) * NOISE * random.normal(size=values.shape).astype(np.float32),
    ):
        assert (check(curves._replace(values=wrong)).predictive <= 0.05).mean() > 0.85


def test_numbers_that_the_prior_does_not_have_are_noticed(check):
    _, curves = measured(40)
    values = np.array(curves.values)
    values[3] = 10 * values[3]
    values[5] = np.nan
    with pytest.warns(UserWarning, match="nothing was measured"):
        found = check(curves._replace(values=values))
    assert not found.prior[3] and found.predictive[3] == found.predictive[:5].min() < 0.01
    assert np.isnan(found.predictive[5]) and np.isnan(found.features[5]) and not found.prior[5]
    others = np.delete(np.arange(40), [3, 5])
    alone = check(curves)
    np.testing.assert_array_equal(found.prior[others], alone.prior[others])
    np.testing.assert_allclose(found.features[others], alone.features[others])


def test_a_group_of_another_kind_is_noticed(check):
    cohort, curves = measured()
    own = [check.group(curves.take(slice(k, k + 20))) for k in range(0, 400, 20)]
    assert stats.kstest(own, "uniform").pvalue > 0.01
    R = cohort.theta[:, BOX.names.index("R")]
    assert check.group(curves.take(np.argsort(R)[-20:])) < 0.01


def test_what_cannot_be_checked_is_said(check):
    _, curves = measured(8)
    with pytest.raises(ValueError, match="expected 2 to 500, all measured"):
        check.group(curves.take(slice(1)))
    with pytest.raises(ValueError, match="needs at least 100 to compare with"):
        ModelCheck.fit(check.learnt, patients=50, prior=100)
    with pytest.raises(ValueError, match="expected what NeuralPosterior or VariationalPSSL"):
        ModelCheck.fit(jt.LeastSquares().learn(TASK))
    _, coarse = measured(8)
    with pytest.raises(ValueError, match="expected"):
        check(coarse._replace(values=np.asarray(coarse.values)[:, ::2]))
