"""Figure of `experiments.pressures`."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from experiments.pressures.answers import METHODS
from experiments.pressures.table import NUMBERS

SHOWN = ("stroke_work", "P_lv_max")
GROUPS = {
    ("rest", "no cuff"): ("laboratory, no cuff", "0.6", "."),
    ("rest", "cuff"): ("laboratory, cuff", "C0", "."),
    ("bjordalsbakke", "cuff"): ("Bjørdalsbakke's circuit, cuff", "C1", "+"),
    ("her", "cuff"): ("Her's circuit, cuff", "C2", "x"),
    ("four_chambers", "cuff"): ("four chambers, cuff", "C3", "1"),
}


def draw_agreement(tables: Mapping[tuple[str, str], Mapping[str, np.ndarray]]) -> Figure:
    """Draw estimated against true stroke work and peak pressure, one column per method."""
    figure = Figure(figsize=(3.1 * len(METHODS), 6.6), layout="constrained")
    grid = figure.subplots(len(SHOWN), len(METHODS), sharex="row", sharey="row")
    for axes, number in zip(grid, SHOWN, strict=True):
        truth = []
        for ax, (method, title) in zip(axes, METHODS.items(), strict=True):
            for (group, cuff), (label, colour, marker) in GROUPS.items():
                table = tables.get((method, cuff))
                if table is None:
                    continue
                part = (table["group"] == group) & (table["number"] == number)
                if not part.any():
                    continue
                true, got = table["true"][part], table["value"][part]
                ax.plot(true, got, marker, color=colour, ms=4, alpha=0.7, label=label)
                truth.append(true)
            if number == SHOWN[0]:
                ax.set_title(title, fontsize="medium")
            ax.set_xlabel(f"true {NUMBERS[number]}", fontsize="small")
        span = np.concatenate(truth)
        low, high = 0.9 * float(span.min()), 1.1 * float(span.max())
        for ax in axes:
            ax.plot([low, high], [low, high], color="k", lw=0.8, zorder=0)
            ax.set(xlim=(low, high), ylim=(low, high))
        axes[0].set_ylabel(f"estimated {NUMBERS[number]}", fontsize="small")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(GROUPS), fontsize="small")
    return figure
