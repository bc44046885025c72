"""Table of `experiments.methods`: its cells and their summary."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.methods.compared import MEASURED, METHODS
from jaxtwin.analysis.metrics import mean_over_seeds
from jaxtwin.commands.tables import read_table

# Error of the volume curve above which an estimate counts as failed [mL].
LOST = 20.0


class Cell(NamedTuple):
    """One cell of the table."""

    method: str
    noise: float
    known: bool
    seed: int
    measured: str = "complete"

    @property
    def name(self) -> str:
        """Name of the cell's folder."""
        period = "known" if self.known else "unknown"
        measured = "" if self.measured == "complete" else f"-{self.measured}"
        return f"{self.method}-noise{self.noise:g}-{period}{measured}-{self.seed}"

    @property
    def group(self) -> tuple[str, float, bool, str]:
        """The cell without its seed."""
        return (self.method, self.noise, self.known, self.measured)


COLUMNS = {
    "EF_error": "EF [points]",
    "EF_resimulated": "EF re-simulated",
    "V_lv_error": "V_lv [mL]",
    "V_lv_resimulated": "V_lv re-simulated",
    "P_lv_error": "P_lv [mmHg]",
    "P_lv_resimulated": "P_lv re-simulated",
    "P_ao_resimulated": "P_ao re-simulated",
    "theta": "θ [% of the box]",
    "log_score": "log score [nat]",
    "held90": "90% intervals hold [%]",
    "width90": "their width [% of the prior's]",
}
PERCENT = ("theta", "held90", "width90")


# Errors that are also compared with those of one method, patient by patient.
PAIRED = ("EF_error", "EF_resimulated", "P_lv_resimulated")
BESIDE = "pssl"


def summarise(cells: Sequence[Cell], folder: Path) -> list[dict[str, Any]]:
    """Return one row per method, noise, period and measurement, over the patients of all seeds."""
    found = groups(cells)
    return [_row(group, found.get((BESIDE, *key[1:]), []), folder) for key, group in found.items()]


def groups(cells: Sequence[Cell]) -> dict[tuple[str, float, bool, str], list[Cell]]:
    """Group cells by all but the seed: complete ones first, by period (known first) and noise."""
    order, found = list(MEASURED), {}
    for cell in sorted(cells, key=lambda c: (order.index(c.measured), not c.known, c.noise)):
        found.setdefault(cell.group, []).append(cell)
    return found


def scores_of(cells: Sequence[Cell], folder: Path) -> list[dict[str, np.ndarray]]:
    """Return the patients' errors of each cell."""
    return [read_table(folder / "cells" / cell.name / "scores.csv") for cell in cells]


def _row(cells: Sequence[Cell], beside: Sequence[Cell], folder: Path) -> dict[str, Any]:
    tables = scores_of(cells, folder)
    others = scores_of(beside, folder)
    facts = [
        json.loads((folder / "cells" / cell.name / "result.json").read_text()) for cell in cells
    ]
    row: dict[str, Any] = {
        "period": "known" if cells[0].known else "unknown",
        "noise": cells[0].noise,
        "measured": MEASURED[cells[0].measured].title,
        "method": METHODS[cells[0].method].title,
        "seeds": len(cells),
        "patients": sum(len(table["EF_error"]) for table in tables),
    }
    for name in COLUMNS:
        if name not in tables[0]:
            row |= {name: None, f"{name}_low": None, f"{name}_high": None}
            continue
        scale = 100 if name in PERCENT else 1
        values = [scale * table[name] for table in tables]
        mean, low, high = mean_over_seeds(values, same_patients=False)
        row |= {name: mean, f"{name}_low": low, f"{name}_high": high}
    for name in PAIRED:
        columns = [f"{name}_beside", f"{name}_beside_low", f"{name}_beside_high"]
        row |= dict.fromkeys(columns)
        if others and cells[0].method != BESIDE and name in tables[0] and name in others[0]:
            # The same patients, measured with the same noise.
            values = [a[name] - b[name] for a, b in zip(tables, others, strict=True)]
            row |= zip(columns, mean_over_seeds(values, same_patients=False), strict=True)
    judged = [name for name in ("V_lv_resimulated", "V_lv_error") if name in tables[0]]
    if judged:
        curves = np.concatenate([table[judged[0]] for table in tables])
        row["failures"] = int(np.sum(~(curves <= LOST)))  # NaN counts as failed.
    else:
        row["failures"] = sum(fact["failed"] for fact in facts)
    for name in ("steps", "training_seconds", "seconds"):
        row[name] = float(np.median([fact[name] for fact in facts]))
    return row


def middle(cells: Sequence[Cell]) -> float:
    """Return the middle noise level, at which figures are drawn."""
    noises = sorted({cell.noise for cell in cells})
    return noises[len(noises) // 2]


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the table as Markdown, with one block per noise, period and measurement."""
    lines = []
    kinds = ("period", "noise", "measured")
    for kind in dict.fromkeys(tuple(row[name] for name in kinds) for row in rows):
        period, noise, measured = kind
        lines += [
            f"Noise {noise:g} mL, heart period {period}, {measured}:",
            "",
            f"| method | {' | '.join(COLUMNS.values())} | failures | steps | s for all patients |",
            "|---" * (len(COLUMNS) + 4) + "|",
        ]
        for row in rows:
            if tuple(row[name] for name in kinds) != kind:
                continue
            values = [
                "–"
                if row[name] is None
                else f"{row[name]:.2f} [{row[f'{name}_low']:.2f}, {row[f'{name}_high']:.2f}]"
                for name in COLUMNS
            ]
            lines.append(
                f"| {row['method']} | {' | '.join(values)} "
                f"| {row['failures']} of {row['patients']} "
                f"| {format(row['steps'], ',.0f') if row['steps'] else '–'} "
                f"| {row['seconds']:.1f} |"
            )
        lines.append("")
    lines.append(
        "Means over the patients of all seeds of absolute errors (EF, θ) and root-mean-square "
        "errors (curves), with 95% bootstrap intervals over seeds and their patients. Patients "
        "without an estimate are excluded and count as failures, as do patients whose volume "
        f"curve (re-simulated, if the method estimates parameters) is more than {LOST:g} mL from "
        "the truth. θ, intervals and widths: over the parameters that are not known. Log score: "
        "logarithm of posterior over prior density at the true parameters. Steps: training steps, "
        "of the posterior on its own simulations, of the others on the cohort. Seconds: median "
        "over seeds of the time for training and all patients of a seed, including compilation but "
        "not the emulator, which is trained once."
    )
    return "\n".join(lines)
