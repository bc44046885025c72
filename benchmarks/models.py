"""Cost of the models: lines of code, time to train an emulator, periodic states per second.

    python -m benchmarks.models [--run runs/models-default] [--patients 4096 --repeats 5]

States per second are for the extremes of `simulate_cohort` in float32 on all cores: the median over
the repeats, at Sobol points of the model's box, after a first call whose additional time is
compilation. Lines of the model's file are counted twice: all, and those that are neither blank,
comment nor docstring. With a run of `python -m experiments.models --system all`, the table also
shows the time for simulating and training the emulator, and its error on unseen points.
"""

import argparse
import ast
import inspect
import json
from pathlib import Path
from typing import Any

import equinox as eqx
import numpy as np

from benchmarks.timing import timed
from experiments.models.studies import STUDIES
from jaxtwin.cohorts.batching import map_patients
from jaxtwin.cohorts.simulate import simulate_patient
from jaxtwin.parameters import Box


def lines_of(source: str) -> tuple[int, int]:
    """Count all lines, and those that are neither blank nor comment nor docstring."""
    tree = ast.parse(source)
    code = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue  # A docstring, of a class, function or attribute.
        if isinstance(node, ast.stmt):
            own = range(node.lineno, (node.end_lineno or node.lineno) + 1)
            inner = getattr(node, "body", None)
            # For statements with a body, count only the head; the body is visited separately.
            code |= set(range(node.lineno, inner[0].lineno) if isinstance(inner, list) else own)
    lines = source.splitlines()
    kept = [n for n in code if lines[n - 1].strip() and not lines[n - 1].strip().startswith("#")]
    return len(lines), len(kept)


def extremes(system: Any, box: Box, theta: Any) -> tuple[Any, Any, Any]:
    """Return a patient's extremes and success; without the unused waveforms."""
    found = simulate_patient(system, box, 60, system.steps, theta)
    return found.recording.maximum, found.recording.minimum, found.success


def speed(system: Any, box: Box, patients: int, repeats: int) -> tuple[float, float, int]:
    """Return states per second (median), additional duration of the first call [s], failures."""
    theta = box.sample(patients, seed=0).astype(np.float32)
    function = eqx.Partial(extremes, system, box)
    failed = 0

    def once() -> None:
        nonlocal failed
        *_, converged = map_patients(function, theta)
        failed = int((~converged).sum())

    usual, first = timed(once, repeats)
    return patients / usual, first, failed


def main() -> None:
    """Measure and print one row per model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--patients", type=int, default=4_096)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    print(
        "| model | states | free θ | lines | of code | states/s | first call, s | failed "
        "| emulator: simulations, s | training, s | waveforms, median error |\n" + "|---" * 11 + "|"
    )
    for name, study in STUDIES.items():
        system, box = study.task.system, study.task.box
        total, code = lines_of(Path(inspect.getfile(type(system))).read_text())
        rate, first, failed = speed(system, box, arguments.patients, arguments.repeats)
        variables = len(system.initial_state(box.parameters()))
        learnt = ["–"] * 3
        if arguments.run:
            errors = json.loads((arguments.run / "cells" / name / "emulator.json").read_text())
            learnt = [
                f"{errors['simulation_seconds']:.0f}",
                f"{errors['training_seconds']:.0f}",
                f"{100 * errors['waveform_median']:.2f}%",
            ]
        print(
            f"| {name} | {variables} | {len(box.names)} | {total} | {code} | {rate:,.0f} "
            f"| {first:.0f} | {failed} of {arguments.patients:,} | {' | '.join(learnt)} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
