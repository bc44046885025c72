"""Finished arms of a trial, kept in a folder."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np

from jaxtwin.models.intervention import AbstractIntervention
from jaxtwin.treatments.treat import Outcome


def check_names(arm: str, intervention: AbstractIntervention) -> None:
    """Raise a ValueError if an arm has a function that cannot be told from another."""
    for leaf in jax.tree.leaves(intervention):
        if callable(leaf) and "<" in getattr(leaf, "__qualname__", "<"):
            raise ValueError(
                f"arm {arm!r} has the function {leaf}, which cannot be told from another of that "
                "name: define it with `def` in a module, or run the trial without a folder"
            )


def kept(folder: Path, function: Any, theta: np.ndarray, compute: Callable[[], Outcome]) -> Outcome:
    """An arm's outcome from the folder, or computed and put there."""
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
        solved=outcome.solved,
        feasible=outcome.feasible,
        **columns,
    )
    partial.replace(path)
    return outcome
