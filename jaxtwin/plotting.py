"""Functions that draw figures of arrays on given axes."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib import ticker
from matplotlib.axes import Axes
from scipy import stats

from jaxtwin.analysis.reliability import Reliability
from jaxtwin.parameters import ParameterSpec

Series = Float[np.ndarray, " n"]


def pressure_volume_loop(
    ax: Axes,
    V_lv: Series,
    P_lv: Series,
    *,
    E_max: float,
    E_min: float,
    V_d: float,
) -> None:
    """Draw a pressure-volume loop with its end-systolic and end-diastolic elastance lines.

    Args:
        ax: Axes to draw on.
        V_lv: Left-ventricular volume over the beat [mL].
        P_lv: Left-ventricular pressure [mmHg].
        E_max: Slope of the end-systolic line [mmHg/mL].
        E_min: Slope of the end-diastolic line [mmHg/mL].
        V_d: Volume at which both lines meet the axis [mL].
    """
    right, top = 1.15 * V_lv.max(), 1.2 * P_lv.max()
    volume = np.array([V_d, right])
    ax.plot(volume, E_max * (volume - V_d), "--", color="0.6", lw=1, label="$E_{max}$")
    ax.plot(volume, E_min * (volume - V_d), ":", color="0.6", lw=1, label="$E_{min}$")
    ax.plot(np.append(V_lv, V_lv[0]), np.append(P_lv, P_lv[0]), color="C3", lw=2)
    ax.set(
        xlim=(0, right),
        ylim=(0, top),
        xlabel="left-ventricular volume [mL]",
        ylabel="left-ventricular pressure [mmHg]",
    )
    ax.legend(frameon=False, loc="upper right")


def loop_draws(
    ax: Axes,
    V_lv: Float[np.ndarray, "draw phase"],
    P_lv: Float[np.ndarray, "draw phase"],
    *,
    shown: int = 60,
) -> None:
    """Draw pressure-volume loops of a posterior, [mL] and [mmHg], as thin lines."""
    for volume, pressure in zip(V_lv[:shown], P_lv[:shown], strict=True):
        closed = (np.append(x, x[0]) for x in (volume, pressure))
        ax.plot(*closed, color="C3", lw=0.6, alpha=0.15, zorder=1)


def band(ax: Axes, times: Series, draws: Float[np.ndarray, "draw time"], *, colour: str) -> None:
    """Fill the central 90% of a posterior's curves at each time."""
    low, high = np.nanquantile(draws, (0.05, 0.95), axis=0)
    ax.fill_between(times, low, high, color=colour, alpha=0.15, lw=0)


def pressure_traces(ax: Axes, times: Series, pressures: Mapping[str, Series]) -> None:
    """Draw pressures [mmHg] over two beats, labelled by name; `times` [s] are those of one beat."""
    for name, pressure in pressures.items():
        both = np.concatenate([pressure[:-1], pressure])
        ax.plot(np.concatenate([times[:-1], times[-1] + times]), both, lw=1.5, label=name)
    top = 1.25 * max(pressure.max() for pressure in pressures.values())  # room for the legend
    ax.set(xlabel="time [s]", ylabel="pressure [mmHg]", xlim=(0, 2 * times[-1]), ylim=(0, top))
    ax.legend(frameon=False, loc="upper right", ncols=len(pressures))


def volume_trace(ax: Axes, times: Series, V_lv: Series) -> None:
    """Draw left-ventricular volume [mL] over two beats; `times` [s] are those of one beat."""
    both = np.concatenate([V_lv[:-1], V_lv])
    ax.plot(np.concatenate([times[:-1], times[-1] + times]), both, color="C3", lw=1.5)
    ax.set(
        xlabel="time [s]",
        ylabel="left-ventricular\nvolume [mL]",
        xlim=(0, 2 * times[-1]),
        ylim=(0, 1.1 * V_lv.max()),
    )


def agreement(ax: Axes, true: Series, got: Series, *, label: str) -> None:
    """Draw predicted against measured values, with the line of identity and the mean error."""
    low, high = min(true.min(), got.min()), max(true.max(), got.max())
    ax.plot([low, high], [low, high], color="0.6", lw=1)
    ax.plot(true, got, ".", color="C0", alpha=0.5, mec="none")
    error = np.abs(got - true).mean()
    ax.set(xlabel=f"measured {label}", ylabel=f"predicted {label}", aspect="equal")
    ax.set_title(f"mean error {error:.2g}, n = {len(true)}", fontsize="medium")


def recovery(
    ax: Axes, spec: ParameterSpec, true: Series, got: Series, *, logarithmic: bool = False
) -> None:
    """Draw learnt against true values of a parameter over its box, with the rank correlation.

    Args:
        ax: Axes to draw on.
        spec: The parameter, with the bounds of the box.
        true: True values.
        got: Learnt values.
        logarithmic: Whether the box scales this parameter by its logarithm, as the axes then do.
    """
    correlation, _ = stats.spearmanr(true, got)
    box = np.asarray(spec.bounds)
    ax.plot(box, box, color="0.6", lw=1)
    ax.plot(true, got, ".", color="C0", alpha=0.5, mec="none")
    if logarithmic:
        ax.set(xscale="log", yscale="log")
        for axis in (ax.xaxis, ax.yaxis):
            # A decade in a small panel has room for three numbers, many have room for powers of 10.
            subs = (1, 2, 5) if box[1] < 40 * box[0] else (1,)
            axis.set_major_locator(ticker.LogLocator(subs=subs))
            axis.set_major_formatter(ticker.FormatStrFormatter("%g"))
            axis.set_minor_formatter(ticker.NullFormatter())
    ax.set(xlim=box, ylim=box, xlabel=f"true {spec.label}", ylabel="learnt")
    ax.set_title(f"rank correlation {correlation:.2f}", fontsize="medium")


def learning_curve(ax: Axes, rows: Sequence[Mapping[str, float]], *, stage: str) -> None:
    """Draw training and validation loss of a stage over its steps, from the rows of the log."""
    rows = [row for row in rows if row["stage"] == stage]
    steps = [row["step"] for row in rows]
    ax.plot(steps, [row["train_loss"] for row in rows], label="training")
    ax.plot(steps, [row["loss"] for row in rows], label="validation")
    ax.set(xlabel="step", ylabel="loss", yscale="log", title=stage)
    ax.legend(frameon=False)


def contact_sheet(
    ax: Axes, rows: Sequence[tuple[str, UInt8[np.ndarray, "frame height width"]]]
) -> None:
    """Draw clips as rows of frames, each with a title; all frames have the same size."""
    height = rows[0][1].shape[1]
    ax.imshow(np.concatenate([np.concatenate(list(clip), axis=1) for _, clip in rows]), "gray")
    ax.set_yticks([height * (i + 0.5) for i in range(len(rows))], [title for title, _ in rows])
    ax.set_xticks([])
    ax.tick_params(length=0)
    for side in ax.spines.values():
        side.set_visible(False)


def intervals(
    ax: Axes,
    names: Sequence[str],
    values: Sequence[tuple[float, float, float]],
    *,
    label: str,
    references: Mapping[str, float],
) -> None:
    """Draw means with their intervals (mean, low, high), one row per name, and reference lines."""
    places = np.arange(len(names))[::-1]
    mean, low, high = np.array(values).T
    ax.errorbar(mean, places, xerr=[mean - low, high - mean], fmt="o", color="C0", capsize=3)
    for i, (name, value) in enumerate(references.items()):
        style = ("--", ":", "-.")[i % 3]
        ax.axvline(value, color="0.6", lw=1, ls=style, label=f"{name}: {value:g}")
    if references:
        ax.legend(frameon=False, fontsize="small")
    ax.set_yticks(places, names)
    ax.set(xlabel=label, xlim=(0, None), ylim=(-0.6, len(names) - 0.4))


def boxes(ax: Axes, groups: Mapping[str, Series], *, label: str, log: bool) -> None:
    """Draw box plots of the patients' values, one row per group; whiskers span 90% of them."""
    places = np.arange(len(groups))[::-1]
    ax.boxplot(
        list(groups.values()),
        positions=places,
        orientation="horizontal",
        widths=0.6,
        whis=(5, 95),
        flierprops={"markersize": 2},
        medianprops={"color": "C3"},
    )
    ax.set_yticks(places, list(groups), fontsize="small")
    if log:
        ax.set_xscale("log")
        # A few patients with accidentally tiny errors would stretch the axis by decades.
        left = min(float(np.percentile(values, 5)) for values in groups.values())
        if left > 0:
            ax.set_xlim(left=0.5 * left)
    else:
        ax.set_xlim(0, None)
    ax.set_xlabel(label)


def curves(
    ax: Axes,
    phases: Series,
    lines: Mapping[str, Series],
    *,
    truth: Series,
    dots: Series | None,
    label: str,
) -> None:
    """Draw curves over one beat with the truth and, if given, the measured samples as dots."""
    ax.plot(phases, truth, color="k", lw=2.5, alpha=0.4, label="truth")
    if dots is not None:
        ax.plot(phases, dots, ".", color="k", ms=4, label="measured")
    for name, line in lines.items():
        ax.plot(phases, line, lw=1.2, label=name)
    ax.set(ylabel=label, xlim=(0, 1), ylim=(0, None))


def distributions(
    ax: Axes,
    spec: ParameterSpec,
    groups: Mapping[str, Series],
    *,
    truth: Mapping[str, Series] | None,
    prior: Series,
) -> None:
    """Draw the density of one parameter over its box for several groups of patients.

    Filled histograms show the learnt values, lines the true values of the same patients, and grey
    the prior.
    """
    low, high = np.asarray(spec.bounds)
    bins = list(np.linspace(low, high, 21))
    ax.hist(prior, bins, density=True, color="0.85", label="prior")
    for i, (name, values) in enumerate(groups.items()):
        ax.hist(values, bins, density=True, color=f"C{i}", alpha=0.5, label=f"{name}, learnt")
    for i, (name, values) in enumerate((truth or {}).items()):
        ax.hist(
            values,
            bins,
            density=True,
            histtype="step",
            color=f"C{i}",
            lw=1.5,
            label=f"{name}, truth",
        )
    ax.set(xlabel=spec.label, xlim=spec.bounds, yticks=[])


def forest(
    ax: Axes,
    names: Sequence[str],
    groups: Mapping[str, Sequence[tuple[float, float, float]]],
    *,
    label: str,
    reference: float = 0.0,
) -> None:
    """Draw values with their intervals (mean, low, high), one row per name, by group.

    A grey line marks the reference value, which means no effect.
    """
    places = np.arange(len(names))[::-1]
    for i, (group, values) in enumerate(groups.items()):
        mean, low, high = np.array(values).T
        shift = 0.6 * ((len(groups) - 1) / 2 - i) / max(len(groups), 1)
        ax.errorbar(
            mean,
            places + shift,
            xerr=np.maximum([mean - low, high - mean], 0),  # negative only by rounding
            fmt="o",
            ms=4,
            capsize=2,
            label=group,
        )
    ax.axvline(reference, color="0.6", lw=1)
    ax.set_yticks(places, names)
    ax.set(xlabel=label, ylim=(-0.6, len(names) - 0.4))


def matrix(
    ax: Axes,
    values: Float[np.ndarray, "row column"],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
) -> None:
    """Draw areas under ROC curves as colours, white at chance (0.5), with their values."""
    ax.imshow(values, cmap="RdBu_r", vmin=0, vmax=1, aspect="auto")
    for (i, j), value in np.ndenumerate(values):
        colour = "white" if abs(value - 0.5) > 0.35 else "black"
        ax.text(j, i, f"{value:.2f}", ha="center", va="center", color=colour, fontsize="small")
    ax.set_xticks(np.arange(len(columns)), columns)
    ax.set_yticks(np.arange(len(rows)), rows)


def loops(
    ax: Axes, curves: Mapping[str, tuple[Series, Series]], *, colours: Sequence[str] | None = None
) -> None:
    """Draw closed pressure-volume loops by name: volumes [mL] and pressures [mmHg] over a beat."""
    for i, (name, (V_lv, P_lv)) in enumerate(curves.items()):
        colour = f"C{i}" if colours is None else colours[i]
        ax.plot(
            np.append(V_lv, V_lv[0]), np.append(P_lv, P_lv[0]), color=colour, lw=1.5, label=name
        )
    ax.set(
        xlim=(0, None),
        ylim=(0, None),
        xlabel="left-ventricular volume [mL]",
        ylabel="left-ventricular pressure [mmHg]",
    )
    ax.legend(frameon=False, fontsize="small")


def sweep(
    ax: Axes,
    speeds: Series,
    lines: Mapping[str, Series],
    *,
    marks: Mapping[str, float],
    label: str,
) -> None:
    """Draw quantities over a pump's speed [rpm], with vertical lines at chosen speeds."""
    for name, values in lines.items():
        ax.plot(speeds, values, lw=1.5, label=name)
    for i, (name, speed) in enumerate(marks.items()):
        if np.isfinite(speed):
            ax.axvline(speed, color="0.5", lw=1, ls=("-", ":", "--")[i % 3], label=name)
    ax.axhline(0.0, color="0.8", lw=0.8)
    ax.set(xlabel="pump speed [rpm]", ylabel=label, xlim=(speeds[0], speeds[-1]))
    # Opaque, since the marks may cross it.
    ax.legend(fontsize="small", framealpha=1, edgecolor="none")


def contours(
    ax: Axes,
    frame: UInt8[np.ndarray, "height width"],
    found: UInt8[np.ndarray, "height width"],
    true: UInt8[np.ndarray, "height width"] | None = None,
) -> None:
    """Draw a frame with the outlines of cavity, myocardium and atrium; a true cavity is dashed."""
    ax.imshow(frame, cmap="gray", vmin=0, vmax=255)
    for label, colour in ((2, "C2"), (3, "C1"), (1, "C0")):
        if (found == label).any():
            ax.contour(found == label, [0.5], colors=colour, linewidths=1.0)
    if true is not None and (true == 1).any():
        ax.contour(true == 1, [0.5], colors="yellow", linewidths=0.8, linestyles="--")
    ax.axis("off")


def volume_curve(ax: Axes, times: Series, volume: Series, unit: str = "mL") -> None:
    """Draw a measured volume over the times [s] of the frames."""
    ax.plot(times, volume, color="C0", lw=1)
    ax.set(xlabel="time [s]", ylabel=f"volume [{unit}]", ylim=(0, None))


def coverage(
    ax: Axes, levels: Series, held: Mapping[str, Series], *, patients: int, named: int = 3
) -> None:
    """Draw the share of truths within central intervals against the intervals' level.

    A grey band shows where 95% of calibrated methods would be.

    Args:
        ax: Axes to draw on.
        levels: Levels of the intervals.
        held: Share of the patients whose truth is within, by name.
        patients: Number of patients, which determines the width of the band.
        named: Number of names in the legend: those farthest from the diagonal.
    """
    low, high = stats.binom.interval(0.95, patients, levels)
    ax.fill_between(levels, low / patients, high / patients, color="0.85", lw=0)
    ax.plot([0, 1], [0, 1], color="0.6", lw=0.8)
    off = {name: float(np.abs(share - levels).max()) for name, share in held.items()}
    farthest = sorted(off, key=lambda name: -off[name])[:named]
    for name, share in held.items():
        if name not in farthest:
            ax.plot(levels, share, color="C0", lw=0.7, alpha=0.6)
    for i, name in enumerate(farthest):
        ax.plot(levels, held[name], color=f"C{i + 1}", lw=1.2, label=name)
    ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="level of the interval", ylabel="truths within")
    ax.legend(frameon=False, fontsize=7, loc="upper left")


def rank_histogram(ax: Axes, ranks: Series, *, bins: int = 20) -> None:
    """Draw a histogram of ranks from 0 to 1, with the band of 95% of uniform ones."""
    counts, edges = np.histogram(ranks, bins=bins, range=(0, 1))
    expected = len(ranks) / bins
    low, high = stats.binom.interval(0.95, len(ranks), 1 / bins)
    ax.axhspan(low / expected, high / expected, color="0.85", lw=0)
    ax.stairs(counts / expected, edges, fill=True, color="C0", alpha=0.7)
    ax.set(xlim=(0, 1), ylim=(0, 2))


def reliability_diagram(ax: Axes, diagrams: Mapping[str, Reliability], *, fewest: int = 10) -> None:
    """Draw the observed share of an event against its predicted probability, by name.

    Bars are the intervals of the shares; calibrated probabilities are on the grey diagonal.

    Args:
        ax: Axes to draw on.
        diagrams: Reliability diagrams, by name.
        fewest: Number of patients below which a bin is drawn pale, and not joined to the others.
    """
    ax.plot([0, 1], [0, 1], color="0.7", lw=1)
    for i, (name, one) in enumerate(diagrams.items()):
        bars = np.maximum([one.observed - one.low, one.high - one.observed], 0)
        for some, alpha, line in (
            (one.patients >= fewest, 1.0, 1.2),
            (one.patients < fewest, 0.25, 0),
        ):
            ax.errorbar(
                one.predicted[some],
                one.observed[some],
                bars[:, some],
                marker="os^D"[i % 4],
                color=f"C{i}",
                alpha=alpha,
                ms=4,
                lw=line,
                elinewidth=0.8,
                label=name if line else None,
            )
    ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))


def reliability_counts(ax: Axes, diagrams: Mapping[str, Reliability]) -> None:
    """Draw the number of patients in each bin of `reliability_diagram`, on a logarithmic axis."""
    for i, one in enumerate(diagrams.values()):
        ax.stairs(one.patients, one.edges, color=f"C{i}", lw=1.2)
    ax.set(yscale="log", ylim=(0.7, None))


def decision_curves(
    ax: Axes,
    thresholds: Series,
    lines: Mapping[str, Series],
    references: Mapping[str, Series],
) -> None:
    """Draw net benefit relative to the prevalence over threshold probabilities.

    Args:
        ax: Axes to draw on.
        thresholds: Threshold probabilities.
        lines: Net benefit of each strategy, by name.
        references: The same of strategies that look at nobody, drawn dashed in grey.
    """
    for i, (name, line) in enumerate(references.items()):
        ax.plot(thresholds, line, color=("0.4", "0.7")[i % 2], ls="--", lw=1.2, label=name)
    for i, (name, line) in enumerate(lines.items()):
        ax.plot(thresholds, line, color=f"C{i}", lw=1.2, label=name)
    ax.set(xlim=(0, thresholds[-1]), ylim=(-0.1, 1.02))


def shares(
    ax: Axes,
    values: Float[np.ndarray, "row column"],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
) -> None:
    """Draw shares from 0 to 1 as colours, those of 0.05 or more with their values."""
    ax.imshow(values, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (i, j), value in np.ndenumerate(values):
        if value >= 0.05:
            colour = "white" if value > 0.6 else "black"
            ax.text(j, i, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=7)
    ax.set_xticks(np.arange(len(columns)), columns)
    ax.set_yticks(np.arange(len(rows)), rows)
