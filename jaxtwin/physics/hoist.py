"""Split a vector field into constants, terms that depend on time, and terms that depend on state.

A solver that knows its step times in advance evaluates the first two parts once instead of at
every iteration of every step of every period. In the left heart, they include the whole
elastance with its powers.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, Var, jaxpr_as_fun

from jaxtwin.parameters import Scalar


class Hoisted(NamedTuple):
    """A vector field f(t, y) in three parts, f(t, y) = rates((constants, drive(t)), y).

    Attributes:
        constants: Values that depend on neither time nor state.
        drive: Function from a time to the values that depend on time but not on the state.
        rates: Function from ((constants, drive values), state) to the rates of change.
    """

    constants: list[Any]
    drive: Callable[[Scalar], list[Any]]
    rates: Callable[[tuple[list[Any], list[Any]], list[Scalar]], list[Scalar]]


def hoist(f: Callable[[Scalar, list[Scalar]], list[Scalar]], y: list[Scalar]) -> Hoisted:
    """Split f(t, y) by tracing it once.

    Divisions are the slowest operations, so those of a value that depends on the state by one that
    does not are replaced by multiplications by the reciprocal. Results differ from those of f by
    rounding.

    Args:
        f: Vector field of a list of scalars. It may close over traced values.
        y: A state, of which only the types are used.
    """
    t = jnp.zeros((), jnp.result_type(*y))
    traced = jax.make_jaxpr(f)(t, y)
    moves = [False] + [True] * len(y)
    flat = jax.make_jaxpr(lambda *args: _reciprocals(traced, args, moves)[0])(t, *y)
    jaxpr = flat.jaxpr

    stage: dict[Var, int] = {var: 0 for var in jaxpr.constvars}
    stage.update(zip(jaxpr.invars, [1] + [2] * len(y), strict=True))
    equations = ([], [], [])
    for equation in jaxpr.eqns:
        of = max((stage[atom] for atom in _variables(equation.invars)), default=0)
        stage.update(dict.fromkeys(equation.outvars, of))
        equations[of].append(equation)

    read_by_rates = _read(equations[2], jaxpr.outvars)
    driven = [var for var in read_by_rates if stage[var] == 1]
    fixed = [var for var in read_by_rates if stage[var] == 0]
    fixed_for_drive = [var for var in _read(equations[1], driven) if stage[var] == 0]
    time, *state = jaxpr.invars

    def part(index, inputs, outputs):
        piece = Jaxpr((), inputs, outputs, equations[index], debug_info=jaxpr.debug_info)
        return jaxpr_as_fun(ClosedJaxpr(piece, ()))

    known = part(0, jaxpr.constvars, fixed + fixed_for_drive)(*flat.consts)
    constants, for_drive = known[: len(fixed)], known[len(fixed) :]
    drive = part(1, [*fixed_for_drive, time], driven)
    rates = part(2, [*fixed, *driven, *state], jaxpr.outvars)
    return Hoisted(
        constants,
        lambda t: list(drive(*for_drive, t)),
        lambda args, y: list(rates(*args[0], *args[1], *y)),
    )


def _reciprocals(closed: ClosedJaxpr, args: Sequence[Any], moves: Sequence[bool]):
    """Evaluate a jaxpr, with x/d computed as x · (1/d) if only x depends on the state.

    Jitted functions are inlined, so that their contents can be split as well.

    Returns:
        The results, and which of them depend on the state.
    """
    jaxpr = closed.jaxpr
    values: dict[Var, Any] = dict(zip(jaxpr.constvars, closed.consts, strict=True))
    values.update(zip(jaxpr.invars, args, strict=True))
    moving = {var for var, moved in zip(jaxpr.invars, moves, strict=True) if moved}

    def value(atom):
        return values[atom] if isinstance(atom, Var) else atom.val

    for equation in jaxpr.eqns:
        inputs, outputs = equation.invars, equation.outvars
        moved = [isinstance(atom, Var) and atom in moving for atom in inputs]
        outputs_move = [any(moved)] * len(outputs)
        is_float = jnp.issubdtype(outputs[0].aval.dtype, jnp.inexact) if outputs else False
        if equation.primitive.name == "jit":
            results, outputs_move = _reciprocals(
                equation.params["jaxpr"], [value(atom) for atom in inputs], moved
            )
        elif equation.primitive.name == "div" and moved == [True, False] and is_float:
            results = [value(inputs[0]) * (1 / value(inputs[1]))]
        else:
            variables = list(_variables(inputs))
            alone = Jaxpr((), variables, outputs, [equation], debug_info=jaxpr.debug_info)
            results = jaxpr_as_fun(ClosedJaxpr(alone, ()))(*(values[var] for var in variables))
        values.update(zip(outputs, results, strict=True))
        moving.update(var for var, m in zip(outputs, outputs_move, strict=True) if m)
    return (
        [value(atom) for atom in jaxpr.outvars],
        [isinstance(atom, Var) and atom in moving for atom in jaxpr.outvars],
    )


def _variables(atoms) -> dict[Var, None]:
    """Return the variables among atoms, without duplicates, in order."""
    return {atom: None for atom in atoms if isinstance(atom, Var)}


def _read(equations, outputs) -> dict[Var, None]:
    """Return the variables that equations or outputs read, without duplicates, in order."""
    return _variables([atom for equation in equations for atom in equation.invars] + [*outputs])
