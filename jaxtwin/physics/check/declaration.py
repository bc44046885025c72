"""Check of the types and shapes that the methods of a system return."""

from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from jaxtwin.parameters import AbstractParameters
from jaxtwin.physics.base import AbstractPeriodicSystem, AbstractRecordedSystem, AbstractSystem
from jaxtwin.physics.check.report import Report, count, names, not_finite, paths, place_of
from jaxtwin.physics.quantity import output_quantities


def check_parameters(system: AbstractSystem, report: Report) -> None:
    """Check that all parameters are declared."""
    kind: Any = system.parameters
    if isinstance(kind, AbstractParameters):
        name = type(kind).__name__
        report.problem(
            f"`parameters` is an instance of {name}: expected the class",
            f"write `parameters: ClassVar = {name}`",
        )
        return
    if not (isinstance(kind, type) and issubclass(kind, AbstractParameters)):
        report.problem(
            f"`parameters` is {kind!r}: expected a subclass of AbstractParameters",
            "write `parameters: ClassVar = MyParameters`",
        )
        return
    try:
        specs = kind.specs()
    except ValueError as error:
        report.problem(str(error), "declare every field with `parameter(...)`")
        return
    free = [spec.name for spec in specs.values() if spec.bounds is not None]
    bare = [spec.name for spec in specs.values() if not spec.unit]
    report.facts["parameters"] = f"{len(specs)}, of which {len(free)} have bounds"
    if not free:
        report.facts["parameters"] += ": give those of the free ones to Box.of"
    if bare:
        report.facts["parameters without a unit"] = ", ".join(bare)


class MethodError(Exception):
    """A method of a system raised an error; its arguments are those of `Report.problem`."""


def _called(method: Callable[..., Any], *args: Any, shapes: bool = False) -> Any:
    """Return what a method of a system returns, or only its shapes and types.

    Raises:
        MethodError: If it raises an error, other than those about traced values.
    """
    try:
        return eqx.filter_eval_shape(method, *args) if shapes else method(*args)
    except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError):
        raise
    except Exception as error:  # The user's own code: anything may come out of it.
        message = next(iter(str(error).splitlines()), "")
        what = f"{method.__name__} raised {type(error).__name__}: {message}{place_of(error)}"
        listed = ", ".join(_argument(arg) for arg in args)
        advice = f"its arguments are, in this order: {listed}" if args else "look at that line"
        raise MethodError(what, advice) from error


def _argument(value: Any) -> str:
    if isinstance(value, AbstractParameters):
        return f"p ({', '.join(vars(value))})"
    return "t" if isinstance(value, jax.Array) else f"state ({', '.join(names(value))})"


def check_methods(system: AbstractSystem, p: Any, report: Report) -> None:
    """Check that every method returns one scalar per quantity, in the expected type."""
    state = _called(system.initial_state, p)
    report.facts["states"] = ", ".join(names(state))
    if not _scalars("initial_state", state, report):
        return
    broken = not_finite(state)
    if broken:
        report.problem(
            f"initial_state is NaN or infinite: {', '.join(broken)}",
            "look for a division by a parameter that is 0, or a logarithm or root of a negative "
            "number",
        )
        return
    t = jnp.zeros((), float)
    rates = _called(system.vector_field, t, state, p, shapes=True)
    if jax.tree.structure(rates) != jax.tree.structure(state):
        report.problem(
            f"vector_field returns {_kind(rates)}, but the state is {_kind(state)}",
            "return the rate of change of every state variable, in a tuple of the state's own type",
        )
        return
    if not _scalars("vector_field", rates, report):
        return
    outputs = _called(system.outputs, t, state, p, shapes=True)
    if not hasattr(outputs, "_fields"):
        report.problem(
            f"outputs returns {_kind(outputs)}",
            "return a NamedTuple with one entry per observable quantity",
        )
        return
    report.facts["outputs"] = ", ".join(names(outputs))
    bare = [name for name, quantity in output_quantities(system).items() if not quantity.unit]
    if bare:
        report.facts["outputs without a unit"] = ", ".join(bare)
    if not _scalars("outputs", outputs, report):
        return
    if isinstance(system, AbstractPeriodicSystem):
        _check_conserved(system, state, p, report)
    if isinstance(system, AbstractRecordedSystem) and not report.problems:
        _check_duration(system, p, report)
        if not report.problems:
            _check_scaling(system, p, outputs, report)


def _check_conserved(system: AbstractPeriodicSystem, state: Any, p: Any, report: Report) -> None:
    values = _called(system.conserved, state, p)
    # Any tuple is accepted, including a named tuple; a scalar is not.
    if not isinstance(values, tuple | list):
        report.problem(
            f"conserved returns a single value ({_kind(values)}): expected a tuple",
            "write a comma after a single quantity: return (state.V_1 + state.V_2,)",
        )
        return
    if _scalars("conserved", values, report):
        report.facts["conserved"] = count(len(values), "quantity", "quantities")


def _check_duration(system: AbstractRecordedSystem, p: Any, report: Report) -> None:
    """Check that the duration is positive and contains the discontinuities."""
    what = "period" if isinstance(system, AbstractPeriodicSystem) else "duration"
    found = _called(system.duration, p)
    if not _scalars(what, found, report):
        return
    recorded = float(jnp.asarray(found))
    report.facts[what] = f"{recorded:g} {system.time_unit}"
    if not 0 < recorded < float("inf"):
        report.problem(
            f"{what} is {recorded:g}: expected a positive number",
            f"return the {what} in the system's unit of time; give it bounds above 0",
        )
        return
    jumps = _called(system.discontinuities, p)
    if not isinstance(jumps, tuple | list):
        report.problem(
            f"discontinuities returns a single value ({_kind(jumps)}): expected a tuple",
            "write a comma after a single time: return (p.T_i,)",
        )
        return
    times = [float(jnp.asarray(jump)) for jump in jumps]
    outside = [f"{time:g}" for time in times if not 0 < time < recorded]
    if outside:
        report.problem(
            f"discontinuities at {', '.join(outside)}, outside the {what} {recorded:g}",
            f"return only those strictly between 0 and the {what}; solvers always allow for a jump "
            "at the end of a period",
        )


def _check_scaling(system: AbstractRecordedSystem, p: Any, outputs: Any, report: Report) -> None:
    pair = _called(system.scaling, p)
    expected = jax.tree.structure(outputs)
    if not (
        isinstance(pair, tuple) and len(pair) == 2 and all(_structure(x) == expected for x in pair)
    ):
        report.problem(
            f"scaling returns {_kind(pair)}: expected offset and scale of {_kind(outputs)}",
            f"return two {type(outputs).__name__}, the offset of each output and its scale",
        )
        return
    bad = [name for name, value in paths(pair[1]) if not float(value) > 0]
    if bad:
        report.problem(
            f"scaling gives a scale that is not positive for {', '.join(bad)}",
            "return a typical size of the output; 1.0 is a valid value",
        )
    if not_finite(pair[0]):
        report.problem(
            f"scaling gives an offset that is not finite for {', '.join(not_finite(pair[0]))}",
            "return a typical value of the output; 0.0 is a valid value",
        )


def check_readings(system: AbstractRecordedSystem, recording: Any, report: Report) -> None:
    """Check that readings give one number per patient, and that limits and events refer to them.

    Args:
        system: System to check.
        recording: Recording of two patients.
        report: Report to which problems are added.
    """
    readings: Any = _called(system.readings)
    if not isinstance(readings, Mapping):
        report.problem(
            f"readings returns {_kind(readings)}: expected a dictionary",
            'return {"name": Reading(unit, function of a recording)}',
        )
        return
    report.facts["readings"] = ", ".join(readings) or "none"
    seen = ", ".join(names(recording.maximum))
    doubled = [name for name in readings if name in names(recording.maximum)]
    if doubled:
        report.problem(
            f"{', '.join(doubled)} is the name of a reading and of an output",
            "rename the reading: errors and tables have one column for each name",
        )
    advice = (
        "write Reading(unit, function of a recording): recording.maximum, .minimum and "
        f".waveforms have {seen}"
    )
    for name, reading in readings.items():
        if not hasattr(reading, "unit") or not callable(getattr(reading, "function", None)):
            report.problem(f"reading {name!r} is {_kind(reading)}: expected a Reading", advice)
            continue
        try:
            shape = jnp.shape(reading.function(recording))
        except Exception as error:  # A reading may raise any error.
            report.problem(f"reading {name!r} fails: {type(error).__name__}: {error}", advice)
            continue
        if shape != (2,):
            report.problem(
                f"reading {name!r} gives shape {shape} for two patients: expected (2,)",
                "take means over the last axis only: recording.waveforms.x.mean(-1)",
            )
    reversed_limits = [
        name for name, (low, high) in _called(system.limits).items() if not low < high
    ]
    if reversed_limits:
        report.problem(
            f"limits of {', '.join(reversed_limits)} leave nothing between them",
            "return (low, high) with low < high for each reading",
        )
    possible = jnp.asarray(_called(system.feasible, recording))
    if possible.dtype != bool or possible.shape != (2,):
        report.problem(
            f"feasible gives {possible.dtype} of shape {possible.shape} for two patients: "
            "expected bool of shape (2,)",
            "return a comparison, such as recording.minimum.V > 0",
        )
    events = [event.reading for event in _called(system.safety).values()]
    for what, asked in (("limits", _called(system.limits)), ("safety events", events)):
        unknown = [name for name in asked if name not in readings]
        if unknown:
            report.problem(
                f"{what} of {', '.join(unknown)}: not among the readings",
                f"use a reading out of {', '.join(readings)}, or add one"
                if readings
                else "add it to `readings`, which names none",
            )


def _scalars(what: str, values: Any, report: Report) -> bool:
    wrong = {name: jnp.shape(leaf) for name, leaf in paths(values) if jnp.shape(leaf) != ()}
    if wrong:
        report.problem(
            f"{what} gives arrays: "
            + ", ".join(f"{name} of shape {shape}".lstrip() for name, shape in wrong.items()),
            "return one number of one patient per entry; batches are added with jax.vmap",
        )
    return not wrong


def _structure(values: Any) -> Any:
    return jax.tree.structure(values)


def _kind(values: Any) -> str:
    if hasattr(values, "_fields"):
        return f"{type(values).__name__}({', '.join(values._fields)})"
    return f"a {type(values).__name__}"
