"""Table of `experiments.detection`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.detection.scores import EVERYONE, SCORES, TITLES, Seen, areas_shown
from jaxtwin.analysis.detection import FEWEST
from jaxtwin.analysis.metrics import Interval
from jaxtwin.commands.run import Run
from jaxtwin.commands.tables import write_table


def markdown(rows: Sequence[Mapping[str, Any]], seen: Seen) -> str:
    """Return the table as Markdown."""
    cells = areas_shown(rows, seen.healthy)
    less = {
        (row["disease"], row["source"]): Interval(
            row["less_EF"], row["less_EF_low"], row["less_EF_high"]
        )
        for row in rows
        if row["score"] == "told" and row["against"] == EVERYONE
    }
    lines = [
        f"| disease | seen in | {' | '.join(SCORES)} | told, less EF's |",
        "|---|---|---|---|---|---|---|",
    ]
    names = list(dict.fromkeys(row["source"] for row in rows))
    for disease in seen.diseases:
        ill = int(np.sum(seen.diagnosis[seen.tested] == disease))
        for name in names:
            texts = [_cell(cells.get((disease, name, kind))) for kind in SCORES]
            texts.append(_cell(less.get((disease, name)), sign="+"))
            lines.append(f"| {disease} (n = {ill}) | {TITLES[name]} | {' | '.join(texts)} |")
    n = int(np.sum(seen.tested))
    lines += [
        "",
        f"AUROC on {n} unseen clips with 95% bootstrap intervals over patients and seeds; 0.5 is "
        "chance. *Its parameter*: the value that the disease changes, if there is one: the "
        "circuit's parameter, EF, or the cuff's systolic pressure; of a posterior, the probability "
        "that the parameter is beyond its healthy range. *Outlier*: distance from the "
        "bulk, for the ill against the healthy. *Group*: a cluster found without labels, matched "
        "to the disease by other patients' diagnoses. *Told*: a classifier trained on other "
        "patients' diagnoses; the last column is its area minus that of EF on the same patients. "
        "All scores but the outliers are for the ill against everyone else. No interval is given "
        f"for fewer than {FEWEST} ill patients.",
    ]
    return "\n".join(lines)


def _cell(area: Interval | None, *, sign: str = "") -> str:
    if area is None or not np.isfinite(area.mean):
        return "–"
    mean, low, high = np.round(area, 2) + 0.0  # Adding 0 turns -0 into 0.
    bounds = f" [{low:{sign}.2f}, {high:{sign}.2f}]" if np.isfinite(low) else ""
    return f"{mean:{sign}.2f}{bounds}"


def write_scores(run: Run, rows: Sequence[Mapping[str, Any]], seen: Seen) -> str:
    """Write the table as CSV and Markdown; return the Markdown."""
    write_table(run.folder / "detection.csv", {k: [row[k] for row in rows] for k in rows[0]})
    table = markdown(rows, seen)
    (run.folder / "detection.md").write_text(table + "\n")
    run.written += [run.folder / "detection.csv", run.folder / "detection.md"]
    return table
