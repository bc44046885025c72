"""Load a model that others have published, from the file in which they did."""

from pathlib import Path

from jaxtwin.exchange.equations import Equations
from jaxtwin.exchange.errors import ModelFileError
from jaxtwin.exchange.expression import TIME, symbols
from jaxtwin.exchange.system import LoadedPeriodicSystem, LoadedSystem, system_of

FORMATS = (".xml", ".sbml", ".cellml")
"""Suffixes of the files that can be read."""
LARGEST = 20_000_000
"""Largest size of a file [bytes]."""


def load_model(
    path: str | Path,
    *,
    duration: float | str | None = None,
    period: float | str | None = None,
    steps: int = 240,
) -> LoadedSystem | LoadedPeriodicSystem:
    """Load a model from a file of SBML (.xml, .sbml) or CellML (.cellml, .xml).

    Names, units and values are those of the file; time is in its unit, `system.time_unit`. Ids that
    Python cannot have as names are changed, see `jaxtwin.exchange.equations.python_names`. Initial
    values of states are parameters, too: of `S`, it is `S_0`.

        system = jt.load_model("glucose.xml", duration=180.0)
        box = jt.Box.of(system.parameters, {"k1": (0.1, 2.0)})

    Args:
        path: The file.
        duration: Duration of a recording, in the model's unit of time, or the name of the parameter
            that has it.
        period: Period, if the model is driven periodically, likewise.
        steps: Number of solver steps over the duration or period.

    Raises:
        ImportError: If the library for the format is not installed.
        ModelFileError: If the file is damaged, too large or of another format.
        UnsupportedModelError: If it uses what is not supported, each construct with its id.
        ValueError: If there is neither a duration nor a period.
    """
    path = Path(path)
    if (duration is None) == (period is None):
        raise ValueError(
            f"duration={duration}, period={period}: expected one of them; a file does not say for "
            "how long its model is to be solved"
        )
    equations = read_equations(path)
    length = duration if period is None else period
    assert length is not None
    names = [one.name for one, _ in equations.parameters]
    if isinstance(length, str) and length not in names:
        raise ValueError(f"no parameter {length!r} in {path.name}: it has {', '.join(names)}")
    if not isinstance(length, str) and not 0 < length < float("inf"):
        raise ValueError(f"a duration or period of {length}: expected a positive number")
    return system_of(equations, length, periodic=period is not None, steps=steps, source=path.name)


def read_equations(path: Path) -> Equations:
    """Return the equations of a model file; see `load_model`."""
    if not path.is_file():
        raise ModelFileError(f"{path}: no such file")
    if path.stat().st_size > LARGEST:
        raise ModelFileError(
            f"{path.name} has {path.stat().st_size:,} bytes: expected at most {LARGEST:,}"
        )
    text = path.read_bytes()
    if path.suffix.lower() not in FORMATS:
        raise ModelFileError(
            f"{path.name}: expected a file of SBML (.xml, .sbml) or CellML (.cellml, .xml)"
        )
    if b"<!DOCTYPE" in text or b"<!ENTITY" in text:
        raise ModelFileError(f"{path.name} declares entities, which are refused")
    if path.suffix.lower() == ".cellml" or (b"cellml.org/cellml/" in text and b"<sbml" not in text):
        from jaxtwin.exchange.cellml import read_cellml

        return read_cellml(text, path)
    from jaxtwin.exchange.sbml import read_sbml

    return read_sbml(text, path.name)


def describe(equations: Equations) -> str:
    """Return a table of a model's states and parameters, and when its equations switch."""
    rows = [("state", one.name, "", one.unit, one.meaning) for one in equations.states]
    rows += [
        ("parameter", one.name, f"{value:g}", one.unit, one.meaning)
        for one, value in equations.parameters
    ]
    rows += [("computed", one.name, "", one.unit, one.meaning) for one, _ in equations.assigned]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, (*widths, 0), strict=True)).rstrip()
        for row in rows
    ]
    assigned = [expression for _, expression in equations.assigned]
    depends = any(TIME in set(symbols(e)) for e in (*equations.rates, *assigned))
    if not depends:
        driven = "not driven: the equations do not depend on time"
    elif equations.jumps:
        driven = f"driven, with {len(equations.jumps)} times at which it switches"
    else:
        driven = "driven smoothly"
    return "\n".join(
        [
            f"{equations.name}: {len(equations.states)} states, {len(equations.parameters)} "
            f"parameters, time in {equations.time_unit}; {driven}",
            *lines,
        ]
    )
