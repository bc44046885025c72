"""States at which a system is checked: near the initial state, along beats, and at switches."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Var, jaxpr_as_fun

from jaxtwin.physics.base import AbstractRecordedSystem, AbstractSystem
from jaxtwin.physics.beat import BeatMap
from jaxtwin.physics.sdirk import SDIRK2

STATES = 256
"""Number of states checked together: more than the number of variables of any system here."""
STARTS = 6
"""Number of starting states of beats; the first is the initial state."""
BEATS = 3
"""Number of beats from each starting state."""
NEAR, NEARER = 1e-6, 1e-10
"""Distances from a switch at which slopes are compared, as shares of one solver step."""


class States(NamedTuple):
    """States and their times, [state] on every leaf."""

    times: Any
    states: Any


def around(state: Any, duration: float, n: int = STATES) -> States:
    """Return the initial state and n − 1 others near it, at times throughout the duration."""
    random = np.random.default_rng(0)
    states = jax.tree.map(
        lambda leaf: (
            leaf * jnp.asarray([1.0, *random.uniform(0.5, 1.5, n - 1)])
            + jnp.asarray([0.0, *random.uniform(0.0, 0.1, n - 1)])
        ),
        state,
    )
    return States(jnp.linspace(0.0, duration, n, endpoint=False), states)


def along_beats(system: AbstractRecordedSystem, p: Any, state: Any) -> States:
    """Return finite solutions from several states, [start and beat, time] on every leaf."""

    @jax.jit
    def run(y: Any) -> Any:
        course = BeatMap(system, p, SDIRK2(), system.steps)
        return course.times(), jax.vmap(lambda y: course.steps()(y, record=True).states)(y)

    y, visited = around(state, 1.0, STARTS).states, []
    for _ in range(BEATS):
        visited.append(run(y))
        y = jax.tree.map(lambda leaf: leaf[:, -1], visited[-1][1])
    times, visited = visited[0][0], [states for _, states in visited]
    states = jax.tree.map(lambda *leaves: np.concatenate(leaves), *visited)
    finite = np.all([np.isfinite(leaf).all(axis=1) for leaf in jax.tree.leaves(states)], axis=0)
    states = jax.tree.map(lambda leaf: leaf[finite], states)
    return States(np.broadcast_to(np.asarray(times), (int(finite.sum()), len(times))), states)


def some(visited: States) -> States:
    """Select `STATES` states, evenly spread; all leaves become [state]."""
    total = visited.times.size
    at = np.linspace(0, total - 1, STATES).astype(int)
    return jax.tree.map(lambda leaf: jnp.asarray(np.reshape(leaf, -1)[at]), visited)


def at_switches(system: AbstractSystem, p: Any, visited: States) -> tuple[States, int]:
    """Find where comparisons in the vector field change their outcome, such as a valve opening.

    Returns:
        `STATES` states, and the number of switches. The states at the switches come first, then
        those `NEAR` after each, `NEARER` after, `NEAR` before and `NEARER` before; the remaining
        ones repeat these.
    """
    switches = _switches(system, p, jax.tree.map(lambda leaf: leaf[0, 0], visited))
    values = np.asarray(jax.jit(jax.vmap(jax.vmap(switches)))(visited))
    before, after = values[:, :-1], values[:, 1:]
    found = []
    for side in (np.greater, np.less):  # It opens, and it closes.
        changes = (before <= 0) & (after > 0) if side is np.greater else (before > 0) & (after <= 0)
        for which in range(values.shape[-1]):
            found += [(row, k, which) for row, k in np.argwhere(changes[..., which])[:1]]
    found = found[: STATES // 5]
    if not found:
        return some(visited), 0
    rows, k, which = (np.array(column, int) for column in zip(*found, strict=True))
    start = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)[rows, k]), visited)
    end = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)[rows, k + 1]), visited)

    def between(share: Any, start: States, end: States) -> States:
        return jax.tree.map(lambda a, b: a + share * (b - a), start, end)

    @jax.jit
    @jax.vmap
    def locate(which: Any, start: States, end: States) -> States:
        def is_after(share: Any) -> Any:
            value, first = switches(between(share, start, end))[which], switches(start)[which]
            return (value > 0) != (first > 0)

        def halve(_, bracket):
            low, high = bracket
            middle = (low + high) / 2
            late = is_after(middle)
            return jnp.where(late, low, middle), jnp.where(late, middle, high)

        low, high = jax.lax.fori_loop(0, 60, halve, (jnp.zeros(()), jnp.ones(())))
        # Of two neighbouring floats, the one on the side where the comparison is an equality.
        at = jnp.where(switches(start)[which] > 0, high, low)
        shares = at + jnp.array([0.0, NEAR, NEARER, -NEAR, -NEARER])
        return jax.vmap(between, in_axes=(0, None, None))(shares, start, end)

    found_at = locate(which, start, end)
    return jax.tree.map(lambda leaf: jnp.resize(leaf.T, (STATES,)), found_at), len(found)


_COMPARISONS = ("gt", "ge", "lt", "le", "max", "min")


def _switches(system: AbstractSystem, p: Any, example: States) -> Callable[[States], Any]:
    """Return the differences whose signs the vector field compares, as a function of a state."""
    traced = jax.make_jaxpr(lambda at: system.vector_field(at.times, at.states, p))(example)

    def function(at: States) -> Any:
        found: list[Any] = []
        _evaluate(traced, jax.tree.leaves(at), found)
        return jnp.stack(found) if found else jnp.zeros(0)

    return function


def _evaluate(closed: ClosedJaxpr, args: list[Any], found: list[Any]) -> list[Any]:
    """Evaluate a traced function, and append the differences that its comparisons test."""
    jaxpr = closed.jaxpr
    values: dict[Var, Any] = dict(zip(jaxpr.constvars, closed.consts, strict=True))
    values.update(zip(jaxpr.invars, args, strict=True))

    def value(atom: Any) -> Any:
        return values[atom] if isinstance(atom, Var) else atom.val

    for equation in jaxpr.eqns:
        inputs = [value(atom) for atom in equation.invars]
        name = equation.primitive.name
        is_number = all(
            jnp.ndim(x) == 0 and jnp.issubdtype(jnp.result_type(x), jnp.floating) for x in inputs
        )
        if name in _COMPARISONS and is_number:
            found.append(inputs[0] - inputs[1])
        elif name in ("abs", "sign") and is_number:
            found.append(inputs[0])
        inner = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
        if isinstance(inner, ClosedJaxpr) and name in ("jit", "custom_jvp_call", "remat2"):
            results = _evaluate(inner, inputs, found)
        else:
            variables = list(dict.fromkeys(a for a in equation.invars if isinstance(a, Var)))
            alone = Jaxpr((), variables, equation.outvars, [equation], debug_info=jaxpr.debug_info)
            results = jaxpr_as_fun(ClosedJaxpr(alone, ()))(*(values[a] for a in variables))
        values.update(zip(equation.outvars, results, strict=True))
    return [value(atom) for atom in jaxpr.outvars]
