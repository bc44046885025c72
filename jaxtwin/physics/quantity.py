"""Units and meanings of a system's outputs, as declared in its tuple of outputs."""

import typing
from typing import Annotated, Any, NamedTuple

from jaxtwin.physics.base import AbstractSystem, outputs_of
from jaxtwin.physics.channels import nested


class Quantity(NamedTuple):
    """Unit and meaning of an output.

    Attributes:
        unit: Unit; "" if none is declared.
        meaning: Meaning in words; "" if none is declared.
    """

    unit: str = ""
    meaning: str = ""


def output_quantities(system: AbstractSystem) -> dict[str, Quantity]:
    """Return the unit and meaning of each output of a system, by name.

    A model declares them in its tuple of outputs; the meaning is optional:

        class SkullOutputs(NamedTuple):
            P: Annotated[Scalar, "mmHg", "pressure inside the skull"]
            q: Annotated[Scalar, "mL/s"]

    Nested outputs, such as those of a heart with a pump, are listed under their own names.
    """
    return _quantities(outputs_of(system))


def _quantities(outputs: Any) -> dict[str, Quantity]:
    try:
        declared = typing.get_type_hints(type(outputs), include_extras=True)
    except NameError:  # A class defined in a function, in a module with postponed annotations.
        declared = {}
    found = {}
    for name, value in outputs._asdict().items():
        found |= _quantities(value) if nested(value) else {name: _quantity(declared.get(name))}
    return found


def _quantity(annotation: Any) -> Quantity:
    if typing.get_origin(annotation) is not Annotated:
        return Quantity()
    # Other libraries may add metadata of other types.
    words = [note for note in annotation.__metadata__ if isinstance(note, str)]
    return Quantity(*words[:2])
