"""Studies of the models: emulator, encoder, estimates and scores."""

import json
import time
import warnings
from typing import Any, get_args

import jax
import numpy as np
from scipy import stats

from experiments.models.settings import Config, SystemName
from experiments.models.studies import STUDIES
from experiments.models.table import draw, markdown, table
from jaxtwin.cohorts.cohort import Cohort
from jaxtwin.cohorts.draw import draw_splits
from jaxtwin.commands.run import Run, origin
from jaxtwin.commands.tables import write_table
from jaxtwin.forward.learning import learn_emulator
from jaxtwin.methods.base import AbstractMethod, Estimate
from jaxtwin.methods.least_squares import LeastSquares
from jaxtwin.methods.prior import BoxMiddle
from jaxtwin.methods.pssl_curves import CurvePSSL
from jaxtwin.methods.scores import score_curves
from jaxtwin.methods.tasks import Curves, CurveTask, OutOfModelWarning
from jaxtwin.physics.check import check_system


def study(name: SystemName, config: Config, run: Run) -> dict[str, Any]:
    """Run the study of one model; return the content of its result.json."""
    task = STUDIES[name].task
    report = check_system(task.system)
    print(f"\n{report}")
    if report.problems:
        raise ValueError(f"{name}: fix the problems in the report first")
    emulator, errors = learn_emulator(
        run.folder,
        task.system,
        task.box,
        task.channels,
        phases=task.samples,
        simulations=config.emulator.simulations,
        unseen=config.emulator.unseen,
        training=config.emulator.training,
        seed=config.seed,
    )
    parts = draw_splits(
        task.system, task.box, config.cohort, seed=2**24 + config.seed, phases=task.samples
    )
    random = np.random.default_rng((config.seed, 1))
    training, validation, test = (task.measure(part, random) for part in parts)
    methods: dict[str, AbstractMethod[CurveTask, Curves]] = {
        "P-SSL (emulator)": CurvePSSL(emulator, config.training),
        "fit through the simulator": LeastSquares(starts=config.starts),
        "the middle of the box": BoxMiddle(),
    }
    rows = {}
    for title, method in methods.items():
        began = time.monotonic()
        learnt = method.learn(
            task, training, validation, folder=run.folder, seed=config.seed, resume=True
        )
        with warnings.catch_warnings():
            # The table shows how far off each patient is.
            warnings.simplefilter("ignore", OutOfModelWarning)
            estimate = learnt.estimate(test)
        seconds = time.monotonic() - began
        scores = score_curves(task, estimate, parts[2])
        rows[title] = {name: float(np.nanmean(values)) for name, values in scores.items()}
        rows[title] |= {
            "failed": int((~estimate.success).sum()),
            "patients": len(estimate.success),
            "seconds": seconds,
        }
        if isinstance(method, CurvePSSL):
            run.figure("twins", draw(STUDIES[name], estimate, test, parts[2]))
            rows[title]["rank_correlation"] = correlations(task, estimate, parts[2])
    return {"system": name, "rows": rows, "emulator": errors, "report": report.facts}


def correlations(task: CurveTask, estimate: Estimate, truth: Cohort) -> dict[str, float]:
    """Return the rank correlation of each learnt parameter with the truth."""
    theta, found = np.asarray(estimate.theta), {}
    for i, name in enumerate(task.box.names):
        if name not in task.known:
            found[name], _ = stats.spearmanr(theta[:, i], truth.theta[:, i])
    return {name: float(value) for name, value in found.items()}


def experiment(config: Config, run: Run) -> dict[str, Any]:
    """Study one model, or all of them; models finished by an earlier call are kept."""
    names: tuple[SystemName, ...] = (
        get_args(SystemName) if config.system == "all" else (config.system,)
    )
    results = []
    for name in names:
        part = Run(run.folder / "cells" / name)
        part.folder.mkdir(parents=True, exist_ok=True)
        if not (part.folder / "result.json").exists():
            part.json("result", study(name, config, part) | origin())
            # Otherwise compiled programs accumulate until the system runs out of memory maps.
            jax.clear_caches()
        results.append(json.loads((part.folder / "result.json").read_text()))
        run.written.append(part.folder / "twins.png")
    write_table(run.folder / "models.csv", table(results))
    shown = markdown(results)
    (run.folder / "models.md").write_text(shown + "\n")
    run.written += [run.folder / "models.csv", run.folder / "models.md"]
    print(f"\n{shown}")
    return {"models": [result["system"] for result in results]}
