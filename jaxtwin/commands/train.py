"""Digital twins from echo clips by physics-informed self-supervised learning, end to end.

Follows Kuang et al., NeurIPS 2024, table 1 (P-SSL).
"""

import json
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

from jaxtwin import plotting
from jaxtwin.cohorts.simulate import simulate_cohort
from jaxtwin.commands.clips import check_splits, decode
from jaxtwin.commands.emulator import PHASES, obtain_emulator
from jaxtwin.commands.run import Run
from jaxtwin.commands.settings import PSSLConfig
from jaxtwin.commands.twin import real_clip, write_twin
from jaxtwin.data.cache import ClipCache
from jaxtwin.data.echonet import read_echonet, read_theta
from jaxtwin.data.phantom.cohort import make_phantoms
from jaxtwin.encoders.create import create_encoder
from jaxtwin.methods.clips import (
    Predictions,
    cached_measurements,
    predict_cached,
    train_on_clips,
)
from jaxtwin.methods.pssl import PSSL, save_pssl
from jaxtwin.models.left_heart import SEVEN, THREE, LeftHeart
from jaxtwin.twin import build_twin, read_clip, summary

BOXES = {"seven": SEVEN, "three": THREE}


def score(model: PSSL, cache: ClipCache, split: str) -> tuple[Predictions, dict[str, float]]:
    """Return the errors on a split, with those of always predicting the training median.

    Returns:
        The predictions, and the mean errors: EF in points, emulated and re-simulated by the
        system at each predicted θ; EDV and ESV in percent.
    """
    indices = cache.split(split)
    got = predict_cached(model, cache, indices)
    true = cached_measurements(cache, indices)
    median = [np.median(x) for x in cached_measurements(cache, cache.split("TRAIN"))[:3]]
    again = simulate_cohort(model.forward.system, model.box, np.asarray(got.theta), phases=PHASES)
    EF_again = np.where(again.success, again.read(["EF"])["EF"], np.nan)
    return got, {
        "clips": len(indices),
        "EF_error": float(np.abs(got.EF - true.EF).mean()),
        "EF_error_resimulated": float(np.nanmean(np.abs(EF_again - true.EF))),
        "EF_error_median_predictor": float(np.abs(median[2] - true.EF).mean()),
        "EDV_error_percent": float(100 * (np.abs(got.EDV - true.EDV) / true.EDV).mean()),
        "EDV_error_percent_median_predictor": float(
            100 * (np.abs(median[0] - true.EDV) / true.EDV).mean()
        ),
        "ESV_error_percent": float(100 * (np.abs(got.ESV - true.ESV) / true.ESV).mean()),
        "failed_resimulations": int((~again.success).sum()),
    }


def draw_figures(
    run: Run, model: PSSL, cache: ClipCache, got: Predictions, data: Path, real: Path
) -> None:
    """Draw the contact sheet, scatter plots, learning curves and recovery of the parameters."""
    test = cache.split("TEST")
    frames = np.linspace(0, 15, 6).astype(int)  # one second
    rows = [("real clip\n(pydicom)", read_clip(real, model.format)[frames])]
    rows += [
        (f"EF {cache.records[i].ef:.0f}%\nEDV {cache.records[i].edv:.0f} mL", cache.clip(i)[frames])
        for i in test[:5]
    ]
    figure = Figure(figsize=(9, 9))
    plotting.contact_sheet(figure.subplots(), rows)
    run.figure("contact_sheet", figure)

    true = cached_measurements(cache, test)
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    for ax, name, unit in zip(
        figure.subplots(1, 3), got._fields[1:4], ("mL", "mL", "%"), strict=True
    ):
        plotting.agreement(ax, getattr(true, name), getattr(got, name), label=f"{name} [{unit}]")
    run.figure("scatter", figure)

    log = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    figure = Figure(figsize=(8, 3), layout="constrained")
    for ax, stage in zip(figure.subplots(1, 2), ("emulator", "encoder"), strict=True):
        plotting.learning_curve(ax, log, stage=stage)
    run.figure("learning", figure)

    if (data / "Theta.csv").exists():
        truth = read_theta(data)
        names = [cache.records[i].name for i in test]
        figure = Figure(figsize=(11, 5.5), layout="constrained")
        axes = list(figure.subplots(2, 4).flat)
        for ax, spec, column in zip(axes, model.box.specs, np.asarray(got.theta).T, strict=False):
            values = np.array([truth[Path(name).stem][spec.name] for name in names])
            plotting.recovery(ax, spec, values, column)
        for ax in axes[len(model.box.specs) :]:
            ax.axis("off")
        run.figure("parameters", figure)


def train(config: PSSLConfig, run: Run) -> dict[str, Any]:
    """Train emulator and encoder, score them and build one twin; return results.json's content.

    Raises:
        ValueError: If there are too few clips.
    """
    began = time.monotonic()
    # Check the flags first, because the work may take hours.
    if config.data is not None:
        check_splits(read_echonet(config.data))
    encoder = create_encoder(
        config.encoder,
        config.clips.format,
        len(BOXES[config.twin].names),
        key=jax.random.key(config.seed + 1),
    )
    emulator, emulator_errors = obtain_emulator(
        run.folder, BOXES[config.twin], config.emulator, seed=config.seed
    )
    data = config.data or run.folder / "phantom"
    if config.data is None:
        make_phantoms(data, LeftHeart(), SEVEN, config.clips.counts, seed=config.seed)
    dataset = read_echonet(data)
    check_splits(dataset)
    cache = decode(dataset.records, config.clips.format, run.folder / "clips")
    skipped = [*dataset.skipped, *cache.skipped]
    for clip in skipped:
        print(f"skipped {clip.name}: {clip.reason}")
    fitted = train_on_clips(
        PSSL(encoder=encoder, forward=emulator, format=config.clips.format, name=config.encoder),
        cache,
        config.training,
        folder=run.folder,
        description={"data": str(config.data or "phantom")},
        seed=config.seed,
        resume=config.resume,
    )
    model = fitted.model
    save_pssl(run.folder / "encoder", model, fitted.validation)
    got, scores = score(model, cache, "TEST")
    real = real_clip()
    draw_figures(run, model, cache, got, data, real)
    twin = build_twin(model, read_clip(real, config.clips.format), fitted.validation)
    write_twin(run, "twin_real_clip", twin, model)

    print(f"\nTwin of the real clip {real.name}:\n{summary(twin, model)}")
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
        "validation": fitted.validation,
        "test": scores,
        "training": {
            "best_step": fitted.best_step,
            "steps": fitted.steps,
            "seconds": fitted.seconds,
        },
        "skipped": [{"name": clip.name, "reason": clip.reason} for clip in skipped],
        "seconds_since_last_start": time.monotonic() - began,
    }
