"""Table of `experiments.misspecification`."""

from collections.abc import Mapping
from typing import Any


def markdown(results: Mapping[str, Mapping[str, Any]], group: int) -> str:
    """Return the table as Markdown, one row per noise and kind of patients.

    Args:
        results: What was found, by noise [mL] and kind.
        group: Number of patients of a group.
    """
    lines = [
        "| noise [mL] | patients of | noticed by the predictive check | by features | by "
        f"Ferrario's rule | by MMD in groups of {group} | by the best fit | 90% intervals hold EF, "
        "work, peak pressure | in the unnoticed | left out as unusual |",
        "|---" * 10 + "|",
    ]
    for noise, rows in results.items():
        for name, row in rows.items():
            cells = [
                noise,
                name,
                *(_shown(row[key]) for key in ("predictive", "features", "rule", "groups", "fit")),
                ", ".join(_shown(x) for x in row["held"].values()),
                ", ".join(_shown(x) for x in row["held_unnoticed"].values()),
                _shown(row["unusual"]),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "All in percent; every check but Ferrario's rule has a level of 5%. In the unnoticed: in "
        "those whom the predictive check does not notice. Unusual are patients whose period, EDV "
        "or ESV hardly any patient of the left heart has.",
    ]
    return "\n".join(lines)


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f}"
