"""The function `check_system`, which runs all checks of a system."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxtwin.parameters import AbstractParameters
from jaxtwin.physics.base import (
    AbstractPeriodicSystem,
    AbstractRecordedSystem,
    AbstractSystem,
    check_instance,
    check_patient,
    outputs_of,
)
from jaxtwin.physics.check.conservation import check_conserved, describe_modes
from jaxtwin.physics.check.declaration import (
    MethodError,
    check_methods,
    check_parameters,
    check_readings,
)
from jaxtwin.physics.check.periodicity import check_repeats
from jaxtwin.physics.check.report import Report, place_of
from jaxtwin.physics.check.slopes import (
    Slopes,
    check_finite,
    check_switches,
    slopes_along,
    slopes_by_parameters,
)
from jaxtwin.physics.check.solution import (
    check_gradients,
    check_solved,
    check_steps,
    solve_around,
)
from jaxtwin.physics.check.states import along_beats, around, at_switches, some
from jaxtwin.physics.solution import Recording


def check_system(
    system: AbstractSystem, p: AbstractParameters | None = None, *, duration: float | None = None
) -> Report:
    """Check everything that solvers, gradients and emulators require of a system.

    Checks the values that its methods return, their derivatives in forward and reverse mode along
    several beats and where valves switch, the conserved quantities, the error of its `steps`, and
    the gradients of its periodic orbit, or of its record, against finite differences, in float64
    on the CPU. Most of the time is compilation: about 5 s with one state and six free parameters,
    15 s with five and seven, 50 s with eight and twelve.

    Args:
        system: System to check.
        p: Parameters of the system; by default the defaults of `system.parameters`.
        duration: Time of interest, in the system's unit of time; by default the duration of its
            recording, or 1 if it has none.

    Raises:
        ValueError: If an argument is a class instead of an instance, or the parameters are those
            of another model.
    """
    check_instance(system)
    report = Report(type(system).__name__)
    with jax.enable_x64(True), jax.default_device(jax.local_devices(backend="cpu")[0]):
        check_parameters(system, report)
        if report.problems:
            return report
        p = system.parameters() if p is None else p
        check_patient(system, p)
        try:
            _check(system, p, duration, report)
        except jax.errors.TracerBoolConversionError as error:
            report.problem(
                f"a Python `if`, `and` or `while` tests a traced value{place_of(error)}: its "
                "outcome depends on numbers that are not known when the function is compiled",
                "write jnp.where(condition, a, b), or jnp.maximum and jnp.minimum for valves",
            )
        except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError) as error:
            report.problem(
                f"a function of math or NumPy is given a traced value{place_of(error)}",
                "use the function of jax.numpy",
            )
        except MethodError as error:
            report.problem(*error.args)
        except TypeError as error:
            if "custom_vjp" not in str(error):
                raise
            report.problem(
                f"a function with jax.custom_vjp is differentiated in forward mode{place_of(error)}"
                ", which solvers do",
                "write its rule with jax.custom_jvp, which supports both modes",
            )
    return report


def _check(system: AbstractSystem, p: Any, duration: float | None, report: Report) -> None:
    p = jax.tree.map(lambda leaf: jnp.asarray(leaf, float), p)
    check_methods(system, p, report)
    if report.problems:
        return
    is_recorded = isinstance(system, AbstractRecordedSystem)
    if duration is None:
        duration = float(jnp.asarray(system.duration(p))) if is_recorded else 1.0
    state = jax.tree.map(lambda leaf: jnp.asarray(leaf, float), system.initial_state(p))
    slopes = slopes_along(system, p)
    found = slopes(around(state, duration))
    check_finite(found, "at or near the initial state", report)
    if not report.problems:
        check_finite(slopes_by_parameters(system, p), "at these parameters", report)
    if not report.problems and is_recorded:
        visited = along_beats(system, p, state)
        if not visited.times.size:
            report.problem(
                "solutions from the initial state and from others around it become infinite",
                "look at `simulate(system, p, times)`: what grows without bound?",
            )
            return
        if isinstance(system, AbstractPeriodicSystem):
            check_repeats(system, p, visited, report)
        along = slopes(some(visited))
        found = found.joined(along)
        check_finite(along, "along a beat", report)
        switches, n = at_switches(system, p, visited)
        if n and not report.problems:
            at = slopes(switches)
            check_switches(at, found, n, report)
            check_finite(at, "exactly where a comparison changes its outcome", report)
    if report.problems:
        return
    if is_recorded:
        check_readings(system, _two_patients(system, p, found), report)
    describe_modes(found, duration, report)
    if isinstance(system, AbstractPeriodicSystem):
        check_conserved(found, report)
    if is_recorded and not report.problems:
        _check_solution(system, p, report)


def _two_patients(system: AbstractRecordedSystem, p: Any, found: Slopes) -> Recording[Any]:
    """Return a recording on which to test readings, with half of the states for each patient."""
    columns = [jnp.asarray(column).reshape(2, -1) for column in found.select("outputs").T]
    structure = jax.tree.structure(outputs_of(system))
    waveforms = jax.tree.unflatten(structure, columns)
    maximum = jax.tree.map(lambda leaf: leaf.max(axis=1), waveforms)
    minimum = jax.tree.map(lambda leaf: leaf.min(axis=1), waveforms)
    return Recording(maximum, minimum, waveforms, jnp.ones(2) * system.duration(p))


def _check_solution(system: AbstractRecordedSystem, p: Any, report: Report) -> None:
    moved = solve_around(system, p)
    check_solved(moved, system, report)
    if report.problems:
        return
    finer = check_steps(moved, system, report)
    check_gradients(moved, finer, system, report)
