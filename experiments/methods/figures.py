"""Figures of `experiments.methods`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.methods.compared import METHODS, SAMPLES
from experiments.methods.table import Cell, groups, middle, scores_of
from jaxtwin import plotting
from jaxtwin.commands.emulator import CHANNELS
from jaxtwin.commands.tables import read_table


def draw_boxes(cells: Sequence[Cell], folder: Path) -> Figure:
    """Draw box plots of the patients' errors at the middle noise, period known and unknown."""
    noise = middle(cells)
    shown = {
        key: scores_of(group, folder)
        for key, group in groups(cells).items()
        if key[1] == noise and key[3] == "complete" and not METHODS[key[0]].once
    }
    panels = (
        ("EF_error", "EF error [points]"),
        ("V_lv_error", "V_lv error [mL]"),
        ("P_lv_resimulated", "hidden P_lv, re-simulated [mmHg]"),
        ("theta", "θ error [share of the box]"),
    )
    figure = Figure(figsize=(12, 1.5 + 0.4 * len(shown)), layout="constrained")
    for ax, (name, label) in zip(figure.subplots(2, 2).flat, panels, strict=True):
        lines = {}
        # Known and unknown period of one method are adjacent.
        for method in dict.fromkeys(key[0] for key in shown):
            for known, words in ((True, ""), (False, ", period unknown")):
                tables = shown.get((method, noise, known, "complete"), [])
                if tables and name in tables[0]:
                    values = np.concatenate([table[name] for table in tables])
                    lines[METHODS[method].title + words] = values[np.isfinite(values)]
        plotting.boxes(ax, lines, label=f"{label}, noise {noise:g} mL", log=name != "theta")
    return figure


def draw_examples(cells: Sequence[Cell], folder: Path, truth: Any) -> Figure | None:
    """Draw the patients with the smallest and the largest error of the PINN, if it is included.

    Args:
        cells: Cells of the table, all finished.
        folder: The run's folder.
        truth: Waveforms of the first seed's unseen patients.

    Returns:
        The figure, or None if there is no method to show.
    """
    left_out = ("supervised", "box_middle")
    places = {
        group[0].method: folder / "cells" / group[0].name
        for (method, noise, known, measured), group in groups(cells).items()
        if known and noise == middle(cells) and measured == "complete"
        if not (METHODS[method].once or method in left_out)
    }
    if not places:
        return None
    judge = "pinn" if "pinn" in places else next(iter(places))
    found = {m: np.load(place / "curves.npz") for m, place in places.items()}
    scores = read_table(places[judge] / "scores.csv")
    order = np.argsort(scores.get("V_lv_resimulated", scores["V_lv_error"]))
    figure = Figure(figsize=(11, 7), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True)
    for column, (patient, title) in enumerate(((order[0], "best"), (order[-1], "worst"))):
        for ax, channel, label in zip(
            axes[:, column], CHANNELS, ("V_lv [mL]", "hidden P_lv [mmHg]"), strict=False
        ):
            lines = {}
            for method, curves in found.items():
                # Re-simulated at the estimated parameters, if the method estimates any. A method
                # without this channel keeps its colour.
                names = [name for name in (f"{channel}_resimulated", channel) if name in curves]
                line = curves[names[0]][patient] if names else np.full(SAMPLES, np.nan)
                lines[METHODS[method].title] = line
            plotting.curves(
                ax,
                np.arange(SAMPLES) / SAMPLES,
                lines,
                truth=getattr(truth, channel)[patient],
                dots=found[judge]["measured"][patient] if channel == "V_lv" else None,
                label=label,
            )
        axes[0, column].set_title(f"{title} of the patients of the {METHODS[judge].title}")
        axes[1, column].set_xlabel("phase of the beat")
    axes[0, 0].legend(frameon=False, fontsize="small")
    return figure
