"""Posteriors of a Windkessel's resistance and compliance, against quadrature of its closed form."""

import dataclasses
import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

import jaxtwin as jt
from jaxtwin.inference import (
    NUTS,
    ImportanceSampling,
    Laplace,
    PriorCoordinates,
    VariationalPSSL,
    calibrate,
)
from jaxtwin.inference.density import curvature
from jaxtwin.inference.distribution import FlowDistribution
from jaxtwin.inference.laplace import hessian_like
from jaxtwin.methods.base import Learnt
from jaxtwin.methods.each_patient import Patient
from jaxtwin.methods.posterior import AbstractDistribution, Posterior
from jaxtwin.methods.scores import score_posterior
from jaxtwin.parameters import NormalPrior
from jaxtwin.training.progress import silent
from tests.systems import LeakyParameters, Windkessel, pressure

BOX = jt.Box.of(LeakyParameters, ("T", "R", "C"))
NOISE = 0.05
TASK = jt.CurveTask(Windkessel(), BOX, "P", 0.01, samples=24, known="T", noise=NOISE)
BRIEF = jt.TrainingConfig(
    steps=1_500, batch_size=128, learning_rate=1e-2, evaluate_every=500, patience=9
)
QUANTILES = (0.05, 0.5, 0.95)


def patients(n, task=TASK, seed=3):
    theta = np.random.default_rng(seed).permutation(BOX.sample(n, seed=seed))
    return jt.simulate_cohort(task.system, BOX, theta, phases=task.samples, throw=True)


def quadrature(values, period, noise=NOISE, n=200):
    """Quantiles of R and C, and the evidence, by quadrature over the box, for a uniform prior."""
    low, high = (np.array(side[1:]) for side in (BOX.low, BOX.high))
    share, found, evidence = 1.0, np.zeros((3, 2)), 0.0
    # The second time on the part of the box that holds all of the posterior.
    for _ in range(2):
        edges = low[:, None] + (high - low)[:, None] * np.arange(n + 1) / n
        R, C = np.meshgrid(*(0.5 * (edges[:, 1:] + edges[:, :-1])), indexing="ij")
        theta = np.stack([np.full(R.size, period), R.ravel(), C.ravel()], axis=-1)
        log = -0.5 * ((pressure(theta, 24) - values) ** 2).sum(axis=-1) / noise**2
        weight = np.exp(log - log.max()).reshape(n, n)
        sides = [weight.sum(axis=1), weight.sum(axis=0)]
        shares = [np.append(0, np.cumsum(side)) / side.sum() for side in sides]
        found = np.array(
            [np.interp(QUANTILES, *pair) for pair in zip(shares, edges, strict=True)]
        ).T
        evidence = log.max() + np.log(share * weight.mean())
        there = [np.flatnonzero(side > 1e-12 * side.max()) for side in sides]
        ends = [(edge[k[0]], edge[k[-1] + 1]) for edge, k in zip(edges, there, strict=True)]
        narrow = np.array(ends).T
        share = np.prod((narrow[1] - narrow[0]) / (high - low))
        low, high = narrow
    return found, evidence


class Prior(AbstractDistribution):
    """The prior of every patient, as if nothing had been measured."""

    def sample(self, measurements, draws, seed, mesh):
        n = len(measurements.values)
        theta = np.random.default_rng(seed).permutation(BOX.sample(n * draws, seed=seed))
        theta = theta.reshape(n, draws, 3)
        theta[..., 0] = measurements.known
        return Posterior(TASK.system, BOX, theta, np.ones(n, bool))

    def log_density(self, measurements, theta):
        return np.zeros(len(theta))

    def __call__(self, measurements):
        raise NotImplementedError


@pytest.fixture(scope="module")
def flow():
    return jt.NeuralPosterior(config=BRIEF, patients=8_192, width=64, layers=3).learn(
        TASK, progress=silent
    )


@pytest.fixture(scope="module")
def seen():
    some = patients(8)
    return some, TASK.measure(some, 0)


def distance(posterior, curves):
    """Distances of medians in standard deviations, and ratios of widths, [patient, R and C]."""
    exact = np.array(
        [
            quadrature(values, period)[0]
            for values, (period,) in zip(np.asarray(curves.values), curves.known, strict=True)
        ]
    )
    got = np.quantile(posterior.theta[..., 1:], QUANTILES, axis=1).swapaxes(0, 1)
    width = exact[:, 2] - exact[:, 0]
    return (
        np.abs(got[:, 1] - exact[:, 1]) / (width / 3.29),
        (got[:, 2] - got[:, 0]) / width,
    )


@pytest.mark.slow
def test_markov_chains_agree_with_quadrature(flow, seen):
    curves = seen[1].take(slice(4))
    for method in (NUTS(chains=4, warmup=60), NUTS(flow, chains=4, warmup=60)):
        posterior = method.learn(TASK, progress=silent).posterior(curves, draws=800)
        assert posterior.success.all()
        assert posterior.r_hat[:, 1:].max() < 1.05 and np.isnan(posterior.r_hat[:, 0]).all()
        assert posterior.effective[:, 1:].min() > 100
        off, ratio = distance(posterior, curves)
        assert off.mean() < 0.1 and off.max() < 0.35
        np.testing.assert_allclose(ratio.mean(axis=0), 1, atol=0.1)


def test_reweighted_draws_agree_with_quadrature(flow, seen):
    _, curves = seen
    learnt = ImportanceSampling(flow, 4_000).learn(TASK)
    posterior = learnt.posterior(curves, draws=2_000)
    assert posterior.success.all()
    off, ratio = distance(posterior, curves)
    assert off.max() < 0.15
    np.testing.assert_allclose(ratio, 1, atol=0.12)


def test_the_laplace_approximation_agrees_with_quadrature_where_it_is_normal(seen):
    some, _ = seen
    exact = dataclasses.replace(TASK, noise=0.01)
    few = exact.measure(some, 0)
    posterior = Laplace().learn(exact, progress=silent).posterior(few, draws=4_000)
    expected = np.array(
        [
            quadrature(values, period, 0.01)[0]
            for values, (period,) in zip(few.values, few.known, strict=True)
        ]
    )
    got = np.quantile(posterior.theta[..., 1:], QUANTILES, axis=1).swapaxes(0, 1)
    width = expected[:, 2] - expected[:, 0]
    off = np.abs(got[:, 1] - expected[:, 1]) / width
    # One large compliance is still far from normal.
    assert np.median(off) < 0.02 and off.max() < 0.15
    np.testing.assert_allclose((got[:, 2] - got[:, 0]) / width, 1, atol=0.1)


def test_the_flow_is_near_quadrature(flow, seen):
    _, curves = seen
    off, ratio = distance(flow.posterior(curves, draws=2_000), curves)
    assert np.median(off) < 0.3
    assert 0.8 < np.median(ratio) < 1.4


def test_second_derivatives_are_right(seen):
    """The Hessian by differences of gradients, against that of the closed form."""
    _, curves = seen
    coordinates = PriorCoordinates.of(TASK)
    z = jnp.array([0.3, -0.4])
    period, values = jnp.asarray(curves.known[0], float), jnp.asarray(curves.values[0], float)
    noise = jnp.full(24, NOISE)

    def closed_form(z):
        T, R, C = coordinates.theta(z, period)
        phase = 2 * jnp.pi * jnp.arange(24) / 24
        lag = 2 * jnp.pi * R * C / T
        got = R * (1 + (jnp.cos(phase) + lag * jnp.sin(phase)) / (1 + lag**2))
        return 0.5 * jnp.sum(((got - values) / NOISE) ** 2) + 0.5 * jnp.sum(z**2)

    patient = Patient(jax.random.key(0), period, values, noise)
    root, hessian = hessian_like(TASK, coordinates, z, patient)
    exact = root.T @ jax.hessian(closed_form)(z) @ root
    np.testing.assert_allclose(hessian, exact, rtol=0.02, atol=0.02 * np.abs(exact).max())
    # And the Gauss-Newton Hessian is not it: the residuals at this z are large.
    assert np.abs(root.T @ curvature(TASK, coordinates, z, patient) @ root - exact).max() > 0.1


@pytest.fixture(scope="module")
def many():
    some = patients(600, seed=5)
    return some, TASK.measure(some, 1)


def coverage90(learnt, curves, truth):
    draws = learnt.posterior(curves, draws=500).parameters()
    before = BOX.sample(4_096, seed=11)
    return [
        calibrate(draws[name].astype(float), truth[:, k].astype(float), before[:, k])
        for k, name in enumerate(BOX.names)
        if name != "T"
    ]


def test_coverage_holds(flow, many):
    some, curves = many
    for found in coverage90(flow, curves, some.theta):
        assert 0.86 < found.coverage90 < 0.94  # More than three standard errors away.
        assert found.rank_test_p > 1e-3
        assert 0 < found.narrowing90 < 1


def test_coverage_fails_if_the_flow_is_overconfident(flow, many):
    some, curves = many
    # The scale of the affine layer is the softplus of the third and fourth output.
    narrow = flow.knowledge.affine.bias.at[2:4].add(-1.0)
    knowledge = eqx.tree_at(lambda flow: flow.affine.bias, flow.knowledge, narrow)
    answer = FlowDistribution(TASK, PriorCoordinates.of(TASK), knowledge)
    for found in coverage90(dataclasses.replace(flow, answer=answer), curves, some.theta):
        assert found.coverage90 < 0.85 and found.rank_test_p < 1e-3


def test_coverage_fails_if_the_noise_is_larger_than_told(flow, many):
    some, _ = many
    noisy = dataclasses.replace(TASK, noise=2 * NOISE).measure(some, 1)
    assert min(one.coverage90 for one in coverage90(flow, noisy, some.theta)) < 0.8


def test_the_log_score_is_that_of_the_density(flow, seen):
    """The reweighted density, against quadrature; the flow's integrates to one over the box."""
    some, curves = seen
    found = ImportanceSampling(flow, 4_000).learn(TASK).log_density(curves, some.theta)
    for i, (values, (period,)) in enumerate(zip(curves.values, curves.known, strict=True)):
        _, evidence = quadrature(values, period)
        own = -0.5 * ((pressure(some.theta[i], 24) - values) ** 2).sum() / NOISE**2
        assert abs(found[i] - (own - evidence)) < 0.1
    assert abs(found - flow.log_density(curves, some.theta)).mean() < 0.5
    n = 200
    place = (np.arange(n) + 0.5) / n
    u = np.stack(np.meshgrid(place, place, indexing="ij"), axis=-1).reshape(-1, 2)
    theta = np.array(BOX.from_unit(jnp.asarray(np.insert(u, 0, 0.5, axis=1))))
    theta[:, 0] = curves.known[0, 0]
    repeated = curves.take(np.zeros(len(theta), int))
    assert abs(np.exp(flow.log_density(repeated, theta)).mean() - 1) < 0.02


def test_pssl_with_a_posterior_learns_from_curves_alone(many):
    some, _ = many
    curves = TASK.measure(patients(1_200, seed=6), 2)._replace(maximum=None, minimum=None)
    config = dataclasses.replace(BRIEF, steps=600, batch_size=64, evaluate_every=300)
    simulator = jt.Simulator(TASK.system, BOX, ("P",), 24)
    method = VariationalPSSL(simulator, config=config, draws=2, width=64, layers=2)
    learnt = method.learn(
        TASK, curves.take(slice(1_000)), curves.take(slice(1_000, None)), progress=silent
    )
    for found in coverage90(learnt, TASK.measure(some, 1), some.theta):
        assert 0.75 < found.coverage90 < 0.97
        assert found.narrowing90 < 0.8


def test_what_was_learnt_is_saved(flow, seen, tmp_path):
    _, curves = seen
    jt.save_learnt(tmp_path, flow)
    method = jt.NeuralPosterior(config=BRIEF, patients=8_192, width=64, layers=3)
    again = jt.load_learnt(tmp_path, method, TASK)
    np.testing.assert_array_equal(
        again.posterior(curves, draws=50).theta, flow.posterior(curves, draws=50).theta
    )


def test_draws_stay_in_the_box_and_repeat(flow, seen):
    _, curves = seen
    posterior = flow.posterior(curves, draws=300, seed=1)
    assert np.asarray(BOX.contains(jnp.asarray(posterior.theta))).all()
    np.testing.assert_array_equal(posterior.theta[:, :, 0], np.repeat(curves.known, 300, axis=1))
    again = flow.posterior(curves, draws=300, seed=1)
    np.testing.assert_array_equal(posterior.theta, again.theta)
    assert (flow.posterior(curves, draws=300, seed=2).theta != posterior.theta).any()
    # A patient's draws do not depend on who else is there.
    alone = flow.posterior(curves.take(slice(0, 3)), draws=300, seed=1)
    np.testing.assert_allclose(alone.theta, posterior.theta[:3], rtol=1e-4)


def test_draws_are_simulated(flow, seen):
    some, curves = seen
    predicted = flow.posterior(curves, draws=40).simulate(waveforms=["P"], phases=24, draws=20)
    assert predicted.success.all() and predicted.waveforms["P"].shape == (8, 20, 24)
    off = predicted.waveforms["P"].mean(axis=1) - some.recording.waveforms.P
    assert np.abs(off).max() < 10 * NOISE


def test_the_estimate_is_the_middle_of_the_posterior(flow, seen):
    _, curves = seen
    estimate = flow.estimate(curves)
    assert estimate.success.all()
    median = np.median(flow.posterior(curves, draws=1_000).theta, axis=1)
    spread = flow.posterior(curves, draws=1_000).theta.std(axis=1)[:, 1:]
    assert (np.abs(estimate.theta - median)[:, 1:] < 0.7 * spread).all()


def test_one_patient_without_a_measurement_spoils_nobody(flow, seen):
    _, curves = seen
    gappy = dataclasses.replace(TASK, missing=0.2)
    shortest = dataclasses.replace(BRIEF, steps=20, evaluate_every=10)
    learnt = jt.NeuralPosterior(config=shortest, patients=1_024, width=16).learn(
        gappy, progress=silent
    )
    values = np.array(curves.values)
    values[1] = np.nan
    values[2, 3] = np.nan
    with pytest.warns(UserWarning, match="nothing was measured in 1 of 8"):
        posterior = learnt.posterior(curves._replace(values=values), draws=20)
    assert posterior.success.tolist() == [True, False] + 6 * [True]


def test_errors_say_what_to_do(flow, seen):
    _, curves = seen
    with pytest.raises(ValueError, match="gives one estimate for each patient"):
        jt.LeastSquares().learn(TASK).posterior(curves)
    noise = np.full(np.shape(curves.values), 3 * NOISE, np.float32)
    with pytest.raises(ValueError, match="widths would be wrong"):
        flow.posterior(curves._replace(noise=noise))
    with pytest.raises(ValueError, match="whole number"):
        flow.posterior(curves, draws=0)
    other = dataclasses.replace(TASK, noise=0.1)
    for method in (NUTS(flow), ImportanceSampling(flow)):
        with pytest.raises(ValueError, match="for another task"):
            method.learn(other)
    with pytest.raises(ValueError, match="no normalised density"):
        NUTS().learn(TASK).log_density(curves, np.tile(BOX.sample(1, seed=0), (8, 1)))
    with pytest.raises(ValueError, match="and the posterior has 10"):
        flow.posterior(curves, draws=10).simulate(draws=11)
    with pytest.raises(ValueError, match="2248 simulated patients: expected at least 2560"):
        jt.NeuralPosterior(config=BRIEF, patients=200).learn(TASK)
    with pytest.raises(ValueError, match="expected what NeuralPosterior"):
        NUTS(jt.LeastSquares().learn(TASK)).learn(TASK)


@pytest.mark.parametrize("known", [(), ("T",)])
@pytest.mark.parametrize("logarithmic", [(), ("R",)])
def test_coordinates_of_a_uniform_prior(known, logarithmic):
    box = jt.Box.of(LeakyParameters, ("T", "R", "C"), logarithmic=logarithmic)
    task = jt.CurveTask(Windkessel(), box, "P", 0.01, samples=24, known=known)
    coordinates = PriorCoordinates.of(task)
    theta = jnp.asarray(box.sample(2_048, seed=0))
    z = jax.vmap(coordinates.coordinates)(theta)
    assert coordinates.names == tuple(n for n in box.names if n not in known)
    np.testing.assert_allclose(np.cov(np.asarray(z).T), np.eye(z.shape[1]), atol=0.06)
    given = theta[:, [box.names.index(n) for n in known]]
    np.testing.assert_allclose(jax.vmap(coordinates.theta)(z, given), theta, rtol=1e-5)


@pytest.mark.parametrize("known", [(), ("T",), ("T", "C")])
def test_coordinates_of_a_normal_prior_given_known_parameters(known):
    root = ((0.8, 0.0, 0.0), (0.5, 0.6, 0.0), (-0.3, 0.2, 0.4))
    prior = NormalPrior((0.1, -0.2, 0.3), root)
    task = jt.CurveTask(Windkessel(), BOX, "P", 0.01, samples=24, known=known, prior=prior)
    coordinates = PriorCoordinates.of(task)
    theta = jnp.asarray(prior.sample(BOX, 4_096, seed=0))
    z = np.asarray(jax.vmap(coordinates.coordinates)(theta))
    np.testing.assert_allclose(np.cov(z.T), np.eye(z.shape[1]), atol=0.06)
    places = [BOX.names.index(n) for n in known]
    given = theta[:, places]
    np.testing.assert_allclose(jax.vmap(coordinates.theta)(z, given), theta, rtol=1e-4)
    # Given the known ones, z is independent of them.
    if known:
        raw = np.asarray(BOX.unbound(theta))[:, places]
        both = np.corrcoef(np.concatenate([raw, z], axis=1).T)[: len(places), len(places) :]
        assert np.abs(both).max() < 0.06


def test_gradients_of_coordinates_are_finite_in_float32():
    coordinates = PriorCoordinates.of(TASK)
    known = jnp.array([2.0], jnp.float32)
    for z in (0.0, 4.9, -4.9):
        slope = jax.jacobian(coordinates.theta)(jnp.full(2, z, jnp.float32), known)
        assert np.isfinite(slope).all()
    density = norm.pdf(0.0) * (np.array(BOX.high) - np.array(BOX.low))[1:]
    slope = jax.jacobian(coordinates.theta)(jnp.zeros(2, jnp.float32), known)
    np.testing.assert_allclose(slope[[1, 2], [0, 1]], density, rtol=1e-5)


def test_observations_are_distributed_as_measurements():
    from jaxtwin.inference.observing import exact_rows, observe

    task = dataclasses.replace(TASK, missing=0.25)
    some = patients(1, task)
    exact = jnp.asarray(exact_rows(task, some))[0]
    keys = jax.random.split(jax.random.key(0), 4_000)
    rows = np.asarray(jax.vmap(lambda key: observe(task, exact, key))(keys))
    assert abs(np.isnan(rows).mean() - 0.25) < 0.01
    np.testing.assert_allclose(np.nanmean(rows, axis=0), exact, atol=4 * NOISE / 50)
    np.testing.assert_allclose(np.nanstd(rows, axis=0), NOISE, rtol=0.06)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scaled = dataclasses.replace(TASK, unknown_scale=True, noise=0.05, resolution=0.01)
    curves = scaled.check(scaled.measure(some, 0))
    row = np.asarray(observe(scaled, exact, keys[0]))
    assert abs(np.sqrt(np.mean(row**2)) - 1) < 1e-5
    np.testing.assert_allclose(row, curves.values[0], atol=0.25)


def test_the_prior_as_a_posterior_scores_nothing():
    some = patients(400)
    curves = TASK.measure(some, 0)
    told = Learnt(jt.LeastSquares(), TASK, Prior())
    scores = score_posterior(told, curves, some)
    np.testing.assert_array_equal(scores["log_score"], 0)
    # Of two unknown parameters, each of 400 patients.
    assert scores["held90"].mean() == pytest.approx(0.9, abs=0.035)
    assert scores["width90"].mean() == pytest.approx(1, abs=0.02)
    with pytest.raises(ValueError, match="LeastSquares gives one estimate"):
        score_posterior(jt.LeastSquares().learn(TASK), curves, some)


def test_a_flow_scores_more_than_the_prior(flow, seen):
    some, curves = seen
    scores = score_posterior(flow, curves, some)
    assert scores["log_score"].mean() > 3 and scores["width90"].mean() < 0.3


def test_gaps_that_were_not_learnt_are_refused(flow, seen):
    _, curves = seen
    values = np.array(curves.values)
    values[2, :6] = np.nan
    with pytest.raises(ValueError, match="1 of 8 patients lack samples of P; the posterior has"):
        flow.posterior(curves._replace(values=values), draws=10)


def test_a_density_of_nothing_measured_is_nan(flow, seen):
    some, curves = seen
    values = np.array(curves.values)
    values[2] = np.nan
    with pytest.warns(UserWarning):
        found = flow.log_density(curves._replace(values=values), np.asarray(some.theta))
    np.testing.assert_array_equal(np.isnan(found), np.arange(8) == 2)
    with pytest.raises(ValueError, match=r"θ of shape \(3, 3\) for 8 patients"):
        flow.log_density(curves, np.asarray(some.theta)[:3])


def test_wrong_kinds_of_arguments_are_named(as_a_user, flow, seen):
    simulator = jt.Simulator(TASK.system, BOX, ("P",), 24)
    with pytest.raises(ValueError, match="likelihood='normal': expected an AbstractLikelihood"):
        VariationalPSSL(simulator, "normal")
    with pytest.raises(ValueError, match="observation=None: expected an AbstractObservation"):
        jt.NeuralPosterior(observation=None)
    with pytest.raises(ValueError, match="mesh=4: expected a"):
        jt.NeuralPosterior().learn(TASK, mesh=4)
    posterior = flow.posterior(seen[1], draws=4)
    assert posterior.simulate(waveforms="P", phases=24).waveforms.keys() == {"P"}


def test_no_patient_and_more_draws_than_proposals(flow, seen):
    _, curves = seen
    with pytest.raises(ValueError, match="measurements of no patient"):
        flow.posterior(curves.take(slice(0, 0)))
    with pytest.warns(UserWarning, match="90 draws of 60 weighted proposals repeat"):
        ImportanceSampling(flow, 60).learn(TASK).posterior(curves.take(slice(0, 2)), draws=90)
