"""The implicit solver against closed forms, dense linear algebra and theory."""

from typing import NamedTuple

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtwin.physics.sdirk import SDIRK2
from jaxtwin.physics.solve import DiffraxSDIRK2
from jaxtwin.physics.stage import elimination_order, factorise, structure, substitute


class Oscillator(NamedTuple):
    x: jax.Array
    v: jax.Array


class Chain(NamedTuple):
    a: jax.Array
    b: jax.Array
    c: jax.Array


def integrate(f, y0, t1, steps, args=None):
    """y(t1) by equal steps of SDIRK2."""
    term, solver, h = dfx.ODETerm(f), DiffraxSDIRK2(), t1 / steps

    def body(y, k):
        return solver.step(term, k * h, (k + 1) * h, y, args, None, made_jump=False)[0], None

    return jax.jit(lambda y: jax.lax.scan(body, y, jnp.arange(steps))[0])(y0)


def forced_oscillator(t, y, args):
    return Oscillator(y.v, -4 * y.x + jnp.cos(t))


def test_order_two_on_a_forced_oscillator():
    # x'' + 4x = cos t from rest: x = (cos t − cos 2t)/3.
    errors = [
        float(
            integrate(forced_oscillator, Oscillator(jnp.array(0.0), jnp.array(0.0)), 3.0, n).x
            - (np.cos(3.0) - np.cos(6.0)) / 3
        )
        for n in (50, 100, 200)
    ]
    rates = np.log2(np.abs(np.array(errors[:-1]) / np.array(errors[1:])))
    np.testing.assert_allclose(rates, 2, atol=0.1)
    assert abs(errors[-1]) < 1e-3


def test_stability_function():
    # One step on y' = λy gives R(z) = (1 + (1 − 2γ)z)/(1 − γz)²; L-stability is R(−∞) = 0.
    gamma = 1 - 1 / np.sqrt(2)
    for z in (-1e-2, -1.0, -1e2, -1e8):
        y = integrate(lambda t, y, z: [z * y[0]], [jnp.array(1.0)], 1.0, 1, jnp.array(z))
        exact = (1 + (1 - 2 * gamma) * z) / (1 - gamma * z) ** 2
        np.testing.assert_allclose(y[0], exact, rtol=1e-9, atol=1e-13)


def test_stiff_scalar_follows_its_slow_solution():
    # y' = −λ(y − sin t) + cos t tends to sin t at once, with λh = 5e4.
    def f(t, y, _):
        return [-1e6 * (y[0] - jnp.sin(t)) + jnp.cos(t)]

    np.testing.assert_allclose(integrate(f, [jnp.array(5.0)], 1.0, 20)[0], np.sin(1), atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_sparse_elimination_matches_dense(seed):
    rng = np.random.default_rng(seed)
    n = 7
    dense = rng.normal(size=(n, n)) * (rng.random((n, n)) < 0.35) + 5 * np.eye(n)
    b = rng.normal(size=n)
    rows = [{j: jnp.asarray(row[j]) for j in np.flatnonzero(row).tolist()} for row in dense]
    order = elimination_order([set(row) for row in rows])
    x = substitute(factorise(rows, order), list(jnp.asarray(b)), order)
    np.testing.assert_allclose(jnp.stack(x), jnp.linalg.solve(dense, b), rtol=1e-11)
    assert sum(map(len, rows)) == np.count_nonzero(dense), "the rows given must not be changed"


def test_sparsity_of_a_known_function():
    offset = jnp.array(2.0)

    def f(x):
        a, b, c = x
        return [a * offset, jnp.where(b > 0, c, 0.0), offset, b, jnp.maximum(a, 0) + jnp.sin(c) * a]

    found = structure(f, [jnp.array(1.0)] * 3).depends
    assert found == [{0}, {1, 2}, set(), {1}, {0, 2}]


def exchange(t, y, args):
    """Three compartments that exchange by a switching flow and a non-linear one."""
    one = jnp.maximum(y.a - y.b, 0) * 1e4
    two = y.b * y.c - jnp.sin(t) * y.a
    return Chain(-one + two, one - 2 * two, two)


def test_linear_invariants_are_conserved_to_rounding():
    y0 = Chain(*jnp.array([3.0, 1.0, 2.0]))
    y1 = integrate(exchange, y0, 2.0, 300)
    assert abs(y1.a - y0.a) > 0.1
    np.testing.assert_allclose(sum(y1), sum(y0), rtol=1e-13)


@pytest.mark.parametrize("tolerance", [1e-4, 1e-6])
def test_adaptive_steps_in_diffrax_with_dense_output(tolerance):
    times = jnp.linspace(0.0, 3.0, 17)
    solution = dfx.diffeqsolve(
        dfx.ODETerm(forced_oscillator),
        DiffraxSDIRK2(),
        0.0,
        3.0,
        None,
        Oscillator(jnp.array(0.0), jnp.array(0.0)),
        saveat=dfx.SaveAt(ts=times),
        stepsize_controller=dfx.PIDController(rtol=tolerance, atol=tolerance),
        max_steps=20_000,
    )
    exact = (np.cos(times) - np.cos(2 * times)) / 3
    np.testing.assert_allclose(solution.ys.x, exact, atol=30 * tolerance)
    # The error estimate is of second order: steps grow like tolerance^(-1/2), neither like
    # tolerance^(-1) nor like tolerance^(-1/3).
    assert solution.stats["num_steps"] < 6 * tolerance**-0.5


def test_gradient_matches_finite_differences():
    # Non-linear, non-smooth and time-dependent, so that a lost term of the implicit-function
    # theorem shows.
    def f(t, y, k):
        flow = jnp.maximum(y.a * k - y.b, 0) * 50
        return Chain(-flow + jnp.sin(k * t), flow - y.b * y.c, y.b**2 - k * y.c)

    @jax.jit
    def final(k):
        return jnp.stack(integrate(f, Chain(k, k**2, jnp.array(0.3)), 1.3 * k, 60, k))

    k, e = jnp.array(0.9), 1e-6
    numeric = (final(k + e) - final(k - e)) / (2 * e)
    np.testing.assert_allclose(jax.jacfwd(final)(k), numeric, rtol=1e-5)


def test_one_iteration_is_exact_for_a_linear_system():
    def decay(k, iterations):
        term = dfx.ODETerm(lambda t, y, k: [-k * y[0]])
        solver = DiffraxSDIRK2(SDIRK2(newton_iterations=iterations))
        return solver.step(term, 0.0, 1.0, [jnp.array(1.0)], k, None, made_jump=False)[0][0]

    for iterations in (1, 3):
        gamma, z = 1 - np.sqrt(0.5), -0.7
        exact = (1 + (1 - 2 * gamma) * z) / (1 - gamma * z) ** 2
        slope = (1 - 2 * gamma + 2 * gamma * exact * (1 - gamma * z)) / (1 - gamma * z) ** 2
        found = jax.value_and_grad(decay)(0.7, iterations)
        np.testing.assert_allclose(found, (exact, -slope), rtol=1e-12)


def test_arguments_need_not_be_arrays():
    def field(t, y, args):
        return -args["k"] * y if args["law"] == "decay" else args["k"] * y

    args = {"k": jnp.array(1.0), "law": "decay"}
    found = dfx.diffeqsolve(
        dfx.ODETerm(field), DiffraxSDIRK2(), 0.0, 1.0, 0.01, jnp.array(1.0), args=args
    )
    np.testing.assert_allclose(np.asarray(found.ys), np.exp(-1.0), rtol=1e-4)
