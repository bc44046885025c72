"""Storage of a trial's finished arms in a folder."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from jaxtwin.identity import Fingerprint
from jaxtwin.treatments.treat import Outcome


def kept(folder: Path, mark: Fingerprint, compute: Callable[[], Outcome]) -> Outcome:
    """Load the outcome of an arm from a folder, or compute and save it.

    Args:
        folder: Folder with one file KEY.npz per arm, with a description beside the arrays.
        mark: Fingerprint of everything that the outcome depends on.
        compute: Function that computes the outcome.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{mark.key}.npz"
    if path.exists():
        with np.load(path, allow_pickle=False) as file:
            names = json.loads(str(file["names"]))
            readings = {name: file[f"readings_{i}"] for i, name in enumerate(names["readings"])}
            after = {name: file[f"parameters_{i}"] for i, name in enumerate(names["parameters"])}
            return Outcome(readings, file["solved"], file["feasible"], after)
    outcome = compute()
    names = {"readings": list(outcome.readings), "parameters": list(outcome.parameters)}
    columns = {f"readings_{i}": column for i, column in enumerate(outcome.readings.values())}
    columns |= {f"parameters_{i}": column for i, column in enumerate(outcome.parameters.values())}
    partial = path.with_suffix(".partial.npz")
    np.savez(
        partial,
        allow_pickle=False,
        names=json.dumps(names),
        description=json.dumps(mark.description),
        solved=outcome.solved,
        feasible=outcome.feasible,
        **columns,
    )
    partial.replace(path)
    return outcome
