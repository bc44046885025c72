"""Study of `experiments.misspecification`: measure wrong patients, and see who is noticed."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from experiments.calibration.study import Case
from experiments.misspecification.clips import clip_table, refuse_the_least_certain
from experiments.misspecification.settings import Config
from experiments.misspecification.sources import (
    OWN,
    READINGS,
    SOURCES,
    Patients,
    measure,
    usual_volumes,
)
from experiments.misspecification.table import markdown
from jaxtwin.commands.run import Run, origin
from jaxtwin.commands.tables import write_table
from jaxtwin.inference.model_check import ModelCheck
from jaxtwin.inference.neural import NeuralPosterior
from jaxtwin.methods.base import Learnt
from jaxtwin.methods.least_squares import LeastSquares
from jaxtwin.methods.saving import load_learnt, save_learnt
from jaxtwin.methods.tasks import Curves, CurveTask, OutOfModelWarning
from jaxtwin.training.progress import progress_bar

FALSE_ALARMS = 0.05
"""Share of the model's own patients that each check may notice."""
MOST_GROUPS = 50


def learn(config: Config, case: Case, folder: Path) -> Learnt[CurveTask, Curves]:
    """Learn the posterior of the left heart's patients, or load what was learnt."""
    method, task = NeuralPosterior(config=config.training, patients=config.bank), case.task()
    if not (folder / "learnt").exists():
        learnt = method.learn(task, seed=config.seed, folder=folder, resume=True)
        save_learnt(folder / "learnt", learnt)
    return load_learnt(folder / "learnt", method, task)


def fit_misfits(fitter: Learnt[CurveTask, Curves], curves: Curves) -> np.ndarray:
    """Return p-values of the χ² of the best fits; NaN where a fit failed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutOfModelWarning)  # What is measured here.
        found = fitter.estimate(curves)
    task = fitter.task
    assert found.recording is not None
    curve = np.asarray(getattr(found.recording.waveforms, task.channel))
    square = np.sum(((curve - np.asarray(curves.values)) / task.noise) ** 2, axis=1)
    freedom = curve.shape[1] - len(task.box.names) + len(task.known)
    return np.where(found.success, stats.chi2.sf(square, freedom), np.nan)


def examine(
    config: Config,
    fitter: Learnt[CurveTask, Curves],
    check: ModelCheck,
    patients: Patients,
) -> dict[str, Any]:
    """Return what the checks notice of one kind of patients, as shares [%].

    Args:
        config: Settings.
        fitter: What gives the best fits.
        check: The checks, with the posterior.
        patients: The patients.
    """
    curves = patients.curves
    found = check(curves)
    noticed = found.predictive <= FALSE_ALARMS
    groups = [
        check.group(curves.take(slice(start, start + config.group)))
        for start in range(0, config.patients - config.group + 1, config.group)[:MOST_GROUPS]
    ]
    fits = fit_misfits(fitter, curves.take(slice(config.fitted)))
    posterior = check.learnt.posterior(curves, draws=config.draws, seed=config.seed)
    readings = posterior.simulate(READINGS).readings
    held = {}
    for name in READINGS:
        low, high = np.nanquantile(readings[name], (0.05, 0.95), axis=1)
        truth = patients.readings[name]
        held[name] = (truth >= low) & (truth <= high)
    return {
        "unusual": 100 * patients.unusual,
        "predictive": _percent(noticed),
        "features": _percent(found.features <= FALSE_ALARMS),
        "rule": _percent(~found.prior),
        "groups": _percent(np.array(groups) <= FALSE_ALARMS),
        "fit": _percent(fits[np.isfinite(fits)] <= FALSE_ALARMS),
        "held": {name: _percent(x) for name, x in held.items()},
        "held_unnoticed": {name: _percent(x[~noticed]) for name, x in held.items()},
    }


def _percent(those: np.ndarray) -> float | None:
    """Return the share of those that are true [%]; None of nobody."""
    return float(100 * np.mean(those)) if len(those) else None


def experiment(config: Config, run: Run) -> dict[str, Any]:
    """Fill the cells that are missing, and write the tables."""
    usual, results = usual_volumes(), {}
    for noise in progress_bar(config.noises, desc="noises", unit="noise"):
        case = Case("flow", noise, True)
        folder = run.folder / f"noise{noise:g}"
        place = folder / "result.json"
        if not place.exists():
            learnt = learn(config, case, folder)
            check = ModelCheck.fit(
                learnt, patients=config.reference, draws=config.draws, seed=config.seed
            )
            fitter = LeastSquares().learn(learnt.task)
            rows = {
                name: examine(
                    config,
                    fitter,
                    check,
                    measure(source, case, usual, config.patients, config.seed + 1),
                )
                for name, source in SOURCES.items()
            }
            told = {"commit": origin()["commit"], "rows": rows}
            place.write_text(json.dumps(told, indent=1, ensure_ascii=False))
        results[f"{noise:g}"] = json.loads(place.read_text())["rows"]
    table = markdown(results, config.group)
    (run.folder / "misspecification.md").write_text(table)
    run.written.append(run.folder / "misspecification.md")
    print(table)
    clips: dict[str, Any] = {}
    if config.run is not None:
        clips = refuse_the_least_certain(config.run)
        if clips:
            write_table(run.folder / "clips.csv", clips.pop("clips"))
            run.written.append(run.folder / "clips.csv")
        (run.folder / "clips.md").write_text(clip_table(clips))
        run.written.append(run.folder / "clips.md")
        print(clip_table(clips))
    return {
        "detection": results,
        "false_alarms_percent": {noise: rows[OWN]["predictive"] for noise, rows in results.items()},
        "clips": clips,
    }
