"""Cohorts too large for memory, simulated block by block into a Zarr group on disk."""

import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np
import zarr
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from jaxtwin.cohorts.batching import Progress
from jaxtwin.cohorts.cohort import Cohort
from jaxtwin.cohorts.simulate import check_box, check_phases, check_whole, simulate_cohort
from jaxtwin.devices import on_first_host
from jaxtwin.identity import differences, fingerprint
from jaxtwin.parameters import Box
from jaxtwin.physics.base import AbstractRecordedSystem, outputs_of
from jaxtwin.physics.solution import ACCURACY, RESULTS, Recording

FORMAT = "jaxtwin cohort 2"

NOT_SIMULATED = -1
"""Value of `success` where a patient is not simulated yet."""


def simulate_into(
    path: str | Path,
    system: AbstractRecordedSystem,
    box: Box,
    theta: Any,
    *,
    phases: int = 80,
    accuracy: float = ACCURACY,
    steps: int | None = None,
    block: int = 131_072,
    chunk: int | None = None,
    mesh: Mesh | None = None,
    progress: Progress = iter,
) -> None:
    """Simulate any number of patients into a Zarr group, or resume an interrupted simulation.

    The group holds a `Cohort` as arrays: theta, maximum/V_lv, minimum/V_lv, waveforms/V_lv and so
    on for every output, duration, residual, error, result (a number for each of `RESULTS`), and
    success (1 or 0; -1 where not simulated yet). Its attributes describe the cohort. Memory does
    not grow with the number of patients: one block is held at a time, 2.3 kB per patient for the
    left heart's outputs at 80 phases, and twice that while its chunks are joined.

    Args:
        path: Folder of the group. If it exists, its finished blocks are kept.
        system: The model.
        box: The free parameters.
        theta: Parameters, one row per patient: an array, or anything with a shape and slices, such
            as a `numpy.memmap` or a Zarr array.
        phases: Number of phases of the recordings; a divisor of `steps`.
        accuracy: Largest discretisation error that counts as success, see `simulate_cohort`.
        steps: Solver steps over the system's duration, for all patients; by default as many as each
            needs for the accuracy, see `simulate_cohort`.
        block: Number of patients written together.
        chunk: Number of patients simulated together, see `simulate_cohort`.
        mesh: Devices to use, see `simulate_cohort`. With several processes, the first one writes.
        progress: Wrapper for the list of blocks that are still to be simulated.

    Raises:
        ValueError: If the group at `path` holds another cohort, an argument is invalid, or a θ is
            outside the box. Blocks finished before are kept.
    """
    check_box(system, box)
    check_whole(block=block)
    theta = check_table(theta, box)
    number = check_phases(system, phases, steps)
    n = theta.shape[0]
    description = _describe(system, box, phases, number) | {"patients": n, "block": block}
    description |= {"accuracy": accuracy, "refined": steps is None}
    group = on_first_host(lambda: _prepare(Path(path), description))
    for start in progress(unfinished(group, theta, block)):
        rows = np.asarray(theta[start : start + block])
        cohort = simulate_cohort(
            system,
            box,
            rows,
            phases=phases,
            accuracy=accuracy,
            steps=steps,
            chunk=chunk,
            mesh=mesh,
        )
        on_first_host(functools.partial(_write, group, start, cohort))
        del cohort


def read_cohort(
    path: str | Path, system: AbstractRecordedSystem, rows: slice = slice(None)
) -> Cohort[Any]:
    """Read simulated patients from a Zarr group written by `simulate_into`.

    Args:
        path: Folder of the group.
        system: The model of the patients.
        rows: Patients to read; all by default.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If the group is of another model, a patient is not simulated yet, or `rows` is
            not a slice.
    """
    if not isinstance(rows, slice):
        raise ValueError(f"rows={rows!r}: expected a slice, such as slice(0, 100)")
    if not Path(path).is_dir():
        raise FileNotFoundError(f"no cohort at {path}: `simulate_into` writes one")
    group: Any = zarr.open_group(path, mode="r")
    if group.attrs.get("format") != FORMAT:
        raise ValueError(
            f"{path} has the format {group.attrs.get('format')!r}, this version reads {FORMAT!r}: "
            "simulate the patients again"
        )
    kept = group.attrs["identity"]
    if kept["parameters"] != fingerprint(system).description["parameters"]:
        raise ValueError(f"{path} is of {kept['system']['class']}, not of {type(system).__name__}")
    box = Box.described(system.parameters, group.attrs["box"])
    differing = differences(kept, _identity(system, box, group.attrs["steps"]))
    if differing:
        raise ValueError(
            f"{path} is of another system: {'; '.join(differing)}. Read it with the system that it "
            "was simulated with"
        )
    success = group["success"][rows]
    missing = int(np.sum(success == NOT_SIMULATED))
    if missing:
        raise ValueError(
            f"{missing} of {success.size} patients in {path} are not simulated yet: call "
            "simulate_into with the same arguments to continue"
        )
    kind = type(outputs_of(system))

    def outputs(field: str) -> Any:
        return kind(**{name: group[f"{field}/{name}"][rows] for name in kind._fields})

    recording = Recording(
        outputs("maximum"), outputs("minimum"), outputs("waveforms"), group["duration"][rows]
    )
    return Cohort(
        system,
        box,
        group["theta"][rows],
        recording,
        success.astype(bool),
        group["residual"][rows],
        group["error"][rows],
        result=_result(group, rows),
    )


_SENTENCES = [
    RESULTS[jax.tree.map(lambda _, i=i: np.array(i), RESULTS.successful)]
    for i in range(len(RESULTS))
]
"""Meanings of the numbers by which outcomes are stored."""


def _result(group: Any, rows: slice) -> RESULTS | None:
    """Read the outcomes; None if an older version stored none, or other ones."""
    if "result" not in group or group["result"].attrs["sentences"] != _SENTENCES:
        return None
    return jax.tree.map(lambda _: group["result"][rows].astype(np.int32), RESULTS.successful)


def _identity(system: AbstractRecordedSystem, box: Box, steps: int) -> dict[str, Any]:
    return fingerprint(system, box, steps=steps).description


def _describe(system: AbstractRecordedSystem, box: Box, phases: int, steps: int) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "identity": _identity(system, box, steps),
        "box": box.describe(),
        "steps": steps,
        "phases": phases,
    }


def check_table(theta: Any, box: Box) -> Any:
    """Return θ with a shape and slices, unread where it lies on disk.

    Raises:
        ValueError: If it is not a table with one row per patient and a column per free parameter.
    """
    theta = theta if hasattr(theta, "shape") else np.asarray(theta)
    if len(theta.shape) != 2 or not theta.shape[0]:
        raise ValueError(
            f"θ of shape {tuple(theta.shape)}: expected one row per patient, at least one"
        )
    if theta.shape[1] != len(box.names):
        raise ValueError(
            f"θ with {theta.shape[1]} columns: expected one for each of {', '.join(box.names)}"
        )
    return theta


def open_group(path: Path, description: dict[str, Any], what: str) -> Any:
    """Open a Zarr group and check it against its description; create it if it does not exist.

    Args:
        path: Folder of the group.
        description: Its attributes.
        what: What such groups contain, for error messages.

    Raises:
        ValueError: If the folder holds something else.
    """
    empty = not path.exists() or not any(path.iterdir())
    if not empty and not (path / "zarr.json").exists():
        raise ValueError(f"{path} is not empty and contains no {what}: choose another folder")
    group: Any = zarr.open_group(path, mode="a", attributes=description if empty else None)
    differing = differences(dict(group.attrs), description)
    if differing:
        raise ValueError(
            f"{path} holds something else: {'; '.join(differing)}. Go on with the same arguments, "
            "or choose another folder"
        )
    return group


def unfinished(group: Any, theta: Any, block: int) -> list[int]:
    """Return where the blocks begin that are still to be simulated, in every process.

    Args:
        group: Group with the arrays theta, [patient, free], and success, [..., patient]; read by
            the first process only.
        theta: Parameters, one row per patient.
        block: Number of patients of a block.

    Raises:
        ValueError: If a finished block has other parameters.
    """
    n = theta.shape[0]
    starts = range(0, n, block)
    todo = on_first_host(
        lambda: [_is_open(group, theta, start, min(start + block, n)) for start in starts]
    )
    if jax.process_count() > 1:
        todo = multihost_utils.broadcast_one_to_all(np.array(todo or [False] * len(starts)))
    return [start for start, is_open in zip(starts, todo, strict=True) if is_open]


def _prepare(path: Path, description: dict[str, Any]) -> Any:
    """Open the group, with its arrays."""
    n, block = description["patients"], description["block"]
    group = open_group(path, description, "cohort")

    def array(name: str, fill: float | int, *axes: int, dtype: str = "float32") -> None:
        if name not in group:
            group.create_array(
                name, shape=(n, *axes), chunks=(min(block, n), *axes), dtype=dtype, fill_value=fill
            )

    array("theta", np.nan, len(description["identity"]["free"]))
    for name in description["identity"]["outputs"]:
        array(f"maximum/{name}", np.nan)
        array(f"minimum/{name}", np.nan)
        array(f"waveforms/{name}", np.nan, description["phases"])
    array("duration", np.nan)
    array("residual", np.nan)
    array("error", np.nan)
    array("result", 0, dtype="int8")
    group["result"].attrs["sentences"] = _SENTENCES
    array("success", NOT_SIMULATED, dtype="int8")
    return group


def _is_open(group: Any, theta: Any, start: int, stop: int) -> bool:
    """Return whether a block is still to be simulated; raise if it has other parameters."""
    if np.any(group["success"][..., start:stop] == NOT_SIMULATED):
        return True
    if not np.array_equal(group["theta"][start:stop], np.asarray(theta[start:stop], np.float32)):
        raise ValueError(
            f"patients {start} to {stop - 1} were simulated with other parameters: use the same θ, "
            "or choose another folder"
        )
    return False


def _write(group: Any, start: int, cohort: Cohort[Any]) -> None:
    rows = slice(start, start + len(cohort))
    group["theta"][rows] = cohort.theta
    for field in ("maximum", "minimum", "waveforms"):
        for name, values in getattr(cohort.recording, field)._asdict().items():
            group[f"{field}/{name}"][rows] = values
    group["duration"][rows] = cohort.recording.duration
    group["residual"][rows] = cohort.residual
    group["error"][rows] = cohort.error
    group["result"][rows] = jax.tree.leaves(cohort.result)[0]
    # Last: it marks the block as finished.
    group["success"][rows] = cohort.success.astype(np.int8)
