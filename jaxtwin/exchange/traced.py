"""The equations of any system as data, read off what JAX traces."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal

from jaxtwin.exchange.equations import Equations, Variable, in_order, switching_times
from jaxtwin.exchange.errors import Declined, UnsupportedModelError
from jaxtwin.exchange.expression import TIME, Call, Expression, Symbol, symbols
from jaxtwin.physics.base import AbstractRecordedSystem
from jaxtwin.physics.quantity import output_quantities

_SAME = {
    "add": "plus",
    "add_any": "plus",
    "sub": "minus",
    "mul": "times",
    "div": "divide",
    "neg": "minus",
    "pow": "power",
    "exp": "exp",
    "log": "ln",
    "abs": "abs",
    "floor": "floor",
    "ceil": "ceiling",
    "max": "max",
    "min": "min",
    "rem": "rem",
    "sin": "sin",
    "cos": "cos",
    "tan": "tan",
    "asin": "arcsin",
    "acos": "arccos",
    "atan": "arctan",
    "sinh": "sinh",
    "cosh": "cosh",
    "tanh": "tanh",
    "asinh": "arcsinh",
    "acosh": "arccosh",
    "atanh": "arctanh",
    "lt": "lt",
    "le": "leq",
    "gt": "gt",
    "ge": "geq",
    "eq": "eq",
    "ne": "neq",
    "and": "and",
    "or": "or",
    "xor": "xor",
    "not": "not",
}
_UNCHANGED = (
    "broadcast_in_dim",
    "reshape",
    "squeeze",
    "copy",
    "stop_gradient",
    "convert_element_type",
)
_CALLS = ("jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call", "remat", "checkpoint")


def _one(x: Expression) -> Call:
    return Call("plus", (1.0, x))


_WRITTEN: dict[str, Callable[..., Expression]] = {
    "sqrt": lambda x: Call("root", (2.0, x)),
    "rsqrt": lambda x: Call("divide", (1.0, Call("root", (2.0, x)))),
    "cbrt": lambda x: Call("root", (3.0, x)),
    "square": lambda x: Call("power", (x, 2.0)),
    "log1p": lambda x: Call("ln", (_one(x),)),
    "expm1": lambda x: Call("minus", (Call("exp", (x,)), 1.0)),
    "exp2": lambda x: Call("power", (2.0, x)),
    "logistic": lambda x: Call("divide", (1.0, _one(Call("exp", (Call("minus", (x,)),))))),
    "sign": lambda x: Call(
        "piecewise", (1.0, Call("gt", (x, 0.0)), -1.0, Call("lt", (x, 0.0)), 0.0)
    ),
    "clamp": lambda low, x, high: Call("min", (Call("max", (low, x)), high)),
    "select_n": lambda which, no, yes: Call("piecewise", (yes, which, no)),
}


@dataclasses.dataclass
class _Trace:
    """Expressions found so far.

    Attributes:
        name: Name of the system, for messages.
        assigned: Expressions of intermediate results, by name.
        declined: What cannot be written.
    """

    name: str
    assigned: dict[str, Expression]
    declined: list[Declined]

    def run(self, closed: Any, arguments: list[Expression]) -> list[Expression]:
        """Return the results of a traced function."""
        jaxpr = closed.jaxpr if isinstance(closed, ClosedJaxpr) else closed
        known: dict[Any, Expression] = dict(zip(jaxpr.invars, arguments, strict=True))
        consts = closed.consts if isinstance(closed, ClosedJaxpr) else ()
        known |= {v: _number(c) for v, c in zip(jaxpr.constvars, consts, strict=True)}

        def of(atom: Any) -> Expression:
            return _number(atom.val) if isinstance(atom, Literal) else known[atom]

        for equation in jaxpr.eqns:
            found = self.equation(equation, [of(atom) for atom in equation.invars])
            for variable, expression in zip(equation.outvars, found, strict=True):
                known[variable] = self.kept(expression)
        return [of(atom) for atom in jaxpr.outvars]

    def kept(self, expression: Expression) -> Expression:
        """Return a result by a name, so that none is repeated; conditions have none in SBML."""
        if not isinstance(expression, Call) or expression.operator in _CONDITIONS:
            return expression
        name = f"v_{len(self.assigned) + 1}"
        self.assigned[name] = expression
        return Symbol(name)

    def equation(self, equation: Any, arguments: list[Expression]) -> list[Expression]:
        name = equation.primitive.name
        if name in _CALLS:
            inner = equation.params.get("jaxpr") or equation.params.get("call_jaxpr")
            return self.run(inner, arguments)
        if name in _UNCHANGED:
            (x,) = arguments
            truth = equation.invars[0].aval.dtype == jnp.bool_
            if (
                truth
                and name == "convert_element_type"
                and equation.params["new_dtype"] != jnp.bool_
            ):
                return [Call("piecewise", (1.0, x, 0.0))]
            return [x]
        if name == "integer_pow":
            return [Call("power", (arguments[0], float(equation.params["y"])))]
        if any(v.aval.shape for v in equation.outvars):
            reason = f"is an array of shape {equation.outvars[0].aval.shape}"
            self.declined.append(Declined("operation", name, reason))
            return [0.0] * len(equation.outvars)
        if name in _SAME:
            return [Call(_SAME[name], tuple(arguments))]
        if name in _WRITTEN:
            return [_WRITTEN[name](*arguments)]
        self.declined.append(Declined("operation", name, "has no counterpart"))
        return [0.0] * len(equation.outvars)


_CONDITIONS = ("lt", "leq", "gt", "geq", "eq", "neq", "and", "or", "xor", "not")


def _number(value: Any) -> float:
    return float(np.asarray(value))


def equations_of(system: AbstractRecordedSystem, p: Any = None) -> Equations:
    """Return the equations of a system as data, as one traces them for one patient.

    Args:
        system: The model.
        p: Values of the parameters; by default those of the system.

    Raises:
        UnsupportedModelError: If the equations have what no model file can say, such as a loop.
    """
    p = system.parameters() if p is None else p
    specs = type(p).specs()
    names = list(specs)
    start = jax.tree.map(lambda x: jnp.asarray(x, float), system.initial_state(p))
    leaves, tree = jax.tree.flatten(start)
    states = _state_names(start)
    values = [jnp.asarray(getattr(p, name), float) for name in names]

    def parameters(values: Any) -> Any:
        return type(p)(**dict(zip(names, values, strict=True)))

    def initial(*values: Any) -> list[Any]:
        return jax.tree.leaves(system.initial_state(parameters(values)))

    def rates(t: Any, *rest: Any) -> list[Any]:
        state = jax.tree.unflatten(tree, list(rest[: len(leaves)]))
        q = parameters(rest[len(leaves) :])
        return [
            *jax.tree.leaves(system.vector_field(t, state, q)),
            *jax.tree.leaves(system.outputs(t, state, q)),
        ]

    def as_float(function: Any) -> Any:
        return lambda *x: [jnp.asarray(one, float) for one in function(*x)]

    trace = _Trace(type(system).__name__, {}, [])
    known: list[Expression] = [Symbol(name) for name in names]
    at_start = trace.run(jax.make_jaxpr(as_float(initial))(*values), known)
    fixed = trace.assigned
    later = _Trace(type(system).__name__, dict(fixed), trace.declined)
    arguments = [Call(TIME), *(Symbol(name) for name in states), *known]
    time = jnp.zeros(())
    found = later.run(jax.make_jaxpr(as_float(rates))(time, *leaves, *values), arguments)
    if trace.declined:
        raise UnsupportedModelError(type(system).__name__, list(dict.fromkeys(trace.declined)))
    assigned = {name: e for name, e in later.assigned.items() if name not in fixed}
    outputs = {}
    quantities = output_quantities(system)
    for (name, quantity), expression in zip(quantities.items(), found[len(leaves) :], strict=True):
        if expression != Symbol(name):
            shown = name if name not in {*names, *states} else f"{name}_output"
            assigned[shown] = expression
            outputs[shown] = quantity
    needed = _needed(assigned, [*found[: len(leaves)], *(Symbol(name) for name in outputs)])
    order = [name for name in in_order(assigned) if name in needed]
    constant = {*names, *fixed}
    return Equations(
        type(system).__name__,
        tuple(
            (Variable(name, specs[name].unit, specs[name].meaning), float(value))
            for name, value in zip(names, values, strict=True)
        ),
        tuple(Variable(name, *quantities.get(name, ("", ""))) for name in states),
        tuple(at_start),
        tuple(found[: len(leaves)]),
        tuple((Variable(n, *outputs.get(n, ("", ""))), assigned[n]) for n in order),
        tuple((Variable(name), expression) for name, expression in fixed.items()),
        (*states, *outputs),
        tuple(switching_times([assigned[n] for n in order], constant)),
        system.time_unit,
    )


def _needed(assigned: dict[str, Expression], ends: list[Expression]) -> set[str]:
    """Return the names of those assignments on which some expressions depend."""
    waiting = [name for end in ends for name in symbols(end)]
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in assigned and name not in found:
            found.add(name)
            waiting += symbols(assigned[name])
    return found


def _state_names(state: Any) -> list[str]:
    """Return a name for each scalar of a state, nested ones with those of the outer ones."""
    found = []
    for path, _ in jax.tree_util.tree_flatten_with_path(state)[0]:
        parts = [
            str(getattr(key, "name", getattr(key, "idx", getattr(key, "key", "")))) for key in path
        ]
        found.append("_".join(parts))
    return found
