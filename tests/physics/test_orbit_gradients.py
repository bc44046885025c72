"""Gradients of the left heart's orbits over its box."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtwin.models.left_heart import SEVEN, LeftHeart
from jaxtwin.physics.adjoint import DirectAdjoint, ImplicitAdjoint
from jaxtwin.physics.base import read
from jaxtwin.physics.iteration import BeatIteration, NewtonIteration
from jaxtwin.physics.periodic import periodic_orbit

TIGHT = BeatIteration(tolerance=1e-12, max_beats=60)


def left_heart_numbers(theta, method=TIGHT, adjoint=ImplicitAdjoint()):
    p = SEVEN.complete(theta)
    orbit = periodic_orbit(LeftHeart(), p, steps=100, method=method, adjoint=adjoint, throw=False)
    out = read(LeftHeart(), orbit)
    return jnp.stack([out["EDV"], out["ESV"], out["P_ao_mean"]]), orbit.success


def left_heart_jacobian(mode, **options):
    return jax.jit(jax.vmap(mode(lambda t: left_heart_numbers(t, **options)[0])))


forward = jax.jit(jax.vmap(left_heart_numbers))


@pytest.fixture(scope="module")
def points():
    # Away from the faces, so that finite differences stay inside.
    return jnp.asarray(
        SEVEN.from_unit(0.02 + 0.96 * SEVEN.to_unit(jnp.asarray(SEVEN.sample(64, seed=5))))
    )


@pytest.fixture(scope="module")
def gradients(points):
    """By reverse mode, ∂(EDV, ESV, P_ao_mean)/∂u with u the place in the box."""
    width = np.asarray(SEVEN.high) - np.asarray(SEVEN.low)
    return np.asarray(left_heart_jacobian(jax.jacrev)(points)) * width


@pytest.mark.slow
def test_left_heart_gradient_is_finite_all_over_the_box(gradients):
    assert gradients.shape == (64, 3, 7)
    assert np.all(np.isfinite(gradients))


def test_left_heart_gradient_matches_finite_differences(points, gradients):
    u = SEVEN.to_unit(points)
    e = 1e-5
    numeric = np.zeros_like(gradients)
    for i in range(7):
        plus, minus = (forward(SEVEN.from_unit(u.at[:, i].add(s)))[0] for s in (e, -e))
        numeric[:, :, i] = (plus - minus) / (2 * e)
    # A sample that is the maximum on one side of a difference need not be on the other, and a
    # valve may switch in between: single entries disagree, a wrong gradient disagrees in most.
    scale = np.abs(numeric).max(axis=(0, 2), keepdims=True)
    error = np.abs(gradients - numeric) / scale
    assert np.quantile(error, 0.97) < 1e-5
    assert error.max() < 0.02


@pytest.mark.slow
def test_left_heart_gradients_by_mode_and_adjoint(points, gradients):
    width = np.asarray(SEVEN.high) - np.asarray(SEVEN.low)
    by_forward = np.asarray(left_heart_jacobian(jax.jacfwd)(points)) * width
    np.testing.assert_allclose(by_forward, gradients, rtol=1e-7, atol=1e-6)
    direct = np.asarray(left_heart_jacobian(jax.jacfwd, adjoint=DirectAdjoint(40))(points)) * width
    np.testing.assert_allclose(direct, gradients, rtol=1e-5, atol=1e-3)


@pytest.mark.slow
def test_left_heart_gradient_in_float32(points, gradients):
    with jax.enable_x64(False):
        theta = jnp.asarray(np.asarray(points, np.float32))
        jacobian = left_heart_jacobian(jax.jacrev, method=NewtonIteration())(theta)
        assert jacobian.dtype == jnp.float32
    width = np.asarray(SEVEN.high) - np.asarray(SEVEN.low)
    scale = np.abs(gradients).max(axis=(0, 2), keepdims=True)
    assert np.quantile(np.abs(np.asarray(jacobian) * width - gradients) / scale, 0.95) < 2e-3


def test_a_bad_patient_leaves_its_neighbours_alone(points):
    good, converged = forward(points)
    assert np.all(converged)
    # A slightly negative resistance settles into a meaningless beat: `Box.check` is for that.
    for column, bad in ((0, jnp.nan), (5, 0.0), (5, -1.0), (4, -1e-3)):
        values, converged = forward(points.at[3, column].set(bad))
        assert not converged[3]
        others = np.arange(64) != 3
        assert np.all(converged[others])
        np.testing.assert_array_equal(values[others], good[others])
