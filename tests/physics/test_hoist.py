"""Splitting of a vector field: the same values, with each operation in the right part."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxtwin.models.left_heart import LeftHeart, LeftHeartParameters, LeftHeartState
from jaxtwin.physics.hoist import hoist


def operations(f, *args):
    """Names of all operations of f, those inside jitted functions too."""

    def names(jaxpr):
        for equation in jaxpr.eqns:
            if "jaxpr" in equation.params:
                yield from names(equation.params["jaxpr"].jaxpr)
            else:
                yield equation.primitive.name

    return list(names(jax.make_jaxpr(f)(*args).jaxpr))


def field(p):
    heart = LeftHeart()

    def f(t, y):
        return list(heart.vector_field(t, LeftHeartState(*y), p))

    return f


STATE = [jnp.asarray(v) for v in (120.0, 8.0, 80.0, 78.0, 30.0)]


def test_the_parts_make_the_whole():
    def both(p, t, y):
        constants, drive, rates = hoist(field(p), y)
        return rates((constants, drive(t)), y), field(p)(t, y)

    p = jax.tree.map(jnp.asarray, LeftHeartParameters())
    for t in (0.0, 0.1, 0.37, 0.9):
        for factor in (0.3, 1.0, 2.0):
            split, whole = jax.jit(both)(p, t, [factor * v for v in STATE])
            np.testing.assert_allclose(split, whole, rtol=1e-12, atol=1e-9)


def test_the_left_heart_s_powers_and_divisions_do_not_wait_for_the_state():
    p = jax.tree.map(jnp.asarray, LeftHeartParameters())

    def rates(p, t, y):
        constants, drive, rates = hoist(field(p), y)
        driven = drive(t)
        return jax.make_jaxpr(rates)((constants, driven), y), driven

    jaxprs = []

    def trace(p, t, y):
        jaxpr, driven = rates(p, t, y)
        jaxprs.append(jaxpr)
        return driven

    driven = jax.eval_shape(trace, p, 0.1, STATE)
    assert len(driven) == 1  # The elastance is all that the time enters.
    needed = {equation.primitive.name for equation in jaxprs[0].jaxpr.eqns}
    assert needed - {"convert_element_type"} == {"mul", "sub", "add", "max"}
    assert {"div", "pow"} & set(operations(lambda t, y: field(p)(t, y), 0.1, STATE))


def test_gradients_go_through_the_parts():
    def total(split, E_max, y):
        p = jax.tree.map(jnp.asarray, LeftHeartParameters(E_max=E_max))
        if split:
            constants, drive, rates = hoist(field(p), y)
            return sum(rates((constants, drive(0.2)), y)[:3])
        return sum(field(p)(0.2, y)[:3])

    for argnum in (1, 2):
        a, b = (jax.jit(jax.grad(total, argnum), static_argnums=0)(s, 2.0, STATE) for s in (0, 1))
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_integers_and_jitted_functions_inside():
    @jax.jit
    def inner(x, gain):
        return jnp.where(x > 1, x / gain, 0.0), gain + 1

    def f(t, y):
        scaled, following = inner(y[0], jnp.sin(t))
        return [scaled / following + y[0] // 2]

    constants, drive, rates = hoist(f, [jnp.array(3.0)])
    found = rates((constants, drive(jnp.array(0.5))), [jnp.array(3.0)])
    np.testing.assert_allclose(found, f(0.5, [jnp.array(3.0)]), rtol=1e-12)
