"""Table of `experiments.models`, and the figure of each model."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.models.studies import STUDIES, Study
from jaxtwin import plotting
from jaxtwin.cohorts.cohort import Cohort
from jaxtwin.methods.base import Estimate
from jaxtwin.methods.scores import resimulate
from jaxtwin.methods.tasks import Curves


def markdown(results: Sequence[dict[str, Any]]) -> str:
    """Return the table as Markdown, with one row per model and method."""
    lines = [
        "| model | method | measured curve | hidden curves | θ [% of the box] | failed | s |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in results:
        study = STUDIES[result["system"]]
        for title, row in result["rows"].items():
            measured, *hidden = (
                f"{label.removeprefix('hidden ')}: {row[f'{channel}_resimulated']:.3g}"
                for channel, label in study.labels.items()
            )
            lines.append(
                f"| {result['system']} | {title} | {measured} | {', '.join(hidden)} "
                f"| {100 * row['theta']:.0f} | {row['failed']} | {row['seconds']:.0f} |"
            )
    lines += [
        "",
        "Means over unseen patients: root-mean-square error of each curve, re-simulated at the "
        "estimated parameters, against the truth without noise; θ over the parameters that are "
        "not known. Seconds: for training and all unseen patients, including compilation but not "
        "the emulator, which is trained once.",
    ]
    return "\n".join(lines)


def table(results: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    """Return the table's columns, with one row per model and method."""
    columns: dict[str, list[Any]] = {}
    for result in results:
        task = STUDIES[result["system"]].task
        labels = STUDIES[result["system"]].labels
        for method, row in result["rows"].items():
            for name, value in {
                "system": result["system"],
                "method": method,
                "channel": labels[task.channel],
                "curve": row[f"{task.channel}_resimulated"],
                "hidden_channel": labels[task.hidden[0]].removeprefix("hidden "),
                "hidden": row[f"{task.hidden[0]}_resimulated"],
                "theta": 100 * row["theta"],
                "failed": row["failed"],
                "patients": row["patients"],
                "seconds": row["seconds"],
            }.items():
                columns.setdefault(name, []).append(value)
    return columns


def draw(study: Study, estimate: Estimate, test: Curves, truth: Cohort) -> Figure:
    """Draw the curves of three twins and of their patients, and all parameters, learnt and true."""
    task = study.task
    assert estimate.recording is not None
    emulated = estimate.recording.waveforms
    assert estimate.recording is not None
    theta, again = np.asarray(estimate.theta), resimulate(task, estimate)
    true = getattr(truth.recording.waveforms, task.channel)
    error = np.sqrt(np.mean((getattr(again.recording.waveforms, task.channel) - true) ** 2, axis=1))
    order = np.argsort(np.where(again.success, error, np.inf))
    shown = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}
    free = [i for i, name in enumerate(task.box.names) if name not in task.known]
    rows = len(task.channels) + -(-len(free) // 3)
    figure = Figure(figsize=(11, 2.4 * rows), layout="constrained")
    axes = figure.subplots(rows, 3, squeeze=False)
    for column, (title, patient) in enumerate(shown.items()):
        for row, channel in enumerate(task.channels):
            ax = axes[row, column]
            plotting.curves(
                ax,
                np.arange(task.samples) / task.samples,
                {
                    "emulated": emulated[channel][patient],
                    "re-simulated": getattr(again.recording.waveforms, channel)[patient],
                },
                truth=getattr(truth.recording.waveforms, channel)[patient],
                dots=np.asarray(test.values)[patient] if row == 0 else None,
                label=study.labels[channel] if column == 0 else "",
            )
            ax.set_ylim(auto=True)
            ax.relim()
            ax.autoscale(axis="y")
        axes[0, column].set_title(f"{title} of {len(true)} unseen patients", fontsize="medium")
        axes[len(task.channels) - 1, column].set_xlabel(study.horizontal)
    axes[0, 0].legend(frameon=False, fontsize="small")
    places = list(axes[len(task.channels) :].flat)
    for ax, i in zip(places, free, strict=False):
        plotting.recovery(ax, task.box.specs[i], np.asarray(truth.theta)[:, i], theta[:, i])
    for ax in places[len(free) :]:
        ax.axis("off")
    return figure
