"""Reading and writing of tables as CSV files."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np


def write_table(path: Path, columns: Mapping[str, Sequence | np.ndarray]) -> None:
    """Write columns of equal length as CSV, atomically."""
    partial = path.with_suffix(".partial")
    with partial.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(columns)
        table.writerows(zip(*columns.values(), strict=True))
    partial.replace(path)


def read_table(path: Path) -> dict[str, np.ndarray]:
    """Read a table written by `write_table`; numeric columns become numbers."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))

    def column(values: list[str]) -> np.ndarray:
        try:
            return np.array(values, float)
        except ValueError:
            return np.array(values)

    return {name: column([row[name] for row in rows]) for name in rows[0]}
