"""Units and meanings of a system's outputs, as its tuple of outputs declares them."""

import typing
from typing import Annotated, Any, NamedTuple

from jaxtwin.physics.base import AbstractSystem, outputs_of
from jaxtwin.physics.channels import Channels


class Quantity(NamedTuple):
    """What an output is.

    Attributes:
        unit: Its unit; "" where none is declared.
        meaning: What it is, in words; "" where nothing is declared.
    """

    unit: str = ""
    meaning: str = ""


def output_quantities(system: AbstractSystem) -> dict[str, Quantity]:
    """Unit and meaning of each output of a system, by name.

    A model declares them in its tuple of outputs; the meaning may be left out:

        class SkullOutputs(NamedTuple):
            P: Annotated[Scalar, "mmHg", "pressure inside the skull"]
            q: Annotated[Scalar, "mL/s"]

    Outputs within outputs, such as those of a heart with a pump, go by their own names.
    """
    return _quantities(outputs_of(system))


def _quantities(outputs: Any) -> dict[str, Quantity]:
    try:
        declared = typing.get_type_hints(type(outputs), include_extras=True)
    except NameError:  # A class within a function, in a module with postponed annotations.
        declared = {}
    found = {}
    for name, value in outputs._asdict().items():
        found |= _quantities(value) if _nested(value) else {name: _quantity(declared.get(name))}
    return found


def by_name(outputs: Any) -> dict[str, Any]:
    """A tuple of outputs, or `Channels`, by the names of `output_quantities`."""
    if isinstance(outputs, Channels):
        return dict(zip(outputs.channel_names, outputs.channel_values, strict=True))
    found = {}
    for name, value in outputs._asdict().items():
        found |= by_name(value) if _nested(value) else {name: value}
    return found


def _nested(value: Any) -> bool:
    return hasattr(value, "_fields")


def _quantity(annotation: Any) -> Quantity:
    if typing.get_origin(annotation) is not Annotated:
        return Quantity()
    # Other libraries may have notes of their own there.
    words = [note for note in annotation.__metadata__ if isinstance(note, str)]
    return Quantity(*words[:2])
