"""What something kept on disk was made with: a description, and a short key of it.

    mark = fingerprint(LVAD(LeftHeart(), 6_000.0), SEVEN, phases=80)
    mark.key            # "b1946ac92492d234"
    mark.description    # {"system": {"class": "jaxtwin...LVAD", "speed": 6000, ...}, ...}

Equal content has an equal key in every process. A function is known by its module and name alone:
a change of its body, or of a class's methods, is not seen.
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
"""Arrays of at most so many entries are described by their values, larger ones by a digest."""


class Fingerprint(NamedTuple):
    """What something was made with.

    Attributes:
        key: Sixteen hexadecimal digits, the beginning of the description's SHA-256.
        description: The same for people, and for JSON.
    """

    key: str
    description: dict[str, Any]


def fingerprint(system: AbstractSystem, box: Box | None = None, **details: Any) -> Fingerprint:
    """The identity of a system, of its parameters in a box, and of whatever else mattered.

    The description holds the system's class with the values of all its fields, its `steps` and
    outputs; which parameters are free and within which bounds; the values of all others, defaults
    included; and the details.

    Args:
        system: The model.
        box: Which parameters are free; without one all are at their defaults.
        details: Whatever else the result depends on, by name: numbers, strings, arrays,
            functions, interventions, and containers of those. `steps` replaces the system's own.

    Raises:
        ValueError: If something cannot be told from another of its kind, such as a lambda.
    """
    parameters = system.parameters if box is None else box.parameters
    names, held = ((), ()) if box is None else (box.names, box.fixed)
    values = {name: spec.default for name, spec in parameters.specs().items()} | dict(held)
    description = {
        "system": _describe(system, "system"),
        "outputs": list(outputs_of(system)._fields),
        "parameters": _name(parameters, "parameters"),
        # Lists: the order of the free parameters is that of θ.
        "free": []
        if box is None
        else [
            [name, _number(low), _number(high)]
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
    """Where two descriptions differ, in words: "system.speed is 6000, not 12000".

    Args:
        kept: The description on disk.
        wanted: That of what is asked for.
        where: Of both, within a larger one.
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
    """A value as JSON holds it; `where` is its place, for errors."""
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
        "containers of those, which can be compared with what another process made"
    )


def _fields(value: Any, names: Any, where: str) -> dict[str, Any]:
    described = {name: _describe(getattr(value, name), f"{where}.{name}") for name in names}
    return {"class": _name(type(value), where)} | described


def _number(value: Any) -> int | float | str:
    """6000 and 6000.0 alike; JSON has no NaN."""
    if isinstance(value, int | np.integer):
        return int(value)
    value = float(value)
    if not math.isfinite(value):
        return str(value)
    return int(value) if value.is_integer() else value


def _array(value: Any, where: str) -> Any:
    if isinstance(value, jax.core.Tracer):
        raise ValueError(
            f"{where} is a traced value: take the fingerprint outside of jax.jit, jax.vmap and "
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
    """Module and name of a class or function."""
    name = getattr(thing, "__qualname__", getattr(thing, "__name__", "<"))
    # A function inside another may hold values that its name does not tell; a class seldom does.
    if "<lambda>" in name or ("<" in name and not isinstance(thing, type)):
        raise ValueError(
            f"{where} is {thing}, which cannot be told from another of that name: define it with "
            "`def` or `class` at the top of a module, or make it a dataclass with the numbers it "
            "needs as fields and a __call__"
        )
    return f"{thing.__module__}.{name}"
