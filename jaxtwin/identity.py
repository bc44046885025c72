"""Fingerprints: a description of what a file was made with, and a short key of it.

    mark = fingerprint(LVAD(LeftHeart(), 6_000.0), SEVEN, phases=80)
    mark.key            # "b1946ac92492d234"
    mark.description    # {"system": {"class": "jaxtwin...LVAD", "speed": 6000, ...}, ...}

Equal content has an equal key in every process. A function is identified by its module and name:
changes of its body, or of the methods of a class, are not detected.
"""

import dataclasses
import enum
import functools
import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import PurePath
from types import MethodType
from typing import Any, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from jaxtwin.parameters import Box
from jaxtwin.physics.base import AbstractRecordedSystem, AbstractSystem, outputs_of

FEW = 32
"""Largest number of entries of an array described by its values; larger ones have a digest."""


class Fingerprint(NamedTuple):
    """Fingerprint of what a result was made with.

    Attributes:
        key: First sixteen hexadecimal digits of the SHA-256 of the description.
        description: Readable description, as a JSON value.
    """

    key: str
    description: dict[str, Any]


def fingerprint(system: AbstractSystem, box: Box | None = None, **details: Any) -> Fingerprint:
    """Compute the fingerprint of a system, its parameters in a box, and further details.

    The description contains the class of the system with the values of all fields, its `steps` and
    outputs; the free parameters and their bounds; the values of all others, including defaults;
    and the details.

    Args:
        system: The model.
        box: Box of the free parameters; without one, all parameters have their defaults.
        details: Anything else on which the result depends, by name: numbers, strings, arrays,
            functions, interventions, and containers of these. `steps` replaces the system's.

    Raises:
        ValueError: If an object cannot be identified, such as a lambda.
    """
    parameters = system.parameters if box is None else box.parameters
    names, held = ((), ()) if box is None else (box.names, box.fixed)
    values = {name: spec.default for name, spec in parameters.specs().items()} | dict(held)
    description = {
        "system": _describe(system, "system"),
        "outputs": list(outputs_of(system)._fields),
        "parameters": _name(parameters, "parameters"),
        # Lists, because the order of the free parameters is that of θ.
        "free": []
        if box is None
        else [
            [name, _number(low), _number(high), *["logarithmic"] * (name in box.logarithmic)]
            for name, low, high in zip(names, box.low, box.high, strict=True)
        ],
        "fixed": {name: _describe(v, name) for name, v in values.items() if name not in names},
    }
    if isinstance(system, AbstractRecordedSystem):
        description["steps"] = int(system.steps)
    description |= {name: _describe(value, name) for name, value in details.items()}
    text = json.dumps(description, sort_keys=True, ensure_ascii=True, allow_nan=False)
    return Fingerprint(hashlib.sha256(text.encode()).hexdigest()[:16], description)


def differences(kept: Any, wanted: Any, where: str = "") -> list[str]:
    """Describe where two descriptions differ, such as "system.speed is 6000, not 12000".

    Args:
        kept: Description on disk.
        wanted: Description of what is requested.
        where: Path of both within a larger description.
    """
    if isinstance(kept, Mapping) and isinstance(wanted, Mapping):
        return [
            line
            for name in dict.fromkeys([*wanted, *kept])
            for line in differences(
                kept.get(name, "missing"),
                wanted.get(name, "missing"),
                f"{where}.{name}" if where else name,
            )
        ]
    return [] if kept == wanted else [f"{where} is {kept}, not {wanted}"]


def _describe(value: Any, where: str) -> Any:
    """Convert a value to a JSON value; `where` is its path, for error messages."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, enum.Enum):
        return f"{_name(type(value), where)}.{value.name}"
    if isinstance(value, int | float | np.number):
        return _number(value)
    if isinstance(value, jax.Array | np.ndarray):
        return _array(value, where)
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Mapping):
        return {str(name): _describe(v, f"{where}.{name}") for name, v in value.items()}
    if isinstance(value, tuple | list):
        if not hasattr(value, "_fields"):
            return [_describe(v, f"{where}[{i}]") for i, v in enumerate(value)]
        return _fields(value, value._fields, where)  # pyright: ignore[reportAttributeAccessIssue]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _fields(value, [field.name for field in dataclasses.fields(value)], where)
    if isinstance(value, functools.partial):
        parts = {"function": value.func, "arguments": value.args, "keywords": value.keywords}
        return {name: _describe(part, f"{where}.{name}") for name, part in parts.items()}
    if isinstance(value, MethodType):
        return {"method": value.__name__, "of": _describe(value.__self__, where)}
    if callable(value):
        return _name(value, where)
    raise ValueError(
        f"{where} is {value!r}: expected numbers, strings, arrays, functions, dataclasses and "
        "containers of these, which can be compared between processes"
    )


def _fields(value: Any, names: Any, where: str) -> dict[str, Any]:
    described = {name: _describe(getattr(value, name), f"{where}.{name}") for name in names}
    return {"class": _name(type(value), where)} | described


def _number(value: Any) -> int | float | str:
    """Convert a number such that 6000 and 6000.0 are equal, and NaN is valid in JSON."""
    if isinstance(value, int | np.integer):
        return int(value)
    value = float(value)
    if not math.isfinite(value):
        return str(value)
    return int(value) if value.is_integer() else value


def _array(value: Any, where: str) -> Any:
    if isinstance(value, jax.core.Tracer):
        raise ValueError(
            f"{where} is a traced value: compute the fingerprint outside jax.jit, jax.vmap and "
            "jax.grad, where it is a number"
        )
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        value = jax.random.key_data(value)
    array = np.asarray(value)
    if array.ndim == 0:
        return _describe(array.item(), where)
    if array.size <= FEW:
        return _describe(array.tolist(), where)
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    digest = hashlib.sha256(little.tobytes()).hexdigest()[:16]
    return {"shape": list(array.shape), "dtype": array.dtype.name, "sha256": digest}


def _name(thing: Any, where: str) -> str:
    """Return the module and name of a class or function."""
    name = getattr(thing, "__qualname__", getattr(thing, "__name__", "<"))
    # A nested function may depend on enclosed values, which its name does not show. Classes rarely
    # do.
    if "<lambda>" in name or ("<" in name and not isinstance(thing, type)):
        raise ValueError(
            f"{where} is {thing}, which cannot be identified by its name: define it with `def` or "
            "`class` at the top level of a module, or make it a dataclass with the numbers it "
            "needs as fields and a __call__"
        )
    return f"{thing.__module__}.{name}"
