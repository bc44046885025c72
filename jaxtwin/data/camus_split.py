"""Splits of CAMUS: random, from a table, or from the official lists."""

import csv
from pathlib import Path

import numpy as np

from jaxtwin.data.echonet import SPLITS

# Names of the official patient lists in the folder `database_split`; one patient per line.
OFFICIAL_LISTS = dict(zip(SPLITS, ("training", "validation", "testing"), strict=True))


def draw_split(patients: list[str], seed: int) -> dict[str, str]:
    """Draw a split: a tenth TEST, a tenth VAL, the rest TRAIN; at least one each of three."""
    tenth = min(max(1, round(len(patients) / 10)), (len(patients) - 1) // 2)
    order = np.random.default_rng(seed).permutation(len(patients))
    names = ["TRAIN"] * len(patients)
    for place, patient in enumerate(order[: 2 * tenth].tolist()):
        names[patient] = "TEST" if place < tenth else "VAL"
    return dict(zip(patients, names, strict=True))


def read_split(path: Path, patients: list[str]) -> dict[str, str]:
    """Read each patient's split from a table or from the folder of official lists."""
    splits: dict[str, str] = {}
    for patient, split in _official_rows(path) if path.is_dir() else _table_rows(path):
        if patient in splits:
            raise ValueError(f"{path} lists {patient} twice: expected each patient in one split")
        if split.upper() not in SPLITS:
            raise ValueError(
                f"{path}: {patient} is in split {split!r}: expected {', '.join(SPLITS)}"
            )
        splits[patient] = split.upper()
    for problem, names in (
        ("lists patients that are not in the data set", set(splits) - set(patients)),
        ("lacks patients of the data set", set(patients) - set(splits)),
    ):
        if names:
            some = ", ".join(sorted(names)[:5]) + (", ..." if len(names) > 5 else "")
            raise ValueError(
                f"{path} {problem} ({len(names)}: {some}): expected each patient exactly once"
            )
    return {patient: splits[patient] for patient in patients}


def _table_rows(path: Path) -> list[tuple[str, str]]:
    if not path.is_file():
        raise FileNotFoundError(
            f"no split {path}: create one with write_split, or omit `split` to draw one"
        )
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file)
            columns, rows = table.fieldnames or (), list(table)
    except (csv.Error, UnicodeDecodeError):
        raise ValueError(f"{path} is not a comma-separated text table: write it again") from None
    if not {"patient", "split"} <= set(columns):
        raise ValueError(
            f"{path} has the columns {', '.join(columns) or 'none'}: expected patient, split"
        )
    return [((row["patient"] or "").strip(), (row["split"] or "").strip()) for row in rows]


def _official_rows(folder: Path) -> list[tuple[str, str]]:
    rows = []
    for split, name in OFFICIAL_LISTS.items():
        path = folder / f"subgroup_{name}.txt"
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing: expected CAMUS's patient lists there")
        rows += [(patient, split) for patient in path.read_text().split()]
    return rows
