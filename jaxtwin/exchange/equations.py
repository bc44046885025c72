"""Equations of a model file, whatever its format, as data."""

import dataclasses
import graphlib
import keyword
import re
from collections.abc import Iterable, Mapping

from jaxtwin.exchange.errors import ModelFileError
from jaxtwin.exchange.expression import RELATIONS, TIME, Call, Expression, calls, symbols

_RESERVED = {"source", "specs", "count", "index"}
"""Attributes of the classes of parameters, states and outputs."""


@dataclasses.dataclass(frozen=True)
class Variable:
    """A quantity of a model.

    Attributes:
        name: Name in the code, see `python_names`.
        unit: Unit; "" if dimensionless or not declared.
        meaning: Name in words.
    """

    name: str
    unit: str = ""
    meaning: str = ""


@dataclasses.dataclass(frozen=True)
class Equations:
    """An ordinary differential equation with the expressions of a file.

    Attributes:
        name: Name of the model.
        parameters: Parameters and their values in the file.
        states: Variables with a rate.
        initial: Their values at t = 0.
        rates: Their rates.
        assigned: Variables that are computed from others at every time, each after those that it
            needs, and their expressions.
        fixed: Variables that are computed once, from those at t = 0, each after those that it
            needs, and their expressions.
        outputs: Names of the states, variables and parameters that are outputs.
        jumps: Times at which the rates may jump, as expressions of the parameters.
        time_unit: Unit of the time.
    """

    name: str
    parameters: tuple[tuple[Variable, float], ...]
    states: tuple[Variable, ...]
    initial: tuple[Expression, ...]
    rates: tuple[Expression, ...]
    assigned: tuple[tuple[Variable, Expression], ...]
    fixed: tuple[tuple[Variable, Expression], ...]
    outputs: tuple[str, ...]
    jumps: tuple[Expression, ...]
    time_unit: str = "s"


def python_names(ids: Iterable[str]) -> dict[str, str]:
    """Return names that Python's classes can have, by id; an id stays as it is where it can.

    Letters that are not of the ASCII alphabet become "_". A name is "v_" and the id if that begins
    with no letter, is a word of Python, or an attribute of the classes.
    """
    found: dict[str, str] = {}
    taken: set[str] = set()
    for one in ids:
        name = re.sub(r"\W", "_", one, flags=re.ASCII)
        if not re.match("[A-Za-z]", name) or keyword.iskeyword(name) or name in _RESERVED:
            name = f"v_{name}"
        plain, number = name, 2
        while name in taken:
            name, number = f"{plain}_{number}", number + 1
        taken.add(name)
        found[one] = name
    return found


def in_order(rules: Mapping[str, Expression]) -> list[str]:
    """Return the names of assignments, each after those that it needs.

    Raises:
        ModelFileError: If they need each other in a circle.
    """
    needs = {
        name: {other for other in symbols(rule) if other in rules} for name, rule in rules.items()
    }
    try:
        return list(graphlib.TopologicalSorter(needs).static_order())
    except graphlib.CycleError as error:
        circle = " → ".join(reversed(error.args[1]))
        raise ModelFileError(f"assignments need each other in a circle: {circle}") from None


def switching_times(expressions: Iterable[Expression], constant: set[str]) -> list[Expression]:
    """Return the times with which expressions compare the time, if they are constant.

    Args:
        expressions: Expressions.
        constant: Names of constants.
    """
    found: list[Expression] = []
    for expression in expressions:
        for call in calls(expression):
            if call.operator not in RELATIONS:
                continue
            for one, other in zip(call.arguments, call.arguments[1:], strict=False):
                for a, b in ((one, other), (other, one)):
                    threshold = _threshold(a, b)
                    if threshold is None or threshold in found:
                        continue
                    if set(symbols(threshold)) <= constant:
                        found.append(threshold)
    return found


def _threshold(a: Expression, b: Expression) -> Expression | None:
    """Return the time at which a, which is the time but for a shift, reaches b."""
    if a == Call(TIME):
        return b
    if isinstance(a, Call) and a.operator == "minus" and len(a.arguments) == 2:
        first, shift = a.arguments
        if first == Call(TIME):
            return Call("plus", (b, shift))
    return None
