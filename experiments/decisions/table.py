"""Tables of `experiments.decisions`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.decisions.scores import PROBABILITIES, SCORES, STRATEGIES

Rows = Sequence[Mapping[str, Any]]


def markdown(areas: Rows, reliable: Rows, costs: Rows) -> str:
    """Return all tables as Markdown."""
    parts = [_areas(areas), _reliability(reliable), _costs(costs)]
    return "\n\n".join("\n".join(part) for part in parts)


def _areas(rows: Rows) -> list[str]:
    diseases = list(dict.fromkeys(row["disease"] for row in rows))
    lines = [f"| seen in | score | {' | '.join(diseases)} |", "|---" * (2 + len(diseases)) + "|"]
    for case in dict.fromkeys(row["case"] for row in rows):
        for score, title in SCORES.items():
            own = {r["disease"]: r for r in rows if (r["case"], r["score"]) == (case, score)}
            if own:
                cells = [_interval(own[disease], "AUROC", "low", "high", 3) for disease in diseases]
                lines.append(f"| {case} | {title} | {' | '.join(cells)} |")
    counts = {
        row["case"]: f"{row['case']}: {row['patients']} ({row['ill']} of them with "
        f"{row['disease']}), {row['without']} more without a posterior, seeds: {row['seeds']}"
        for row in rows
    }
    return [
        *lines,
        "",
        "AUROC against everyone else on unseen patients, with 95% bootstrap intervals over "
        f"patients and seeds. Unseen patients: {'; '.join(counts.values())}.",
    ]


def _reliability(rows: Rows) -> list[str]:
    lines = [
        "| seen in | disease | probability | ill [%] | mean probability [%] | Brier score "
        "| of the share alone | calibration error | bins that hold | patients |",
        "|---" * 10 + "|",
    ]
    for row in rows:
        without = f" ({row['without']} without)" if row["without"] else ""
        cells = [row["case"], row["disease"], PROBABILITIES[row["probability"]]]
        cells += [f"{100 * row['share']:.1f}", f"{100 * row['mean']:.1f}"]
        cells += [f"{row[n]:.4f}" for n in ("brier", "brier_of_share", "calibration_error")]
        cells += [f"{row['bins_within']:.1f} of {row['bins']:.1f}", f"{row['patients']}{without}"]
        lines.append(f"| {' | '.join(cells)} |")
    return [
        *lines,
        "",
        "Means over seeds. *Ill*: patients whose parameter is beyond its healthy range. *Bins that "
        "hold*: bins, of ten tenths, in which the mean probability is within Wilson's 95% interval "
        "of the share of the ill, of those with patients.",
    ]


def _costs(rows: Rows) -> list[str]:
    lines = [
        "| seen in | disease | k | strategy | cost | less that of the twin's best threshold "
        "| missed [%] | false alarms [%] |",
        "|---" * 8 + "|",
    ]
    for row in rows:
        cells = [row["case"], row["disease"], f"{row['k']:g}", STRATEGIES[row["strategy"]]]
        cells.append(_interval(row, "cost", "low", "high", 3))
        cells.append(_interval(row, "less", "less_low", "less_high", 3, "+"))
        cells += [f"{100 * row['missed']:.1f}", f"{100 * row['alarms']:.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return [
        *lines,
        "",
        "Cost in false alarms per patient, if a missed patient costs k of them; means over seeds "
        "with 95% bootstrap intervals over patients and seeds. The best thresholds are those with "
        "the lowest cost in other patients, whose diagnoses are known.",
    ]


def _interval(
    row: Mapping[str, Any], mean: str, low: str, high: str, digits: int, sign: str = ""
) -> str:
    values = np.round([row[name] for name in (mean, low, high)], digits) + 0.0
    texts = [f"{value:{sign}.{digits}f}" for value in values]
    return f"{texts[0]} [{texts[1]}, {texts[2]}]" if np.isfinite(values[1]) else texts[0]
