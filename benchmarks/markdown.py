"""Rows of a benchmark as a Markdown table."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def cell(value: Any) -> str:
    """Return a value as text: numbers to four digits with separators, "–" for None."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{float(f'{value:.4g}'):,.9g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def line(cells: Iterable[str]) -> str:
    """Return one line of a table."""
    return f"| {' | '.join(cells)} |"


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a table whose columns are those of the first row."""
    names = list(rows[0])
    return "\n".join(
        [line(names), "|---" * len(names) + "|"]
        + [line(cell(row.get(name)) for name in names) for row in rows]
    )
