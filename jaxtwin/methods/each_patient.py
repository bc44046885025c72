"""Application of a fit to each patient of a task separately."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from jaxtwin.cohorts.batching import map_patients
from jaxtwin.methods.tasks import Curves, CurveTask
from jaxtwin.training.progress import ProgressBar, silent


class Patient(NamedTuple):
    """One patient's measurement, inside `each_patient`.

    Attributes:
        key: Key for random numbers.
        known: Values of the task's known parameters.
        values: What was measured, see `CurveTask.rows`; NaN where missing.
        noise: Standard deviation of the noise; infinite where missing.
        phases: Phases of the samples, or None, see `CurveTask.rows`.
    """

    key: Array
    known: Float[Array, " known"]
    values: Float[Array, " entry"]
    noise: Float[Array, " entry"]
    phases: Float[Array, " entry"] | None = None


def each_patient(
    function: Callable[[Patient], Any],
    task: CurveTask,
    curves: Curves,
    *,
    seed: int,
    chunk: int = 64,
    progress: ProgressBar = silent,
) -> Any:
    """Apply a function of one patient to all patients, on all cores.

    Args:
        function: Function of one patient, used inside jit and vmap. It is compiled once if each
            call passes an equal `equinox.Partial`.
        task: The task.
        curves: Curves of the patients.
        seed: Seed for the patients' keys; the key of patient i depends on the seed and i only.
        chunk: Largest number of patients computed together on one core.
        progress: Function that makes the progress bar over chunks.

    Returns:
        The results as NumPy arrays, [patient, ...] on every leaf.
    """
    told, rows = patient_rows(task, curves, seed=seed)
    chunk = min(chunk, share(len(rows), None))
    return map_patients(
        eqx.Partial(_one, function, told),
        rows,
        chunk=chunk,
        progress=lambda chunks: progress(chunks, desc="fitting", unit="chunk"),
    )


def share(patients: int, mesh: Mesh | None) -> int:
    """Return the number of patients of each device, or of each of two cores without a mesh."""
    return -(-patients // (2 if mesh is None else mesh.size))


class Told(NamedTuple):
    """Layout of the rows of `patient_rows`: numbers of known parameters and of parts measured."""

    known: int
    parts: int


def patient_rows(
    task: CurveTask, curves: Curves, *, seed: int
) -> tuple[Told, Float[np.ndarray, "patient entry"]]:
    """Return everything about each patient in one row, and the layout, for `patient_of`."""
    n = len(curves.values)
    # Float32 represents integers exactly up to 2^24.
    head = np.stack([np.full(n, seed % 2**24), np.arange(n)], axis=1)
    known = np.zeros((n, 0)) if curves.known is None else curves.known
    measured = task.rows(curves)
    told = [measured.values, measured.noise]
    told += [] if measured.phases is None else [measured.phases]
    parts = [head, known, *told]
    rows = np.concatenate([np.asarray(part) for part in parts], axis=1).astype(np.float32)
    return Told(len(task.known), len(told)), rows


def patient_of(told: Told, row: Float[Array, " entry"]) -> Patient:
    """Return the patient of a row."""
    seed, place = row[0].astype(int), row[1].astype(int)
    key = jax.random.fold_in(jax.random.key(seed), place)
    known = row[2 : 2 + told.known]
    return Patient(key, known, *jnp.split(row[2 + told.known :], told.parts))


def _one(function: Callable[[Patient], Any], told: Told, row: Float[Array, " entry"]) -> Any:
    return function(patient_of(told, row))
