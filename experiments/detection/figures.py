"""Figures of `experiments.detection`."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.detection.scores import SCORES, TITLES, Answers, Seen, areas_shown
from jaxtwin import plotting
from jaxtwin.analysis.detection import auroc
from jaxtwin.analysis.metrics import Interval
from jaxtwin.cohorts.cohort import Cohort
from jaxtwin.cohorts.diseases import DISEASES, HEALTHY
from jaxtwin.cohorts.simulate import simulate_cohort
from jaxtwin.commands.run import Run
from jaxtwin.models.left_heart import EIGHT, LeftHeart


def draw_figures(
    run: Run,
    rows: Sequence[Mapping[str, Any]],
    seen: Seen,
    learnt: Mapping[str, Sequence[Answers]],
    truth: np.ndarray | None,
) -> None:
    """Draw AUROCs by source, the parameters each disease changes, and mitral stenosis loops."""
    run.figure("detection", draw_areas(rows, seen))
    tables = {
        TITLES[f"twin {name}"]: cells[0].theta
        for name, cells in learnt.items()
        if cells[0].chance is None
    }
    if truth is not None:
        tables[TITLES["truth"]] = truth
    run.figure("parameters", draw_moves(seen, tables))
    if "mitral stenosis" in seen.diseases:
        run.figure("loops", draw_loops(seen, tables))


def draw_areas(rows: Sequence[Mapping[str, Any]], seen: Seen) -> Figure:
    """Draw AUROCs with one panel per disease and one row per source."""
    cells = areas_shown(rows, seen.healthy)
    names = list(dict.fromkeys(row["source"] for row in rows))
    figure = Figure(
        figsize=(3 + 3.2 * len(seen.diseases), 1 + 0.4 * len(names)), layout="constrained"
    )
    axes = figure.subplots(1, len(seen.diseases), sharey=True, squeeze=False)[0]
    nothing = Interval(np.nan, np.nan, np.nan)
    for ax, disease in zip(axes, seen.diseases, strict=True):
        groups = {
            kind: [cells.get((disease, name, kind), nothing) for name in names] for kind in SCORES
        }
        plotting.forest(ax, [TITLES[n] for n in names], groups, label="AUROC", reference=0.5)
        ax.set(title=disease, xlim=(-0.03, 1.03))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def draw_moves(seen: Seen, tables: Mapping[str, np.ndarray]) -> Figure:
    """Draw the shift of each parameter from healthy to ill: above (red) or below (blue)."""
    figure = Figure(figsize=(1.5 + 4.2 * len(tables), 2.8), layout="constrained")
    axes = figure.subplots(1, len(tables), sharey=True, squeeze=False)[0]
    healthy = seen.tested & (seen.diagnosis == seen.healthy)
    for ax, (title, theta) in zip(axes, tables.items(), strict=True):
        areas = np.zeros((len(seen.diseases), len(EIGHT.names)))
        for i, disease in enumerate(seen.diseases):
            ill = seen.tested & (seen.diagnosis == disease)
            among = ill | healthy
            for j in range(len(EIGHT.names)):
                column = theta[among, j].astype(float)
                areas[i, j] = auroc(column[None], ill[among], resamples=1).mean
        plotting.matrix(
            ax, areas, rows=seen.diseases, columns=[f"${spec.symbol}$" for spec in EIGHT.specs]
        )
        ax.set_title(title, fontsize="medium")
    return figure


def draw_loops(seen: Seen, tables: Mapping[str, np.ndarray]) -> Figure:
    """Draw mean loops with and without mitral stenosis, and the theoretical loops of one heart."""
    columns = min(1 + len(tables), 4)
    rows = -(-(1 + len(tables)) // columns)
    figure = Figure(figsize=(3.6 * columns, 3.8 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    axes: list[Axes] = list(grid.flat)[: 1 + len(tables)]
    for ax in list(grid.flat)[len(axes) :]:
        ax.axis("off")
    for ax, (title, theta) in zip(axes, tables.items(), strict=False):
        lines = {}
        for name in (seen.healthy, "mitral stenosis"):
            chosen = seen.tested & (seen.diagnosis == name)
            lines[name] = simulate_cohort(LeftHeart(), EIGHT, theta[chosen])
        _loops(ax, lines)
        ax.set_title(textwrap.fill(title, 34), fontsize="medium")
    middle = {name: (low + high) / 2 for name, (low, high) in HEALTHY.ranges.items()}
    stenosis = next(d for d in DISEASES if d.name == "mitral stenosis").ranges
    narrow = middle | {name: (low + high) / 2 for name, (low, high) in stenosis.items()}
    lines = {
        name: simulate_cohort(
            LeftHeart(), EIGHT, np.array([[heart[n] for n in EIGHT.names]], np.float32)
        )
        for name, heart in ((seen.healthy, middle), ("mitral stenosis", narrow))
    }
    _loops(axes[-1], lines)
    axes[-1].set_title("theory: one heart with a narrowed valve", fontsize="medium")
    figure.suptitle("Mean loops of unseen patients", fontsize="medium")
    lines = [line for ax in axes for line in ax.lines]
    right = max(float(np.max(line.get_xdata())) for line in lines)
    top = max(float(np.max(line.get_ydata())) for line in lines)
    axes[0].set(xlim=(0, 1.08 * right), ylim=(0, 1.3 * top))  # room for the legends
    return figure


def _loops(ax: Axes, groups: Mapping[str, Cohort]) -> None:
    lines = {}
    for name, beats in groups.items():
        beats = beats.take(beats.success)
        V_lv, P_lv, P_la = (
            np.asarray(getattr(beats.recording.waveforms, channel))
            for channel in ("V_lv", "P_lv", "P_la")
        )
        label = f"{name}, left atrium {P_la.mean():.0f} mmHg"
        lines[label] = (V_lv.mean(axis=0), P_lv.mean(axis=0))
    plotting.loops(ax, lines)
