"""The figure of the series: a panel each, on logarithmic axes of one scale."""

from collections.abc import Sequence

import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.growth.measure import SIZES, Series

MEASURED = {"color": "C0", "marker": "o", "ms": 5, "lw": 1.5, "zorder": 3}
LINEAR = {"color": "0.45", "ls": "--", "lw": 1.2}
CONSTANT = {"color": "0.45", "ls": ":", "lw": 1.6}


def draw(found: Sequence[Series]) -> Figure:
    """Draw the four series."""
    figure = Figure(figsize=(7.2, 6.2), layout="constrained")
    shown = {}
    for ax, series in zip(figure.subplots(2, 2).flat, found, strict=True):
        panel(ax, series)
        shown |= {str(line.get_label()): line for line in ax.get_lines()}
    figure.legend(
        list(shown.values()), list(shown), loc="outside lower center", ncols=3, frameon=False
    )
    return figure


def panel(ax: Axes, series: Series) -> None:
    """Draw the durations of one series, and how they would grow if every unit cost the same."""
    sizes, seconds = np.array(series.sizes), np.array(series.seconds)
    ax.plot(sizes, seconds, label="measured", **MEASURED)
    if series.kind == "devices":  # Virtual ones, of the same cores.
        ax.plot(sizes, np.full(len(sizes), seconds[0]), label="as on one device", **CONSTANT)
    else:
        linear = seconds[-1] * sizes / sizes[-1]
        ax.plot(sizes, linear, label="linear growth, through the largest size", **LINEAR)
    beats = "all beats" if series.kind == "patients" else f"{series.patients[0]:,} beats"
    ax.set(
        xscale="log",
        yscale="log",
        xlabel=SIZES[series.kind].name,
        ylabel=f"time of {beats}",
    )
    ax.set_title(series.kind.capitalize(), fontsize="medium", fontweight="bold", loc="left")
    ax.xaxis.set_major_locator(ticker.FixedLocator(list(sizes)))
    ax.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,.0f}"))
    ax.xaxis.set_minor_locator(ticker.NullLocator())
    narrow = seconds.max() < 100 * seconds.min()
    ax.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5) if narrow else (1,)))
    ax.yaxis.set_major_formatter(ticker.EngFormatter("s"))
    ax.yaxis.set_minor_locator(ticker.NullLocator())
    ax.set_aspect("equal", adjustable="datalim")
    ax.grid(color="0.92", lw=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
