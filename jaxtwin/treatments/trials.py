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
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

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
            "simulate_cohort(system, box, theta)"
        )
    if len(cohort) < 2:
        raise ValueError(f"a cohort of {len(cohort)}: expected at least two patients")
    systems = _treated_systems(cohort, arms)
    declared = _readings(systems)
    endpoints = declared if endpoints is None else _checked(endpoints)
    if not endpoints:
        raise ValueError(
            f"{type(cohort.system).__name__} has no readings: add them to the class, or pass "
            '`endpoints`, such as {"largest": Reading("mL", lambda beat: beat.maximum.V)}'
        )
    if safety is None:
        events = {n: e for system in systems.values() for n, e in system.safety().items()}
        safety = {name: event for name, event in events.items() if event.reading in endpoints}
    unknown = [event.reading for event in safety.values() if event.reading not in endpoints]
    if unknown:
        raise ValueError(f"safety events of {unknown}: the endpoints are {', '.join(endpoints)}")
    if steps is None:
        steps = max(system.steps for system in systems.values())
    theta = np.asarray(cohort.theta, np.float32)
    cohort.box.check(theta)
    before = jax.vmap(cohort.box.complete)(jnp.asarray(theta))
    sides = {spec.name: spec.bounds for spec in cohort.box.specs if spec.bounds is not None}
    columns, successes = [], []
    for name, intervention in arms.items():
        intervention = _as_arrays(intervention)
        # Readings of another arm's system only are not requested from this one.
        own = systems[name].readings() if endpoints is declared else endpoints
        of = {endpoint: own[endpoint].function for endpoint in endpoints if endpoint in own}
        function = eqx.Partial(treat_patient, cohort.system, cohort.box, intervention, of, steps)
        compute = functools.partial(
            map_patients,
            function,
            theta,
            mesh=mesh,
            progress=iter if progress is None else progress(name),
        )
        if folder is None:
            outcome = compute()
        else:
            try:
                mark = fingerprint(
                    cohort.system,
                    cohort.box,
                    steps=steps,
                    theta=theta,
                    intervention=intervention,
                    endpoints=list(of) if endpoints is declared else of,
                )
            except ValueError as error:
                raise ValueError(
                    f"arm {name!r} cannot be kept in {folder}: {error}; or run the trial without "
                    "a folder"
                ) from error
            outcome = kept(Path(folder), mark, compute)
        what = f"arm {name!r} ({_title(intervention)})"
        warn_of_bounds(what, before, outcome.parameters, wider=sides)
        columns.append(
            {
                endpoint: np.where(outcome.success, outcome.readings[endpoint], np.nan)
                if endpoint in of
                else np.where(outcome.success, theta.dtype.type(reading.absent), np.nan)
                for endpoint, reading in endpoints.items()
            }
        )
        successes.append(outcome.success)
    values = {name: np.stack([arm[name] for arm in columns]) for name in endpoints}
    return Trial(cohort, tuple(arms), dict(endpoints), values, np.stack(successes), dict(safety))


def trial_endpoints(
    cohort: Cohort[Any], arms: Mapping[str, AbstractIntervention]
) -> dict[str, Reading]:
    """Return the default endpoints of a trial: the readings of the systems of all arms.

    A reading that an arm's system does not have takes the reading's `absent` value there.

    Raises:
        ValueError: If there are no arms, or an arm is not an intervention.
    """
    return _readings(_treated_systems(cohort, arms))


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


def _treated_systems(cohort: Cohort[Any], arms: Any) -> dict[str, AbstractRecordedSystem]:
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
    p = cohort.box.complete(jnp.asarray(cohort.theta[0], jnp.float32))
    return {
        name: eqx.filter_eval_shape(apply, _as_arrays(intervention), cohort.system, p)[0]
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
