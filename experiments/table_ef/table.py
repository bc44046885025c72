"""Table and figure of `experiments.table_ef`."""

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from experiments.table_ef.compared import TITLES
from jaxtwin import plotting
from jaxtwin.analysis.metrics import Interval, mean_over_seeds
from jaxtwin.cohorts.simulate import simulate_cohort
from jaxtwin.commands.run import Run, origin
from jaxtwin.commands.tables import read_table, write_table
from jaxtwin.data.cache import ClipCache
from jaxtwin.data.echonet import Skipped
from jaxtwin.methods.clips import VOLUMES, Clips
from jaxtwin.models.left_heart import SEVEN, LeftHeart

# Method with which the EF errors of the others are compared.
BESIDE = "supervised"
# Errors on the real test sets as published, under other budgets and on other machines.
PUBLISHED: dict[str, dict[str, float]] = {
    "echonet": {
        "R(2+1)D, Ouyang et al. 2020": 4.1,
        "CoReEcho, Maani et al. 2024": 3.9,
    },
    "camus": {"U-Net, Leclerc et al. 2019": 5.6},
}


class DataSet(NamedTuple):
    """Decoded clips of one data set.

    Attributes:
        name: "phantom", "echonet" or "camus".
        cache: The clips.
        patients: Patient of each clip. Predictions for clips of the same patient are averaged.
        skipped: Clips that could not be used.
    """

    name: str
    cache: ClipCache
    patients: tuple[str, ...]
    skipped: tuple[Skipped, ...]


COLUMNS: dict[str, Callable[[dict[str, np.ndarray]], np.ndarray]] = {
    "EF": lambda t: np.abs(t["EF"] - t["EF_true"]),
    "EF_resimulated": lambda t: np.abs(t["EF_resimulated"] - t["EF_true"]),
    "EDV": lambda t: np.abs(t["EDV"] - t["EDV_true"]),
    "ESV": lambda t: np.abs(t["ESV"] - t["ESV_true"]),
}
"""Absolute errors of each patient: EF in points, volumes in mL."""


def write_cell(
    folder: Path,
    data: DataSet,
    readings: Mapping[str, np.ndarray],
    theta: np.ndarray | None,
    facts: Mapping[str, Any],
) -> None:
    """Write one method's predictions for the test clips.

    Args:
        folder: Folder of the cell.
        data: The clips.
        readings: Estimated `VOLUMES` of the test clips.
        theta: Estimated parameters, if the method gives any; they are simulated again.
        facts: What else is known about the cell.
    """
    test = Clips.from_split(data.cache, "TEST")
    true = test.measured()
    columns: dict[str, Any] = {
        "patient": [data.patients[i] for i in test.indices],
        "clip": [record.name for record in test.records],
        **{f"{name}_true": true[name] for name in VOLUMES},
        **{name: readings[name] for name in VOLUMES},
    }
    if theta is not None:
        again = simulate_cohort(LeftHeart(), SEVEN, theta)
        columns["EF_resimulated"] = np.where(again.success, again.read(["EF"])["EF"], np.nan)
        columns |= dict(zip(SEVEN.names, theta.T, strict=True))
    write_table(folder / "predictions.csv", columns)
    Run(folder).json("result", {**facts, **origin()})


def by_patient(patients: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the mean over each patient's clips, with patients in alphabetical order."""
    names, place = np.unique(patients, return_inverse=True)
    return np.bincount(place, values, len(names)) / np.bincount(place, minlength=len(names))


def errors(predictions: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the absolute errors of each patient, after averaging predictions over clips."""
    patients = predictions["patient"]
    mean = {
        name: by_patient(patients, values)
        for name, values in predictions.items()
        if values.dtype.kind == "f"
    }
    wanted = {name: f for name, f in COLUMNS.items() if name in mean}
    return {name: f(mean) for name, f in wanted.items()}


def summarise(
    methods: Sequence[str], seeds: int, run: Run, sets: Sequence[DataSet]
) -> list[dict[str, Any]]:
    """Return one row per data set and method: means over patients and seeds, with intervals."""
    rows = []
    for data in sets:
        seen: dict[str, list[dict[str, np.ndarray]]] = {}
        for method in methods:
            found, facts = [], []
            for seed in range(seeds):
                folder = run.folder / "cells" / data.name / f"{method}-{seed}"
                if (folder / "result.json").exists():
                    found.append(errors(read_table(folder / "predictions.csv")))
                    facts.append(json.loads((folder / "result.json").read_text()))
            if found:
                seen[method] = found
                rows.append(_row(data, method, found, facts))
        cache, test = data.cache, data.cache.split("TEST")
        training = Clips.from_split(cache, "TRAIN").measured()
        true = Clips(cache, test).measured()
        guess = {
            "patient": np.array([data.patients[i] for i in test]),
            **{f"{name}_true": true[name] for name in VOLUMES},
            **{name: np.full(len(test), np.median(training[name])) for name in VOLUMES},
        }
        seen["median"] = [errors(guess)]
        rows.append(_row(data, "median", seen["median"], []))
        for method, row in zip(seen, rows[-len(seen) :], strict=True):
            columns = ("EF_beside", "EF_beside_low", "EF_beside_high")
            row |= dict.fromkeys(columns)
            if method != BESIDE and BESIDE in seen:
                row |= zip(columns, _difference(seen[method], seen[BESIDE]), strict=True)
    return rows


def EF_errors(
    run: Run, methods: Sequence[str], seeds: int, clips: Sequence[str]
) -> dict[str, float]:
    """Return each method's EF error on some of the phantom clips, the mean over the seeds."""
    found: dict[str, list[float]] = {}
    for method, seed in itertools.product(methods, range(seeds)):
        table = read_table(run.folder / "cells" / "phantom" / f"{method}-{seed}/predictions.csv")
        kept = np.isin(table["clip"], list(clips))
        off = np.abs(table["EF"] - table["EF_true"])[kept]
        found.setdefault(TITLES[method], []).append(float(off.mean()))
    return {title: float(np.mean(errors)) for title, errors in found.items()}


def _difference(
    found: list[dict[str, np.ndarray]], others: list[dict[str, np.ndarray]]
) -> Interval:
    """Return the difference of two methods' EF errors, paired by patient.

    Seeds are paired too, so that the interval includes the spread of both methods.
    """
    pairs = range(max(len(found), len(others)))
    differences = [found[i % len(found)]["EF"] - others[i % len(others)]["EF"] for i in pairs]
    return mean_over_seeds(differences, same_patients=True)


def _row(
    data: DataSet, method: str, found: list[dict[str, np.ndarray]], facts: list[dict[str, Any]]
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "data": data.name,
        "method": TITLES.get(method, "predicting the median"),
        "seeds": len(found),
        "patients": len(found[0]["EF"]),
    }
    for name in COLUMNS:
        if name not in found[0]:
            row |= {name: None, f"{name}_low": None, f"{name}_high": None, f"{name}_seeds": None}
            continue
        mean, low, high = mean_over_seeds([f[name] for f in found], same_patients=True)
        spread = float(np.std([f[name].mean() for f in found], ddof=1)) if len(found) > 1 else None
        row |= {name: mean, f"{name}_low": low, f"{name}_high": high, f"{name}_seeds": spread}
    row["clips_seen"] = int(np.mean([f["clips_seen"] for f in facts])) if facts else 0
    row["training_minutes"] = (
        float(np.mean([f["training_seconds"] for f in facts])) / 60 if facts else 0.0
    )
    return row


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the table as Markdown, with published figures as additional rows."""
    lines = [
        "| data | method | EF error [points] | re-simulated | EDV [mL] | ESV [mL] "
        f"| EF error less that of {TITLES[BESIDE]} | seeds | clips seen | minutes |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for data in dict.fromkeys(row["data"] for row in rows):
        for row in rows:
            if row["data"] != data:
                continue
            cells = [_cell(row, name) for name in COLUMNS]
            learnt = bool(row["clips_seen"])
            lines.append(
                f"| {data} (n = {row['patients']}) | {row['method']} | {' | '.join(cells)} "
                f"| {_beside(row)} "
                f"| {row['seeds'] if learnt else '–'} "
                f"| {format(row['clips_seen'], ',') if learnt else '–'} "
                f"| {format(row['training_minutes'], '.1f') if learnt else '–'} |"
            )
        for title, error in PUBLISHED.get(data, {}).items():
            lines.append(
                f"| {data} | *{title} (published)* | {error} | – | – | – | – | – | – | – |"
            )
    lines.append("")
    lines.append(
        "Mean absolute errors on unseen patients, ± standard deviation over seeds, with the 95% "
        "bootstrap interval over patients and seeds in brackets. Differences are between "
        "predictions for the same patients."
    )
    return "\n".join(lines)


def _cell(row: Mapping[str, Any], name: str) -> str:
    if row[name] is None:
        return "–"
    spread = "" if row[f"{name}_seeds"] is None else f" ± {row[f'{name}_seeds']:.2f}"
    return f"{row[name]:.2f}{spread} [{row[f'{name}_low']:.2f}, {row[f'{name}_high']:.2f}]"


def _beside(row: Mapping[str, Any]) -> str:
    if row["EF_beside"] is None:
        return "–"
    return f"{row['EF_beside']:+.2f} [{row['EF_beside_low']:+.2f}, {row['EF_beside_high']:+.2f}]"


def draw(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw EF errors with their intervals, with one panel per data set."""
    names = list(dict.fromkeys(row["data"] for row in rows))
    height = 1.2 + 0.45 * max(sum(row["data"] == n for row in rows) for n in names)
    figure = Figure(figsize=(1.5 + 5 * len(names), height), layout="constrained")
    for ax, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        chosen = [row for row in rows if row["data"] == name]
        plotting.intervals(
            ax,
            [row["method"] for row in chosen],
            [Interval(row["EF"], row["EF_low"], row["EF_high"]) for row in chosen],
            label="EF error [points]",
            references=PUBLISHED.get(name, {}),
        )
        ax.set_title(f"{name}, {chosen[0]['patients']} unseen patients", fontsize="medium")
    return figure


def write_tables(run: Run, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the table as CSV and Markdown, and the figure as PNG."""
    write_table(run.folder / "table_ef.csv", {k: [row[k] for row in rows] for k in rows[0]})
    (run.folder / "table_ef.md").write_text(markdown(rows) + "\n")
    run.written += [run.folder / "table_ef.csv", run.folder / "table_ef.md"]
    run.figure("table_ef", draw(rows))
