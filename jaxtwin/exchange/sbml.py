"""SBML: models of the Systems Biology Markup Language, levels 1 to 3, read with libSBML.

Hucka et al., "The Systems Biology Markup Language (SBML): language specification for level 3
version 2 core", Journal of Integrative Bioinformatics 16(2), 2019. What a model says stays data:
its expressions are evaluated, nothing in it is executed.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from jaxtwin.exchange.equations import Equations, Variable, in_order, python_names, switching_times
from jaxtwin.exchange.errors import Declined, ModelFileError, UnsupportedModelError
from jaxtwin.exchange.expression import (
    DEEPEST,
    OPERATORS,
    TIME,
    Call,
    Expression,
    Symbol,
    evaluate,
    replaced,
    symbols,
    with_rates,
)
from jaxtwin.exchange.units import unit_name

AVOGADRO = 6.02214179e23
"""Avogadro's constant as SBML defines it [1/mol]."""
MOST_NODES = 200_000
"""Largest number of operators and symbols of a model, with its functions written out."""


class Event(NamedTuple):
    """An event at a fixed time.

    Attributes:
        name: Its id.
        time: When it happens.
        assignments: New values by the id of what is assigned.
        early: Whether these are computed before it happens, when its delay begins.
    """

    name: str
    time: Expression
    assignments: Mapping[str, Expression]
    early: bool


def library() -> Any:
    """Return libSBML.

    Raises:
        ImportError: If it is not installed.
    """
    try:
        import libsbml
    except ImportError:
        raise ImportError(
            'SBML needs libSBML: pip install "jaxtwin[sbml]" (or python-libsbml)'
        ) from None
    return libsbml


def read_sbml(text: bytes, name: str) -> Equations:
    """Return the equations of an SBML document.

    Args:
        text: The document.
        name: Name of the file, for messages.

    Raises:
        ImportError: If libSBML is not installed.
        ModelFileError: If the document is not valid.
        UnsupportedModelError: If it uses what is not supported.
    """
    libsbml = library()
    document = libsbml.readSBMLFromString(text.decode("utf-8", "replace"))
    if document.getNumErrors(libsbml.LIBSBML_SEV_ERROR) + document.getNumErrors(
        libsbml.LIBSBML_SEV_FATAL
    ):
        raise ModelFileError(f"{name} is not valid SBML: {_first_error(libsbml, document)}")
    if document.getModel() is None:
        raise ModelFileError(f"{name} has no model")
    if document.isPackageEnabled("comp"):
        _flatten(libsbml, document, name)
    model = document.getModel()
    return _Reader(libsbml, document, model, name).equations()


def _flatten(libsbml: Any, document: Any, name: str) -> None:
    """Replace submodels of the package comp by what they hold.

    Raises:
        UnsupportedModelError: If a submodel is in another file.
        ModelFileError: If it cannot be done.
    """
    outside = document.getPlugin("comp").getListOfExternalModelDefinitions()
    if outside.size():
        reason = "is in another file: put it into this one"
        named = [Declined("submodel", one.getId(), reason) for one in _list(outside)]
        raise UnsupportedModelError(name, named)
    properties = libsbml.ConversionProperties()
    properties.addOption("flatten comp", True)
    properties.addOption("performValidation", False)
    if document.convert(properties) != libsbml.LIBSBML_OPERATION_SUCCESS:
        raise ModelFileError(
            f"{name}: submodels cannot be joined: {_first_error(libsbml, document)}"
        )


def _first_error(libsbml: Any, document: Any) -> str:
    for i in range(document.getNumErrors()):
        error = document.getError(i)
        if error.getSeverity() >= libsbml.LIBSBML_SEV_ERROR:
            words = " ".join(error.getMessage().split())
            return f"line {error.getLine()}: {words[:300]}"
    return "unknown error"


class _Reader:
    """What is known of a document while it is read."""

    def __init__(self, libsbml: Any, document: Any, model: Any, name: str):
        self.lib, self.document, self.model, self.name = libsbml, document, model, name
        self.declined: list[Declined] = []
        self.nodes = 0
        self.operators = operators_of(libsbml)
        self.functions = {f.getId(): f for f in _list(model.getListOfFunctionDefinitions())}
        self.compartments = {c.getId(): c for c in _list(model.getListOfCompartments())}
        self.species = {s.getId(): s for s in _list(model.getListOfSpecies())}
        self.globals = {p.getId(): p for p in _list(model.getListOfParameters())}
        self.reactions = {r.getId(): r for r in _list(model.getListOfReactions())}
        self.values: dict[str, float] = {}
        self.meanings: dict[str, tuple[str, str]] = {}  # unit, words
        self.assigned: dict[str, Expression] = {}
        self.rates: dict[str, Expression] = {}
        self.initial: dict[str, Expression] = {}

    def decline(self, construct: str, where: str, reason: str) -> None:
        one = Declined(construct, where, reason)
        if one not in self.declined:
            self.declined.append(one)

    def equations(self) -> Equations:
        self._check_packages()
        self._read_rules()
        self._read_quantities()
        events = self._read_events()
        changes = self._read_reactions()
        self._stop_if_declined()
        return self._assemble(changes, events)

    def _stop_if_declined(self) -> None:
        if self.declined:
            raise UnsupportedModelError(self.name, self.declined)

    def _check_packages(self) -> None:
        document = self.document
        for i in range(document.getNumPlugins()):
            plugin = document.getPlugin(i)
            # Only if the file says so: libSBML has plugins, such as for drawings, for every file.
            if plugin.isSetRequired() and plugin.getRequired():
                self.decline("package", plugin.getPackageName(), "only the core is supported")
        for i in range(document.getNumUnknownPackages()):
            package = document.getUnknownPackagePrefix(i)
            if document.getPackageRequired(package):
                self.decline("package", package, "only the core is supported")

    # --- expressions --------------------------------------------------------------------------

    def expression(
        self, node: Any, where: str, scope: Mapping[str, Expression] = {}, depth: int = 0
    ) -> Expression:
        """Return the expression of a node of libSBML's; what is not supported is noted."""
        lib = self.lib
        self.nodes += 1
        if depth > DEEPEST or self.nodes > MOST_NODES:
            raise ModelFileError(
                f"{self.name}: mathematics of {where} nested deeper than {DEEPEST}, or more than "
                f"{MOST_NODES} operators in the model"
            )
        if node is None:
            self.decline("mathematics", where, "is missing")
            return math.nan
        kind = node.getType()
        if kind == lib.AST_INTEGER:
            return float(node.getInteger())
        if node.isNumber():
            return float(node.getValue())
        if kind == lib.AST_NAME:
            return scope.get(node.getName(), Symbol(node.getName()))
        if kind == lib.AST_NAME_TIME:
            return Call(TIME)
        constants = {
            lib.AST_NAME_AVOGADRO: AVOGADRO,
            lib.AST_CONSTANT_E: math.e,
            lib.AST_CONSTANT_PI: math.pi,
        }
        if kind in constants:
            return constants[kind]
        arguments = [
            self.expression(node.getChild(i), where, scope, depth + 1)
            for i in range(node.getNumChildren())
        ]
        if kind == lib.AST_FUNCTION:
            return self._inlined(node.getName(), arguments, where, depth)
        if kind == lib.AST_FUNCTION_ROOT and len(arguments) == 1:
            arguments = [2.0, *arguments]
        if kind == lib.AST_FUNCTION_LOG and len(arguments) == 1:
            arguments = [10.0, *arguments]
        if kind == lib.AST_FUNCTION_RATE_OF:
            return Call("rateOf", tuple(arguments))
        if kind not in self.operators:
            what = node.getName() or node.getOperatorName() or f"type {kind}"
            self.decline("function", str(what), f"not supported (in {where})")
            return math.nan
        return Call(self.operators[kind], tuple(arguments))

    def _inlined(
        self, name: str, arguments: list[Expression], where: str, depth: int
    ) -> Expression:
        if name not in self.functions:
            self.decline("function", name, f"not defined (in {where})")
            return math.nan
        definition = self.functions[name]
        names = [definition.getArgument(i).getName() for i in range(definition.getNumArguments())]
        if len(names) != len(arguments) or definition.getBody() is None:
            self.decline("function", name, f"{len(arguments)} arguments for {len(names)}")
            return math.nan
        scope = dict(zip(names, arguments, strict=True))
        return self.expression(definition.getBody(), f"function {name}", scope, depth + 1)

    # --- what is in the model -----------------------------------------------------------------

    def _read_rules(self) -> None:
        for rule in _list(self.model.getListOfRules()):
            variable = rule.getVariable()
            if rule.isAlgebraic():
                self.decline("algebraic rule", rule.getId(), "needs a solver of equations")
                continue
            expression = self.expression(rule.getMath(), f"rule of {variable}")
            (self.assigned if rule.isAssignment() else self.rates)[variable] = expression
        for one in _list(self.model.getListOfInitialAssignments()):
            symbol = one.getSymbol()
            self.initial[symbol] = self.expression(one.getMath(), f"initial assignment {symbol}")

    def _read_quantities(self) -> None:
        for name, one in self.compartments.items():
            self._meant(name, one)
            # Of level 1 the default is 1; of level 2 without a dimension there is no size.
            if one.isSetSize():
                self.values[name] = one.getSize()
            elif one.getLevel() == 1 or one.getSpatialDimensions() == 0:
                self.values[name] = 1.0
        for name, one in self.globals.items():
            self._meant(name, one)
            if one.isSetValue():
                self.values[name] = one.getValue()
        for name, one in self.species.items():
            self._meant(name, one)
            if one.getCompartment() not in self.compartments:
                self.decline("species", name, f"no compartment {one.getCompartment()!r}")
            elif name not in self.initial and name not in self.assigned:
                self._read_initial_value(name, one)

    def _read_initial_value(self, name: str, one: Any) -> None:
        """Note a species' initial value in the unit of its symbol."""
        volume = one.getCompartment()
        if one.isSetInitialConcentration():
            value, in_amount = one.getInitialConcentration(), False
        elif one.isSetInitialAmount():
            value, in_amount = one.getInitialAmount(), True
        else:
            return
        wanted = self.is_amount(name)
        if in_amount == wanted:
            self.values[name] = value
        elif in_amount:
            self.initial[name] = Call("divide", (value, Symbol(volume)))
        else:
            self.initial[name] = Call("times", (value, Symbol(volume)))

    def is_amount(self, name: str) -> bool:
        """Whether the symbol of a species is an amount, not a concentration."""
        one = self.species[name]
        compartment = self.compartments[one.getCompartment()]
        return one.getHasOnlySubstanceUnits() or compartment.getSpatialDimensions() == 0

    def _meant(self, name: str, one: Any) -> None:
        definition = one.getDerivedUnitDefinition()
        unit = "" if definition is None else unit_name(self.lib, definition)
        self.meanings[name] = (unit, one.getName() if one.getName() != name else "")

    def _read_events(self) -> list[Event]:
        found = []
        for i, event in enumerate(_list(self.model.getListOfEvents())):
            name = event.getId() or f"number {i + 1}"
            trigger = event.getTrigger()
            condition = self.expression(trigger and trigger.getMath(), f"event {name}")
            time = _firing_time(condition)
            if time is None or not isinstance(condition, Call):
                self.decline("event", name, "its trigger is not time ≥ a constant")
                continue
            if event.isSetPriority():
                self.decline("event", name, "has a priority")
                continue
            early = event.isSetDelay() and event.getUseValuesFromTriggerTime()
            if event.isSetDelay():
                delay = self.expression(event.getDelay().getMath(), f"delay of event {name}")
                time = Call("plus", (time, delay))
            started = trigger.getInitialValue() or event.getLevel() < 3
            assignments = {
                one.getVariable(): self.expression(one.getMath(), f"event {name}")
                for one in _list(event.getListOfEventAssignments())
            }
            if started and _is_zero_or_less(time, self) and condition.operator in ("geq", "leq"):
                continue  # True from the beginning, so that it never becomes true.
            found.append(Event(name, time, assignments, early))
        return found

    def _read_reactions(self) -> dict[str, list[Expression]]:
        """Read the rates of reactions; return what changes each species' amount."""
        changes: dict[str, list[Expression]] = {}
        for name, reaction in self.reactions.items():
            self.meanings[name] = ("", reaction.getName() or "rate of the reaction")
            law = reaction.getKineticLaw()
            if law is None or law.getMath() is None:
                self.decline("reaction", name, "has no kinetic law")
                continue
            if reaction.isSetFast() and reaction.getFast():
                self.decline("reaction", name, "is fast: needs a solver of equations")
                continue
            scope: dict[str, Expression] = {}
            locals_ = (
                law.getListOfLocalParameters() if law.getLevel() > 2 else law.getListOfParameters()
            )
            for one in _list(locals_):
                own = f"{name}_{one.getId()}"
                while own in self.values or own in self.globals or own in self.species:
                    own += "_"
                self._meant(own, one)
                self.values[own] = one.getValue() if one.isSetValue() else math.nan
                scope[one.getId()] = Symbol(own)
            self.assigned[name] = self.expression(law.getMath(), f"kinetic law {name}", scope)
            parts = ((reaction.getListOfReactants(), -1.0), (reaction.getListOfProducts(), 1.0))
            for references, sign in parts:
                for reference in _list(references):
                    species = reference.getSpecies()
                    if species not in self.species:
                        self.decline("species", species, f"of reaction {name} does not exist")
                        continue
                    size = self._stoichiometry(reference, name)
                    product: list[Expression] = [sign, size, Symbol(name)]
                    factor = self.species[species].getConversionFactor() or (
                        self.model.getConversionFactor() if self.model.getLevel() > 2 else ""
                    )
                    if factor:
                        product.append(Symbol(factor))
                    changes.setdefault(species, []).append(Call("times", tuple(product)))
        return changes

    def _stoichiometry(self, reference: Any, reaction: str) -> Expression:
        name = reference.getId()
        if reference.getLevel() == 2 and reference.isSetStoichiometryMath():
            where = f"stoichiometry in {reaction}"
            return self.expression(reference.getStoichiometryMath().getMath(), where)
        value = reference.getStoichiometry()
        if reference.getLevel() == 1 and reference.getDenominator():
            value /= reference.getDenominator()
        if name and (name in self.assigned or name in self.rates or name in self.initial):
            if not math.isnan(value):
                self.values.setdefault(name, value)
            self.meanings.setdefault(name, ("", "stoichiometry"))
            return Symbol(name)
        if math.isnan(value):
            self.decline(
                "stoichiometry", name or reference.getSpecies(), f"of {reaction}: no value"
            )
        if name:
            self.values[name] = value
            self.meanings[name] = ("", "stoichiometry")
            return Symbol(name)
        return value

    # --- equations ----------------------------------------------------------------------------

    def _assemble(self, changes: dict[str, list[Expression]], events: list[Event]) -> Equations:
        rates, assigned, initial = dict(self.rates), dict(self.assigned), dict(self.initial)
        varying = {name for name in self.compartments if name in rates or name in assigned}
        varying |= {x for e in events for x in e.assignments if x in self.compartments}
        for name, one in self.species.items():
            if name in assigned or name in rates:
                continue
            volume = one.getCompartment()
            reacts = name in changes and not one.getBoundaryCondition()
            change: Expression = Call("plus", tuple(changes[name])) if reacts else 0.0
            by_volume = not self.is_amount(name)
            if by_volume and volume in varying:
                # Its amount is what reactions change and what stays when the volume changes.
                amount = self._new_name(f"{name}_amount")
                self.meanings[amount] = ("", f"amount of {name}")
                start = initial.pop(name, self.values.pop(name, math.nan))
                initial[amount] = Call("times", (start, Symbol(volume)))
                rates[amount] = change
                assigned[name] = Call("divide", (Symbol(amount), Symbol(volume)))
            elif reacts:
                rates[name] = Call("divide", (change, Symbol(volume))) if by_volume else change
        self._apply_events(events, rates, assigned, initial)
        rates, assigned, initial = self._with_rates_written_out(rates, assigned, initial)

        start_names = {name: self._new_name(f"{name}_0") for name in rates if name in self.values}
        parameters = {
            name: value
            for name, value in self.values.items()
            if name not in rates and name not in assigned and name not in initial
        }
        for name, start in start_names.items():
            if name in initial:
                continue
            unit, words = self.meanings.get(name, ("", ""))
            parameters[start] = self.values[name]
            self.meanings[start] = (unit, f"{words or name} at t = 0")
            initial[name] = Symbol(start)
        fixed = {n: e for n, e in initial.items() if n not in rates and n not in assigned}
        self._check_known(parameters, rates, assigned, initial)
        self._stop_if_declined()
        return self._named(parameters, rates, assigned, initial, fixed)

    def _new_name(self, name: str) -> str:
        while name in self.meanings or name in self.values:
            name += "_"
        return name

    def _apply_events(
        self,
        events: list[Event],
        rates: dict[str, Expression],
        assigned: dict[str, Expression],
        initial: dict[str, Expression],
    ) -> None:
        """Write events at fixed times as functions of time.

        What has no rate is a step function. What has one jumps by an amount that is added to a
        continuous state.
        """
        constant = {n for n in self.values if n not in rates and n not in assigned}
        constant -= {x for event in events for x in event.assignments}
        changing = rates.keys() | assigned.keys()
        ordered = sorted(events, key=lambda event: _number(event.time, self))
        jumps: dict[str, list[Expression]] = {}
        steps: dict[str, Expression] = {}
        for event in ordered:
            if set(symbols(event.time)) - constant:
                self.decline("event", event.name, "its time is not constant")
                continue
            due = Call("geq", (Call(TIME), event.time))
            for name, value in event.assignments.items():
                others = set(symbols(value)) - {name}
                if others & changing or others - constant or TIME in others:
                    self.decline("event", event.name, f"{name} is set to what is not constant")
                elif name in rates:
                    jump = _added(value, name)
                    if jump is None:
                        self.decline("event", event.name, f"{name} is not increased by a constant")
                    elif event.early:
                        self.decline("event", event.name, f"{name} is set to an earlier value")
                    else:
                        jumps.setdefault(name, []).append(Call("piecewise", (jump, due, 0.0)))
                elif name in assigned:
                    self.decline("event", event.name, f"{name} is assigned by a rule")
                else:
                    if event.early and name in symbols(value):
                        self.decline("event", event.name, f"{name} is set to an earlier value")
                    before = steps.get(name, initial.get(name, self.values.get(name, math.nan)))
                    if name in self.values and name not in steps and name not in initial:
                        start = self._new_name(f"{name}_0")
                        self.meanings[start] = self.meanings.get(name, ("", ""))
                        self.values[start], before = self.values.pop(name), Symbol(start)
                    initial.pop(name, None)
                    steps[name] = Call("piecewise", (replaced(value, {name: before}), due, before))
        assigned |= steps
        for name, parts in jumps.items():
            smooth = self._new_name(f"{name}_without_jumps")
            unit, words = self.meanings.get(name, ("", ""))
            self.meanings[smooth] = (unit, f"{words or name} without its jumps")
            rates[smooth] = rates.pop(name)
            if name in initial:
                initial[smooth] = initial.pop(name)
            else:
                self.values[smooth] = self.values.pop(name)
            assigned[name] = Call("plus", (Symbol(smooth), *parts))

    def _with_rates_written_out(self, *parts: dict[str, Expression]) -> list[dict[str, Expression]]:
        """Replace rateOf(x) by the rate of x, which is 0 of a constant."""
        rates, assigned, initial = parts
        known = (*self.values, *initial)
        constant = dict.fromkeys((name for name in known if name not in assigned), 0.0)
        found = []
        for part in parts:
            found.append({})
            for name, expression in part.items():
                try:
                    found[-1][name] = with_rates(expression, constant | rates)
                except (KeyError, RecursionError):
                    reason = "is not of a variable with a rate of its own"
                    self.decline("rateOf", "", f"{reason} (in {name})")
        return found

    def _check_known(self, parameters: Mapping[str, float], *parts: dict[str, Expression]) -> None:
        rates, assigned, initial = parts
        known = parameters.keys() | rates.keys() | assigned.keys() | initial.keys() | {TIME}
        for part in parts:
            for name, expression in part.items():
                for missing in sorted(set(symbols(expression)) - known):
                    self.decline("symbol", missing, f"has no value (needed by {name})")
        for name in rates:
            if name not in initial:
                self.decline("variable", name, "has no value at t = 0")
        needed = {n for part in parts for e in part.values() for n in symbols(e)}
        for name in sorted(needed):
            if name in parameters and math.isnan(parameters[name]):
                self.decline("parameter", name, "has no value")

    def _named(
        self,
        parameters: dict[str, float],
        rates: dict[str, Expression],
        assigned: dict[str, Expression],
        initial: dict[str, Expression],
        fixed: dict[str, Expression],
    ) -> Equations:
        """Return the equations with the names that they have in Python."""
        if not rates:
            # Nothing but assignments: a clock makes it a system.
            clock = self._new_name("t_passed")
            self.meanings[clock] = ("", "time")
            rates, initial = {clock: 1.0}, initial | {clock: 0.0}
        parameters = {n: v for n, v in parameters.items() if not math.isnan(v)}
        name = python_names([*parameters, *rates, *assigned, *fixed])
        by = {old: Symbol(new) for old, new in name.items()}

        def variable(one: str) -> Variable:
            return Variable(name[one], *self.meanings.get(one, ("", "")))

        def renamed(expression: Expression) -> Expression:
            return replaced(expression, by)

        order = in_order(assigned)
        jumps = switching_times(
            [renamed(e) for e in (*rates.values(), *assigned.values())],
            {name[one] for one in (*parameters, *fixed)},
        )
        return Equations(
            self.model.getId() or "model",
            tuple((variable(one), float(value)) for one, value in parameters.items()),
            tuple(variable(one) for one in rates),
            tuple(renamed(initial[one]) for one in rates),
            tuple(renamed(rate) for rate in rates.values()),
            tuple((variable(one), renamed(assigned[one])) for one in order),
            tuple((variable(one), renamed(fixed[one])) for one in in_order(fixed)),
            tuple(name[one] for one in (*rates, *order)),
            tuple(jumps),
            self._time_unit(),
        )

    def _time_unit(self) -> str:
        if self.model.getLevel() < 3:
            definition = self.model.getUnitDefinition("time")
            return "s" if definition is None else unit_name(self.lib, definition)
        unit = self.model.getTimeUnits()
        definition = self.model.getUnitDefinition(unit)
        if definition is not None:
            return unit_name(self.lib, definition)
        return "s" if unit in ("second", "") else str(unit)


def _list(some: Any) -> Iterator[Any]:
    for i in range(some.size()):
        yield some.get(i)


def operators_of(lib: Any) -> dict[int, str]:
    """Return our names of libSBML's operators."""
    found = {
        lib.AST_PLUS: "plus",
        lib.AST_MINUS: "minus",
        lib.AST_TIMES: "times",
        lib.AST_DIVIDE: "divide",
        lib.AST_POWER: "power",
        lib.AST_CONSTANT_TRUE: "true",
        lib.AST_CONSTANT_FALSE: "false",
    }
    for name in OPERATORS:
        for kind in ("FUNCTION", "RELATIONAL", "LOGICAL"):
            code = getattr(lib, f"AST_{kind}_{name.upper()}", None)
            if code is not None:
                found[code] = name
    return found


def _firing_time(condition: Expression) -> Expression | None:
    """Return the time from which a condition on the time alone is true; None if it is another."""
    if not isinstance(condition, Call) or len(condition.arguments) != 2:
        return None
    first, second = condition.arguments
    if condition.operator in ("geq", "gt") and first == Call(TIME):
        found = second
    elif condition.operator in ("leq", "lt") and second == Call(TIME):
        found = first
    else:
        return None
    return None if TIME in symbols(found) else found


def _number(expression: Expression, reader: _Reader) -> float:
    """Return the value of a constant expression in the file; NaN if it has none."""
    try:
        return float(evaluate(expression, reader.values, 0.0))
    except KeyError:
        return math.nan


def _is_zero_or_less(expression: Expression, reader: _Reader) -> bool:
    return _number(expression, reader) <= 0


def _added(value: Expression, name: str) -> Expression | None:
    """Return what an expression adds to a variable; None if it does something else."""
    me = Symbol(name)
    if isinstance(value, Call) and value.operator == "plus" and value.arguments.count(me) == 1:
        others = tuple(x for x in value.arguments if x != me)
        if all(name not in symbols(x) for x in others):
            return Call("plus", others)
    if isinstance(value, Call) and value.operator == "minus" and len(value.arguments) == 2:
        first, second = value.arguments
        if first == me and name not in symbols(second):
            return Call("minus", (second,))
    return None
