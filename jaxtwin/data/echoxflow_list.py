"""EchoXFlow's list of recordings, and the splits of its examinations."""

import csv
import dataclasses
import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxtwin.data.camus_split import draw_split
from jaxtwin.data.echonet import check_split

LIST = "croissant.json"
# Tables (exam_id, fold) of which one may lie beside the list, and the names of their second column.
SPLIT_TABLES, FOLD_COLUMNS = ("splits.csv", "five_fold_split.csv"), ("five_fold_split", "fold")
FOLDS: Mapping[int, str] = {0: "TRAIN", 1: "TRAIN", 2: "TRAIN", 3: "VAL", 4: "TEST"}


@dataclasses.dataclass(frozen=True)
class Listed:
    """A recording in the data set's list.

    Attributes:
        name: The recording's identity.
        exam: The examination's.
        path: Its Zarr store.
        contents: What it contains, such as "2d_left_ventricular_strain".
        arrays: Names of its arrays, such as "data/2d_brightness_mode".
    """

    name: str
    exam: str
    path: Path
    contents: tuple[str, ...]
    arrays: tuple[str, ...]


def read_list(folder: str | Path) -> Mapping[str, Listed]:
    """Return the recordings that `croissant.json` lists, by name.

    Raises:
        FileNotFoundError: If the list is missing.
        ValueError: If it cannot be read, or names a store outside the folder.
    """
    path = Path(folder) / LIST
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: expected EchoXFlow's folder")
    return _read_list(path, path.stat().st_mtime_ns)


def read_exam_splits(
    folder: Path, recordings: Mapping[str, Listed], folds: Mapping[int, str], seed: int
) -> dict[str, str]:
    """Return the split of each examination.

    Args:
        folder: The data set's folder.
        recordings: Its recordings.
        folds: Split of each fold, if a table of folds lies in the folder.
        seed: Seed of the split if none does.

    Raises:
        ValueError: If the table lacks a column, or an examination has no fold with a split.
    """
    exams = sorted({listed.exam for listed in recordings.values()})
    tables = [folder / name for name in SPLIT_TABLES if (folder / name).is_file()]
    if not tables:
        return draw_split(exams, seed)
    with tables[0].open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    column = next((name for name in FOLD_COLUMNS if rows and name in rows[0]), None)
    if column is None or "exam_id" not in rows[0]:
        raise ValueError(f"{tables[0]}: expected the columns exam_id and {FOLD_COLUMNS[0]}")
    stated = {(row["exam_id"] or "").strip(): (row[column] or "").strip() for row in rows}
    found = {}
    for exam in exams:
        fold = stated.get(exam, "")
        if not fold.isdigit() or int(fold) not in folds:
            raise ValueError(
                f"{tables[0]}: examination {exam} is in fold {fold or 'none'}: expected "
                f"{', '.join(map(str, folds))}"
            )
        found[exam] = check_split(folds[int(fold)])
    return found


@functools.lru_cache(maxsize=2)
def _read_list(path: Path, changed: int) -> Mapping[str, Listed]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        sets = {one["@id"]: one for one in content["recordSet"]}
        rows = sets["recordings"]["data"]
        found = [_listed(path.parent, row) for row in rows]
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, ValueError) and "outside" in str(error):
            raise
        raise ValueError(
            f"{path} is not EchoXFlow's list ({type(error).__name__}: {error}): expected a record "
            "set `recordings` with its rows in the file; copy it again"
        ) from None
    return {listed.name: listed for listed in found}


def _listed(folder: Path, row: Mapping[str, Any]) -> Listed:
    path = folder / str(row["recordings/zarr_path"])
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(
            f"{LIST} names {row['recordings/zarr_path']!r}, which leads outside of {folder}; "
            "nothing was read. Do not use this copy of the data set before you know who changed it"
        )
    return Listed(
        str(row["recordings/recording_id"]),
        str(row["recordings/exam_id"]),
        path,
        tuple(row.get("recordings/content_types", ())),
        tuple(row.get("recordings/array_paths", ())),
    )
