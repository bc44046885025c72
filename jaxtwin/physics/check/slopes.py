"""Are a system's values and derivatives finite, in both modes, wherever a beat leads?"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np

from jaxtwin.physics.base import AbstractPeriodicSystem, AbstractRecordedSystem, AbstractSystem
from jaxtwin.physics.check.report import Report, compiled, paths
from jaxtwin.physics.check.states import STATES, States

# Between a ten-thousandth of a distance and all of it, √x grows by 100, and a line not at all.
STEEPER = 20.0

_ROOT = (
    "write the flow through an orifice as dp / jnp.sqrt(jnp.abs(dp) + eps), eps being about a "
    "thousandth of the usual dp"
)


class Slopes(NamedTuple):
    """Values and derivatives of a system's methods at many states.

    Attributes:
        rows: Method and entry of each value, such as ("vector_field", "P_ao").
        columns: What it is derived by, such as ("the state", "P_la").
        values: [state, row].
        forward: Derivatives from forward mode, [state, row, column].
        reverse: The same from reverse mode.
    """

    rows: list[tuple[str, str]]
    columns: list[tuple[str, str]]
    values: np.ndarray
    forward: np.ndarray
    reverse: np.ndarray

    def of(self, method: str, by: str | None = None) -> np.ndarray:
        """Values of one method, [state, row]; derivatives [state, row, column] with `by`."""
        rows = [method == name for name, _ in self.rows]
        if by is None:
            return self.values[:, rows]
        return self.forward[:, rows][:, :, [by == name for name, _ in self.columns]]

    def names(self, method: str) -> list[str]:
        """The entries of one method."""
        return [entry for name, entry in self.rows if name == method]

    def and_of(self, other: "Slopes") -> "Slopes":
        """Those of both sets of states."""
        arrays = (np.concatenate(pair) for pair in zip(self[2:], other[2:], strict=True))
        return Slopes(self.rows, self.columns, *arrays)


def slopes_along(system: AbstractSystem, p: Any) -> Callable[[States], Slopes]:
    """A function that gives values and derivatives at `STATES` states, compiled once."""
    methods: dict[str, Callable[..., Any]] = {
        "vector_field": system.vector_field,
        "outputs": system.outputs,
    }
    if isinstance(system, AbstractPeriodicSystem):
        methods["conserved"] = lambda t, state, p: system.conserved(state, p)
    state = jax.tree.map(lambda leaf: jnp.asarray(leaf, float), system.initial_state(p))
    return _slopes(methods, jnp.zeros(()), state, p)


def slopes_by_parameters(system: AbstractSystem, p: Any) -> Slopes:
    """Values and derivatives of what depends on the parameters alone."""
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
    # Time comes last: where a root spoils all columns, the state is named.
    _, unravel = jax.flatten_util.ravel_pytree((state, p, t))

    def both_modes(method: Callable[..., Any], x: Any) -> Any:
        def vector(x: Any) -> Any:
            state, p, t = unravel(x)
            leaves = jax.tree.leaves(method(t, state, p))
            return jnp.stack([jnp.asarray(leaf, float) for leaf in leaves])

        # One trace for both: forward mode pushes through what reverse mode pulls back through.
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
    """Are all values and derivatives finite, in both modes?"""
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
            f"from 0 with jnp.maximum(x, 1e-12), or write the power otherwise; {_ROOT}",
        )
        return
    entry = _first(found, ~np.isfinite(found.reverse))
    if entry:
        report.problem(
            f"jax.grad gives NaN for the derivative of {entry} {where}; forward mode does not",
            "reverse mode differentiates both branches of jnp.where, also the one that is not "
            "taken: keep it finite with a jnp.where inside, C * jnp.sqrt(jnp.where(dp > 0, dp, "
            f"1.0)), or better, {_ROOT}",
        )
        return


def _first(found: Slopes, wrong: np.ndarray) -> str:
    """The first derivative for which that holds at some state, in words; "" if none."""
    at = np.argwhere(wrong.any(axis=0))
    if not len(at):
        return ""
    (method, name), (by, entry) = found.rows[at[0][0]], found.columns[at[0][1]]
    return f"{method}, {name}, by {by}{f', {entry},' if entry else ''}"


def check_switches(found: Slopes, elsewhere: Slopes, n: int, report: Report) -> None:
    """Does a slope grow without bound towards a switch?

    Args:
        found: At what `at_switches` gives.
        elsewhere: At other states.
        n: How many switches there are.
        report: Where to say it.
    """
    slopes = np.abs(found.of("vector_field", "the state"))[: 5 * n]
    slopes = slopes.reshape(5, n, *slopes.shape[1:])
    usual = np.abs(elsewhere.of("vector_field", "the state")).max(axis=0)
    near, nearer = slopes[[1, 3]].max(axis=(0, 1)), slopes[[2, 4]].max(axis=(0, 1))
    grown = nearer > STEEPER * np.maximum(near, usual)
    if not grown.any():
        return
    names = found.names("vector_field")
    pairs = ", ".join(f"d{names[i]}/dt by {names[j]}" for i, j in np.argwhere(grown)[:4])
    report.warn(
        "slopes of vector_field grow without bound where a comparison changes its outcome, "
        f"such as a valve that opens: {pairs}. Solvers with a step-size control come to a "
        "halt there, and gradients are inaccurate",
        f"regularise the root: {_ROOT}",
    )
