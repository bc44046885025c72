"""CellML 1.0, 1.1 and 2.0, read with libCellML, which converts units where components meet.

Cuellar et al., "An overview of CellML 1.1, a biological model description language", Simulation 79,
2003; Clerx et al., "CellML 2.0", Journal of Integrative Bioinformatics 17, 2020.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxtwin.exchange.equations import Equations, Variable, in_order, python_names, switching_times
from jaxtwin.exchange.errors import Declined, ModelFileError, UnsupportedModelError
from jaxtwin.exchange.expression import (
    DEEPEST,
    TIME,
    Call,
    Expression,
    Solution,
    Symbol,
    replaced,
    with_rates,
)

LARGEST_IMPORT = 5_000_000
"""Largest size of an imported file [bytes]."""
MOST_IMPORTS = 50
"""Largest number of imported files."""
_ANGLES = ("sin", "cos", "tan", "sec", "csc", "cot")
_ANGLES = (*_ANGLES, *(f"{name}h" for name in _ANGLES))
_SAME = ("plus", "minus", "times", "divide", "power", "abs", "exp", "ln", "floor", "ceiling", "max")
_SAME = (*_SAME, "min", "rem", "eq", "neq", "lt", "leq", "gt", "geq", "and", "or", "xor", "not")
_OPERATORS = {name: name for name in (*_SAME, *_ANGLES, "true", "false")}
_OPERATORS |= {f"a{name}": f"arc{name}" for name in _ANGLES}
"""Our names of libCellML's operators."""
_SHORT = {
    "second": "s",
    "litre": "L",
    "dimensionless": "",
    "minute": "min",
    "hour": "h",
    "metre": "m",
}


def read_cellml(text: bytes, path: Path) -> Equations:
    """Return the equations of a CellML document.

    Args:
        text: The document.
        path: The file, beside which imported ones are looked for.

    Raises:
        ImportError: If libCellML is not installed.
        ModelFileError: If the document is not valid, or imports what is not beside it.
        UnsupportedModelError: If it uses what is not supported.
    """
    try:
        import libcellml
    except ImportError:
        raise ImportError(
            'CellML needs libCellML: pip install "jaxtwin[cellml]" (or libcellml)'
        ) from None
    parser = libcellml.Parser(False)
    model = parser.parseModel(_without_ids(text))
    _check(parser, path.name, "is not valid CellML")
    if model is None or (not model.componentCount() and not model.hasImports()):
        raise ModelFileError(f"{path.name} is not valid CellML: it has no component")
    if model.hasImports():
        model = _with_imports(libcellml, model, path)
    if model.hasUnlinkedUnits():
        model.linkUnits()
    analyser = libcellml.Analyser()
    analyser.analyseModel(model)
    found = analyser.analyserModel()
    if not found.isValid():
        reasons = [analyser.error(i).description() for i in range(analyser.errorCount())]
        declined = [Declined("model", "", " ".join(reason.split())) for reason in reasons[:20]]
        raise UnsupportedModelError(
            path.name, declined or [Declined("model", "", "is not solvable")]
        )
    return _Reader(libcellml, found, model.name(), path.name).equations()


def _without_ids(text: bytes) -> str:
    """Return a document without ids of metadata, which libCellML does not expect in formulas."""
    return re.sub(
        r"""\s(?:cmeta:)?id\s*=\s*("[^"]*"|'[^']*')""", "", text.decode("utf-8", "replace")
    )


def _check(logger: Any, name: str, what: str) -> None:
    if logger.errorCount():
        words = " ".join(logger.error(0).description().split())
        raise ModelFileError(f"{name} {what}: {words[:300]}")


def _with_imports(libcellml: Any, model: Any, path: Path) -> Any:
    """Return the model with the content of imported files, all of which lie beside it.

    Raises:
        ModelFileError: If one does not, or is not valid.
    """
    importer = libcellml.Importer(False)
    waiting, seen = [model], set[str]()
    while waiting:
        one = waiting.pop()
        for i in range(one.importSourceCount() if hasattr(one, "importSourceCount") else 0):
            waiting += _imported(libcellml, importer, one.importSource(i).url(), path, seen)
        for url in _import_urls(one):
            waiting += _imported(libcellml, importer, url, path, seen)
    importer.resolveImports(model, "")
    _check(importer, path.name, "imports what cannot be read")
    flat = importer.flattenModel(model)
    _check(importer, path.name, "imports what cannot be joined")
    if flat is None:
        raise ModelFileError(f"{path.name}: its imports cannot be joined")
    return flat


def _import_urls(model: Any) -> list[str]:
    """Return the addresses of all imports of a model."""
    found = []
    for i in range(model.unitsCount()):
        if model.units(i).isImport():
            found.append(model.units(i).importSource().url())
    waiting = [model.component(i) for i in range(model.componentCount())]
    while waiting:
        component = waiting.pop()
        if component.isImport():
            found.append(component.importSource().url())
        waiting += [component.component(i) for i in range(component.componentCount())]
    return list(dict.fromkeys(found))


def _imported(libcellml: Any, importer: Any, url: str, path: Path, seen: set[str]) -> list[Any]:
    """Read an imported file into the importer's library."""
    if url in seen:
        return []
    seen.add(url)
    beside = path.parent / url
    if Path(url).name != url or not beside.is_file() or len(seen) > MOST_IMPORTS:
        raise ModelFileError(
            f"{path.name} imports {url[:200]!r}: expected at most {MOST_IMPORTS} files, all "
            "beside it"
        )
    text = beside.read_bytes()
    if len(text) > LARGEST_IMPORT or b"<!DOCTYPE" in text or b"<!ENTITY" in text:
        raise ModelFileError(f"{url}, which {path.name} imports, is too large or declares entities")
    parser = libcellml.Parser(False)
    found = parser.parseModel(_without_ids(text))
    _check(parser, url, "is not valid CellML")
    importer.addModel(found, url)
    return [found]


class _Reader:
    """What is known of a model while it is read."""

    def __init__(self, lib: Any, model: Any, name: str, file: str):
        self.lib, self.model, self.name, self.file = lib, model, name, file
        self.declined: list[Declined] = []
        self.ids: dict[tuple[str, str], str] = {}

    def equations(self) -> Equations:
        model = self.model
        kinds = {
            "state": [model.state(i) for i in range(model.stateCount())],
            "constant": [model.constant(i) for i in range(model.constantCount())],
            "fixed": [model.computedConstant(i) for i in range(model.computedConstantCount())],
            "assigned": [model.algebraicVariable(i) for i in range(model.algebraicVariableCount())],
        }
        everything = [one for some in kinds.values() for one in some]
        self._name(everything)
        rules: dict[str, Expression] = {}
        unknown: dict[int, list[str]] = {}
        residuals: dict[int, list[Expression]] = {}
        for i in range(model.analyserEquationCount()):
            self._read_equation(model.analyserEquation(i), rules, unknown, residuals)
        guesses = self._values(kinds["assigned"])
        for system, names in unknown.items():
            names = list(dict.fromkeys(names))
            if len(names) != 1 or len(residuals[system]) != 1:
                reason = f"{len(residuals[system])} equations that need each other"
                self.declined.append(Declined("system of equations", ", ".join(names), reason))
                continue
            (name,) = names
            rules[name] = Solution(name, residuals[system][0], guesses.get(name, 0.0))
        if model.voi() is None and kinds["state"]:
            self.declined.append(Declined("model", self.name, "has no variable of integration"))
        if self.declined:
            raise UnsupportedModelError(self.file, self.declined)
        rates = {self.ids[self._key(one.variable())]: one for one in kinds["state"]}
        rates = {name: rules[name] for name in rates if name in rules}
        rules = {name: with_rates(rule, rates) for name, rule in rules.items()}
        return self._assemble(kinds, rules)

    def _name(self, variables: list[Any]) -> None:
        """Give every variable an id: its name, or that with its component's if two have one."""
        count: dict[str, int] = {}
        for one in variables:
            name = one.variable().name()
            count[name] = count.get(name, 0) + 1
        for one in variables:
            key = self._key(one.variable())
            self.ids[key] = key[1] if count[key[1]] == 1 else f"{key[0]}_{key[1]}"

    def _key(self, variable: Any) -> tuple[str, str]:
        """Return component and name of the variable that stands for all equivalent ones."""
        found = self.model.analyserVariable(variable)
        primary = variable if found is None else found.variable()
        return primary.parent().name(), primary.name()

    def _read_equation(
        self,
        equation: Any,
        rules: dict[str, Expression],
        unknown: dict[int, list[str]],
        residuals: dict[int, list[Expression]],
    ) -> None:
        kind = equation.typeAsString(equation.type())
        ast = equation.ast()
        if ast is None:  # A constant, whose value is its initial value.
            return
        left, right = ast.leftChild(), ast.rightChild()
        if kind == "nla":
            system = equation.nlaSystemIndex()
            names = unknown.setdefault(system, [])
            for i in range(equation.algebraicVariableCount()):
                names.append(self.ids[self._key(equation.algebraicVariable(i).variable())])
            difference = Call("minus", (self.expression(left), self.expression(right)))
            residuals.setdefault(system, []).append(difference)
            return
        if left.typeAsString(left.type()) == "diff":
            name = self.ids[self._key(left.rightChild().variable())]
        else:
            name = self.ids[self._key(left.variable())]
        rules[name] = self.expression(right)

    def expression(self, node: Any, depth: int = 0) -> Expression:
        """Return the expression of a node of libCellML's."""
        if depth > DEEPEST:
            raise ModelFileError(f"{self.file}: mathematics nested deeper than {DEEPEST}")
        kind = node.typeAsString(node.type())
        if kind == "cn":
            return float(node.value())
        constants = {"pi": math.pi, "e": math.e, "inf": math.inf, "nan": math.nan}
        if kind in constants:
            return constants[kind]
        if kind == "ci":
            variable = node.variable()
            found = self.model.analyserVariable(variable)
            if found is not None and found.typeAsString(found.type()) == "variable_of_integration":
                return Call(TIME)
            return Symbol(self.ids[self._key(variable)])
        if kind == "diff":
            return Call("rateOf", (Symbol(self.ids[self._key(node.rightChild().variable())]),))
        parts = [child for child in (node.leftChild(), node.rightChild()) if child is not None]
        if kind == "piecewise":
            return Call("piecewise", tuple(self._pieces(parts, depth)))
        if kind == "root":
            return self._root(parts, depth)
        if kind == "log" and len(parts) == 2:
            base = self.expression(parts[0].leftChild() or parts[0], depth + 1)
            return Call("log", (base, self.expression(parts[1], depth + 1)))
        arguments = tuple(self.expression(part, depth + 1) for part in parts)
        if kind == "log":
            return Call("log", (10.0, *arguments))
        if kind == "plus" and len(arguments) == 1:
            return arguments[0]
        if kind not in _OPERATORS:
            self.declined.append(Declined("function", kind, "not supported"))
            return math.nan
        return Call(_OPERATORS[kind], arguments)

    def _pieces(self, parts: list[Any], depth: int) -> list[Expression]:
        found: list[Expression] = []
        for part in parts:
            kind = part.typeAsString(part.type())
            if kind == "piece":
                found.append(self.expression(part.leftChild(), depth + 1))
                found.append(self.expression(part.rightChild(), depth + 1))
            elif kind == "otherwise":
                found.append(self.expression(part.leftChild(), depth + 1))
            else:  # Further pieces.
                found.append(self.expression(part, depth + 1))
        return found

    def _root(self, parts: list[Any], depth: int) -> Expression:
        if len(parts) == 1:
            return Call("root", (2.0, self.expression(parts[0], depth + 1)))
        degree = parts[0].leftChild() or parts[0]
        return Call(
            "root", (self.expression(degree, depth + 1), self.expression(parts[1], depth + 1))
        )

    def _values(self, variables: list[Any]) -> dict[str, float]:
        """Return the initial values that are numbers, in the variables' own units."""
        found = {}
        for one in variables:
            value = self._initial(one)
            if isinstance(value, float):
                found[self.ids[self._key(one.variable())]] = value
        return found

    def _initial(self, one: Any) -> Expression | None:
        """Return a number or the variable with which another begins."""
        starting = one.initialisingVariable()
        if starting is None or not starting.initialValue():
            return None
        text = starting.initialValue()
        factor = self.lib.Units.scalingFactor(starting.units(), one.variable().units())
        try:
            return float(text) * (factor or 1.0)
        except ValueError:
            other = starting.parent().variable(text)
            name = None if other is None else self.ids.get(self._key(other))
            if name is None:
                self.declined.append(Declined("initial value", text[:80], "is no known variable"))
                return None
            return Call("times", (factor or 1.0, Symbol(name)))

    def _assemble(self, kinds: Mapping[str, list[Any]], rules: dict[str, Expression]) -> Equations:
        named = {
            kind: [self.ids[self._key(x.variable())] for x in some] for kind, some in kinds.items()
        }
        parameters: dict[str, float] = {}
        initial: dict[str, Expression] = {}
        fixed = {name: rules[name] for name in named["fixed"] if name in rules}
        variables = {self.ids[self._key(x.variable())]: x for some in kinds.values() for x in some}
        for name in named["constant"]:
            value = self._initial(variables[name])
            if isinstance(value, float):
                parameters[name] = value
            elif value is None:
                self.declined.append(Declined("constant", name, "has no value"))
            else:
                fixed[name] = value
        starts = {}
        for name in named["state"]:
            value = self._initial(variables[name])
            if isinstance(value, float):
                start = f"{name}_0"
                while start in variables or start in parameters:
                    start += "_"
                starts[start], parameters[start] = name, value
                initial[name] = Symbol(start)
            elif value is None:
                self.declined.append(Declined("variable", name, "has no value at the beginning"))
            else:
                initial[name] = value
        assigned = {name: rules[name] for name in named["assigned"] if name in rules}
        missing = [
            n for n in (*named["assigned"], *named["fixed"], *named["state"]) if n not in rules
        ]
        self.declined += [Declined("variable", name, "has no equation") for name in missing]
        if self.declined:
            raise UnsupportedModelError(self.file, self.declined)
        return self._named(
            variables, parameters, starts, named["state"], initial, assigned, fixed, rules
        )

    def _named(
        self,
        variables: Mapping[str, Any],
        parameters: Mapping[str, float],
        starts: Mapping[str, str],
        states: list[str],
        initial: Mapping[str, Expression],
        assigned: Mapping[str, Expression],
        fixed: Mapping[str, Expression],
        rules: Mapping[str, Expression],
    ) -> Equations:
        """Return the equations with the names that they have in Python."""
        if not states:
            raise UnsupportedModelError(
                self.file, [Declined("model", self.name, "has no differential equation")]
            )
        name = python_names([*parameters, *states, *assigned, *fixed])
        by = {old: Symbol(new) for old, new in name.items()}

        def variable(one: str) -> Variable:
            if one in starts:
                return Variable(
                    name[one], _unit(variables[starts[one]]), f"{starts[one]} at the start"
                )
            return Variable(name[one], _unit(variables[one]))

        order = in_order(assigned)
        constant = {name[one] for one in (*parameters, *fixed)}
        rates = [replaced(rules[one], by) for one in states]
        computed = [replaced(assigned[one], by) for one in order]
        return Equations(
            re.sub(r"\W", "_", self.name) or "model",
            tuple((variable(one), value) for one, value in parameters.items()),
            tuple(variable(one) for one in states),
            tuple(replaced(initial[one], by) for one in states),
            tuple(rates),
            tuple((variable(one), e) for one, e in zip(order, computed, strict=True)),
            tuple((variable(one), replaced(fixed[one], by)) for one in in_order(fixed)),
            tuple(name[one] for one in (*states, *order)),
            tuple(switching_times([*rates, *computed], constant)),
            _unit(self.model.voi()) or "1",
        )


def _unit(one: Any) -> str:
    """Return the unit of a variable as the file calls it, with common names shortened."""
    units = one.variable().units()
    name = "" if units is None else units.name()
    return _SHORT.get(name, name)
