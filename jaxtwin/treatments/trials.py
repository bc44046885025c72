"""In-silico trials: the same patients under several treatments.

    trial = run_trial(cohort, {"no pump": Nothing(), "9,000 rpm": Pump(9_000.0)})
    for effect in trial.effects("output", control="no pump", by=ef_level): ...

Every patient receives every treatment, so effects are differences within patients
(counterfactuals). A patient whose simulation fails in an arm is reported there and left out of
that arm's differences.
"""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Bool, Float

from jaxtwin.cohorts.batching import Progress, map_patients
from jaxtwin.cohorts.cohort import Cohort
from jaxtwin.identity import fingerprint
from jaxtwin.models.intervention import AbstractIntervention, apply, check_intervention
from jaxtwin.parameters import Box, Theta
from jaxtwin.physics.base import AbstractRecordedSystem
from jaxtwin.physics.solution import Event, Reading
from jaxtwin.treatments.kept import kept
from jaxtwin.treatments.results import Trial
from jaxtwin.treatments.treat import Outcome, treat, warn_of_bounds


def run_trial(
    cohort: Cohort[Any],
    arms: Mapping[str, AbstractIntervention],
    endpoints: Mapping[str, Reading] | None = None,
    *,
    safety: Mapping[str, Event] | None = None,
    steps: int | None = None,
    folder: str | Path | None = None,
    mesh: Mesh | None = None,
    progress: Callable[[str], Progress] | None = None,
) -> Trial:
    """Simulate every patient in every arm.

    The simulations are deterministic; only the bootstrap of `Trial.effects` is random, with a seed.
    An intervention that moves a parameter beyond its declared bounds causes a warning.

    Args:
        cohort: The patients.
        arms: Interventions by name, including the control, such as `Nothing()`.
        endpoints: Endpoints by name; by default `trial_endpoints`.
        safety: Safety events by name; by default those declared by the systems of the arms, as far
            as their readings are endpoints.
        steps: Number of solver steps in every arm; by default the largest `steps` of the arms'
            systems, so that arms differ only in their treatment.
        folder: Folder in which to save finished arms, so that an interrupted trial can be
            continued. An arm is recomputed if cohort, dose or system differ. Changes in the code of
            endpoints, or of functions inside an intervention, are not detected, so use another
            folder after such a change. Functions inside an intervention are identified by name and
            must be defined at the top level of a module.
        mesh: Devices to use, see `map_patients`.
        progress: Function from the name of an arm to a wrapper of its chunks, see `map_patients`.

    Raises:
        ValueError: If there is no cohort, there are no arms, an arm is not an intervention, a
            patient is outside the box, there are no endpoints, a safety event refers to an unknown
            endpoint, or an arm to be saved contains a function without a name, such as a lambda.
    """
    if not isinstance(cohort, Cohort):
        raise ValueError(
            f"run_trial got {type(cohort).__name__}: expected a cohort first, such as "
            "simulate_cohort(system, box, theta); posteriors are for run_posterior_trial"
        )
    if len(cohort) < 2:
        raise ValueError(f"a cohort of {len(cohort)}: expected at least two patients")
    theta = np.asarray(cohort.theta, np.float32)
    plan = plan_trial(cohort.system, cohort.box, theta[0], arms, endpoints, safety, steps)
    values, success = simulate_arms(plan, theta, folder=folder, mesh=mesh, progress=progress)
    return Trial(cohort, tuple(arms), plan.endpoints, values, success, plan.safety)


class Plan(NamedTuple):
    """What is simulated in a trial.

    Attributes:
        system: The untreated patients' system.
        box: The free parameters.
        arms: Interventions by name, with arrays in place of numbers.
        functions: Functions of the endpoints that each arm's system has, by arm and endpoint.
        endpoints: Endpoints by name.
        declared: Whether the endpoints are the readings that the systems declare.
        safety: Safety events by name.
        steps: Number of solver steps in every arm.
    """

    system: AbstractRecordedSystem
    box: Box
    arms: dict[str, AbstractIntervention]
    functions: dict[str, dict[str, Callable[[Any], Any]]]
    endpoints: dict[str, Reading]
    declared: bool
    safety: dict[str, Event]
    steps: int


class Arms(NamedTuple):
    """Results of all arms; see `Trial`."""

    values: dict[str, Float[np.ndarray, "arm patient"]]
    success: Bool[np.ndarray, "arm patient"]


def plan_trial(
    system: AbstractRecordedSystem,
    box: Box,
    theta: Float[np.ndarray, " free"],
    arms: Mapping[str, AbstractIntervention],
    endpoints: Mapping[str, Reading] | None,
    safety: Mapping[str, Event] | None,
    steps: int | None,
) -> Plan:
    """Check the arms and endpoints of a trial, and fill in what depends on the systems of all arms.

    Args:
        system: The untreated patients' system.
        box: The free parameters.
        theta: The free parameters of any patient.
        arms: Interventions by name.
        endpoints: Endpoints by name; by default the readings of the systems of all arms.
        safety: Safety events by name; see `run_trial`.
        steps: Number of solver steps; see `run_trial`.
    """
    systems = _treated_systems(system, box, theta, arms)
    declared = endpoints is None
    endpoints = _readings(systems) if endpoints is None else _checked(endpoints)
    if not endpoints:
        raise ValueError(
            f"{type(system).__name__} has no readings: add them to the class, or pass "
            '`endpoints`, such as {"largest": Reading("mL", lambda beat: beat.maximum.V)}'
        )
    if safety is None:
        events = {n: e for treated in systems.values() for n, e in treated.safety().items()}
        safety = {name: event for name, event in events.items() if event.reading in endpoints}
    unknown = [event.reading for event in safety.values() if event.reading not in endpoints]
    if unknown:
        raise ValueError(f"safety events of {unknown}: the endpoints are {', '.join(endpoints)}")
    if steps is None:
        steps = max(treated.steps for treated in systems.values())
    functions = {}
    for name, treated in systems.items():
        # Readings of another arm's system only are not requested from this one.
        own = treated.readings() if declared else endpoints
        functions[name] = {n: own[n].function for n in endpoints if n in own}
    numbers = {name: _as_arrays(intervention) for name, intervention in arms.items()}
    return Plan(system, box, numbers, functions, dict(endpoints), declared, dict(safety), steps)


def simulate_arms(
    plan: Plan,
    theta: Float[np.ndarray, "patient free"],
    *,
    folder: str | Path | None = None,
    chunk: int | None = None,
    mesh: Mesh | None = None,
    progress: Callable[[str], Progress] | None = None,
    rows: str = "patients",
    warned: set[str] | None = None,
) -> Arms:
    """Simulate every row of θ in every arm.

    Args:
        plan: The trial.
        theta: The free parameters, in float32.
        folder: Folder for finished arms; see `run_trial`.
        chunk: Number of patients simulated together, see `map_patients`.
        mesh: Devices to use, see `map_patients`.
        progress: Function from the name of an arm to a wrapper of its chunks.
        rows: What the rows are, for warnings.
        warned: Arms of whose bounds no warning is given; those with a warning are added.
    """
    warned = set() if warned is None else warned
    system, box, steps = plan.system, plan.box, plan.steps
    box.check(theta)
    before = jax.vmap(box.complete)(jnp.asarray(theta))
    sides = {spec.name: spec.bounds for spec in box.specs if spec.bounds is not None}
    columns, successes = [], []
    for name, intervention in plan.arms.items():
        of = plan.functions[name]
        function = eqx.Partial(treat_patient, system, box, intervention, of, steps)
        compute = functools.partial(
            map_patients,
            function,
            theta,
            chunk=chunk,
            mesh=mesh,
            progress=iter if progress is None else progress(name),
        )
        if folder is None:
            outcome = compute()
        else:
            try:
                mark = fingerprint(
                    system,
                    box,
                    steps=steps,
                    theta=theta,
                    intervention=intervention,
                    endpoints=list(of) if plan.declared else of,
                )
            except ValueError as error:
                raise ValueError(
                    f"arm {name!r} cannot be kept in {folder}: {error}; or run the trial without "
                    "a folder"
                ) from error
            outcome = kept(Path(folder), mark, compute)
        what = f"arm {name!r} ({_title(intervention)})"
        after = outcome.parameters
        if name not in warned and warn_of_bounds(
            what, before, after, wider=sides, rows=rows, stacklevel=4
        ):
            warned.add(name)
        columns.append(
            {
                endpoint: np.where(outcome.success, outcome.readings[endpoint], np.nan)
                if endpoint in of
                else np.where(outcome.success, theta.dtype.type(reading.absent), np.nan)
                for endpoint, reading in plan.endpoints.items()
            }
        )
        successes.append(outcome.success)
    values = {name: np.stack([arm[name] for arm in columns]) for name in plan.endpoints}
    return Arms(values, np.stack(successes))


def trial_endpoints(
    cohort: Cohort[Any], arms: Mapping[str, AbstractIntervention]
) -> dict[str, Reading]:
    """Return the default endpoints of a trial: the readings of the systems of all arms.

    A reading that an arm's system does not have takes the reading's `absent` value there.

    Raises:
        ValueError: If there are no arms, or an arm is not an intervention.
    """
    return _readings(_treated_systems(cohort.system, cohort.box, cohort.theta[0], arms))


def treat_patient(
    system: AbstractRecordedSystem,
    box: Box,
    intervention: AbstractIntervention,
    of: Mapping[str, Callable[[Any], Any]],
    steps: int,
    theta: Theta,
) -> Outcome:
    """`treat` as a function of the free parameters."""
    endpoints = {name: Reading("", function) for name, function in of.items()}
    return treat(system, box.complete(theta), intervention, endpoints=endpoints, steps=steps)


def _treated_systems(
    system: AbstractRecordedSystem, box: Box, theta: Any, arms: Any
) -> dict[str, AbstractRecordedSystem]:
    """Return the system of each arm, with shapes in place of its arrays."""
    if not isinstance(arms, Mapping):
        raise ValueError(
            f"arms of type {type(arms).__name__}: expected interventions by name, such as "
            '{"control": Nothing(), "drug": Drug({"R_s": -0.2})}'
        )
    if not arms:
        raise ValueError("no arms: expected at least one intervention, and the control")
    for name, intervention in arms.items():
        check_intervention(intervention, f"arm {name!r}")
    p = box.complete(jnp.asarray(theta, jnp.float32))
    return {
        name: eqx.filter_eval_shape(apply, _as_arrays(intervention), system, p)[0]
        for name, intervention in arms.items()
    }


def _readings(systems: Mapping[str, AbstractRecordedSystem]) -> dict[str, Reading]:
    return {n: r for system in systems.values() for n, r in system.readings().items()}


def _checked(endpoints: Any) -> Mapping[str, Reading]:
    if not isinstance(endpoints, Mapping) or not all(
        isinstance(reading, Reading) for reading in endpoints.values()
    ):
        raise ValueError(
            f"endpoints {endpoints!r}: expected readings by name, such as "
            '{"largest": Reading("mL", lambda beat: beat.maximum.V)}'
        )
    return endpoints


def _as_arrays(intervention: AbstractIntervention) -> AbstractIntervention:
    """Convert numbers to arrays, so that another dose needs no recompilation."""
    return jax.tree.map(
        lambda leaf: jnp.asarray(leaf, jnp.float32) if isinstance(leaf, int | float) else leaf,
        intervention,
    )


def _title(intervention: Any) -> str:
    """Return the class names of an intervention."""
    parts = getattr(intervention, "parts", None)
    return " + ".join(map(_title, parts)) if parts else type(intervention).__name__
