"""Periodic states per second and their accuracy, compared with other solvers.

    python -m benchmarks.simulate                # all solvers, batches of 1 to 65,536: 15 minutes
    python -m benchmarks.simulate --quick        # jaxtwin alone, batches of 4,096: 45 seconds
    python -m benchmarks.simulate --json FILE    # also write the rows to a file
    python -m benchmarks.simulate --only jaxtwin --batches 65536 1048576 4194304  # on a GPU

The task: (EDV, ESV) of the periodic beat at points of the seven-parameter box and, in mode
"gradient", also their gradient with respect to all seven parameters. Errors are for the batch's
first 256 patients, both volumes together, against SciPy's Radau at 1e-8
(tests/references/left_heart_radau.py). Every solver is measured in its own process, one at a time,
alternating between forward and gradient. Batches grow until the next one would take longer than
`--limit` seconds. peak_MB is the process's resident memory (on Linux the peak of the mode's second
run, elsewhere of the process so far) or, on an accelerator, the peak of the device's memory. Batch
1 is one patient on one core and mostly measures XLA's overhead for the small steps of each beat.
"""

import dataclasses
import itertools
import json
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import tyro

from benchmarks.rivals import RIVALS, Missing, Solve
from jaxtwin.cohorts.batching import default_chunk, map_patients
from jaxtwin.commands.run import origin
from jaxtwin.models.left_heart import SEVEN, LeftHeart
from jaxtwin.parameters import Theta
from jaxtwin.physics.base import read
from jaxtwin.physics.periodic import periodic_orbit

QUICK, REPEATS = 4_096, 9
REFERENCE = Path(__file__).parents[1] / "tests" / "references" / "left_heart_radau.json"
HEADER = (
    "solver",
    "dtype",
    "mode",
    "batch",
    "per_second",
    "compile_s",
    "median_error_mL",
    "worst_error_mL",
    "failures",
    "peak_MB",
)


@dataclasses.dataclass(frozen=True)
class Series:
    """Measurements of one solver in one dtype, with growing batches and alternating modes."""

    solver: str
    dtype: str
    modes: tuple[str, ...] = ("forward",)


SERIES = [
    *(Series("jaxtwin", dtype, ("forward", "gradient")) for dtype in ("float32", "float64")),
    *(Series(name, "float64") for name in RIVALS),
]


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Measure solvers.

    Attributes:
        quick: Measure only jaxtwin with one batch of 4,096, in less than a minute.
        batches: Batch sizes, increasing.
        json: File to write the rows to.
        limit: Maximum time per row [s].
        only: Solvers to measure, by the beginning of their names; all by default.
        measure: Index of a series to measure in this process (internal).
    """

    quick: bool = False
    batches: tuple[int, ...] = (1, 16, 256, 4_096, 65_536)
    json: Path | None = None
    limit: float = 60.0
    only: tuple[str, ...] = ()
    measure: int | None = None


def volumes(theta: Theta) -> tuple[jax.Array, jax.Array]:
    """Return (EDV, ESV) of one patient's periodic beat, and whether it converged."""
    orbit = periodic_orbit(LeftHeart(), SEVEN.complete(theta), throw=False)
    found = read(LeftHeart(), orbit, ("EDV", "ESV"))
    return jnp.stack(list(found.values())), orbit.success


def volumes_and_gradient(theta: Theta):
    """Return `volumes` and the gradient of both volumes by all parameters, [2, 7].

    The gradient is computed row by row: `jax.jacrev` makes the rows an axis inside the patients'
    axis, which costs a fifth more.
    """
    values, pull_back, converged = jax.vjp(volumes, theta, has_aux=True)
    rows = [pull_back(unit)[0] for unit in jnp.eye(2, dtype=theta.dtype)]
    return values, converged, jnp.stack(rows)


def jaxtwin(mode: str) -> Solve:
    """Return jaxtwin's solver, on all cores or on the accelerator."""
    function = volumes if mode == "forward" else volumes_and_gradient

    def solve(theta):
        # At most the batch, so that it is not padded.
        chunk = min(len(theta), default_chunk(theta.dtype))
        values, converged, *gradient = map_patients(function, theta, chunk=chunk)
        return values, ~(converged & np.all([np.isfinite(g).all((1, 2)) for g in gradient], axis=0))

    return solve


def peak_memory(reset: bool = False) -> float:
    """Return peak memory [MB] since the last reset, if the platform supports resetting it."""
    statistics = jax.devices()[0].memory_stats()
    if statistics:
        return statistics["peak_bytes_in_use"] / 1e6
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1e3
    except (OSError, IndexError):
        unit = 1e6 if sys.platform == "darwin" else 1e3
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def timed(solve: Solve, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Return volumes, failures, and the duration [s]."""
    began = time.perf_counter()
    values, failed = solve(theta)
    return values, failed, time.perf_counter() - began


@dataclasses.dataclass
class Run:
    """Result of one solver in one mode for one batch."""

    values: np.ndarray
    failed: np.ndarray
    first: float
    peak: float
    seconds: list[float]


def measure(series: Series, batches: tuple[int, ...], limit: float) -> None:
    """Print, for each batch, the rows of all modes as a line of JSON."""
    if series.dtype == "float64":
        jax.config.update("jax_enable_x64", True)
    reference = json.loads(REFERENCE.read_text())
    expected = np.stack([reference["values"]["EDV"], reference["values"]["ESV"]], axis=1)
    table = SEVEN.sample(max(*batches, len(expected)), seed=0)
    rounding = 10 * np.finfo(table.dtype).eps  # Points have JAX's default float type.
    np.testing.assert_allclose(table[: len(expected)], reference["theta"], rtol=rounding)

    ours = series.solver == "jaxtwin"
    solves = {mode: jaxtwin(mode) if ours else RIVALS[series.solver]() for mode in series.modes}
    for batch in batches:
        theta = table[:batch].astype(series.dtype)
        eqx.clear_caches()
        jax.clear_caches()
        runs = {}
        for mode, solve in solves.items():
            _, _, first = timed(solve, theta)
            peak_memory(reset=True)
            values, failed, again = timed(solve, theta)
            runs[mode] = Run(values, failed, first, peak_memory(), [again])
        # The modes alternate, so that other load on the machine affects them equally.
        for _ in range(REPEATS - 1):
            if sum(sum(run.seconds) for run in runs.values()) > limit / 12:
                break
            for mode, solve in solves.items():
                runs[mode].seconds.append(timed(solve, theta)[2])
        print(
            json.dumps([row(series, mode, run, expected) for mode, run in runs.items()]), flush=True
        )


def row(series: Series, mode: str, run: Run, expected: np.ndarray) -> dict[str, Any]:
    """Return one row of the table."""
    batch, usual = len(run.values), float(np.median(run.seconds))
    k = min(batch, len(expected))
    error = np.abs(run.values[:k] - expected[:k])[~run.failed[:k]]
    return {
        "solver": series.solver,
        "dtype": series.dtype,
        "mode": mode,
        "batch": batch,
        "per_second": float(f"{batch / usual:.4g}"),
        "compile_s": round(max(run.first - usual, 0.0), 2),
        "median_error_mL": float(f"{np.median(error):.2g}") if error.size else None,
        "worst_error_mL": float(f"{np.max(error):.2g}") if error.size else None,
        "failures": int(run.failed.sum()),
        "peak_MB": round(run.peak),
    }


def rows_of(index: int, arguments: Arguments, batches: tuple[int, ...]):
    """Yield the rows of one series, measured in its own process, which is stopped if too slow."""
    command = [sys.executable, "-m", "benchmarks.simulate", "--measure", str(index)]
    command += ["--limit", str(arguments.limit), "--batches", *map(str, batches)]
    # stderr is not captured, so that errors appear in the terminal.
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    stopped = []

    def stop():
        stopped.append(True)
        process.kill()

    for batch, larger in itertools.pairwise([*batches, None]):
        late = threading.Timer(2 * arguments.limit + 60, stop)  # 60 s to compile.
        late.start()
        line = process.stdout.readline()
        late.cancel()
        if not line:
            process.wait()
            reason = "too long" if stopped else f"it ended with {process.returncode}"
            yield f"{SERIES[index].solver}: no rows for batches of {batch:,} or more: {reason}"
            return
        rows = json.loads(line)
        if isinstance(rows, str):
            yield f"{SERIES[index].solver}: skipped, not installed: {rows}"
            break
        yield from rows
        seconds = 0 if larger is None else larger / min(row["per_second"] for row in rows)
        if seconds > arguments.limit:
            name = SERIES[index].solver
            yield f"{name}: at this rate a batch of {larger:,} would take {seconds:,.0f} s"
            break
    process.kill()
    process.wait()


def line(cells) -> str:
    """Return one line of the table."""
    widths = (28, 7, 8, 6, 10, 9, 15, 14, 8, 7)
    shown = [
        "-" if cell is None else f"{cell:,}" if isinstance(cell, int) else str(cell)
        for cell in cells
    ]
    return "| " + " | ".join(text.ljust(w) for text, w in zip(shown, widths, strict=True)) + " |"


def main(arguments: Arguments) -> None:
    """Measure every series and print one table."""
    batches = (QUICK,) if arguments.quick else arguments.batches
    # Otherwise each process would preallocate most of an accelerator's memory.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if arguments.measure is not None:
        try:
            measure(SERIES[arguments.measure], batches, arguments.limit)
        except Missing as missing:
            print(json.dumps(str(missing)), flush=True)
        return
    began = time.perf_counter()
    print(json.dumps(origin()))
    print(line(HEADER))
    print(line(["---"] * len(HEADER)))
    rows, notes = [], []
    for index, series in enumerate(SERIES):
        wanted = not arguments.only or series.solver.startswith(arguments.only)
        if arguments.quick and series.solver != "jaxtwin":
            wanted = False
        for row in rows_of(index, arguments, batches) if wanted else ():
            if isinstance(row, str):
                notes.append(row)
                continue
            rows.append(row)
            print(line(row[name] for name in HEADER), flush=True)
            if arguments.json is not None:
                arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
    print(*notes, f"{time.perf_counter() - began:.0f} s in all", sep="\n")


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
