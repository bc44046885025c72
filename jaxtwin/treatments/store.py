"""Trials too large for memory, simulated block by block into a Zarr group on disk.

run_trial_into("trial", system, box, theta, {"no pump": Nothing(), "pump": Pump(9_000.0)})
trial = open_trial("trial")
for effect in trial.effects("output", control="no pump", by=ef_level): ...
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from jax.sharding import Mesh
from jaxtyping import Bool, Float

from jaxtwin.cohorts.batching import Progress, default_chunk
from jaxtwin.cohorts.simulate import check_box, check_whole
from jaxtwin.cohorts.store import NOT_SIMULATED, check_table, open_group, unfinished
from jaxtwin.devices import check_mesh, on_first_host
from jaxtwin.identity import fingerprint
from jaxtwin.models.intervention import AbstractIntervention
from jaxtwin.parameters import Box
from jaxtwin.physics.base import AbstractRecordedSystem
from jaxtwin.physics.solution import Event, Reading
from jaxtwin.treatments.effects import AbstractPatientTrial
from jaxtwin.treatments.trials import Arms, Plan, plan_trial, simulate_arms

FORMAT = "jaxtwin trial 1"


def run_trial_into(
    path: str | Path,
    system: AbstractRecordedSystem,
    box: Box,
    theta: Any,
    arms: Mapping[str, AbstractIntervention],
    endpoints: Mapping[str, Reading] | None = None,
    *,
    safety: Mapping[str, Event] | None = None,
    steps: int | None = None,
    block: int = 65_536,
    mesh: Mesh | None = None,
    progress: Progress = iter,
    source: str = "",
) -> None:
    """Simulate any number of patients in every arm into a Zarr group, or resume where it stopped.

    `open_trial` reads the group. It has the arrays theta, [patient, free]; endpoints/EF and so on,
    [arm, patient], NaN if the simulation failed; and success, [arm, patient] (1 or 0; -1 where not
    simulated yet). Its attributes describe the trial. There are no waveforms. Memory does not grow
    with the number of patients: one block is held at a time, 4 bytes for each endpoint of each
    patient in each arm.

    An intervention that moves a parameter beyond its declared bounds causes a warning for the first
    block in which it does.

    Args:
        path: Folder of the group. If it exists, its finished blocks are kept.
        system: The untreated patients' system.
        box: The free parameters.
        theta: Parameters, one row per patient: an array, or anything with a shape and slices, such
            as a `numpy.memmap` or a Zarr array.
        arms: Interventions by name, including the control, such as `Nothing()`.
        endpoints: Endpoints by name; by default the readings of the systems of all arms.
        safety: Safety events by name; see `run_trial`.
        steps: Number of solver steps in every arm; see `run_trial`.
        block: Number of patients written together, in all arms. If the run is killed, the block
            that it was at is lost.
        mesh: Devices to use, see `map_patients`. With several processes, the first one writes.
        progress: Wrapper for the list of blocks that are still to be simulated.
        source: Origin of the patients, for reports.

    Raises:
        ValueError: If the group at `path` holds another trial, an argument is invalid as in
            `run_trial`, an arm or an endpoint contains a function without a name, such as a lambda,
            or a θ is outside the box. Blocks finished before are kept.
    """
    check_box(system, box)
    check_whole(block=block)
    check_mesh(mesh)
    theta = check_table(theta, box)
    first = np.asarray(theta[:1], np.float32)
    plan = plan_trial(system, box, first[0], arms, endpoints, safety, steps)
    n = theta.shape[0]
    description = _describe(plan) | {"patients": n, "block": block, "source": source}
    group = on_first_host(lambda: _prepare(Path(path), description))
    # A chunk that the block does not fill would be padded.
    devices = 1 if mesh is None else mesh.size
    chunk = min(default_chunk(np.float32), -(-min(block, n) // devices))
    warned: set[str] = set()
    for start in progress(unfinished(group, theta, block)):
        rows = np.asarray(theta[start : start + block], np.float32)
        named = f"patients {start:,} to {start + len(rows) - 1:,}"
        found = simulate_arms(plan, rows, chunk=chunk, mesh=mesh, rows=named, warned=warned)
        on_first_host(functools.partial(_write, group, start, rows, found))
        del found


def open_trial(path: str | Path) -> "StoredTrial":
    """Open a trial written by `run_trial_into`; its numbers stay on disk until they are used.

    Args:
        path: Folder of the group.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If it holds something else, or a patient is not simulated yet.
    """
    if not Path(path).is_dir():
        raise FileNotFoundError(f"no trial at {path}: `run_trial_into` writes one")
    try:
        group: Any = zarr.open_group(path, mode="r")
    except FileNotFoundError:
        raise ValueError(f"{path} holds no Zarr group: `run_trial_into` writes one") from None
    if group.attrs.get("format") != FORMAT:
        raise ValueError(
            f"{path} has the format {group.attrs.get('format')!r}, this version reads {FORMAT!r}: "
            "run the trial again"
        )
    n, block = group.attrs["patients"], group.attrs["block"]
    missing = sum(
        int(np.any(group["success"][:, start : start + block] == NOT_SIMULATED, axis=0).sum())
        for start in range(0, n, block)
    )
    if missing:
        raise ValueError(
            f"{missing} of {n} patients in {path} are not simulated yet: call run_trial_into with "
            "the same arguments to continue"
        )
    identity = group.attrs["identity"]
    safety = {
        name: Event(event["reading"], float(event["low"]), float(event["high"]))
        for name, event in identity["safety"].items()
    }
    return StoredTrial(
        group, n, tuple(group.attrs["arms"]), dict(group.attrs["units"]), safety,
        group.attrs["source"],
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class StoredTrial(AbstractPatientTrial):
    """Results of a trial on disk, with the analyses of a `Trial`.

    An analysis holds the endpoint it is of in two arms, and those that `by` asks for, about 30
    bytes for each patient.

    Attributes:
        group: The Zarr group, see `run_trial_into`.
        patients: Number of patients.
        arms: Names of the arms, in the order of the arrays' first axis.
        units: Unit of each endpoint, by name.
        safety: Definitions of the safety events, by name.
        source: Origin of the patients, for reports.
    """

    group: Any
    patients: int
    arms: tuple[str, ...]
    units: dict[str, str]
    safety: dict[str, Event]
    source: str = ""

    def __repr__(self) -> str:
        """Return a line instead of all the numbers."""
        return (
            f"StoredTrial({self.patients} patients in the arms {', '.join(map(repr, self.arms))}; "
            f"endpoints: {', '.join(self.units)})"
        )

    def arm(self, arm: str) -> Mapping[str, Float[np.ndarray, " patient"]]:
        """Return the endpoints of one arm, each of which is read when it is asked for.

        Raises:
            ValueError: If there is no such arm.
        """
        return _OfArm(self.group["endpoints"], tuple(self.units), self._index(arm))

    def success(self, arm: str) -> Bool[np.ndarray, " patient"]:
        """Return whether the simulation of each patient in an arm can be used.

        Raises:
            ValueError: If there is no such arm.
        """
        return self.group["success"][self._index(arm)] == 1

    def _succeeded(self, arm: str) -> Bool[np.ndarray, " patient"]:
        return self.success(arm)


@dataclasses.dataclass(frozen=True)
class _OfArm(Mapping[str, np.ndarray]):
    """Endpoints of one arm, read from disk one at a time."""

    endpoints: Any
    names: tuple[str, ...]
    index: int

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.names:
            raise KeyError(name)
        return self.endpoints[name][self.index]

    def __contains__(self, name: object) -> bool:
        """Look for a name without reading its numbers."""
        return name in self.names

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def _describe(plan: Plan) -> dict[str, Any]:
    """Describe the trial; the names of arms and endpoints are in their order."""
    try:
        mark = fingerprint(
            plan.system,
            plan.box,
            steps=plan.steps,
            arms=plan.arms,
            # The functions of readings that systems declare are known by the systems.
            endpoints=list(plan.endpoints)
            if plan.declared
            else {name: reading.function for name, reading in plan.endpoints.items()},
            safety=plan.safety,
        )
    except ValueError as error:
        raise ValueError(f"the trial cannot be kept: {error}; or use run_trial") from error
    return {
        "format": FORMAT,
        "identity": mark.description,
        "box": plan.box.describe(),
        "arms": list(plan.arms),
        "units": {name: reading.unit for name, reading in plan.endpoints.items()},
    }


def _prepare(path: Path, description: dict[str, Any]) -> Any:
    """Open the group, with its arrays."""
    n, block = description["patients"], min(description["block"], description["patients"])
    arms, free = len(description["arms"]), len(description["identity"]["free"])
    group = open_group(path, description, "trial")

    def array(name: str, dims: tuple[str, str], shape: tuple[int, int], **kind: Any) -> None:
        if name not in group:
            chunks = tuple(
                block if dim == "patient" else m for dim, m in zip(dims, shape, strict=True)
            )
            group.create_array(name, shape=shape, chunks=chunks, dimension_names=dims, **kind)

    each, kind = ("arm", "patient"), {"dtype": "float32", "fill_value": np.nan}
    array("theta", ("patient", "parameter"), (n, free), **kind)
    for name in description["units"]:
        array(f"endpoints/{name}", each, (arms, n), **kind)
    array("success", each, (arms, n), dtype="int8", fill_value=NOT_SIMULATED)
    return group


def _write(group: Any, start: int, theta: np.ndarray, found: Arms) -> None:
    rows = slice(start, start + len(theta))
    group["theta"][rows] = theta
    for name, values in found.values.items():
        group[f"endpoints/{name}"][:, rows] = values
    # Last: it marks the block as finished, and is one file.
    group["success"][:, rows] = found.success.astype(np.int8)
