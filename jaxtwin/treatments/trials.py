"""In-silico trials: the same patients under several treatments, and what the difference is worth.

    trial = run_trial(cohort, {"no pump": Nothing(), "9,000 rpm": Pump(9_000.0)})
    for effect in trial.effects("output", control="no pump", by=ef_level): ...

Every patient gets every arm, so that effects are differences within patients: counterfactuals. A
patient whose simulation failed in an arm is reported there and left out of that arm's differences.
"""

import csv
import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float

from jaxtwin.analysis.metrics import Interval, mean_with_interval
from jaxtwin.cohorts.batching import Progress, map_patients
from jaxtwin.cohorts.cohort import Cohort
from jaxtwin.models.lvad import LVAD, PumpedOutputs, pump_observables
from jaxtwin.models.observables import UNITS, mean_over_time, observables
from jaxtwin.models.ventricle import AbstractVentricle, is_empty
from jaxtwin.parameters import Box, Theta
from jaxtwin.physics.base import AbstractRecordedSystem
from jaxtwin.physics.record import record
from jaxtwin.physics.solution import Solution
from jaxtwin.treatments.interventions import AbstractIntervention

Endpoints = Callable[[Any], dict[str, Float[Array, ""]]]
"""Numbers of a patient in one arm, each under its name: from a `Solution`."""

ENDPOINT_UNITS = {
    **UNITS,
    "pulse_pressure": "mmHg",
    "P_lv_min": "mmHg",
    "valve_open": "share of the beat",
    "pump_flow": "L/min",
    "pump_flow_min": "L/min",
    "suction": "share of the beat",
}
"""The unit of each of the `standard_endpoints`."""


def standard_endpoints(orbit: Solution) -> dict[str, Float[Array, ""]]:
    """The observables of the ventricle, and of a pump where there is one (0 where there is none).

    With a pump, EF and stroke work are of the ventricle alone; output is of both.
    """
    found = observables(orbit)
    zero = 0.0 * found.output
    out = orbit.outputs
    values = found._asdict() | {
        "pulse_pressure": found.P_ao_max - found.P_ao_min,
        "P_lv_min": jnp.min(out.P_lv),
        "valve_open": mean_over_time(orbit, (out.q_a > 0).astype(orbit.times.dtype)),
        "pump_flow": zero,
        "pump_flow_min": zero,
        "suction": zero,
    }
    if isinstance(out, PumpedOutputs):
        pump = pump_observables(orbit)
        values |= {
            "pump_flow": pump.flow,
            "pump_flow_min": pump.flow_min,
            "suction": pump.suction,
        }
    return values


def observe(
    system: AbstractRecordedSystem, p: Any, course: Any, endpoints: Endpoints | None
) -> dict[str, Float[Array, ""]]:
    """The endpoints of one patient; with None the standard ones, or the system's readings.

    Raises:
        ValueError: If there is nothing to observe.
    """
    if endpoints is not None:
        return endpoints(course)
    if isinstance(system, AbstractVentricle | LVAD):
        return standard_endpoints(course)
    readings = system.readings()
    if not readings:
        raise ValueError(
            f"{type(system).__name__} has no readings: add them to the class, or pass `endpoints`"
        )
    recording = course.recording(course.times.shape[-1] - 1)
    return {name: jnp.asarray(reading.of(recording)) for name, reading in readings.items()}


class Event(NamedTuple):
    """An endpoint outside its safe range."""

    endpoint: str
    low: float
    high: float


SAFETY = {
    "suction": Event("suction", 0.0, 0.0),
    "hypotension": Event("P_ao_mean", 60.0, np.inf),
    "hypertension": Event("P_ao_mean", -np.inf, 110.0),
    "low output": Event("output", 2.5, np.inf),
    "congestion": Event("P_la_mean", -np.inf, 25.0),
}
"""Mean aortic pressure below 60 or above 110 mmHg, output below 2.5 L/min, mean left-atrial
pressure above 25 mmHg (pulmonary oedema), any suction of a pump."""


def ef_level(endpoints: Mapping[str, Float[np.ndarray, " patient"]]) -> list[str]:
    """Reduced (at most 40%), mildly reduced or preserved (at least 50%) ejection fraction.

    Bozkurt et al., "Universal definition and classification of heart failure", Journal of Cardiac
    Failure 27(4), 2021.
    """
    return [
        "reduced" if value <= 40 else "preserved" if value >= 50 else "mildly reduced"
        for value in endpoints["EF"]
    ]


class Effect(NamedTuple):
    """What an arm changes, over patients who have both it and the control.

    Attributes:
        arm: Which.
        endpoint: Of what.
        group: Whose; "all" for everybody.
        patients: How many there are in the group.
        failed: How many of them are left out, because a beat was not found in either arm, or the
            arm's law had no dose for them, as `BelowSuction` has none where nothing sucks, or the
            heart ran empty. They are
            no random draw: compare an arm with many with the others on the same patients.
        control: Mean in the control arm.
        treated: Mean in the arm.
        difference: Mean of the differences within patients, with its bootstrap interval.
        standardised: Mean difference over the standard deviation of the differences; NaN where
            all are alike.
    """

    arm: str
    endpoint: str
    group: str
    patients: int
    failed: int
    control: float
    treated: float
    difference: Interval
    standardised: float


@dataclasses.dataclass(frozen=True)
class Trial:
    """Every patient's endpoints in every arm.

    Attributes:
        cohort: The patients.
        arms: Names, in the order of the first axis of what follows.
        values: By endpoint; NaN where the simulation failed.
        failed: Who has no beat there, or no dose; see `Effect`.
        safety: What counts as an event.
    """

    cohort: Cohort
    arms: tuple[str, ...]
    values: dict[str, Float[np.ndarray, "arm patient"]]
    failed: Bool[np.ndarray, "arm patient"]
    safety: Mapping[str, Event]

    def of(self, arm: str) -> dict[str, Float[np.ndarray, " patient"]]:
        """The endpoints of one arm.

        Raises:
            ValueError: If there is no such arm.
        """
        if arm not in self.arms:
            raise ValueError(f"no arm {arm!r}: the trial has {', '.join(self.arms)}")
        return {name: values[self.arms.index(arm)] for name, values in self.values.items()}

    def effects(
        self,
        endpoint: str,
        *,
        control: str,
        by: Callable[[Mapping[str, np.ndarray]], Sequence[str]] | None = None,
        seed: int = 0,
    ) -> list[Effect]:
        """The paired effect of each other arm on an endpoint.

        Args:
            endpoint: Of what.
            control: The arm that the others are compared with.
            by: Subgroups from the control arm's endpoints, such as `ef_level`, beside "all".
            seed: Of the bootstrap.

        Raises:
            ValueError: If there is no such arm or endpoint.
        """
        if endpoint not in self.values:
            raise ValueError(f"no endpoint {endpoint!r}: there are {', '.join(self.values)}")
        before = self.of(control)[endpoint]
        groups = {"all": np.ones(len(before), bool)}
        if by is not None:
            level = np.asarray(by(self.of(control)))
            known = ~self.failed[self.arms.index(control)]
            groups |= {str(name): known & (level == name) for name in sorted(set(level[known]))}
        found = []
        for arm in self.arms:
            if arm == control:
                continue
            after = self.of(arm)[endpoint]
            for name, inside in groups.items():
                a, b = before[inside], after[inside]
                both = np.isfinite(a) & np.isfinite(b)
                change = (b - a)[both]
                spread = np.std(change, ddof=1) if len(change) > 1 else 0.0
                found.append(
                    Effect(
                        arm,
                        endpoint,
                        name,
                        int(inside.sum()),
                        int((~both).sum()),
                        float(np.mean(a[both])) if both.any() else np.nan,
                        float(np.mean(b[both])) if both.any() else np.nan,
                        mean_with_interval(change, seed=seed),
                        float(np.mean(change) / spread) if spread > 0 else np.nan,
                    )
                )
        return found

    def events(self) -> dict[str, dict[str, int]]:
        """How many patients have each safety event, by arm; "failed" are those nobody knows of."""
        table = {}
        for i, arm in enumerate(self.arms):
            counts = {"failed": int(self.failed[i].sum())}
            for name, event in self.safety.items():
                values = self.values[event.endpoint][i]
                outside = (values < event.low) | (values > event.high)
                counts[name] = int(np.sum(outside & ~self.failed[i]))
            table[arm] = counts
        return table

    def table(self) -> dict[str, np.ndarray]:
        """One row a patient and arm: parameters, endpoints and whether it failed, by column."""
        arms, patients = len(self.arms), len(self.cohort.theta)
        return {
            "arm": np.repeat(self.arms, patients),
            "patient": np.tile(np.arange(patients), arms),
            **{
                name: np.tile(column, arms)
                for name, column in zip(self.cohort.box.names, self.cohort.theta.T, strict=True)
            },
            **{name: values.reshape(-1) for name, values in self.values.items()},
            "failed": self.failed.reshape(-1),
        }

    def write(self, path: str | Path) -> None:
        """`table` as a file, whole or not at all.

        Args:
            path: Ends in .csv, or in .parquet, which keeps types and needs the extra `parquet`. Its
                folder is made if need be.

        Raises:
            ValueError: If it ends in something else.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        columns = self.table()
        partial = path.with_suffix(".partial")
        if path.suffix == ".csv":
            with partial.open("w", newline="") as file:
                rows = csv.writer(file)
                rows.writerow(columns)
                rows.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))
        elif path.suffix == ".parquet":
            try:
                import pyarrow
                import pyarrow.parquet
            except ImportError as error:
                raise ImportError(
                    "Parquet needs pyarrow: pip install 'jaxtwin[parquet]', or write a .csv file"
                ) from error
            pyarrow.parquet.write_table(pyarrow.table(columns), partial)
        else:
            raise ValueError(f"{path}: expected a name that ends in .csv or .parquet")
        partial.replace(path)


def treat(
    system: AbstractRecordedSystem,
    box: Box,
    endpoints: Endpoints | None,
    intervention: AbstractIntervention,
    theta: Theta,
) -> tuple[dict[str, Float[Array, ""]], Bool[Array, ""]]:
    """One patient's endpoints after an intervention, and whether the simulation failed.

    A heart without blood has failed, see `is_empty`.
    """
    treated, p = intervention(system, box.complete(theta))
    course = record(treated, p, steps=LVAD.steps)
    values = observe(treated, p, course, endpoints)
    failed = ~course.success
    if isinstance(system, AbstractVentricle):
        failed = failed | is_empty(course)
    return {name: jnp.where(failed, jnp.nan, value) for name, value in values.items()}, failed


def run_trial(
    cohort: Cohort,
    arms: Mapping[str, AbstractIntervention],
    endpoints: Endpoints | None = None,
    *,
    safety: Mapping[str, Event] | None = None,
    folder: Path | None = None,
    mesh: Mesh | None = None,
    progress: Callable[[str], Progress] | None = None,
) -> Trial:
    """Simulate every patient in every arm.

    Nothing in it is random: the cohort is given, and the bootstrap of `Trial.effects` has a seed.

    Args:
        cohort: The patients.
        arms: Interventions by name; the control is one of them, such as `Nothing()`.
        endpoints: What is kept of each beat; by default `standard_endpoints` of a ventricle, and of
            any other system its readings.
        safety: What counts as an event; by default those of `SAFETY` that are endpoints.
        folder: Where finished arms are kept, so that a trial that was cut short goes on. An arm is
            computed again where cohort, dose or system differ; what the endpoints' own code is
            cannot be seen, so use another folder after changing it. Nor can the code of a
            function inside an intervention: only functions of a module, known by their names, are
            kept.
        mesh: Devices to use, see `map_patients`.
        progress: From an arm's name to what wraps its chunks, see `map_patients`.

    Raises:
        ValueError: If there is no arm, a safety event is of an unknown endpoint, or an arm that is
            to be kept has a function without a name of its own, such as a lambda.
    """
    if not arms:
        raise ValueError("no arms: expected at least one intervention, and the control")
    if len(cohort) < 2:
        raise ValueError(f"a cohort of {len(cohort)}: expected at least two patients")
    theta = np.asarray(cohort.theta, np.float32)
    kept, failures = [], []
    for name, intervention in arms.items():
        # Numbers as arrays: another dose is not compiled anew.
        intervention = jax.tree.map(
            lambda leaf: jnp.asarray(leaf, jnp.float32) if isinstance(leaf, int | float) else leaf,
            intervention,
        )
        if folder is not None:
            _check_names(name, intervention)
        function = eqx.Partial(treat, cohort.system, cohort.box, endpoints, intervention)
        compute = functools.partial(
            map_patients,
            function,
            theta,
            mesh=mesh,
            progress=iter if progress is None else progress(name),
        )
        values, failed = compute() if folder is None else _kept(folder, function, theta, compute)
        kept.append(values)
        failures.append(failed)
    values = {name: np.stack([arm[name] for arm in kept]) for name in kept[0]}
    if safety is None:
        safety = {name: event for name, event in SAFETY.items() if event.endpoint in values}
    unknown = [event.endpoint for event in safety.values() if event.endpoint not in values]
    if unknown:
        raise ValueError(f"safety events of {unknown}: the endpoints are {', '.join(values)}")
    return Trial(cohort, tuple(arms), values, np.stack(failures), safety)


def _check_names(arm: str, intervention: AbstractIntervention) -> None:
    for leaf in jax.tree.leaves(intervention):
        if callable(leaf) and "<" in getattr(leaf, "__qualname__", "<"):
            raise ValueError(
                f"arm {arm!r} has the function {leaf}, which cannot be told from another of that "
                "name: define it with `def` in a module, or run the trial without a folder"
            )


def _kept(folder: Path, function: Any, theta: np.ndarray, compute: Callable[[], Any]) -> Any:
    """An arm's values from the folder, or computed and put there."""
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(theta.tobytes())
    arrays, static = eqx.partition(function, eqx.is_array)
    digest.update(eqx.tree_pformat(static, short_arrays=False).encode())
    for leaf in jax.tree.leaves(static):
        if callable(leaf):
            digest.update(f"{leaf.__module__} {leaf.__qualname__}".encode())
    for leaf in jax.tree.leaves(arrays):
        digest.update(np.asarray(leaf).tobytes())
    path = folder / f"{digest.hexdigest()[:16]}.npz"
    if path.exists():
        with np.load(path, allow_pickle=False) as file:
            names = json.loads(str(file["names"]))
            return {name: file[f"values_{i}"] for i, name in enumerate(names)}, file["failed"]
    values, failed = compute()
    partial = path.with_suffix(".partial.npz")
    columns = {f"values_{i}": column for i, column in enumerate(values.values())}
    np.savez(partial, allow_pickle=False, names=json.dumps(list(values)), failed=failed, **columns)
    partial.replace(path)
    return values, failed
