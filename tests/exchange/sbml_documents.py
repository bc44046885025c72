"""Small SBML documents of our own, built with libSBML."""

from collections.abc import Mapping
from typing import Any

import libsbml


def document(
    *,
    compartments: Mapping[str, Any] | None = None,
    species: Mapping[str, Any] | None = None,
    parameters: Mapping[str, Any] | None = None,
    functions: Mapping[str, str] | None = None,
    initial: Mapping[str, str] | None = None,
    rules: Mapping[str, str] | None = None,
    rates: Mapping[str, str] | None = None,
    reactions: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any], str]] | None = None,
    local: Mapping[str, Mapping[str, float]] | None = None,
    events: Mapping[str, tuple[str, Mapping[str, str]]] | None = None,
    delays: Mapping[str, str] | None = None,
) -> str:
    """An SBML document of level 3 version 2.

    Args:
        compartments: Size by id; by default C of size 1.
        species: Initial concentration by id, or a mapping of attributes of libSBML's.
        parameters: Value by id.
        functions: Lambda by id.
        initial: Initial assignments.
        rules: Assignment rules.
        rates: Rate rules.
        reactions: Reactants and products with their stoichiometry, and the kinetic law.
        local: Local parameters by reaction.
        events: Trigger and assignments.
        delays: Delays by event.
    """
    made = libsbml.SBMLDocument(3, 2)
    model = made.createModel()
    model.setId("small")
    changing = {*(rules or {}), *(rates or {})}
    changing |= {x for _, assignments in (events or {}).values() for x in assignments}

    def math(text: str) -> Any:
        found = libsbml.parseL3Formula(text)
        assert found is not None, libsbml.getLastParseL3Error()
        return found

    for name, text in (functions or {}).items():
        one = model.createFunctionDefinition()
        one.setId(name)
        one.setMath(math(text))
    for name, size in (compartments or {"C": 1.0}).items():
        one = model.createCompartment()
        one.setId(name)
        one.setSize(size)
        one.setSpatialDimensions(3.0)
        one.setConstant(name not in changing)
    for name, value in (species or {}).items():
        one = model.createSpecies()
        one.setId(name)
        given = value if isinstance(value, Mapping) else {"InitialConcentration": value}
        settings = {
            "Compartment": next(iter(compartments or {"C": 1.0})),
            "HasOnlySubstanceUnits": False,
            "BoundaryCondition": False,
            "Constant": False,
            **given,
        }
        for what, setting in settings.items():
            getattr(one, f"set{what}")(setting)
    for name, value in (parameters or {}).items():
        one = model.createParameter()
        one.setId(name)
        one.setConstant(name not in changing)
        if value is not None:
            one.setValue(value)
    for name, text in (initial or {}).items():
        one = model.createInitialAssignment()
        one.setSymbol(name)
        one.setMath(math(text))
    for kind, some in (("Assignment", rules), ("Rate", rates)):
        for name, text in (some or {}).items():
            one = getattr(model, f"create{kind}Rule")()
            one.setVariable(name)
            one.setMath(math(text))
    for name, (reactants, products, text) in (reactions or {}).items():
        one = model.createReaction()
        one.setId(name)
        one.setReversible(False)
        for what, some in (("Reactant", reactants), ("Product", products)):
            for species_name, number in some.items():
                reference = getattr(one, f"create{what}")()
                reference.setSpecies(species_name)
                if isinstance(number, str):
                    reference.setId(number)
                    reference.setConstant(False)
                else:
                    reference.setStoichiometry(number)
                    reference.setConstant(True)
        law = one.createKineticLaw()
        law.setMath(math(text))
        for parameter, value in (local or {}).get(name, {}).items():
            own = law.createLocalParameter()
            own.setId(parameter)
            own.setValue(value)
    for name, (trigger, assignments) in (events or {}).items():
        one = model.createEvent()
        one.setId(name)
        one.setUseValuesFromTriggerTime(True)
        when = one.createTrigger()
        when.setMath(math(trigger))
        when.setInitialValue(True)
        when.setPersistent(True)
        if name in (delays or {}):
            one.createDelay().setMath(math(delays[name]))
        for variable, text in assignments.items():
            assignment = one.createEventAssignment()
            assignment.setVariable(variable)
            assignment.setMath(math(text))
    return libsbml.writeSBMLToString(made)


MODELS: dict[str, dict[str, Any]] = {
    "decay": {
        "species": {"S": 10.0, "P": 0.0},
        "parameters": {"k": 0.3},
        "reactions": {"R": ({"S": 1}, {"P": 2}, "C * k * S")},
    },
    "amounts": {
        "compartments": {"C": 2.5},
        "species": {
            "A": {"InitialAmount": 5.0},
            "B": {"InitialAmount": 1.0, "HasOnlySubstanceUnits": True},
            "F": {"InitialConcentration": 3.0, "BoundaryCondition": True},
        },
        "parameters": {"k": 0.2},
        "reactions": {"R": ({"A": 1, "F": 1}, {"B": 1}, "k * A * F")},
    },
    "growing": {
        "compartments": {"C": 1.0},
        "species": {"S": 4.0, "P": 0.0},
        "parameters": {"k": 0.5},
        "rates": {"C": "0.2"},
        "reactions": {"R": ({"S": 1}, {"P": 1}, "C * k * S")},
    },
    "saturated": {
        "species": {"S": 8.0, "P": 0.0},
        "parameters": {"V": 2.0, "K": 1.5},
        "functions": {
            "hill": "lambda(x, k, n, x^n / (k^n + x^n))",
            "twice": "lambda(x, 2 * hill(x, 1, 1))",
        },
        "reactions": {"R": ({"S": 1}, {"P": 1}, "C * (V * hill(S, K, 2) + 0.01 * twice(S))")},
    },
    "assigned": {
        "species": {"S": 1.0},
        "parameters": {"k": 0.7, "late": None, "sum": None, "half": None},
        "initial": {"half": "sum / 2", "S": "half + 1"},
        "rules": {"late": "piecewise(3, time > 2, 1)", "sum": "late + 2 * k"},
        "rates": {"S": "-k * S * late + half"},
    },
    "local": {
        "species": {"S": 2.0, "P": 1.0},
        "parameters": {"k": 100.0},
        "reactions": {
            "forth": ({"S": 1}, {"P": 1}, "C * k * S"),
            "back": ({"P": 1}, {"S": 1}, "C * k * P"),
        },
        "local": {"forth": {"k": 0.4}, "back": {"k": 0.1}},
    },
    "stoichiometry": {
        "species": {"S": 5.0, "P": 0.0},
        "parameters": {"k": 0.2},
        "rules": {"n": "1 + time / 4"},
        "reactions": {"R": ({"S": 1}, {"P": "n"}, "C * k * S")},
    },
    "infusion": {
        "species": {"S": 0.5},
        "parameters": {"k": 0.6, "given": 0.0, "t_on": 1.0, "t_off": 2.5},
        "rates": {"S": "given - k * S"},
        "events": {
            "on": ("time >= t_on", {"given": "given + 2"}),
            "off": ("time > t_off", {"given": "0.25"}),
        },
    },
    "bolus": {
        "compartments": {"C": 2.0},
        "species": {"S": 1.0, "P": 0.0},
        "parameters": {"k": 0.8, "dose": 3.0},
        "reactions": {"R": ({"S": 1}, {"P": 1}, "C * k * S")},
        "events": {
            "first": ("time >= 1.3", {"S": "S + dose"}),
            "second": ("2 <= time", {"S": "S - 0.1"}),
        },
    },
    "oscillator": {
        "species": {"X": 1.0, "Y": 2.0},
        "parameters": {"a": 1.1, "b": 0.7, "c": 0.5, "d": 1.3},
        "rates": {"X": "X * (a - b * Y)", "Y": "Y * (c * X - d)"},
    },
    "functions of everything": {
        "parameters": {"x": 0.3, "y": 0.0},
        "rates": {
            "x": "sin(time) + cos(x) / (2 + tanh(x)) + ln(2 + x^2) - sqrt(1 + x) + log10(3 + x)",
            "y": "floor(time) + ceil(x) + abs(x - 1) + max(x, y, 0.1) - min(x, 1) + rem(7, 3) "
            "+ quotient(7, 2) + factorial(3) / 6 + exponentiale - pi + arctan(x) + root(3, x + 2)",
        },
    },
    "rates of others": {
        "parameters": {"x": 1.0, "y": 0.0},
        "rates": {"x": "-0.5 * x", "y": "rateOf(x) * 2"},
    },
}
"""Models with the constructs that are supported."""
