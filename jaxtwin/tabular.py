"""Results for xarray and pandas: columns with names, units and meanings."""

import contextlib
import importlib
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from jaxtwin.identity import fingerprint
from jaxtwin.parameters import Box
from jaxtwin.physics.base import AbstractRecordedSystem
from jaxtwin.physics.channels import by_name
from jaxtwin.physics.quantity import Quantity, output_quantities
from jaxtwin.physics.solution import Reading, Recording

if TYPE_CHECKING:
    import pandas
    import xarray

# Names that are never given to anything else, then whose names stay where two are the same.
_COORDINATES = ("arm", "patient", "phase")
_PRECEDENCE = ("status", "output", "reading", "parameter")


class Column(NamedTuple):
    """One quantity of many patients.

    Attributes:
        kind: What it belongs to.
        name: Its name there.
        values: Its values.
        dims: Names of the values' axes, out of "arm", "patient" and "phase".
        unit: Its unit; "" where it has none.
        meaning: What it is, in words.
    """

    kind: Literal["status", "output", "reading", "parameter"]
    name: str
    values: np.ndarray
    dims: tuple[str, ...] = ("patient",)
    unit: str = ""
    meaning: str = ""


def parameter_columns(box: Box, theta: Float[np.ndarray, "patient free"]) -> list[Column]:
    """The free parameters, one column each."""
    return [
        Column("parameter", spec.name, values, unit=spec.unit, meaning=spec.meaning)
        for spec, values in zip(box.specs, np.asarray(theta).T, strict=True)
    ]


def reading_columns(
    readings: Mapping[str, Reading],
    values: Mapping[str, np.ndarray],
    dims: tuple[str, ...] = ("patient",),
) -> list[Column]:
    """Values of readings, one column each."""
    return [
        Column("reading", name, np.asarray(some), dims, readings[name].unit, readings[name].meaning)
        for name, some in values.items()
    ]


def recording_columns(system: AbstractRecordedSystem, recording: Recording[Any]) -> list[Column]:
    """Waveforms by the outputs' names, extremes as NAME_maximum and NAME_minimum, the duration."""
    known = output_quantities(system)

    def columns(outputs: Any, dims: tuple[str, ...], ending: str, which: str) -> list[Column]:
        return [
            Column(
                "output",
                name + ending,
                np.asarray(values),
                dims,
                known.get(name, Quantity()).unit,
                which + (known.get(name, Quantity()).meaning or name),
            )
            for name, values in by_name(outputs).items()
        ]

    return [
        *columns(recording.waveforms, ("patient", "phase"), "", ""),
        *columns(recording.maximum, ("patient",), "_maximum", "largest "),
        *columns(recording.minimum, ("patient",), "_minimum", "smallest "),
        status_column(
            "duration", recording.duration, "how long the system is watched", system.time_unit
        ),
    ]


def status_column(
    name: str,
    values: Any,
    meaning: str,
    unit: str = "",
    dims: tuple[str, ...] = ("patient",),
) -> Column:
    """What there is to know about a result, such as its success."""
    return Column("status", name, np.asarray(values), dims, unit, meaning)


def named(columns: Iterable[Column]) -> dict[str, Column]:
    """Columns by a name each, in their order.

    Two quantities of one system may have the same name. An output keeps it before a reading, and
    a reading before a parameter; the other's kind is appended, as in "V_parameter".

    Raises:
        ValueError: If that is another's name in turn.
    """
    columns = list(columns)
    taken: dict[str, int] = dict.fromkeys(_COORDINATES, -1)
    for i in sorted(range(len(columns)), key=lambda i: _PRECEDENCE.index(columns[i].kind)):
        kind, name = columns[i].kind, columns[i].name
        name = f"{name}_{kind}" if name in taken else name
        if name in taken:
            raise ValueError(
                f"two columns are called {name}: rename the {kind} {columns[i].name} in the system"
            )
        taken[name] = i
    return {name: columns[i] for name, i in sorted(taken.items(), key=lambda x: x[1]) if i >= 0}


def to_dataset(
    columns: Iterable[Column],
    system: AbstractRecordedSystem,
    box: Box,
    *,
    arms: tuple[str, ...] = (),
    **attributes: Any,
) -> "xarray.Dataset":
    """Make a Dataset of columns, with the identity of their system in its attributes.

    Args:
        columns: The quantities.
        system: The model.
        box: The free parameters.
        arms: Coordinates of the dimension "arm", where there is one.
        attributes: Further attributes of the Dataset.

    Raises:
        ImportError: If xarray is not installed.
    """
    xarray = _optional("xarray")
    by_names = named(columns)
    sizes = {
        dim: size
        for column in by_names.values()
        for dim, size in zip(column.dims, column.values.shape, strict=True)
    }
    coordinates: dict[str, Any] = {"patient": np.arange(sizes["patient"])}
    if "phase" in sizes:
        at = np.arange(sizes["phase"]) / sizes["phase"]
        label = {"units": "1", "long_name": "share of the duration"}
        coordinates["phase"] = ("phase", at, label)
    if arms:
        coordinates["arm"] = list(arms)
    return xarray.Dataset(
        {name: (column.dims, column.values, _labels(column)) for name, column in by_names.items()},
        coordinates,
        _identity(system, box) | attributes,
    )


def to_dataframe(
    columns: Iterable[Column],
    system: AbstractRecordedSystem,
    box: Box,
    *,
    arms: tuple[str, ...] = (),
    **attributes: Any,
) -> "pandas.DataFrame":
    """Make a DataFrame of all columns but outputs; `attrs["units"]` has the units by column.

    Args:
        columns: The quantities.
        system: The model.
        box: The free parameters.
        arms: Arms of a trial, which has one row per patient and arm, see `table`. Without arms
            there is one row per patient, and the index is the patient's.
        attributes: Further attributes of the DataFrame.

    Raises:
        ImportError: If pandas is not installed.
    """
    pandas = _optional("pandas")
    by_names = {name: c for name, c in named(columns).items() if c.kind != "output"}
    if arms:
        frame = pandas.DataFrame(table(by_names, arms))
    else:
        frame = pandas.DataFrame({name: column.values for name, column in by_names.items()})
        frame.index.name = "patient"
    units = {name: column.unit for name, column in by_names.items() if column.unit}
    frame.attrs.update(_identity(system, box) | attributes | {"units": units})
    return frame


def table(by_names: Mapping[str, Column], arms: tuple[str, ...]) -> dict[str, np.ndarray]:
    """One row per patient and arm, by column; what does not depend on the arm is repeated."""
    patients = next(iter(by_names.values())).values.shape[-1]
    return {
        "arm": np.repeat(arms, patients),
        "patient": np.tile(np.arange(patients), len(arms)),
        **{
            name: np.broadcast_to(column.values, (len(arms), patients)).reshape(-1)
            for name, column in by_names.items()
        },
    }


def _labels(column: Column) -> dict[str, str]:
    """Attributes as xarray's plots and the CF conventions read them; none where none is known."""
    labels = {"units": column.unit, "long_name": column.meaning}
    return {name: label for name, label in labels.items() if label}


def _identity(system: AbstractRecordedSystem, box: Box) -> dict[str, Any]:
    """What the numbers were made with; without a fingerprint where the system has none."""
    found = {"system": type(system).__name__, "jaxtwin": version("jaxtwin")}
    with contextlib.suppress(ValueError):  # A lambda among the system's fields has no identity.
        found["fingerprint"] = fingerprint(system, box).key
    return found | {"note": "research use only"}


def _optional(name: Literal["pandas", "xarray"]) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"{name} is not installed: {install('tables')}", name=name) from error


def install(extra: str) -> str:
    """Return how to install an extra, for error messages."""
    return (
        f"install the extra `{extra}`: pip install 'jaxtwin[{extra}]', or in a clone "
        f"pip install -e '.[{extra}]'"
    )
