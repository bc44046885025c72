"""Tables as CSV files."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np


def write_table(path: Path, columns: Mapping[str, Sequence | np.ndarray]) -> None:
    """Columns of one length as CSV, whole or not at all."""
    partial = path.with_suffix(".partial")
    with partial.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(columns)
        table.writerows(zip(*columns.values(), strict=True))
    partial.replace(path)


def read_table(path: Path) -> dict[str, np.ndarray]:
    """What `write_table` wrote; columns of numbers as numbers."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))

    def column(values: list[str]) -> np.ndarray:
        try:
            return np.array(values, float)
        except ValueError:
            return np.array(values)

    return {name: column([row[name] for row in rows]) for name in rows[0]}
