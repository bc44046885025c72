"""Mathematical expressions of model files: data, evaluated with JAX, never executed as code."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

DEEPEST = 200
"""Largest depth of an expression. Deeper ones would exhaust Python's stack when evaluated."""
ITERATIONS = 8
"""Number of steps of Newton's method for an equation. The last one has the derivatives."""
UNSOLVED = 1e-4
"""Change in the last step, relative to 1 and the unknown, beyond which there is no solution."""
TIME = "<time>"
"""Operator without arguments that stands for the time. No id in a file can be equal to it."""


class Symbol(NamedTuple):
    """A variable or parameter, by its name."""

    name: str


class Call(NamedTuple):
    """An operator with its arguments.

    Attributes:
        operator: A name in `OPERATORS`.
        arguments: The arguments; of `piecewise`, value and condition in turn, then the value
            otherwise if there is one.
    """

    operator: str
    arguments: tuple["Expression", ...] = ()


class Solution(NamedTuple):
    """The unknown of an equation, by Newton's method.

    Attributes:
        unknown: Its name.
        residual: What is zero at the solution.
        guess: Where the search begins.
    """

    unknown: str
    residual: "Expression"
    guess: float


Expression: TypeAlias = float | Symbol | Call | Solution


def _power(base: Any, exponent: Any) -> Any:
    # The derivative of x**2 by its exponent is not a number at x = 0, and nobody asks for it.
    if isinstance(exponent, float) and exponent.is_integer() and abs(exponent) <= 64:
        return base ** int(exponent)
    return jnp.power(base, exponent)


def _root(degree: Any, x: Any) -> Any:
    return jnp.sqrt(x) if isinstance(degree, float) and degree == 2 else jnp.power(x, 1 / degree)


def _piecewise(*parts: Any) -> Any:
    found = parts[-1] if len(parts) % 2 else jnp.nan
    pairs = list(zip(parts[::2], parts[1::2], strict=False))
    for value, condition in reversed(pairs):
        found = jnp.where(condition, value, found)
    return found


def _chain(compare: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    def compared(*x: Any) -> Any:
        return _all(*(compare(a, b) for a, b in itertools.pairwise(x)))

    return compared


def _all(*x: Any) -> Any:
    found = jnp.array(True)
    for one in x:
        found = jnp.logical_and(found, one)
    return found


def _any(*x: Any) -> Any:
    found = jnp.array(False)
    for one in x:
        found = jnp.logical_or(found, one)
    return found


def _odd(*x: Any) -> Any:
    found = jnp.array(False)
    for one in x:
        found = jnp.logical_xor(found, one)
    return found


def _sum(*x: Any) -> Any:
    return sum(x[1:], x[0]) if x else 0.0


def _product(*x: Any) -> Any:
    return math.prod(x[1:], start=x[0]) if x else 1.0


def _factorial(x: Any) -> Any:
    from jax.scipy.special import gamma

    return gamma(x + 1.0)


def _quotient(a: Any, b: Any) -> Any:
    return jnp.trunc(a / b)


OPERATORS: Mapping[str, Callable[..., Any]] = {
    "plus": _sum,
    "times": _product,
    "minus": lambda a, *b: a - b[0] if b else -a,
    "divide": lambda a, b: a / b,
    "power": _power,
    "root": _root,
    "exp": jnp.exp,
    "ln": jnp.log,
    "log": lambda base, x: jnp.log(x) / jnp.log(base),
    "abs": jnp.abs,
    "floor": jnp.floor,
    "ceiling": jnp.ceil,
    "factorial": _factorial,
    "max": lambda *x: _fold(jnp.maximum, x),
    "min": lambda *x: _fold(jnp.minimum, x),
    "rem": lambda a, b: a - b * jnp.trunc(a / b),
    "quotient": _quotient,
    "piecewise": _piecewise,
    "lt": _chain(lambda a, b: a < b),
    "leq": _chain(lambda a, b: a <= b),
    "gt": _chain(lambda a, b: a > b),
    "geq": _chain(lambda a, b: a >= b),
    "eq": _chain(lambda a, b: a == b),
    "neq": lambda a, b: a != b,
    "and": _all,
    "or": _any,
    "xor": _odd,
    "not": jnp.logical_not,
    "implies": lambda a, b: jnp.logical_or(jnp.logical_not(a), b),
    "true": lambda: jnp.array(True),
    "false": lambda: jnp.array(False),
    "sin": jnp.sin,
    "cos": jnp.cos,
    "tan": jnp.tan,
    "sec": lambda x: 1 / jnp.cos(x),
    "csc": lambda x: 1 / jnp.sin(x),
    "cot": lambda x: 1 / jnp.tan(x),
    "sinh": jnp.sinh,
    "cosh": jnp.cosh,
    "tanh": jnp.tanh,
    "sech": lambda x: 1 / jnp.cosh(x),
    "csch": lambda x: 1 / jnp.sinh(x),
    "coth": lambda x: 1 / jnp.tanh(x),
    "arcsin": jnp.arcsin,
    "arccos": jnp.arccos,
    "arctan": jnp.arctan,
    "arcsec": lambda x: jnp.arccos(1 / x),
    "arccsc": lambda x: jnp.arcsin(1 / x),
    "arccot": lambda x: jnp.arctan(1 / x),
    "arcsinh": jnp.arcsinh,
    "arccosh": jnp.arccosh,
    "arctanh": jnp.arctanh,
    "arcsech": lambda x: jnp.arccosh(1 / x),
    "arccsch": lambda x: jnp.arcsinh(1 / x),
    "arccoth": lambda x: jnp.arctanh(1 / x),
}
"""What each operator does. Nothing else in a file is ever called."""

RELATIONS = ("lt", "leq", "gt", "geq")


def _fold(function: Callable[[Any, Any], Any], values: tuple[Any, ...]) -> Any:
    found = values[0]
    for value in values[1:]:
        found = function(found, value)
    return found


def evaluate(expression: Expression, values: Mapping[str, Any], t: Any) -> Any:
    """Return the value of an expression.

    Args:
        expression: The expression.
        values: Values of the symbols in it, by name.
        t: The time.
    """
    if isinstance(expression, Symbol):
        return values[expression.name]
    if isinstance(expression, Solution):
        return _solved(expression, values, t)
    if isinstance(expression, Call):
        if expression.operator == TIME:
            return t
        found = [evaluate(argument, values, t) for argument in expression.arguments]
        numeric = expression.operator not in ("piecewise", "and", "or", "xor", "not", "implies")
        if numeric:  # In some formats conditions are numbers, too.
            found = [as_number(x) for x in found]
        if all(isinstance(x, float) for x in found) and numeric:
            return _constant(expression.operator, found)
        return OPERATORS[expression.operator](*found)
    return expression


def _solved(equation: Solution, values: Mapping[str, Any], t: Any) -> Any:
    """Return the solution of an equation, with its derivatives (implicit function theorem).

    NaN if Newton's method has not converged, so that the simulation fails instead of going on.
    """

    def residual(x: Any) -> Any:
        inside = {**values, equation.unknown: x}
        return jnp.asarray(evaluate(equation.residual, inside, t), float)

    def step(x: Any) -> Any:
        value, slope = jax.jvp(residual, (x,), (jnp.ones_like(x),))
        return x - value / slope

    x = jnp.asarray(equation.guess, float)
    for _ in range(ITERATIONS):
        x = jax.lax.stop_gradient(step(x))
    found = step(x)
    return jnp.where(jnp.abs(found - x) <= UNSOLVED * (1 + jnp.abs(x)), found, jnp.nan)


def as_number(x: Any) -> Any:
    """Return 1 for true and 0 for false; numbers as they are."""
    truth = isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jnp.bool_)
    return jnp.where(x, 1.0, 0.0) if truth else x


def _constant(operator: str, values: list[float]) -> Any:
    """Return the value for Python numbers, as one of them where it is a number."""
    with np.errstate(all="ignore"):
        try:
            found = OPERATORS[operator](*values)
        except (ZeroDivisionError, OverflowError):
            found = OPERATORS[operator](*(jnp.asarray(x) for x in values))
    if isinstance(found, complex):
        return float("nan")
    return float(found) if isinstance(found, int) else found


def symbols(expression: Expression) -> Iterator[str]:
    """Return the names of the symbols in an expression; `TIME` if it depends on time itself."""
    if isinstance(expression, Symbol):
        yield expression.name
    elif isinstance(expression, Call):
        if expression.operator == TIME:
            yield TIME
        for argument in expression.arguments:
            yield from symbols(argument)
    elif isinstance(expression, Solution):
        yield from (name for name in symbols(expression.residual) if name != expression.unknown)


def replaced(expression: Expression, by: Mapping[str, Expression]) -> Expression:
    """Return an expression with some symbols replaced by expressions."""
    if isinstance(expression, Symbol):
        return by.get(expression.name, expression)
    if isinstance(expression, Call):
        return Call(expression.operator, tuple(replaced(x, by) for x in expression.arguments))
    if isinstance(expression, Solution):
        unknown = by.get(expression.unknown, Symbol(expression.unknown))
        assert isinstance(unknown, Symbol)
        return Solution(unknown.name, replaced(expression.residual, by), expression.guess)
    return expression


def with_rates(
    expression: Expression, rates: Mapping[str, Expression], depth: int = 0
) -> Expression:
    """Return an expression with `rateOf(x)` replaced by the rate of x.

    Raises:
        KeyError: If something else than a variable with a rate of its own is in it.
        RecursionError: If a rate needs itself.
    """
    if depth > DEEPEST:
        raise RecursionError("a rate needs itself")
    if isinstance(expression, Solution):
        residual = with_rates(expression.residual, rates, depth + 1)
        return Solution(expression.unknown, residual, expression.guess)
    if not isinstance(expression, Call):
        return expression
    if expression.operator == "rateOf":
        (of,) = expression.arguments
        return with_rates(rates[of.name if isinstance(of, Symbol) else ""], rates, depth + 1)
    parts = (with_rates(x, rates, depth + 1) for x in expression.arguments)
    return Call(expression.operator, tuple(parts))


def calls(expression: Expression) -> Iterator[Call]:
    """Return all operators in an expression with their arguments."""
    if isinstance(expression, Call):
        yield expression
        for argument in expression.arguments:
            yield from calls(argument)
    elif isinstance(expression, Solution):
        yield from calls(expression.residual)
