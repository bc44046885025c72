"""Cells of the table: every method, noise level, known or unknown period, and seed.

At one noise level, also incomplete measurements.
"""

import itertools
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.methods.compared import METHODS, SAMPLES
from experiments.methods.figures import draw_boxes, draw_examples
from experiments.methods.measured import measure
from experiments.methods.settings import Config
from experiments.methods.table import Cell, markdown, middle, summarise
from jaxtwin.cohorts.cohort import Cohort
from jaxtwin.cohorts.draw import draw_cohort
from jaxtwin.commands.emulator import CHANNELS, obtain_emulator
from jaxtwin.commands.run import Run, origin
from jaxtwin.commands.tables import write_table
from jaxtwin.methods.base import AbstractMethod
from jaxtwin.methods.posterior import AbstractDistribution
from jaxtwin.methods.scores import resimulate, score_curves, score_posterior
from jaxtwin.methods.tasks import Curves, CurveTask, OutOfModelWarning
from jaxtwin.models.left_heart import SEVEN, LeftHeart


class Patients(NamedTuple):
    """A seed's patients for training, validation and test."""

    training: Cohort
    validation: Cohort
    test: Cohort


def draw(config: Config, seed: int) -> Patients:
    """Draw a seed's patients within physiological limits, in random order."""
    sizes = (*config.cohort, config.patients)
    patients = draw_cohort(LeftHeart(), SEVEN, sum(sizes), seed=2**24 + seed, phases=SAMPLES)
    # Not `draw_splits`, which shuffles by another seed: saved cells are of these patients.
    patients = patients.take(np.random.default_rng(seed).permutation(sum(sizes)))
    ends = np.cumsum(sizes)
    parts = [patients.take(slice(end - n, end)) for n, end in zip(sizes, ends, strict=True)]
    return Patients(*parts)


def fill_cell(
    folder: Path, cell: Cell, patients: Patients, method: AbstractMethod[CurveTask, Curves]
) -> None:
    """Train a method, estimate and score the test patients, and write the results."""
    task, training, validation, test = measure(patients, *cell[1:])
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    learnt = method.learn(task, training, validation, folder=folder, seed=cell.seed, resume=True)
    with warnings.catch_warnings():
        # The table shows how far off each patient is.
        warnings.simplefilter("ignore", OutOfModelWarning)
        estimate = learnt.estimate(test)
    seconds = time.monotonic() - began
    scores = score_curves(task, estimate, patients.test)
    if isinstance(learnt.answer, AbstractDistribution):
        scores |= score_posterior(learnt, test, patients.test, seed=cell.seed)
    write_table(folder / "scores.csv", scores)
    curves: dict[str, Any] = {}
    if estimate.recording is not None:
        waveforms = estimate.recording.waveforms
        curves |= zip(waveforms.channel_names, waveforms, strict=True)
    if estimate.theta is not None:
        curves["theta"] = estimate.theta
        again = resimulate(task, estimate)
        curves |= {f"{c}_resimulated": getattr(again.recording.waveforms, c) for c in CHANNELS}
    np.savez(folder / "curves.npz", allow_pickle=False, measured=test.values, **curves)
    result = {
        "steps": learnt.steps,
        "training_seconds": learnt.seconds,
        "step_seconds": learnt.step_seconds,
        "seconds": seconds,
        "failed": int((~estimate.success).sum()),
        **origin(),
    }
    Run(folder).json("result", result)


def cells_of(config: Config) -> list[Cell]:
    """Return all cells of the table, ordered by seed."""
    cells = [
        Cell(method, noise, known, config.seed + seed)
        for seed, known, noise, method in itertools.product(
            range(config.seeds), (True, False), config.noises, config.methods
        )
    ]
    at = middle(cells)
    cells = [c for c in cells if not METHODS[c.method].once or (c.known and c.noise == at)]
    more = [
        Cell(method, at, True, config.seed + seed, measured)
        for seed, measured, method in itertools.product(
            range(config.seeds), config.incomplete, config.methods
        )
        if METHODS[method].incomplete
    ]
    return sorted([*cells, *more], key=lambda cell: cell.seed)


def experiment(config: Config, run: Run) -> dict[str, Any]:
    """Compute all cells, then the tables and figures."""
    cells = cells_of(config)
    emulators, patients, seed = {}, None, None
    for i, cell in enumerate(cells):
        folder = run.folder / "cells" / cell.name
        if (folder / "result.json").exists():
            continue
        print(f"cell {i + 1} of {len(cells)}: {cell.name}", flush=True)
        if cell.seed != seed:
            patients, seed = draw(config, cell.seed), cell.seed
        assert patients is not None
        emulator, _ = emulators.get(cell.seed) or emulators.setdefault(
            cell.seed, _emulator(config, run, cell.seed)
        )
        fill_cell(folder, cell, patients, METHODS[cell.method].create(config, emulator))
        # Otherwise compiled programs accumulate until the system runs out of memory maps.
        jax.clear_caches()
    rows = summarise(cells, run.folder)
    write_table(run.folder / "methods.csv", {k: [row[k] for row in rows] for k in rows[0]})
    (run.folder / "methods.md").write_text(markdown(rows) + "\n")
    run.written += [run.folder / "methods.csv", run.folder / "methods.md"]
    run.figure("methods_boxes", draw_boxes(cells, run.folder))
    truth = draw(config, config.seed).test.recording.waveforms
    examples = draw_examples(cells, run.folder, truth)
    if examples is not None:
        run.figure("methods_examples", examples)
    print(f"\n{markdown(rows)}")
    errors = {seed: _emulator(config, run, config.seed + seed)[1] for seed in range(config.seeds)}
    return {"rows": rows, "emulators": errors}


def _emulator(config: Config, run: Run, seed: int):
    """Return a seed's emulator, with the task's phases."""
    folder = run.folder / f"emulator-{seed}"
    return obtain_emulator(folder, SEVEN, config.emulator, seed=seed, phases=SAMPLES)
