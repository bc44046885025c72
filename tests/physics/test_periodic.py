"""Periodic orbits and their gradients against closed forms."""

from typing import ClassVar, NamedTuple

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtwin.parameters import Scalar
from jaxtwin.physics.adjoint import DirectAdjoint, ImplicitAdjoint
from jaxtwin.physics.base import AbstractPeriodicSystem
from jaxtwin.physics.fixed_point import inverse
from jaxtwin.physics.iteration import AndersonIteration, BeatIteration, NewtonIteration
from jaxtwin.physics.periodic import periodic_orbit
from jaxtwin.physics.sdirk import SDIRK2
from jaxtwin.physics.solution import RESULTS
from tests.systems import (
    ExchangeParameters,
    Leaky,
    LeakyParameters,
    TwoCompartments,
    Windkessel,
    exchange_exact,
    windkessel_exact,
)

TIGHT = BeatIteration(tolerance=1e-12, max_beats=60)
traces = []


class Traced(TwoCompartments):
    """Counts how often it is traced."""

    def vector_field(self, t, state, p):
        traces.append(None)
        return super().vector_field(t, state, p)


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_inverse_of_small_matrices(n):
    matrices = np.random.default_rng(n).normal(size=(64, n, n))
    matrices[0] = np.eye(n)[::-1]  # Impossible without pivoting.
    inverses = jax.jit(jax.vmap(inverse))(matrices)
    np.testing.assert_allclose(
        inverses @ matrices, np.broadcast_to(np.eye(n), matrices.shape), atol=1e-10
    )


CLOSED_FORMS = pytest.mark.parametrize(
    ("system", "exact", "theta"),
    [
        (TwoCompartments(), exchange_exact, jnp.array([2.0, 0.4, 1.5, 3.0])),
        (Windkessel(), windkessel_exact, jnp.array([2.0, 1.2, 0.7])),
    ],
    ids=["conserved total", "nothing conserved"],
)
TAU = jnp.array([0.0, 0.25, 0.5, 1.0])


def first_output(system, theta, **options):
    """The first output at the fractions TAU of the period."""
    p = system.parameters(*theta)
    solver = SDIRK2(newton_iterations=1)  # Exact, as both systems are linear.
    orbit = periodic_orbit(system, p, steps=400, solver=solver, method=TIGHT, **options)
    return orbit.outputs[0][(400 * TAU).astype(int)]


@CLOSED_FORMS
def test_orbit_matches_the_closed_form(system, exact, theta):
    found = jax.jit(lambda theta: first_output(system, theta))(theta)
    expected = jax.vmap(exact, in_axes=(None, 0))(theta, TAU)
    np.testing.assert_allclose(found, expected, atol=2e-4)
    np.testing.assert_allclose(found[0], found[-1], rtol=1e-11)


@CLOSED_FORMS
def test_gradients_match_the_closed_form_and_each_other(system, exact, theta):
    batch = jnp.stack([theta, 0.8 * theta])

    def jacobian(mode, adjoint=ImplicitAdjoint()):
        return jax.jit(jax.vmap(mode(lambda t: first_output(system, t, adjoint=adjoint))))(batch)

    forward_mode = jacobian(jax.jacfwd)
    expected = jax.vmap(jax.jacfwd(lambda t: jax.vmap(exact, (None, 0))(t, TAU)))(batch)
    np.testing.assert_allclose(forward_mode, expected, atol=1e-3)
    np.testing.assert_allclose(forward_mode, jacobian(jax.jacrev), rtol=1e-9, atol=1e-11)
    direct = jacobian(jax.jacfwd, DirectAdjoint(60))
    np.testing.assert_allclose(forward_mode, direct, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(("name", "expected"), [("x_0", 0.7), ("idle", 0.0)])
def test_gradient_of_one_parameter_alone(name, expected):
    # Then the others carry no tangent at all; `idle` acts on neither the beat nor the start.
    def x_at_start(value):
        p = ExchangeParameters(**{name: value})
        return periodic_orbit(TwoCompartments(), p, steps=400, method=TIGHT).states.x[0]

    value = ExchangeParameters.specs()[name].default
    np.testing.assert_allclose(jax.jit(jax.grad(x_at_start))(value), expected, atol=1e-4)


def test_giving_up_is_reported_or_raised():
    # The start is on no account periodic after one beat of a slow exchange.
    once = BeatIteration(max_beats=1)
    p = ExchangeParameters(k=0.1)
    orbit = periodic_orbit(TwoCompartments(), p, steps=50, method=once, throw=False)
    assert orbit.stats.beats == 1 and not orbit.success
    assert orbit.result == RESULTS.max_beats_reached
    assert orbit.stats.residual > once.tolerance
    with pytest.raises(RuntimeError, match=r"still changed .* at T=2, k=0\.1, a=1\.5, x_0=3"):
        periodic_orbit(TwoCompartments(), p, steps=50, method=once)
    # Traced values have no names to give.
    with pytest.raises(RuntimeError, match="did not converge for some ExchangeParameters"):
        eqx.filter_jit(periodic_orbit)(TwoCompartments(), p, steps=50, method=once)


def test_no_beats():
    with pytest.raises(ValueError, match="max_beats=0: expected at least one"):
        periodic_orbit(TwoCompartments(), ExchangeParameters(), method=BeatIteration(max_beats=0))


@pytest.mark.slow
@pytest.mark.parametrize(
    "solver",
    [
        dfx.Tsit5(),  # Carries its last stage from step to step.
        dfx.Kvaerno3(root_finder=dfx.VeryChord(rtol=1e-10, atol=1e-10)),
    ],
    ids=["Tsit5", "Kvaerno3"],
)
def test_any_diffrax_solver(solver):
    def at_start(theta):
        p = ExchangeParameters(*theta)
        orbit = periodic_orbit(
            TwoCompartments(), p, steps=100, solver=solver, method=NewtonIteration(1e-9)
        )
        return orbit.states.x[0]

    theta = jnp.array([2.0, 0.4, 1.5, 3.0])
    np.testing.assert_allclose(jax.jit(at_start)(theta), exchange_exact(theta, 0.0), atol=1e-6)
    expected = jax.grad(exchange_exact)(theta, 0.0)
    np.testing.assert_allclose(jax.jit(jax.jacfwd(at_start))(theta), expected, atol=1e-5)
    np.testing.assert_allclose(jax.jit(jax.grad(at_start))(theta), expected, atol=1e-5)


@pytest.mark.filterwarnings("ignore:parameters of .* far outside their bounds")
def test_divergence_is_told_from_slowness():
    p = ExchangeParameters(k=jnp.nan)
    orbit = periodic_orbit(TwoCompartments(), p, steps=50, throw=False)
    assert orbit.result == RESULTS.diverged and jnp.isnan(orbit.stats.residual)
    with pytest.raises(RuntimeError, match="not a number"):
        periodic_orbit(TwoCompartments(), p, steps=50)


@pytest.mark.parametrize(
    "method", [AndersonIteration(1e-10), NewtonIteration(1e-10)], ids=["Anderson", "Newton"]
)
def test_iterations_agree_and_are_faster(method):
    options = {"steps": 96, "solver": SDIRK2(newton_iterations=1)}
    p = ExchangeParameters(k=0.15)
    plain = periodic_orbit(TwoCompartments(), p, method=BeatIteration(1e-10), **options)
    orbit = periodic_orbit(TwoCompartments(), p, method=method, **options)
    np.testing.assert_allclose(orbit.outputs.x, plain.outputs.x, rtol=0, atol=2e-9)
    assert plain.stats.beats > 30 and orbit.stats.beats <= 8


class Charged(Windkessel):
    """Starts 2% below its mean."""

    def initial_state(self, p):
        return Leaky(0.98 * p.R)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.filterwarnings("ignore:parameters of .* far outside their bounds")
def test_a_model_that_takes_a_thousand_beats_to_settle(dtype):
    theta = (2.0, 1.2, 2.0 * 1000 / 1.2)
    p = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), LeakyParameters(*theta))
    orbit = periodic_orbit(Windkessel(), p, throw=False)
    assert orbit.success and orbit.stats.beats <= 3
    exact = np.asarray(windkessel_exact(theta, np.arange(241) / 240))
    np.testing.assert_allclose(orbit.states.P, exact, rtol=1e-6 if dtype == np.float64 else 2e-3)
    # The estimate is of the discretisation, not of what the search left.
    assert orbit.stats.error < 1e-3
    # A beat from 2% below changes by 2e-5 only; it is not the orbit, and does not say that it is.
    beat = periodic_orbit(Charged(), p, method=BeatIteration(), throw=False)
    assert beat.result == RESULTS.max_beats_reached
    assert abs(beat.states.P[0] / exact[0] - 1) > 0.015


class Pairs(NamedTuple):
    a: Scalar
    b: Scalar
    c: Scalar
    d: Scalar


class TwoExchanges(AbstractPeriodicSystem[Pairs, ExchangeParameters, Pairs]):
    """Two exchanges side by side, (a, b) and (c, d): two totals are conserved."""

    parameters: ClassVar = ExchangeParameters

    def vector_field(self, t, state, p):
        drive = p.a * jnp.cos(2 * jnp.pi * t / p.T)
        first = -p.k * (state.a - state.b) + drive
        second = -p.k * (state.c - state.d) - 2 * drive
        return Pairs(first, -first, second, -second)

    def initial_state(self, p):
        return Pairs(p.x_0, p.k * p.x_0, 3 * p.x_0, 3 * p.k * p.x_0)

    def outputs(self, t, state, p):
        return state

    def period(self, p):
        return p.T

    def conserved(self, state, p):
        # Independent, but not at right angles.
        return (state.a + state.b, state.a + state.b + 2 * (state.c + state.d))


@pytest.mark.slow
def test_several_conserved_quantities():
    def at_start(theta):
        p = ExchangeParameters(*theta)
        orbit = periodic_orbit(TwoExchanges(), p, steps=400, method=NewtonIteration(1e-10))
        return jnp.stack([orbit.states.a[0], orbit.states.c[0]])

    def exact(theta):
        T, k, a, x_0 = theta
        first = exchange_exact((T, k, a, x_0), 0.0)
        return jnp.stack([first, exchange_exact((T, k, -2 * a, 3 * x_0), 0.0)])

    theta = jnp.array([2.0, 0.4, 1.5, 3.0])
    np.testing.assert_allclose(jax.jit(at_start)(theta), exact(theta), atol=2e-4)
    expected = jax.jacfwd(exact)(theta)
    for mode in (jax.jacfwd, jax.jacrev):
        np.testing.assert_allclose(jax.jit(mode(at_start))(theta), expected, atol=1e-3)


@pytest.mark.slow
def test_memory_of_a_gradient_does_not_grow_with_the_beats():
    def bytes_for(**options):
        def total(p):
            orbit = periodic_orbit(TwoCompartments(), p, steps=50, throw=False, **options)
            return jnp.sum(orbit.outputs.x)

        p = jax.tree.map(jnp.asarray, ExchangeParameters())
        compiled = jax.jit(jax.grad(total)).lower(p).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    few, many = (bytes_for(method=NewtonIteration(max_beats=n)) for n in (5, 500))
    assert few == many
    few, many = (bytes_for(adjoint=DirectAdjoint(n)) for n in (5, 50))
    assert many > 2 * few


def test_same_shapes_are_traced_once():
    @jax.jit
    def run(p):
        return periodic_orbit(Traced(), p, steps=50)

    run(ExchangeParameters(k=0.3))
    count = len(traces)
    assert count > 0
    run(ExchangeParameters(k=0.5))
    assert len(traces) == count
    # Not jitted by the user, and with another object of the same kind.
    for k in (0.3, 0.5):
        periodic_orbit(Traced(), ExchangeParameters(k=k), steps=50)
        count = count if k == 0.5 else len(traces)
    assert len(traces) == count


def test_a_solver_that_is_none():
    with pytest.raises(ValueError, match="of type str: expected SDIRK2"):
        periodic_orbit(TwoCompartments(), ExchangeParameters(), solver="Kvaerno3")
