"""Periodic orbits and their gradients: closed forms first, then the left heart."""

from typing import ClassVar, NamedTuple

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtwin.models.left_heart import SEVEN, LeftHeart
from jaxtwin.parameters import AbstractParameters, Scalar, parameter
from jaxtwin.physics.adjoint import DirectAdjoint, ImplicitAdjoint
from jaxtwin.physics.base import AbstractPeriodicSystem, read
from jaxtwin.physics.beat import BeatMap
from jaxtwin.physics.fixed_point import inverse
from jaxtwin.physics.iteration import (
    AndersonIteration,
    BeatIteration,
    NewtonIteration,
)
from jaxtwin.physics.periodic import periodic_orbit
from jaxtwin.physics.sdirk import SDIRK2
from jaxtwin.physics.solution import RESULTS

TIGHT = BeatIteration(tolerance=1e-12, max_beats=60)
traces = []


class ExchangeParameters(AbstractParameters):
    T: Scalar = parameter(2.0, (1.0, 3.0), symbol="T", unit="s", meaning="period")
    k: Scalar = parameter(0.4, (0.1, 1.0), symbol="k", unit="1/s", meaning="rate")
    a: Scalar = parameter(1.5, (0.0, 3.0), symbol="a", unit="mL/s", meaning="amplitude")
    x_0: Scalar = parameter(3.0, (0.0, 9.0), symbol="x_0", unit="mL", meaning="x at t = 0")
    idle: Scalar = parameter(1.0, (0.0, 2.0), symbol="i", unit="", meaning="without effect")


class Exchange(NamedTuple):
    x: Scalar
    y: Scalar


class TwoCompartments(AbstractPeriodicSystem[Exchange, ExchangeParameters, Exchange]):
    """dx/dt = −k(x − y) + a cos ωt = −dy/dt: the total is conserved, and starts as x_0 (1 + k)."""

    parameters: ClassVar = ExchangeParameters

    def vector_field(self, t, state, p):
        traces.append(None)
        flow = -p.k * (state.x - state.y) + p.a * jnp.cos(2 * jnp.pi * t / p.T)
        return Exchange(flow, -flow)

    def initial_state(self, p):
        return Exchange(p.x_0, p.k * p.x_0)

    def outputs(self, t, state, p):
        return state

    def period(self, p):
        return p.T

    def conserved(self, state, p):
        return (state.x + state.y,)

    def scaling(self, p):
        return Exchange(0.0, 0.0), Exchange(1.0, 1.0)


class LeakyParameters(AbstractParameters):
    T: Scalar = parameter(2.0, (1.0, 3.0), symbol="T", unit="s", meaning="period")
    R: Scalar = parameter(1.2, (0.1, 2.0), symbol="R", unit="", meaning="resistance")
    C: Scalar = parameter(0.7, (0.1, 2.0), symbol="C", unit="", meaning="compliance")


class Leaky(NamedTuple):
    P: Scalar


class Windkessel(AbstractPeriodicSystem[Leaky, LeakyParameters, Leaky]):
    """C dP/dt = 1 + cos ωt − P/R: nothing is conserved, and the start (0) is forgotten."""

    parameters: ClassVar = LeakyParameters

    def vector_field(self, t, state, p):
        return Leaky((1 + jnp.cos(2 * jnp.pi * t / p.T) - state.P / p.R) / p.C)

    def initial_state(self, p):
        return Leaky(0.0 * p.R)

    def outputs(self, t, state, p):
        return state

    def period(self, p):
        return p.T

    def conserved(self, state, p):
        return ()

    def scaling(self, p):
        return Leaky(0.0), Leaky(1.0)


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_inverse_of_small_matrices(n):
    matrices = np.random.default_rng(n).normal(size=(64, n, n))
    matrices[0] = np.eye(n)[::-1]  # Impossible without pivoting.
    inverses = jax.jit(jax.vmap(inverse))(matrices)
    np.testing.assert_allclose(
        inverses @ matrices, np.broadcast_to(np.eye(n), matrices.shape), atol=1e-10
    )


def exchange_exact(theta, tau):
    """x at the fraction tau of the period."""
    T, k, a, x_0 = theta
    w, phase = 2 * jnp.pi / T, 2 * jnp.pi * tau
    swing = (2 * k * jnp.cos(phase) + w * jnp.sin(phase)) / (4 * k**2 + w**2)
    return x_0 * (1 + k) / 2 + a * swing


def windkessel_exact(theta, tau):
    T, R, C = theta
    lag, phase = 2 * jnp.pi * R * C / T, 2 * jnp.pi * tau
    return R * (1 + (jnp.cos(phase) + lag * jnp.sin(phase)) / (1 + lag**2))


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


@pytest.mark.parametrize(
    "solver",
    [
        dfx.Tsit5(),  # Carries its last stage from step to step.
        pytest.param(
            dfx.Kvaerno3(root_finder=dfx.VeryChord(rtol=1e-10, atol=1e-10)), marks=pytest.mark.slow
        ),
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


class SwitchedWindkessel(AbstractPeriodicSystem[Leaky, LeakyParameters, Leaky]):
    """C dP/dt = u − P/R, where the flow u is 1 until the fraction `on` of the period, then 0."""

    on: float
    declared: tuple[float, ...]
    parameters: ClassVar = LeakyParameters

    def vector_field(self, t, state, p):
        return Leaky((jnp.where(t % p.T < self.on * p.T, 1.0, 0.0) - state.P / p.R) / p.C)

    def discontinuities(self, p):
        return tuple(fraction * p.T for fraction in self.declared)

    def initial_state(self, p):
        return Leaky(0.0 * p.R)

    def outputs(self, t, state, p):
        return state

    def period(self, p):
        return p.T

    def conserved(self, state, p):
        return ()

    def scaling(self, p):
        return Leaky(0.0), Leaky(1.0)


def test_a_declared_discontinuity_restores_the_order():
    T, R, C, on = 2.0, 1.2, 0.7, 0.3137
    peak = R * (1 - np.exp(-on * T / (R * C))) / (1 - np.exp(-T / (R * C)))

    def error(steps, *declared):
        system = SwitchedWindkessel(on, declared)
        orbit = periodic_orbit(system, LeakyParameters(T, R, C), steps=steps, method=TIGHT)
        return abs(orbit.outputs.P.max() - peak), orbit

    coarse, orbit = error(100, on)
    assert coarse < 1e-4 < error(100)[0]
    assert 3.5 < coarse / error(200, on)[0] < 4.5
    # The peak is a sample of the grid, which still has 100 steps and increases.
    assert orbit.times.shape == (101,) and np.all(np.diff(orbit.times) > 0)
    np.testing.assert_allclose(orbit.times[jnp.argmax(orbit.outputs.P)], on * T, rtol=1e-12)


@pytest.mark.parametrize(
    "at", [(0.004, 0.001), (1.9999, 0.5), (0.5, 0.5001, 0.5002), (1.0, 1.0)], ids=str
)
@pytest.mark.parametrize("number", [4, 40, 240])
def test_every_discontinuity_has_a_time_of_its_own(at, number):
    system = SwitchedWindkessel(0.5, tuple(jump / 2.0 for jump in at))
    times = BeatMap(system, LeakyParameters(T=2.0), SDIRK2(), number).times()
    assert times.shape == (number + 1,) and times[0] == 0.0
    np.testing.assert_allclose(times[-1], 2.0, rtol=1e-12)
    assert np.all(np.diff(times) >= 0)
    for jump in at:
        assert np.min(np.abs(times - jump)) < 1e-12
    if len(set(at)) == len(at):
        assert np.all(np.diff(times) > 0)


def test_more_discontinuities_than_steps():
    with pytest.raises(ValueError, match="2 steps a period, and 2 discontinuities"):
        BeatMap(SwitchedWindkessel(0.5, (0.2, 0.5)), LeakyParameters(), SDIRK2(), 2).times()


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

    def scaling(self, p):
        return Pairs(0.0, 0.0, 0.0, 0.0), Pairs(1.0, 1.0, 1.0, 1.0)


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


def test_gradient_across_a_declared_discontinuity():
    def peak(T):
        p = LeakyParameters(T, 1.2, 0.7)
        system = SwitchedWindkessel(0.3137, (0.3137,))
        return periodic_orbit(system, p, steps=400, method=TIGHT).outputs.P.max()

    def exact(T):
        rate = 1 / (1.2 * 0.7)
        return 1.2 * (1 - jnp.exp(-0.3137 * T * rate)) / (1 - jnp.exp(-T * rate))

    np.testing.assert_allclose(jax.jit(jax.grad(peak))(2.0), jax.grad(exact)(2.0), atol=1e-5)


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
        return periodic_orbit(TwoCompartments(), p, steps=50)

    run(ExchangeParameters(k=0.3))
    count = len(traces)
    assert count > 0
    run(ExchangeParameters(k=0.5))
    assert len(traces) == count
    # Not jitted by the user, and with another object of the same kind.
    for k in (0.3, 0.5):
        periodic_orbit(TwoCompartments(), ExchangeParameters(k=k), steps=50)
        count = count if k == 0.5 else len(traces)
    assert len(traces) == count


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
