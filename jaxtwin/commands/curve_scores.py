"""Scores and figures of twins learnt from volume curves."""

import json
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from jaxtwin import plotting
from jaxtwin.cohorts.simulate import simulate_cohort
from jaxtwin.commands.emulator import PHASES
from jaxtwin.commands.run import Run
from jaxtwin.data.echonet import Record
from jaxtwin.data.recording import read_recording
from jaxtwin.imaging.calibration import turned
from jaxtwin.imaging.examples import read_labels
from jaxtwin.imaging.segmenter import thinned
from jaxtwin.inference.calibration import Calibration, calibrate
from jaxtwin.methods.clips import VOLUMES
from jaxtwin.methods.tasks import CurveTask
from jaxtwin.parameters import Box
from jaxtwin.twin.echo import TwinBuilder, as_curves, estimate, periods
from jaxtwin.twin.measurements import ClipMeasurements
from jaxtwin.twin.phantoms import Phantoms

Scores: TypeAlias = dict[str, float | int | None]
WRONG = 15.0  # points of EF
PRESSURES = ("systolic", "diastolic", "P_la_mean")


def score_labels(
    builder: TwinBuilder,
    measured: ClipMeasurements,
    records: Sequence[Record],
    scaled: bool = False,
) -> Scores:
    """Compare twins of unseen clips with the labelled volumes.

    Args:
        builder: What makes the twins.
        measured: What the networks see in the clips.
        records: The clips.
        scaled: Whether the size of a pixel is known.

    Returns:
        Mean errors over the clips with a curve: EF in points, emulated, re-simulated and of the
        curve itself; EDV and ESV in percent; rank correlations with the labels; fractions of all
        clips that are trusted or refused, and that are trusted although EF is more than 15 points
        off. None where there is nothing to average.
    """
    kept = measured.found(scaled, periods(builder.learnt.task))
    clips = measured.take(kept)
    true = _labels(records, kept)
    counts: Scores = {"clips": len(records), "without_curve": int((~kept).sum())}
    if not kept.any():
        return counts
    curves = clips.curves(builder.calibrations[0 if scaled else 1], scaled)
    got, task = estimate(builder.learnt, curves), builder.learnt.task
    assert got.theta is not None and got.misfit is not None
    again = simulate_cohort(task.system, task.box, np.asarray(got.theta), phases=PHASES)
    EF_again = np.where(again.success, again.read(["EF"])["EF"], np.nan)
    off = np.abs(got.readings["EF"] - true["EF"])
    verdicts = builder.verdicts(
        clips.observations(), clips.curve_features(scaled), curves, got.misfit
    )
    kinds = np.array([verdict.kind for verdict in verdicts])
    trusted, n = kinds == "trusted", len(records)
    return counts | {
        "EF_error": float(off.mean()),
        "EF_error_resimulated": float(np.nanmean(np.abs(EF_again - true["EF"]))),
        "EF_error_of_curve": float(np.abs([c.EF for c in curves] - true["EF"]).mean()),
        "EF_error_median_predictor": float(np.abs(np.median(true["EF"]) - true["EF"]).mean()),
        **{
            f"{name}_error_percent": percent_off(got.readings[name], true[name])
            for name in ("EDV", "ESV")
        },
        **{f"rank_{name}": rank(got.readings[name], true[name]) for name in VOLUMES},
        "trusted": float(trusted.sum() / n),
        "refused": float(((kinds == "refused").sum() + (~kept).sum()) / n),
        "EF_error_trusted": float(off[trusted].mean()) if trusted.any() else None,
        "trusted_and_wrong": float((trusted & (off > WRONG)).sum() / n),
        "failed_resimulations": int((~again.success).sum()),
    }


def score_posteriors(
    builder: TwinBuilder, test: Phantoms, drawn: Box, *, scaled: bool = True, draws: int = 500
) -> dict[str, Calibration]:
    """Measure the calibration of the posteriors of unseen phantoms.

    Args:
        builder: What makes the twins.
        test: The clips.
        drawn: Box that the patients were drawn from.
        scaled: Whether the size of a pixel is known.
        draws: Number of draws per clip, of which a fifth is simulated.

    Returns:
        The calibration of each unknown parameter that the phantoms' patients have, and of each
        reading; empty if fewer than ten clips have a curve.
    """
    task = builder.learnt.task
    clips = test.take(test.measured.found(scaled, periods(task)))
    if len(clips.theta) < 10:
        return {}
    which = 0 if scaled else 1
    curves = as_curves(task, clips.measured.curves(builder.calibrations[which], scaled))
    posterior = builder.posteriors[which].posterior(curves, draws=draws)
    predicted = posterior.simulate(draws=draws // 5)
    good = posterior.success & predicted.success.all(axis=1)
    true = simulate_cohort(task.system, drawn, clips.theta, phases=PHASES).read()
    true |= dict(zip(drawn.names, clips.theta.T, strict=True))
    found = {n: x for n, x in posterior.parameters().items() if n not in task.known}
    return {
        name: calibrate(
            x[good].astype(float), np.asarray(true[name], float)[good], builder.before[name]
        )
        # The period of a reading is that of the measurement.
        for name, x in {**found, **predicted.readings}.items()
        if name in true and np.ptp(x[good], axis=1).max() > 0
    }


def score_phantoms(
    builder: TwinBuilder, test: Phantoms, records: Sequence[Record], drawn: Box
) -> Scores:
    """Compare twins of unseen phantoms with the truth.

    Args:
        builder: What makes the twins.
        test: The clips.
        records: Their records.
        drawn: Box that the patients were drawn from.

    Returns:
        The scores of `score_labels` where the size of a pixel is known; the error of the calibrated
        volume curve relative to EDV [%], and that of its shape, after division by its own EDV; the
        error of EDV where the size is not known, and that of the period [%]; the rank correlation
        of each parameter; and the mean error of each pressure that no clip shows [mmHg], without
        and with a cuff, beside that of the patients' median.
    """
    scores = score_labels(builder, test.measured, records, True)
    task = builder.learnt.task
    kept = test.measured.found(True, periods(task))
    if not kept.any():
        return scores
    clips, true = test.take(kept), _labels(records, kept)
    unscaled = clips.measured.curves(builder.calibrations[1], False)
    curves = clips.measured.curves(builder.calibrations[0], True)
    theta, with_cuff = (
        np.asarray(estimate(builder.learnt, curves, beside).theta)
        for beside in ({}, clips.vitals(seed=0))
    )
    EDV = np.array([curve.EDV for curve in unscaled])
    measured, exact = np.array([curve.volume for curve in curves]), turned(clips.volumes)
    largest = exact.max(axis=1, keepdims=True)
    off = np.abs(measured - exact) / largest
    off_shape = np.abs(measured / measured.max(axis=1, keepdims=True) - exact / largest)
    columns = zip(task.box.names, theta.T, strict=True)
    return scores | {
        "curve_error_percent": float(100 * off.mean()),
        "curve_shape_error_percent": float(100 * off_shape.mean()),
        "EDV_error_percent_without_scale": percent_off(EDV, true["EDV"]),
        "period_error_percent": percent_off(clips.measured.period, clips.period),
        **{f"rank_{n}": rank(x, clips.theta[:, drawn.names.index(n)]) for n, x in columns},
        **_pressure_errors(task, theta, with_cuff, drawn, clips.theta),
    }


def _pressure_errors(
    task: CurveTask, theta: np.ndarray, with_cuff: np.ndarray, drawn: Box, truth: np.ndarray
) -> dict[str, float]:
    """Compare the simulated pressures of estimated and true parameters."""
    found, better, true = (
        simulate_cohort(task.system, box, table, phases=PHASES)
        for box, table in ((task.box, theta), (task.box, with_cuff), (drawn, truth))
    )
    all_good, errors = found.success & better.success & true.success, {}
    for name in PRESSURES:
        a, b, c = (np.asarray(x.read([name])[name])[all_good] for x in (found, better, true))
        errors[f"{name}_error"] = float(np.abs(a - c).mean())
        errors[f"{name}_error_with_cuff"] = float(np.abs(b - c).mean())
        errors[f"{name}_error_median_predictor"] = float(np.abs(np.median(c) - c).mean())
    return errors


def rank(found: np.ndarray, true: np.ndarray) -> float | None:
    """Return Spearman's rank correlation; None for fewer than three values or equal ones."""
    if len(found) < 3 or np.ptp(found) == 0 or np.ptp(true) == 0:
        return None
    return float(spearmanr(found, true)[0])  # pyright: ignore[reportArgumentType]


def percent_off(found: np.ndarray, true: np.ndarray) -> float:
    """Return the mean relative error [%]."""
    return float(100 * np.abs(found / true - 1).mean())


def _labels(records: Sequence[Record], kept: Bool[np.ndarray, " clip"]) -> dict[str, np.ndarray]:
    chosen = [record for record, k in zip(records, kept, strict=True) if k]
    return {name: np.array([getattr(r, name.lower()) for r in chosen]) for name in VOLUMES}


def draw_figures(
    run: Run, builder: TwinBuilder, test: Phantoms, records: Sequence[Record], drawn: Box
) -> None:
    """Draw outlines in unseen phantoms, scatter plots, learning curves and parameters."""
    shown = records[:6]
    figure = Figure(figsize=(10, 1.9 * len(shown)), layout="constrained")
    grid = figure.subplots(len(shown), 5, width_ratios=(1, 1, 1, 1, 2), squeeze=False)
    for axes, record in zip(grid, shown, strict=True):
        labels = read_labels(record)
        found = builder.segmenter.measure(thinned(read_recording(record.path)), labels.pixel)
        times = np.arange(record.frames) / record.fps
        for ax, k in zip(axes[:4], np.linspace(0, min(len(found.frames) - 1, 24), 4), strict=True):
            frame = int(np.argmin(np.abs(times - found.times[int(k)])))
            plotting.contours(ax, found.frames[int(k)], found.labels[int(k)], labels.labels[frame])
        plotting.volume_curve(axes[4], found.times, found.shape.volume)
        axes[4].set_title(f"EF {record.ef:.0f}%, EDV {record.edv:.0f} mL", fontsize=8)
    run.figure("segmentation", figure)

    task = builder.learnt.task
    kept = test.measured.found(True, periods(task))
    if kept.any():
        clips, labels = test.take(kept), _labels(records, kept)
        got = estimate(builder.learnt, clips.measured.curves(builder.calibrations[0], True))
        assert got.theta is not None
        readings = task.system.readings()
        figure = Figure(figsize=(10, 3.6), layout="constrained")
        for ax, name in zip(figure.subplots(1, 3), VOLUMES, strict=True):
            label = f"{name} [{readings[name].unit}]"
            plotting.agreement(ax, labels[name], got.readings[name], label=label)
        run.figure("scatter", figure)
        columns = -(-len(task.box.names) // 2)
        figure = Figure(figsize=(2.75 * columns, 5.5), layout="constrained")
        axes = list(figure.subplots(2, columns).flat)
        for ax, spec, found in zip(axes, task.box.specs, np.asarray(got.theta).T, strict=False):
            true = clips.theta[:, drawn.names.index(spec.name)]
            logarithmic = spec.name in task.box.logarithmic
            plotting.recovery(ax, spec, true, found, logarithmic=logarithmic)
        for ax in axes[len(task.box.specs) :]:
            ax.axis("off")
        run.figure("parameters", figure)

    log = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    figure = Figure(figsize=(10, 3), layout="constrained")
    for ax, stage in zip(figure.subplots(1, 3), ("emulator", "segmentation", "pssl"), strict=True):
        plotting.learning_curve(ax, log, stage=stage)
    run.figure("learning", figure)
