"""Systems as SBML, so that others can check them with their own tools."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxtwin.exchange.equations import Equations, Variable
from jaxtwin.exchange.expression import TIME, Call, Expression, Solution, Symbol
from jaxtwin.exchange.sbml import library, operators_of
from jaxtwin.exchange.traced import equations_of
from jaxtwin.physics.base import AbstractRecordedSystem


def save_sbml(path: str | Path, system: AbstractRecordedSystem, p: Any = None) -> None:
    """Write a system as SBML of level 3 version 2, with the values of one patient.

    States become parameters with rate rules, everything that is computed from them parameters with
    assignment rules. Units and meanings are written as notes: SBML has no mmHg.

    Args:
        path: The file to write.
        system: The model.
        p: Values of the parameters; by default those of the system.

    Raises:
        ImportError: If libSBML is not installed.
        UnsupportedModelError: If the equations have what SBML cannot say, such as a loop.
    """
    Path(path).write_text(sbml_of(equations_of(system, p)))


def sbml_of(equations: Equations) -> str:
    """Return equations as an SBML document."""
    libsbml = library()
    kinds = {name: kind for kind, name in operators_of(libsbml).items()}
    document = libsbml.SBMLDocument(3, 2)
    model = document.createModel()
    model.setId(equations.name)
    for one, value in equations.parameters:
        _quantity(model, one, constant=True).setValue(value)
    for one in equations.states:
        _quantity(model, one, constant=False)
    for one, _ in (*equations.assigned, *equations.fixed):
        _quantity(model, one, constant=False)
    starting = [*equations.fixed, *zip(equations.states, equations.initial, strict=True)]
    for one, expression in starting:
        made = model.createInitialAssignment()
        made.setSymbol(one.name)
        made.setMath(_node(libsbml, kinds, expression))
    for one, expression in zip(equations.states, equations.rates, strict=True):
        made = model.createRateRule()
        made.setVariable(one.name)
        made.setMath(_node(libsbml, kinds, expression))
    for one, expression in equations.assigned:
        made = model.createAssignmentRule()
        made.setVariable(one.name)
        made.setMath(_node(libsbml, kinds, expression))
    return libsbml.writeSBMLToString(document)


def _quantity(model: Any, one: Variable, *, constant: bool) -> Any:
    made = model.createParameter()
    made.setId(one.name)
    made.setConstant(constant)
    words = f"{one.meaning} [{one.unit}]" if one.unit else one.meaning
    if words:
        made.setName(words)
    return made


def _node(libsbml: Any, kinds: Mapping[str, int], expression: Expression) -> Any:
    """Return an expression as a node of libSBML's."""
    if isinstance(expression, Symbol):
        node = libsbml.ASTNode(libsbml.AST_NAME)
        node.setName(expression.name)
        return node
    if isinstance(expression, Solution):
        raise ValueError("an equation that is solved inside of every step has no form in SBML")
    if isinstance(expression, Call):
        if expression.operator == TIME:
            return libsbml.ASTNode(libsbml.AST_NAME_TIME)
        node = libsbml.ASTNode(kinds[expression.operator])
        for argument in expression.arguments:
            node.addChild(_node(libsbml, kinds, argument))
        return node
    node = libsbml.ASTNode(libsbml.AST_REAL)
    node.setValue(float(expression))
    return node
