"""One patient's loops as one function: the same numbers, for every function that may be given."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtwin import periodic_orbit
from jaxtwin.models.left_heart import LeftHeart
from jaxtwin.physics.kernel import as_one_function

HEART = LeftHeart()


def decay(rate, unused, y):
    """A loop that reads one of its parameters, and one of its elements."""
    powers = jnp.array([1.0, 2.0, 3.0])

    def step(y, power):
        return y * (1 - rate[0] * power / 10), y

    return jax.lax.scan(step, y, powers)


def inputs(n):
    return jnp.tile(jnp.linspace(0.1, 0.5, n)[:, None], 2), jnp.arange(3.0), jnp.arange(1.0, n + 1)


def calls(program):
    """Return how often a compiled program calls a function that was kept as one."""
    return len(re.findall(r" call\(.*to_apply=%one_function", program.compile().as_text()))


def test_one_patient_has_one_function():
    rate, unused, y = inputs(1)
    whole = jax.jit(lambda *args: as_one_function(decay, *args))
    assert calls(whole.lower(rate[0], unused, y[0])) == 1
    found = whole(rate[0], unused, y[0])
    for a, b in zip(found, decay(rate[0], unused, y[0]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-15)


@pytest.mark.parametrize("n", [1, 3, 64, 200])
def test_a_batch_has_the_same_numbers(n):
    rate, unused, y = inputs(n)
    found = jax.vmap(lambda r, y: as_one_function(decay, r, unused, y))(rate, y)
    expected = jax.vmap(lambda r, y: decay(r, unused, y))(rate, y)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-15)


def pushed(rate, y, d_y):
    """The tangent of `decay`, linear in its last argument."""
    return jax.jvp(lambda y: decay(rate, None, y), (y,), (d_y,))[1]


@pytest.mark.parametrize("n", [1, 3, 200])
def test_a_linear_function_is_transposed_as_one_function(n):
    """In either order with vmap, for all patients or none."""
    rate, _, y = inputs(n)

    def back(linear, r, y):
        return jax.linear_transpose(lambda d: linear(r, y, d), y)((y, jnp.full(3, y)))[0]

    def one(r, y, d_y):
        return as_one_function(pushed, r, y, d_y)

    expected = jax.vmap(lambda r, y: back(pushed, r, y))(rate, y)
    patients = jax.jit(jax.vmap(lambda r, y: back(one, r, y)))
    np.testing.assert_allclose(patients(rate, y), expected, rtol=1e-14)
    assert calls(patients.lower(rate, y)) == 1
    whole = jax.linear_transpose(lambda d: jax.vmap(one)(rate, y, d), y)
    found = whole((y, jnp.tile(y[:, None], 3)))[0]
    np.testing.assert_allclose(found, expected, rtol=1e-14)


def test_directions_are_computed_one_after_the_other():
    """They share the patient's numbers, and no operation has an axis of them."""
    rate, _, y = inputs(1)
    many = jnp.arange(5.0)

    def one(d_y):
        path = jnp.linspace(y[0], 2 * y[0], 50)  # More numbers than a direction has.
        return as_one_function(lambda p, d: pushed(rate[0], p[0], d) * p[-1], path, d_y)

    def pushed(rate, y, d_y):
        return jax.jvp(lambda y: decay(rate, None, y)[0], (y,), (d_y,))[1]

    program = jax.jit(jax.vmap(one)).lower(many)
    np.testing.assert_allclose(program.compile()(many), [one(d) for d in many], rtol=1e-14)
    text = program.compile().as_text()
    assert text
    call = re.search(r"%one_function[^\n]*\{\n(.*?)\n\}", text, re.S)
    assert call and "[5]" not in call[1]


def test_it_is_differentiated_like_the_function_itself():
    rate, unused, y = inputs(1)

    def end(y):
        return as_one_function(decay, rate[0], unused, y)[0]

    expected = jax.jacfwd(lambda y: decay(rate[0], unused, y)[0])(y[0])
    np.testing.assert_allclose(jax.grad(end)(y[0]), expected, rtol=1e-14)
    np.testing.assert_allclose(jax.jacfwd(end)(y[0]), expected, rtol=1e-14)


def test_values_closed_over_may_be_mapped_and_nested():
    rate, unused, y = inputs(4)

    def of(r, y):
        return as_one_function(lambda y: decay(r, unused, y), y)[0]

    found = jax.jit(jax.vmap(jax.vmap(of, (None, 0)), (0, None)))(rate, y)
    np.testing.assert_allclose(found, [[decay(r, unused, v)[0] for v in y] for r in rate])


def test_what_is_known_when_a_program_is_traced():
    rate, unused, y = inputs(1)
    found = jax.jit(lambda: as_one_function(decay, rate[0], unused, y[0]))()
    np.testing.assert_allclose(found[0], decay(rate[0], unused, y[0])[0], rtol=1e-15)


@pytest.mark.parametrize(
    "library",
    [
        lambda y: jnp.linalg.solve(jnp.eye(2) * y, jnp.ones(2))[0],
        lambda y: jnp.sort(jnp.stack([y, 2 * y]))[0],
        lambda y: jnp.fft.fft(jnp.stack([y, y])).real[0],
        lambda y: jnp.zeros(3).at[jnp.array([0, 0])].add(y)[0],
        lambda y: jax.pure_callback(lambda y: y, jax.ShapeDtypeStruct((), y.dtype), y),
    ],
    ids=["factorisation", "sort", "Fourier transform", "scatter", "callback"],
)
def test_what_xla_does_not_compile_itself_runs_as_usual(library):
    def repeated(y):
        return jax.lax.fori_loop(0, 3, lambda _, y: library(y) + 1, y)

    program = jax.jit(lambda y: as_one_function(repeated, y))
    assert calls(program.lower(jnp.array(2.0))) == 0
    np.testing.assert_allclose(program(jnp.array(2.0)), repeated(jnp.array(2.0)))


def test_whole_numbers_and_keys_are_not_rounded():
    large, key = jnp.int32(2**24 + 1), jax.random.key(0)
    program = jax.jit(lambda *args: as_one_function(lambda n, key, y: (n, key, 2 * y), *args))
    found = program(large, key, jnp.float32(1.5))
    assert found[0] == large and jnp.all(found[1] == key) and found[2] == 3
    assert as_one_function(lambda: jnp.ones(2)).sum() == 2


def test_the_loops_of_an_orbit():
    """Coarse beats, their Jacobian and the beats on the full grid."""
    p = jax.tree.map(jnp.asarray, HEART.parameters())
    orbit = jax.jit(lambda p: periodic_orbit(HEART, p, throw=False).outputs.V_lv)
    assert calls(orbit.lower(p)) == 3
    at_once = jax.jit(jax.vmap(orbit))(jax.tree.map(lambda x: jnp.repeat(x, 70), p))
    np.testing.assert_allclose(at_once, jnp.tile(orbit(p), (70, 1)), atol=1e-9)
    # Outside of any program too, where it is compiled quickly.
    np.testing.assert_allclose(periodic_orbit(HEART, p).outputs.V_lv, orbit(p), atol=1e-9)


@pytest.mark.parametrize(("rows", "together"), [(7, {1}), (128, {128}), (300, {128})])
def test_patients_who_share_the_times_are_computed_together(rows, together):
    """What they share is more than what each has, as with the directions of a derivative."""
    times = jnp.linspace(0.0, 1.0, 240, dtype=jnp.float32)

    def f(x):
        return as_one_function(
            lambda t, x: jax.lax.scan(lambda y, t: (y + t * x, y), x, t), times, x
        )

    def widths(jaxpr):
        for equation in jaxpr.eqns:
            if equation.primitive.name == "one_function":
                yield equation.params["lanes"]
            for value in equation.params.values():
                inner = getattr(value, "jaxpr", value)
                if hasattr(inner, "eqns"):
                    yield from widths(inner)

    x = jnp.arange(rows, dtype=jnp.float32)
    assert set(widths(jax.make_jaxpr(jax.vmap(f))(x).jaxpr)) == together
    last, _ = jax.jit(jax.vmap(f))(x)
    np.testing.assert_allclose(last, x * (1 + times.sum()), rtol=1e-5)
