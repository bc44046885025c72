"""One patient's orbit and gradient by small programs, beside those of the programs for many."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.first_answer import count
from jaxtwin.models.left_heart import SEVEN, LeftHeart
from jaxtwin.physics import compilation
from jaxtwin.physics.base import read
from jaxtwin.physics.beat import BeatMap
from jaxtwin.physics.compact import search
from jaxtwin.physics.iteration import AndersonIteration, BeatIteration, NewtonIteration
from jaxtwin.physics.periodic import periodic_orbit
from jaxtwin.physics.sdirk import SDIRK2
from tests.systems import LeakyParameters, Windkessel

THETA = jnp.asarray(SEVEN.sample(2, seed=3))
TABLE = jnp.array([[1.0, 1.2, 0.7], [0.8, 0.6, 1.5]])
close = functools.partial(np.testing.assert_allclose, rtol=1e-8, atol=1e-9)


def orbit(theta, method=NewtonIteration()):
    return periodic_orbit(LeftHeart(), SEVEN.complete(theta), steps=60, method=method, throw=False)


def of_windkessel(theta, method=NewtonIteration()):
    return periodic_orbit(Windkessel(), LeakyParameters(*theta), steps=24, method=method)


def numbers(theta):
    found = of_windkessel(theta)
    return jnp.stack([found.states.P.max(), found.states.P.min(), found.times[-1]])


def assert_equal(solve, table):
    """Compare each patient's solution with those of all together."""
    many = jax.jit(jax.vmap(solve))(table)
    for i, theta in enumerate(table):
        one, there = solve(theta), jax.tree.map(lambda leaf, i=i: leaf[i], many)
        assert one.success and one.stats.beats == there.stats.beats
        jax.tree.map(close, (one.states, one.outputs), (there.states, there.outputs))
        jax.tree.map(close, one.stats.errors, there.stats.errors)


def test_the_small_program_finds_what_the_quick_one_finds():
    assert_equal(orbit, THETA)


@pytest.mark.parametrize("method", [AndersonIteration(), BeatIteration()])
def test_so_it_does_with_any_iteration(method):
    assert_equal(functools.partial(of_windkessel, method=method), TABLE)


def test_the_gradient_of_one_patient_is_that_of_many():
    def volume(theta):
        return read(LeftHeart(), orbit(theta), ["EF"])["EF"]

    found = [jax.grad(volume)(theta) for theta in THETA]
    close(found, jax.jit(jax.vmap(jax.grad(volume)))(THETA))


def test_every_way_to_differentiate_one_patient():
    rows = jax.jit(jax.jacfwd(numbers))(TABLE[0])
    theta, direction = TABLE[0], jnp.arange(3.0)
    close(jax.jacrev(numbers)(theta), rows)
    close(jax.jacfwd(numbers)(theta), rows)
    close(jax.jvp(numbers, (theta,), (direction,))[1], rows @ direction)
    value, push = jax.linearize(numbers, theta)
    close(value, numbers(theta))
    close(push(direction), rows @ direction)
    close(jax.vmap(push)(jnp.eye(3)).T, rows)
    close(jax.jit(push)(direction), rows @ direction)
    close(jax.vmap(jax.grad(lambda t: numbers(t)[0]))(TABLE)[0], rows[0])


def test_the_gradient_of_one_parameter_alone():
    def highest(R):
        return numbers((1.0, R, 0.7))[0]

    found = jax.grad(highest)(jnp.array(1.2))
    close(found, jax.jit(jax.grad(lambda t: numbers(t)[0]))(jnp.array([1.0, 1.2, 0.7]))[1])


def test_a_patient_without_an_orbit_has_no_gradient():
    def highest(theta):
        method = NewtonIteration(tolerance=1e-30, max_beats=1)
        p = LeakyParameters(*theta)
        found = periodic_orbit(Windkessel(), p, steps=24, method=method, throw=False)
        return found.states.P.max(), found.success

    slope, success = jax.grad(highest, has_aux=True)(TABLE[0])
    assert not success
    np.testing.assert_array_equal(slope, 0)


def test_second_derivatives_are_refused():
    with pytest.raises(NotImplementedError, match="second derivatives"):
        jax.grad(lambda t: jax.grad(lambda t: numbers(t)[0])(t)[0])(TABLE[0])


def test_the_steps_of_a_beat_are_in_the_program_once():
    """Not once in each of the three loops: the point of the small program."""

    def searched(theta):
        beats = BeatMap(LeftHeart(), SEVEN.complete(theta), SDIRK2(), 60)
        return search(beats, NewtonIteration()).beat

    small = count(jax.make_jaxpr(searched)(THETA[0]).jaxpr)
    quick = count(jax.make_jaxpr(lambda t: orbit(t).states)(THETA[0]).jaxpr)
    assert small < 0.6 * quick


def test_a_second_patient_compiles_nothing():
    gradient = jax.grad(lambda theta: numbers(theta)[0])
    gradient(TABLE[0])
    events = []
    jax.monitoring.register_event_duration_secs_listener(lambda name, _, **__: events.append(name))
    try:
        gradient(TABLE[1])
    finally:
        jax.monitoring.clear_event_listeners()
    assert not [name for name in events if "compile" in name or "trace" in name]


def test_a_compiler_without_one_of_the_quick_options(monkeypatch):
    assert compilation._quick_options()["xla_backend_optimization_level"] == 0
    monkeypatch.setattr(compilation, "_QUICKLY", {"xla_no_such_option": True})
    compilation._quick_options.cache_clear()
    assert compilation._quick_options() == {}
    assert compilation.compiled(lambda x: 2 * x)(jnp.array(1.5)) == 3
    compilation._quick_options.cache_clear()
