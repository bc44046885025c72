"""Speeds and errors of both solvers, row by row, and the fastest row within an error."""

import dataclasses
import functools
import itertools
from typing import Any

import jax
import numpy as np

from benchmarks.circuits.loop import BOX
from benchmarks.circuits.solvers import Task, jaxtwin
from benchmarks.circuits.svzerodsolver import svzerod
from benchmarks.rivals import Missing
from benchmarks.timing import timed


@dataclasses.dataclass(frozen=True)
class Series:
    """A solver in one dtype, with the batches and the ladder of (beats, steps) to measure.

    With zero beats, the solver finds the settled beat itself.
    """

    solver: str
    dtype: str
    batches: tuple[int, ...]
    ladder: tuple[tuple[int, int], ...]


STEPS = (240, 480, 960)
SERIES = {
    "third": (
        Series("svZeroDSolver", "float64", (1,), tuple((3, n) for n in (86, 172, 344, 688, 1376))),
        Series("jaxtwin", "float32", (1, 4_096), tuple((3, n) for n in STEPS)),
        Series("jaxtwin", "float64", (1, 4_096), tuple((3, n) for n in STEPS)),
    ),
    "settled": (
        Series(
            "svZeroDSolver",
            "float64",
            (1,),
            tuple(itertools.product((3, 6, 10, 15, 20), (86, 172, 344, 688, 1376))),
        ),
        Series("jaxtwin", "float32", (1, 4_096), tuple((0, n) for n in STEPS)),
        Series("jaxtwin", "float64", (1, 4_096), tuple((0, n) for n in STEPS)),
    ),
}


KIND = ("task", "solver", "dtype", "batch")
"""Columns in which rows are alike that differ in their error and speed alone."""


def error(values: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference of an extreme, in percent of it; infinite if one is missing."""
    off = 100 * np.max(np.abs(values - expected) / np.abs(expected))
    return float(off) if np.isfinite(off) else float("inf")


def part(task: Task, number: int, repeats: int, expected: np.ndarray) -> Any:
    """Measure one series in this process; return its rows, or what is not installed."""
    series = SERIES[task][number]
    jax.config.update("jax_enable_x64", series.dtype == "float64")
    try:
        return rows_of(task, series, repeats, expected)
    except Missing as missing:
        return f"{series.solver}: skipped, not installed: {missing}"


def rows_of(task: Task, series: Series, repeats: int, expected: np.ndarray) -> list[dict[str, Any]]:
    """Measure one series; its errors are those of the first patients, whose extremes are given."""
    theta = np.asarray(BOX.sample(max(*series.batches, len(expected)), seed=0), float)
    found = []
    for beats, steps in series.ladder:
        if series.solver == "jaxtwin":
            solve = jaxtwin(task, steps, series.dtype)
        else:
            solve = svzerod(beats, steps)
        took = {n: timed(functools.partial(solve, theta[:n]), repeats) for n in series.batches}
        # One by one, so that the program of a batch of one serves.
        answers = np.concatenate([solve(row[None]) for row in theta[: len(expected)]])
        off = error(answers, expected)
        for batch, (usual, compiled) in took.items():
            found.append(
                {
                    "task": task,
                    "solver": series.solver,
                    "dtype": series.dtype,
                    "batch": batch,
                    "beats": beats or None,
                    "steps": steps,
                    "per_second": float(f"{batch / usual:.4g}"),
                    "compile_s": round(compiled, 2),
                    "error_percent": float(f"{off:.2g}"),
                }
            )
    return found


def equal_error(rows: list[dict[str, Any]], targets: tuple[float, ...]) -> list[dict[str, Any]]:
    """Return the fastest row of each solver, dtype and batch within each error, by task."""
    alike: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        alike.setdefault(tuple(row[name] for name in KIND), []).append(row)
    found = []
    for kind, ladder in alike.items():
        one: dict[str, Any] = dict(zip(KIND, kind, strict=True))
        for target in targets:
            able = [row["per_second"] for row in ladder if row["error_percent"] <= target]
            one[f"within {target:g}%"] = max(able, default=None)
        found.append(one)
    return found
