"""Twins learnt from two volumes of each clip, as in the paper.

Follows Kuang et al., NeurIPS 2024, table 1 (P-SSL).
"""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from jaxtwin import plotting
from jaxtwin.cohorts.clinic import ECHO_LABORATORY
from jaxtwin.cohorts.simulate import simulate_cohort
from jaxtwin.commands.clips import check_splits, decode, draw_contact_sheet
from jaxtwin.commands.emulator import BOXES, PHASES, obtain_emulator
from jaxtwin.commands.run import Run
from jaxtwin.commands.settings import PSSLConfig
from jaxtwin.commands.twin import real_clip, write_twin
from jaxtwin.data.cache import ClipCache
from jaxtwin.data.echonet import read_echonet, read_theta
from jaxtwin.data.phantom.cohort import make_phantoms
from jaxtwin.data.recording import read_clip
from jaxtwin.devices import first_devices
from jaxtwin.methods.base import Estimate, Learnt
from jaxtwin.methods.clips import VOLUMES, Clips, ClipTask
from jaxtwin.methods.pssl_clips import PSSL
from jaxtwin.methods.saving import save_learnt
from jaxtwin.models.left_heart import NINE, SEVEN, LeftHeart
from jaxtwin.twin import build_twin, summary


def score(
    learnt: Learnt[ClipTask, Clips], test: Clips, training: Clips
) -> tuple[Estimate, dict[str, float]]:
    """Return the errors on test clips, with those of always predicting the training median.

    Returns:
        The estimate, and the mean errors: EF in points, emulated and re-simulated by the system at
        each θ; EDV and ESV in percent.
    """
    task, found = learnt.task, learnt.estimate(test)
    got, true = found.readings, test.measured()
    median = {name: np.median(values) for name, values in training.measured().items()}
    again = simulate_cohort(task.system, task.box, np.asarray(found.theta), phases=PHASES)
    EF_again = np.where(again.success, again.read(["EF"])["EF"], np.nan)

    def percent(name: str, values: Any) -> float:
        return float(100 * (np.abs(values - true[name]) / true[name]).mean())

    return found, {
        "clips": len(test),
        "EF_error": float(np.abs(got["EF"] - true["EF"]).mean()),
        "EF_error_resimulated": float(np.nanmean(np.abs(EF_again - true["EF"]))),
        "EF_error_median_predictor": float(np.abs(median["EF"] - true["EF"]).mean()),
        "EDV_error_percent": percent("EDV", got["EDV"]),
        "EDV_error_percent_median_predictor": percent("EDV", median["EDV"]),
        "ESV_error_percent": percent("ESV", got["ESV"]),
        "failed_resimulations": int((~again.success).sum()),
    }


def draw_figures(
    run: Run, task: ClipTask, cache: ClipCache, found: Estimate, data: Path, real: Path
) -> None:
    """Draw the contact sheet, scatter plots, learning curves and recovery of the parameters."""
    test = cache.split("TEST")
    draw_contact_sheet(run, real, [cache.records[i] for i in test[:5]], task.format)
    true, readings = Clips(cache, test).measured(), task.system.readings()
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    for ax, name in zip(figure.subplots(1, 3), VOLUMES, strict=True):
        label = f"{name} [{readings[name].unit}]"
        plotting.agreement(ax, true[name], found.readings[name], label=label)
    run.figure("scatter", figure)

    log = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    figure = Figure(figsize=(8, 3), layout="constrained")
    for ax, stage in zip(figure.subplots(1, 2), ("emulator", "encoder"), strict=True):
        plotting.learning_curve(ax, log, stage=stage)
    run.figure("learning", figure)

    if (data / "Theta.csv").exists():
        truth = read_theta(data)
        names = [cache.records[i].name for i in test]
        columns = -(-len(task.box.names) // 2)
        figure = Figure(figsize=(2.75 * columns, 5.5), layout="constrained")
        axes = list(figure.subplots(2, columns).flat)
        for ax, spec, column in zip(axes, task.box.specs, np.asarray(found.theta).T, strict=False):
            values = np.array([truth[Path(name).stem][spec.name] for name in names])
            scaled = spec.name in task.box.logarithmic
            plotting.recovery(ax, spec, values, column, logarithmic=scaled)
        for ax in axes[len(task.box.specs) :]:
            ax.axis("off")
        run.figure("parameters", figure)


def train_volumes(config: PSSLConfig, run: Run) -> dict[str, Any]:
    """Train emulator and encoder, score them and build one twin; return results.json's content.

    Raises:
        ValueError: If there are too few clips.
    """
    began, mesh = time.monotonic(), first_devices(config.devices)
    # Check the flags first, because the work may take hours.
    if config.data is not None:
        check_splits(read_echonet(config.data))
    emulator, emulator_errors = obtain_emulator(
        run.folder, BOXES[config.twin], config.emulator, seed=config.seed, mesh=mesh
    )
    data = config.data or run.folder / "phantom"
    if config.data is None:
        of_clinic = config.twin == "nine"
        make_phantoms(
            data,
            LeftHeart(),
            NINE if of_clinic else SEVEN,
            config.clips.counts,
            seed=config.seed,
            population=ECHO_LABORATORY if of_clinic else None,
        )
    dataset = read_echonet(data)
    check_splits(dataset)
    cache = decode(dataset.records, config.clips.format, run.folder / "clips")
    skipped = [*dataset.skipped, *cache.skipped]
    for clip in skipped:
        print(f"skipped {clip.name}: {clip.reason}")
    task = ClipTask(LeftHeart(), BOXES[config.twin], config.clips.format)
    training, validation, test = (
        Clips.from_split(cache, name) for name in ("TRAIN", "VAL", "TEST")
    )
    method = PSSL(
        forward=emulator,
        encoder=config.encoder,
        config=config.training,
        weights_seed=config.seed + 1,
        precision=config.precision,
    )
    learnt = method.learn(
        task,
        training,
        validation,
        seed=config.seed,
        folder=run.folder,
        resume=config.resume,
        mesh=mesh,
    )
    save_learnt(run.folder / "encoder", learnt)
    found, scores = score(learnt, test, training)
    real = real_clip()
    draw_figures(run, task, cache, found, data, real)
    twin = build_twin(learnt, read_clip(real, config.clips.format))
    write_twin(run, "twin_real_clip", twin)

    print(f"\nTwin of the real clip {real.name}:\n{summary(twin)}")
    print(
        f"\n{'':34}{'P-SSL':>8}{'median predictor':>18}\n"
        f"{'EF error, emulated [points]':34}{scores['EF_error']:8.2f}"
        f"{scores['EF_error_median_predictor']:18.2f}\n"
        f"{'EF error, re-simulated [points]':34}{scores['EF_error_resimulated']:8.2f}\n"
        f"{'EDV error [%]':34}{scores['EDV_error_percent']:8.1f}"
        f"{scores['EDV_error_percent_median_predictor']:18.1f}\n"
        f"on {scores['clips']} unseen clips; emulator: EF error {emulator_errors['EF_mean']:.3f} "
        f"points (worst {emulator_errors['EF_worst']:.1f}) on unseen parameters"
    )
    return {
        "emulator": emulator_errors,
        "validation": dict(learnt.validation),
        "test": scores,
        "training": {
            "best_step": learnt.best_step,
            "steps": learnt.steps,
            "seconds": learnt.seconds,
        },
        "skipped": [{"name": clip.name, "reason": clip.reason} for clip in skipped],
        "seconds_since_last_start": time.monotonic() - began,
    }
