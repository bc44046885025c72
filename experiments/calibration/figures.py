"""Figures of `experiments.calibration`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.calibration.table import METHODS
from jaxtwin import plotting
from jaxtwin.commands.run import Run
from jaxtwin.commands.tables import read_table
from jaxtwin.inference.calibration import LEVELS


def draw_calibration(run: Run, results: Mapping[str, Any]) -> None:
    """Draw the coverage of every parameter, reading and waveform at every level."""
    shown = list(results.items())
    columns = min(len(shown), 4)
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(3.1 * columns, 3.1 * rows), layout="constrained")
    axes = np.atleast_1d(figure.subplots(rows, columns, sharex=True, sharey=True)).ravel()
    for ax, (_, told) in zip(axes, shown, strict=False):
        case = told["case"]
        held = {name: np.array(one["coverage"]) for name, one in told["calibration"].items()}
        plotting.coverage(ax, LEVELS, held, patients=told["patients"])
        period = "known" if case["known"] else "unknown"
        gaps = f", {100 * case['missing']:.0f}% missing" if case["missing"] else ""
        ax.set_title(
            f"{METHODS[case['method']]}\n{case['noise']:g} mL, period {period}{gaps}", fontsize=8
        )
    for ax in axes[len(shown) :]:
        ax.axis("off")
    run.figure("calibration", figure)


def draw_ranks(run: Run, folder: Path) -> None:
    """Draw histograms of the ranks of the truth among the draws."""
    placed = read_table(folder / "ranks.csv")
    columns = 5
    rows = -(-len(placed) // columns)
    figure = Figure(figsize=(2.2 * columns, 1.6 * rows), layout="constrained")
    axes = np.atleast_1d(figure.subplots(rows, columns, sharex=True, sharey=True)).ravel()
    for ax, (name, rank) in zip(axes, placed.items(), strict=False):
        plotting.rank_histogram(ax, rank)
        ax.set_title(name, fontsize=8)
    for ax in axes[len(placed) :]:
        ax.axis("off")
    figure.supxlabel("rank of the truth among the draws", fontsize=9)
    figure.supylabel("share of patients, relative to uniform", fontsize=9)
    run.figure("ranks", figure)
