"""Figure of `experiments.pressures`."""

from collections.abc import Mapping
from typing import Any

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
    """Draw estimated against true stroke work and peak pressure, one column per method.

    Args:
        tables: Estimates by method and cuff, one row per group, number and patient.
    """
    figure = Figure(figsize=(3.1 * len(METHODS), 6.6), layout="constrained")
    grid = figure.subplots(len(SHOWN), len(METHODS), sharex="row", sharey="row")
    for axes, number in zip(grid, SHOWN, strict=True):

        def shown(method: str, group: str, cuff: str, number: str = number) -> np.ndarray:
            table = tables.get((method, cuff))
            if table is None:
                return np.zeros((2, 0))
            part = (table["group"] == group) & (table["number"] == number)
            return np.stack([table["true"][part], table["value"][part]])

        truth = np.concatenate([shown(method, *key)[0] for method in METHODS for key in GROUPS])
        low, high = 0.9 * float(truth.min()), 1.1 * float(truth.max())
        for ax, (method, title) in zip(axes, METHODS.items(), strict=True):
            ax.plot([low, high], [low, high], color="k", lw=0.8, zorder=0)
            for key, (label, colour, marker) in GROUPS.items():
                true, got = shown(method, *key)
                got = got.clip(low, high)  # Estimates beyond the frame are on its border.
                look: dict[str, Any] = {"color": colour, "ms": 4, "alpha": 0.7, "clip_on": False}
                ax.plot(true, got, marker, label=label, **look)
            if number == SHOWN[0]:
                ax.set_title(title, fontsize="medium")
            ax.set_xlabel(f"true {NUMBERS[number]}", fontsize="small")
            ax.set(xlim=(low, high), ylim=(low, high))
        axes[0].set_ylabel(f"estimated {NUMBERS[number]}", fontsize="small")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(GROUPS), fontsize="small")
    return figure
