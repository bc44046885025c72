"""Sobol's indices and Fisher information of the Windkessel, against its closed form."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from SALib.analyze import sobol as analysis
from SALib.sample import sobol as sampling

import jaxtwin as jt
from jaxtwin.inference import (
    OpenDirections,
    PriorCoordinates,
    expected_information,
    fisher_information,
    open_directions,
    sobol_indices,
    trade_offs,
)
from tests.systems import LeakyParameters, Windkessel, pressure, windkessel_exact

BOX = jt.Box.of(LeakyParameters, ("T", "R", "C"))
TASK = jt.CurveTask(Windkessel(), BOX, "P", 0.01, samples=24, known="T", noise=0.05)
THETA = np.array([[2.0, 1.2, 0.7], [1.5, 0.4, 1.8]], np.float32)


def test_indices_of_a_curve_are_those_of_the_closed_form():
    found = sobol_indices(Windkessel(), BOX, readings=(), curves=["P"], points=256, phases=6)
    problem = {"num_vars": 3, "names": list(BOX.names), "bounds": [[0, 1]] * 3}
    u = sampling.sample(problem, 256, calc_second_order=False, seed=0)
    curves = pressure(np.asarray(BOX.from_unit(jnp.asarray(u))), 6)
    seed = np.random.SeedSequence(0)
    each = [
        analysis.analyze(problem, column, calc_second_order=False, seed=seed) for column in curves.T
    ]
    for key, got in (("S1", found.first), ("ST", found.total), ("ST_conf", found.total_error)):
        expected = np.average([one[key] for one in each], axis=0, weights=curves.var(axis=0))
        np.testing.assert_allclose(got[0], expected, atol=0.002)
    assert found.names == ("P",) and found.left_out == 0
    # The mean over a beat is R: it explains most.
    assert found.total[0, 1] > 0.8 and (found.first <= found.total + 0.05).all()


def fisher(theta, noise=0.05):
    coordinates = PriorCoordinates.of(TASK)

    def curve(z):
        T, R, C = coordinates.theta(z, jnp.asarray(theta[:1], float))
        return windkessel_exact((T, R, C), jnp.arange(24) / 24)

    slope = jax.jacobian(curve)(coordinates.coordinates(jnp.asarray(theta, float))) / noise
    return slope.T @ slope + np.eye(2)


def test_fisher_information_is_that_of_the_closed_form():
    for theta, found in zip(THETA, fisher_information(TASK, THETA), strict=True):
        np.testing.assert_allclose(found, fisher(theta), rtol=5e-3, atol=0.5)


def test_expected_information_is_in_bits():
    found = expected_information(TASK, 64)
    half = expected_information(dataclasses.replace(TASK, noise=0.025), 64)
    assert found.names == ("R", "C") and found.patients == 64
    # Half the noise is a bit more about each of two parameters, where the prior counts for little.
    assert 1.5 < half.total - found.total < 2.01
    assert (half.bits > found.bits).all() and (found.spread < 1).all()
    scaled = dataclasses.replace(TASK, unknown_scale=True, noise=0.05, resolution=0.01)
    # R is a factor of the whole curve: of unknown scale it is known through its shape only.
    assert expected_information(scaled, 64).bits[0] < found.bits[0]


def test_open_directions_name_what_is_left():
    found = open_directions(TASK, THETA[0])
    assert found.spread[0] > found.spread[1] > 0
    np.testing.assert_allclose(found.directions @ found.directions.T, np.eye(2), atol=1e-6)
    assert " along " in str(found) and "R" in str(found)


def test_open_directions_of_draws_are_those_of_their_covariance():
    random = np.random.default_rng(0)
    axes = np.array([[0.6, 0.8, 0.0], [0.8, -0.6, 0.0], [0.0, 0.0, 1.0]])
    units = random.normal(size=(20_000, 3)) * [0.5, 0.1, 0.01] @ axes / np.sqrt(12)
    theta = BOX.from_unit(jnp.asarray(0.5 + 0.2 * units))
    before = BOX.sample(2**14, seed=0)  # Uniform in the box, as is its standard deviation √(1/12).
    found = OpenDirections.of_draws(BOX, np.asarray(theta), np.asarray(before))
    np.testing.assert_allclose(found.spread, [0.1, 0.02, 0.002], rtol=0.03)
    np.testing.assert_allclose(np.abs(found.directions), np.abs(axes), atol=0.01)
    few = OpenDirections.of_draws(BOX, np.asarray(theta), np.asarray(before), 1)
    assert few.directions.shape == (1, 3) and few.names == BOX.names


def test_trade_offs_are_pairs_with_a_strong_rank_correlation():
    a, b = np.random.default_rng(0).normal(size=(2, 5_000))
    draws = {"a": a, "same": np.exp(a), "less": -a + b, "none": b, "known": np.ones(5_000)}
    found = trade_offs(draws)
    assert next(iter(found)) == ("a", "same") and found["a", "same"] == pytest.approx(1)
    # Of normal variables with correlation ρ = −√½, Spearman's is 6/π asin(ρ/2).
    expected = -6 / np.pi * np.arcsin(np.sqrt(0.5) / 2)
    assert found["a", "less"] == pytest.approx(expected, abs=0.03)
    assert ("a", "none") not in found and not any("known" in pair for pair in found)


def test_errors():
    with pytest.raises(ValueError, match="power of two"):
        sobol_indices(Windkessel(), BOX, readings=(), curves=["P"], points=100)
    with pytest.raises(ValueError, match="whole number"):
        expected_information(TASK, 0)
