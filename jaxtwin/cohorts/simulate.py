"""Simulation of many patients: their periodic orbits, or their transients."""

from collections.abc import Callable
from numbers import Integral
from typing import Any, Generic

import equinox as eqx
import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float

from jaxtwin.cohorts.batching import Progress, map_patients
from jaxtwin.cohorts.cohort import Cohort
from jaxtwin.parameters import Box, Theta
from jaxtwin.physics.base import AbstractRecordedSystem, check_recorded, kind_of
from jaxtwin.physics.record import record
from jaxtwin.physics.refine import MOST, check_resolved, needs_more, refinement
from jaxtwin.physics.solution import ACCURACY, RESULTS, Outputs, Recording


class Simulation(eqx.Module, Generic[Outputs]):
    """One patient's simulation, inside jit and vmap; see `Cohort` for the fields."""

    recording: Recording[Outputs]
    success: Bool[Array | np.ndarray, "*patient"]
    residual: Float[Array | np.ndarray, "*patient"]
    error: Float[Array | np.ndarray, "*patient"]
    result: RESULTS


def simulate_patient(
    system: AbstractRecordedSystem,
    box: Box,
    phases: int,
    steps: int,
    theta: Theta,
    accuracy: float = ACCURACY,
) -> Simulation[Any]:
    """Simulate one patient, inside jit, vmap and grad.

    Args:
        system: The model.
        box: The free parameters.
        phases: Number of phases of the recording; a divisor of `steps`.
        steps: Solver steps over the system's duration.
        theta: The free parameters' values.
        accuracy: Largest discretisation error that counts as success, see `record`.
    """
    solution = record(system, box.complete(theta), steps=steps, accuracy=accuracy)
    stats = solution.stats
    return Simulation(
        solution.recording(phases), solution.success, stats.residual, stats.error, solution.result
    )


def simulate_cohort(
    system: AbstractRecordedSystem,
    box: Box,
    theta: Float[np.ndarray, "patient free"],
    *,
    phases: int = 80,
    accuracy: float = ACCURACY,
    steps: int | None = None,
    chunk: int | None = None,
    mesh: Mesh | None = None,
    progress: Progress = iter,
    throw: bool = False,
    source: str = "",
) -> Cohort[Any]:
    """Simulate any number of patients in float32: their periodic orbits, or transients.

    All are simulated with the same number of steps, and those whose estimated error is then above
    the accuracy once more, each with as many steps as its error suggests; so are those for whom the
    equations of a step were not solved.

    Args:
        system: The model.
        box: The free parameters.
        theta: The free parameters of each patient, one row per patient.
        phases: Number of phases of the recordings; a divisor of `steps`.
        accuracy: Largest discretisation error that counts as success, relative to the range of a
            state, see `record`. `error` reports each patient's.
        steps: Solver steps over the system's duration, for all patients. By default `system.steps`,
            and as many times more as a patient needs for the accuracy, at most 16.
        chunk: Number of patients simulated together, see `map_patients`.
        mesh: Devices to use, see `map_patients`.
        progress: Wrapper for the iterable of chunks, see `map_patients`.
        throw: Whether to raise if a simulation failed. Otherwise `success` and `failures` report
            it, and the other patients are not affected.
        source: Origin of the patients, for reports.

    Raises:
        ValueError: If system and box are not one model's, `phases` does not divide the number of
            solver steps, θ is not a table, a θ is outside the box, `chunk` is not positive, or the
            accuracy is below what float32 resolves.
        RuntimeError: If `throw` is set and a simulation failed.
    """
    check_box(system, box)
    check_resolved(accuracy, np.float32)
    number = check_phases(system, phases, steps)
    theta = np.asarray(theta, np.float32)
    if theta.ndim == 2:
        box.check(theta)

    def simulate(rows: Any, number: int, progress: Progress = iter) -> Simulation[Any]:
        function = eqx.Partial(simulate_patient, system, box, phases, number, accuracy=accuracy)
        return map_patients(function, rows, chunk=chunk, mesh=mesh, progress=progress)

    simulation: Any = simulate(theta, number, progress)
    if steps is None:
        simulation = _refined(simulate, simulation, theta, system.steps, accuracy)
    cohort = Cohort(
        system,
        box,
        theta,
        simulation.recording,
        simulation.success,
        simulation.residual,
        simulation.error,
        source,
        result=simulation.result,
    )
    if throw and not cohort.success.all():
        raise RuntimeError(cohort.failures())
    return cohort


def _refined(
    simulate: Callable[[Any, int], Simulation[Any]],
    simulation: Simulation[Any],
    theta: np.ndarray,
    steps: int,
    accuracy: float,
) -> Simulation[Any]:
    """Simulate patients again who need more steps.

    Args:
        simulate: Function from rows of θ and a number of steps to their simulations.
        simulation: The simulations with the system's own number of steps.
        theta: All rows.
        steps: The system's own number of steps.
        accuracy: Largest error that is accepted.
    """
    tried = np.ones(len(theta), int)
    while True:
        rows = np.flatnonzero(np.asarray(needs_more(simulation.result)) & (tried < MOST))
        if not len(rows):
            return simulation
        factors = [refinement(error, accuracy) for error in simulation.error[rows]]
        tried[rows] = np.minimum(tried[rows] * factors, MOST)
        for factor in np.unique(tried[rows]):
            chosen = rows[tried[rows] == factor]
            finer = simulate(theta[chosen], int(steps * factor))

            def placed(leaf, new, chosen=chosen):
                leaf = np.array(leaf)
                leaf[chosen] = new
                return leaf

            simulation = jax.tree.map(placed, simulation, finer)


def check_box(system: Any, box: Any) -> None:
    """Raise a ValueError if these are not a system and a box of its parameters, in this order."""
    check_recorded(system)
    if not isinstance(box, Box):
        raise ValueError(
            f"box is {kind_of(box)}: expected a box of the parameters of {type(system).__name__}, "
            f"Box.of({system.parameters.__name__}, names)"
        )
    if not issubclass(box.parameters, system.parameters):
        raise ValueError(
            f"a box of {box.parameters.__name__} for {type(system).__name__}, whose parameters are "
            f"{system.parameters.__name__}: make one with Box.of({system.parameters.__name__}, ...)"
        )


def check_whole(**numbers: Any) -> None:
    """Raise a ValueError if one of these is not a whole number of at least 1."""
    for name, value in numbers.items():
        if not isinstance(value, Integral) or value < 1:
            raise ValueError(f"{name}={value!r}: expected a whole number of at least 1")


def check_phases(system: AbstractRecordedSystem, phases: int, steps: int | None = None) -> int:
    """Return the number of solver steps, `system.steps` by default.

    Raises:
        ValueError: If the number of phases does not divide it, or one is not a whole number.
    """
    steps = system.steps if steps is None else steps
    check_whole(phases=phases, steps=steps)
    if steps % phases:
        raise ValueError(f"{phases} phases of {steps} solver steps: expected a divisor of {steps}")
    return steps
