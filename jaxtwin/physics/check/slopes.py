"""Check that values and derivatives are finite, in both modes, throughout a beat."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np

from jaxtwin.physics.base import AbstractPeriodicSystem, AbstractRecordedSystem, AbstractSystem
from jaxtwin.physics.check.report import Report, compiled, paths
from jaxtwin.physics.check.states import STATES, States

# Between a ten-thousandth of a distance from the switch and the whole distance, the slope of √x
# changes by a factor of 100, that of a line not at all.
STEEPER = 20.0

_ROOT = (
    "write the flow through an orifice as dp / jnp.sqrt(jnp.abs(dp) + eps), eps being about a "
    "thousandth of the usual dp"
)


class Slopes(NamedTuple):
    """Values and derivatives of a system's methods at many states.

    Attributes:
        rows: Method and entry of each value, such as ("vector_field", "P_ao").
        columns: Variable of each derivative, such as ("the state", "P_la").
        values: Values, [state, row].
        forward: Derivatives from forward mode, [state, row, column].
        reverse: Derivatives from reverse mode, [state, row, column].
    """

    rows: list[tuple[str, str]]
    columns: list[tuple[str, str]]
    values: np.ndarray
    forward: np.ndarray
    reverse: np.ndarray

    def select(self, method: str, by: str | None = None) -> np.ndarray:
        """Return values of a method, [state, row], or derivatives by `by`, [state, row, column]."""
        rows = [method == name for name, _ in self.rows]
        if by is None:
            return self.values[:, rows]
        return self.forward[:, rows][:, :, [by == name for name, _ in self.columns]]

    def names(self, method: str) -> list[str]:
        """Return the entries of one method."""
        return [entry for name, entry in self.rows if name == method]

    def joined(self, other: "Slopes") -> "Slopes":
        """Join two sets of states."""
        arrays = (np.concatenate(pair) for pair in zip(self[2:], other[2:], strict=True))
        return Slopes(self.rows, self.columns, *arrays)


def slopes_along(system: AbstractSystem, p: Any) -> Callable[[States], Slopes]:
    """Return a function for values and derivatives at `STATES` states, compiled once."""
    methods: dict[str, Callable[..., Any]] = {
        "vector_field": system.vector_field,
        "outputs": system.outputs,
    }
    if isinstance(system, AbstractPeriodicSystem):
        methods["conserved"] = lambda t, state, p: system.conserved(state, p)
    state = jax.tree.map(lambda leaf: jnp.asarray(leaf, float), system.initial_state(p))
    return _slopes(methods, jnp.zeros(()), state, p)


def slopes_by_parameters(system: AbstractSystem, p: Any) -> Slopes:
    """Compute values and derivatives of the methods that depend on the parameters only."""
    methods: dict[str, Callable[..., Any]] = {
        "initial_state": lambda t, state, p: system.initial_state(p)
    }
    if isinstance(system, AbstractRecordedSystem):
        methods |= {
            "duration": lambda t, state, p: system.duration(p),
            "discontinuities": lambda t, state, p: tuple(system.discontinuities(p)),
            "scaling": lambda t, state, p: system.scaling(p),
        }
    return _slopes(methods, jnp.zeros(()), (), p)(States(jnp.zeros(STATES), ()))


def _slopes(
    methods: dict[str, Callable[..., Any]], t: Any, state: Any, p: Any
) -> Callable[[States], Slopes]:
    shapes = {name: jax.eval_shape(method, t, state, p) for name, method in methods.items()}
    methods = {name: method for name, method in methods.items() if jax.tree.leaves(shapes[name])}
    # Time is last, so that the message names the state if a root affects all columns.
    _, unravel = jax.flatten_util.ravel_pytree((state, p, t))

    def both_modes(method: Callable[..., Any], x: Any) -> Any:
        def vector(x: Any) -> Any:
            state, p, t = unravel(x)
            leaves = jax.tree.leaves(method(t, state, p))
            return jnp.stack([jnp.asarray(leaf, float) for leaf in leaves])

        # One linearisation for both: forward mode evaluates it, reverse mode transposes it.
        values, push = jax.linearize(vector, x)
        forward = jax.vmap(push, out_axes=1)(jnp.eye(x.size))
        pull = jax.linear_transpose(push, x)
        return values, forward, jax.vmap(lambda unit: pull(unit)[0])(jnp.eye(values.size))

    def all_methods(at: States) -> Any:
        x = jax.flatten_util.ravel_pytree((at.states, p, at.times))[0]
        parts = [both_modes(method, x) for method in methods.values()]
        return [jnp.concatenate(part) for part in zip(*parts, strict=True)]

    example = jax.tree.map(lambda leaf: jnp.zeros(STATES), States(t, state))
    function = compiled(jax.vmap(all_methods), example)
    rows = [(name, entry) for name in methods for entry, _ in paths(shapes[name])]
    columns = [
        (by, name)
        for by, tree in (("the state", state), ("the parameters", p), ("time", t))
        for name, _ in paths(tree)
    ]
    return lambda at: Slopes(rows, columns, *map(np.asarray, function(at)))


def check_finite(found: Slopes, where: str, report: Report) -> None:
    """Check that all values and derivatives are finite, in both modes."""
    broken = np.any(~np.isfinite(found.values), axis=0)
    if broken.any():
        entries = [row for row, bad in zip(found.rows, broken, strict=True) if bad]
        method = entries[0][0]
        report.problem(
            f"{method} is NaN or infinite {where}: "
            + ", ".join(name for of, name in entries if of == method),
            "look for a division by a parameter that is 0, or a logarithm or root of a state "
            "that can be negative",
        )
        return
    entry = _first(found, ~np.isfinite(found.forward))
    if entry:
        report.problem(
            f"the derivative of {entry} is not finite {where}",
            "x**a with a real a and log(x) have none at 0, sqrt(x) an infinite one: keep x away "
            f"from 0 with jnp.maximum(x, 1e-12), or rewrite the power; {_ROOT}",
        )
        return
    entry = _first(found, ~np.isfinite(found.reverse))
    if entry:
        report.problem(
            f"jax.grad gives NaN for the derivative of {entry} {where}; forward mode does not",
            "reverse mode differentiates both branches of jnp.where, including the one not "
            "taken: keep it finite with a jnp.where inside, C * jnp.sqrt(jnp.where(dp > 0, dp, "
            f"1.0)), or better, {_ROOT}",
        )
        return


def _first(found: Slopes, wrong: np.ndarray) -> str:
    """Describe the first derivative that is wrong at some state; "" if there is none."""
    at = np.argwhere(wrong.any(axis=0))
    if not len(at):
        return ""
    (method, name), (by, entry) = found.rows[at[0][0]], found.columns[at[0][1]]
    return f"{method}, {name}, by {by}{f', {entry},' if entry else ''}"


def check_switches(found: Slopes, elsewhere: Slopes, n: int, report: Report) -> None:
    """Check that no slope grows without bound towards a switch.

    Args:
        found: Slopes at the states of `at_switches`.
        elsewhere: Slopes at other states.
        n: Number of switches.
        report: Report to which problems are added.
    """
    slopes = np.abs(found.select("vector_field", "the state"))[: 5 * n]
    slopes = slopes.reshape(5, n, *slopes.shape[1:])
    usual = np.abs(elsewhere.select("vector_field", "the state")).max(axis=0)
    near, nearer = slopes[[1, 3]].max(axis=(0, 1)), slopes[[2, 4]].max(axis=(0, 1))
    grown = nearer > STEEPER * np.maximum(near, usual)
    if not grown.any():
        return
    names = found.names("vector_field")
    pairs = ", ".join(f"d{names[i]}/dt by {names[j]}" for i, j in np.argwhere(grown)[:4])
    report.warn(
        "slopes of vector_field grow without bound where a comparison changes its outcome, "
        f"such as when a valve opens: {pairs}. Adaptive solvers stall there, and gradients are "
        "inaccurate",
        f"regularise the root: {_ROOT}",
    )
