"""Verdicts on strangers and on clean clips."""

import dataclasses
import textwrap
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.strangers.clips import STRANGERS, Clean
from experiments.strangers.settings import Config
from jaxtwin import plotting
from jaxtwin.commands.run import Run
from jaxtwin.commands.settings import PSSL_PRESETS
from jaxtwin.commands.tables import write_table
from jaxtwin.commands.train import train
from jaxtwin.commands.twin import load_run
from jaxtwin.data.echonet import read_echonet
from jaxtwin.data.recording import read_recording
from jaxtwin.imaging.examples import read_labels
from jaxtwin.training.progress import progress_bar
from jaxtwin.twin.echo import EchoTwin, TwinBuilder

WRONG = 15.0  # points of EF
TRUSTED = "trusted"


def experiment(config: Config, run: Run) -> dict[str, Any]:
    """Show clean clips and strangers to the twin builder; return results.json's content.

    Raises:
        ValueError: If the training run has no twins from curves, or no clip is shown upright.
    """
    folder = config.run
    if folder is None:
        folder = run.folder / "training"
        folder.mkdir(exist_ok=True)
        settings = PSSL_PRESETS[config.preset]
        train(dataclasses.replace(settings, seed=config.seed, resume=config.resume), Run(folder))
    builder = load_run(folder)
    if not isinstance(builder, TwinBuilder):
        raise ValueError(
            f"{folder} learnt from two volumes, whose twins have no such verdict: train with "
            "--learn-from curve"
        )
    records = [
        r for r in read_echonet(folder / "phantom").split("TEST") if not read_labels(r).mirrored
    ]
    if not records:
        raise ValueError(f"no test clip of {folder} is shown upright: train with more --clips")
    rows = []
    for record in progress_bar(records, desc="clean clips", unit="clip"):
        recording = read_recording(record.path)
        found, got = builder.examine(recording, read_labels(record).pixel)
        off = np.nan if got is None else abs(float(got.readings["EF"][0]) - record.ef)
        rows.append(_row(record.name, "clean", found, off))
    shown: dict[str, EchoTwin] = {}
    chosen = records[: config.clips]
    for number, record in enumerate(progress_bar(chosen, desc="strangers", unit="clip")):
        other = records[(number + 1) % len(records)]
        clip = Clean(
            read_recording(record.path),
            read_labels(record).labels,
            read_recording(other.path),
            config.seed + number,
        )
        for name, change in STRANGERS.items():
            found, _ = builder.examine(change(clip), read_labels(record).pixel)
            rows.append(_row(record.name, name, found, np.nan))
            shown.setdefault(name, found)
    write_table(run.folder / "verdicts.csv", {name: [r[name] for r in rows] for name in rows[0]})
    draw_figure(run, shown)
    kinds = {
        name: np.array([r["verdict"] for r in rows if r["kind"] == name]) for name in STRANGERS
    }
    clean = np.array([r["verdict"] for r in rows if r["kind"] == "clean"])
    off = np.array([r["EF_error"] for r in rows if r["kind"] == "clean"])
    caught = {name: 100 * float(np.mean(found != TRUSTED)) for name, found in kinds.items()}
    trusted = clean == TRUSTED
    for name, percent in caught.items():
        print(f"{name:24}{percent:6.0f}% caught")
    results = {
        "caught_percent": float(np.mean(list(caught.values()))),
        "caught_percent_by_kind": caught,
        "false_alarm_percent": 100 * float(np.mean(~trusted)),
        "refused_clean_percent": 100 * float(np.mean(clean == "refused")),
        "trusted_and_wrong_percent": 100 * float(np.mean(trusted & (off > WRONG))),
        "EF_error_trusted": float(np.mean(off[trusted])) if trusted.any() else None,
        "clean_clips": len(clean),
        "strangers": sum(len(found) for found in kinds.values()),
    }
    print(
        f"caught {results['caught_percent']:.1f}%, false alarms "
        f"{results['false_alarm_percent']:.1f}%, trusted and more than {WRONG:g} points off "
        f"{results['trusted_and_wrong_percent']:.1f}%"
    )
    return results


def _row(name: str, kind: str, found: EchoTwin, off: float) -> dict[str, Any]:
    signs = found.verdict.signs
    return {
        "name": name,
        "kind": kind,
        "verdict": found.verdict.kind,
        "reason": found.verdict.reasons[0] if found.verdict.reasons else "",
        "strangest": max(signs, key=lambda sign: signs[sign]) if signs else "",
        "EF_error": off,
    }


def draw_figure(run: Run, shown: dict[str, EchoTwin]) -> None:
    """Draw a frame of each kind of stranger with the labels found and the verdict."""
    columns = -(-len(shown) // 2)
    figure = Figure(figsize=(2.6 * columns, 6.4), layout="constrained")
    axes = list(figure.subplots(2, columns).flat)
    for ax, (name, found) in zip(axes, shown.items(), strict=False):
        middle = len(found.measured.frames) // 3
        plotting.contours(ax, found.measured.frames[middle], found.measured.labels[middle])
        reason = found.verdict.reasons[0] if found.verdict.reasons else ""
        lines = [name, found.verdict.kind, *textwrap.wrap(reason, 36)[:3]]
        ax.set_title("\n".join(lines), fontsize=7)
    for ax in axes[len(shown) :]:
        ax.axis("off")
    run.figure("strangers", figure)
