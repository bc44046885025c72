"""The Jacobian of a stage: exact, and computed without the zeros in it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.first_answer import count
from jaxtwin.models.bjordalsbakke import Bjordalsbakke
from jaxtwin.models.four_chambers import FourChambers
from jaxtwin.models.left_heart import LeftHeart
from jaxtwin.physics.stage import elimination_order, factorise, slopes_of


def rates(system):
    """Rates of a state as a list, and the system's initial state a little off."""
    p = system.parameters()
    leaves, structure = jax.tree.flatten(system.initial_state(p))

    def f(t, y):
        return jax.tree.leaves(system.vector_field(t, jax.tree.unflatten(structure, y), p))

    random = np.random.default_rng(0)
    return f, [jnp.asarray(leaf * random.uniform(0.8, 1.2) + 0.1, float) for leaf in leaves]


@pytest.mark.parametrize("system", [LeftHeart(), FourChambers(), Bjordalsbakke()], ids=repr)
def test_slopes_are_those_of_forward_mode(system):
    f, y = rates(system)
    for t in (0.01, 0.2, 0.5):
        value, columns = slopes_of(f, jnp.asarray(t))(jnp.asarray(t), y)
        np.testing.assert_allclose(jnp.stack(value), jnp.stack(f(t, y)), rtol=1e-12)
        expected = jax.jacfwd(lambda y, t=t: jnp.stack(f(t, list(y))))(jnp.stack(y))
        np.testing.assert_allclose(jnp.stack([jnp.stack(c) for c in columns], 1), expected)


def test_what_is_not_linear_in_an_entry_has_its_slope():
    def f(t, y):
        a, b, c = y
        lowest = jnp.minimum(a, b)
        return [t * a * b - lowest / c, jnp.where(a > b, a, c) ** 2, jnp.cumsum(jnp.stack(y))[1]]

    y = [jnp.asarray(x) for x in (1.3, 0.7, 2.1)]
    _, columns = slopes_of(f, jnp.asarray(2.0))(jnp.asarray(2.0), y)
    expected = jax.jacfwd(lambda y: jnp.stack(f(2.0, list(y))))(jnp.stack(y))
    np.testing.assert_allclose(jnp.stack([jnp.stack(c) for c in columns], 1), expected)


@pytest.mark.parametrize("n", [8, 30, 120])
def test_elimination_on_a_ring_grows_linearly(n):
    """A closed loop of compartments, numbered at random: two more entries for most of them."""
    rng = np.random.default_rng(0)
    number = rng.permutation(n).tolist()
    ring = [set() for _ in range(n)]
    for i in range(n):
        ring[number[i]] = {number[i - 1], number[(i + 1) % n]}
    rows = [{j: jnp.ones(()) for j in (i, *row)} for i, row in enumerate(ring)]
    filled = factorise(rows, elimination_order(ring))
    assert sum(map(len, filled)) <= 5 * n


def test_zeros_cost_nothing():
    """A chain of compartments: each rate depends on two neighbours, whatever the length."""

    def chain(n):
        def f(t, y):
            inflow = [t, *(a * a for a in y[:-1])]
            return [a - b * b for a, b in zip(inflow, y, strict=True)]

        y = [jnp.ones(())] * n
        return count(jax.make_jaxpr(slopes_of(f, jnp.ones(())))(jnp.ones(()), y).jaxpr)

    # Zeros that fill the matrix are quadratic in the length; they are constants of the program.
    assert chain(16) < 2.6 * chain(8)
