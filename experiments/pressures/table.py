"""Tables of `experiments.pressures`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from experiments.pressures.answers import METHODS

TITLES = {**METHODS, "median": "everybody gets the median"}
NUMBERS = {
    "stroke_work": "stroke work [mmHg·mL]",
    "P_lv_max": "peak LV pressure [mmHg]",
    "E_max": "E_max [mmHg/mL]",
    "reserve": "contractile reserve",
    "output": "cardiac output [L/min]",
}
GROUPS = {
    "rest": "a laboratory's patients at rest",
    "stress": "the same under dobutamine",
    "reserve": "dobutamine against rest",
    "bjordalsbakke": "patients of Bjørdalsbakke's circuit",
    "her": "patients of Her's circuit",
    "four_chambers": "patients of four chambers",
}
SHOWN = ("stroke_work", "P_lv_max", "E_max", "reserve")
PUBLISHED = (
    "Published: this shortcut against catheters, stroke work r 0.95, bias −549 ± 774 mmHg·mL "
    "(humans, 2026), r 0.98 (dogs, 2025)."
)
BIKIA = {
    ("cuff, period", "E_max"): "17%, r 0.37",
    ("cuff, EF, period", "E_max"): "7.0%, r 0.92",
    ("cuff, period", "output"): "7.6%, r 0.96",
}
"""Errors of Bikia et al. 2020 in 4,018 simulated patients, as shares of the range. They had the
pulse-wave velocity, too."""


def score(
    true: Float[np.ndarray, " patient"],
    got: Float[np.ndarray, " patient"],
    low: Float[np.ndarray, " patient"],
    high: Float[np.ndarray, " patient"],
) -> dict[str, Any]:
    """Compare estimates with the truth.

    Args:
        true: True numbers.
        got: Estimates; NaN where there is none.
        low: Lower ends of central 90% intervals; NaN if the method gives none.
        high: Their upper ends.

    Returns:
        Number of patients and of failures, mean absolute error, also in percent of the mean truth,
        bias, standard deviation of the error, root-mean-square error in percent of the truth's
        range, correlation, and the percentage of the intervals that hold the truth; None where it
        is not defined.
    """
    good = np.isfinite(got)
    found: dict[str, Any] = {"patients": len(true), "failed": int(np.sum(~good))}
    names = ("mae", "mae_percent", "bias", "sd", "rmse_range_percent", "r", "hold90_percent")
    if good.sum() < 2:
        return found | dict.fromkeys(names)
    x, y = true[good], got[good]
    error, scale = y - x, np.abs(x).mean()
    ends = np.isfinite(low[good]) & np.isfinite(high[good])
    held = (low[good] <= x) & (x <= high[good])
    values = (
        np.abs(error).mean(),
        100 * np.abs(error).mean() / scale,
        error.mean(),
        error.std(ddof=1),
        100 * np.sqrt(np.mean(error**2)) / np.ptp(x),
        np.corrcoef(x, y)[0, 1] if np.ptp(y) > 1e-9 * np.abs(y).max() else None,
        100 * held[ends].mean() if ends.any() else None,
    )
    return found | {
        name: None if value is None else float(value)
        for name, value in zip(names, values, strict=True)
    }


def summarise(
    tables: Mapping[tuple[str, str], Mapping[str, np.ndarray]],
) -> list[dict[str, Any]]:
    """Return one row per group, number, cuff and method.

    Args:
        tables: Estimates by method and cuff, one row per group, number and patient.
    """
    rows = []
    for group in GROUPS:
        for number in NUMBERS:
            for (method, cuff), table in tables.items():
                part = (table["group"] == group) & (table["number"] == number)
                true = table["true"][part]
                if not part.any() or not np.isfinite(true).all():
                    continue
                found = score(true, *(table[key][part] for key in ("value", "low", "high")))
                head = {"group": group, "number": number, "method": method, "cuff": cuff}
                rows.append(head | found)
    return rows


def main_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the comparison of all methods as Markdown, one table per number."""
    lines = []
    for number in SHOWN:
        lines += [
            f"**{NUMBERS[number]}**",
            "",
            "| patients | method | measured beside the curve | mean absolute error | of the mean "
            "| bias ± SD | r | 90% intervals hold | failed |",
            "|---" * 9 + "|",
        ]
        for row in rows:
            if row["number"] != number:
                continue
            nothing = "period" if row["method"] != "median" else "–"
            cells = [
                GROUPS[row["group"]],
                TITLES[row["method"]],
                "period, cuff" if row["cuff"] == "cuff" else nothing,
                _digits(number, row["mae"]),
                _shown(row["mae_percent"], ".0f", "%"),
                f"{_digits(number, row['bias'])} ± {_digits(number, row['sd'])}",
                _shown(row["r"], ".2f"),
                _shown(row["hold90_percent"], ".0f", "%"),
                f"{row['failed']} of {row['patients']}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join([*lines, PUBLISHED])


def in_silico_table(
    tables: Mapping[str, Mapping[str, np.ndarray]],
) -> tuple[list[dict[str, Any]], str]:
    """Return E_max and cardiac output from less and more, as rows and as Markdown.

    Args:
        tables: Estimates by what is measured, one row per number and patient.
    """
    rows = []
    lines = [
        "| measured | number | RMS error, of the range | r | 90% intervals hold | "
        "Bikia et al. 2020 |",
        "|---" * 6 + "|",
    ]
    for measured, table in tables.items():
        for number in ("E_max", "output"):
            part = table["number"] == number
            keys = ("true", "value", "low", "high")
            found = score(*(table[key][part] for key in keys))
            rows.append({"measured": measured, "number": number} | found)
            cells = [
                measured,
                NUMBERS[number],
                _shown(found["rmse_range_percent"], ".1f", "%"),
                _shown(found["r"], ".2f"),
                _shown(found["hold90_percent"], ".0f", "%"),
                BIKIA.get((measured, number), "–"),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return rows, "\n".join(lines)


def left_out_table(told: Mapping[str, Mapping[str, int]]) -> str:
    """Return how many patients of other circuits were left out, and why, as Markdown."""
    names = list(next(iter(told.values())))
    lines = [f"| circuit | {' | '.join(names)} |", "|---" * (1 + len(names)) + "|"]
    lines += [
        f"| {circuit} | {' | '.join(str(one[name]) for name in names)} |"
        for circuit, one in told.items()
    ]
    return "\n".join(lines)


def _digits(number: str, value: float | None) -> str:
    """Return a value with the digits that its number deserves."""
    digits = {"stroke_work": ".0f", "P_lv_max": ".1f"}.get(number, ".2f")
    return _shown(value, digits).replace("-", "−")


def _shown(value: float | None, digits: str, unit: str = "") -> str:
    return "–" if value is None else f"{value:{digits}}{unit}"
