"""EchoNet-Dynamic's folder layout: a table of volumes and a folder of clips.

Phantom cohorts are written in the same layout and read by the same reader.
"""

import contextlib
import csv
import dataclasses
import math
import statistics
import warnings
from pathlib import Path

from jaxtwin.data.base import FASTEST_RATE, SLOWEST_RATE, UnreadableClipError
from jaxtwin.data.vitals import PLAUSIBLE, UNKNOWN, VITAL_COLUMNS, VitalName, Vitals
from jaxtwin.models.ejection import ejection_fraction

SPLITS = ("TRAIN", "VAL", "TEST")
COLUMNS = ("FileName", "EF", "ESV", "EDV", "FPS", "NumberOfFrames", "Split")
# Rounding of the volumes changes EF by a point or two. Beyond this tolerance one of the three
# numbers is wrong, and there is no way to tell which.
EF_TOLERANCE = 10.0  # [points]
# Volumes [mL] from those of newborns to those of the most dilated hearts; others are in another
# unit or mistyped.
PLAUSIBLE_EDV = (5.0, 1000.0)
PLAUSIBLE_ESV = (1.0, 900.0)
# Median EDV of a cohort [mL]: from small children to dilated adults.
PLAUSIBLE_MEDIAN_EDV = (30.0, 300.0)
# Millilitres in each unit that a table may be in by mistake.
OTHER_UNITS = {"litres": 1e3, "decilitres": 1e2, "centilitres": 10.0, "microlitres": 1e-3}


@dataclasses.dataclass(frozen=True)
class Record:
    """One clip of a data set and its measurements.

    Attributes:
        name: The clip's name, without suffix.
        path: Path of the clip's file.
        edv: End-diastolic volume [mL]; NaN if not measured.
        esv: End-systolic volume [mL]; NaN if not measured.
        ef: Ejection fraction [%]; NaN if not measured.
        fps: Frame rate [1/s].
        frames: Number of frames.
        split: TRAIN, VAL or TEST.
        vitals: Vital signs measured with the clip.
    """

    name: str
    path: Path
    edv: float
    esv: float
    ef: float
    fps: float
    frames: int
    split: str
    vitals: Vitals = UNKNOWN


@dataclasses.dataclass(frozen=True)
class Skipped:
    """A listed clip that cannot be used.

    Attributes:
        name: The clip's name, without suffix.
        reason: Why it cannot be used, and what to do about it.
    """

    name: str
    reason: str


@dataclasses.dataclass(frozen=True)
class EchoNet:
    """A data set's table; the clips themselves are not opened.

    Attributes:
        records: The usable rows, in the table's order.
        skipped: The rows that cannot be used.
    """

    records: tuple[Record, ...]
    skipped: tuple[Skipped, ...]

    def split(self, name: str) -> tuple[Record, ...]:
        """Return the records of a split: TRAIN, VAL or TEST, in upper or lower case."""
        name = check_split(name)
        return tuple(record for record in self.records if record.split == name)


def check_split(name: str) -> str:
    """Return the split's name in upper case.

    Raises:
        ValueError: If there is no such split.
    """
    if name.upper() not in SPLITS:
        raise ValueError(f"no split {name!r}: choose one of {', '.join(SPLITS)}")
    return name.upper()


def read_echonet(folder: str | Path) -> EchoNet:
    """Read the table of a data set in EchoNet-Dynamic's layout.

    A row is skipped, with a reason, if its numbers are missing or impossible, if its EDV is not 5
    to 1,000 mL or its ESV not 1 to 900 mL, if its ejection fraction contradicts its volumes, or if
    its clip was already listed (perhaps in another split). Vital signs are read if the table has
    their columns (`VITAL_COLUMNS`); an empty entry means not measured. If the median EDV of the
    cohort is not 30 to 300 mL, a warning names the unit that the volumes are likely to be in.

    Args:
        folder: Folder that contains `FileList.csv` and `Videos/`.

    Raises:
        FileNotFoundError: If the folder, the table or `Videos/` is missing.
        ValueError: If the table is not a CSV file or lacks a column, no row is usable, or a row
            names a file outside the folder.
    """
    folder = Path(folder)
    videos = folder / "Videos"
    rows = read_table(folder / "FileList.csv", COLUMNS)
    if not videos.is_dir():
        raise FileNotFoundError(f"{videos} is missing: expected the listed clips there")
    # Videos/ may be the user's own symbolic link to another disk.
    roots = (folder.resolve(), videos.resolve())
    records: dict[str, Record] = {}
    skipped = []
    for row in rows:
        name = clip_name(row)
        path = videos / f"{name}.avi"
        check_inside(path, row, roots)
        try:
            if name in records:
                raise UnreadableClipError("listed before: expected each clip once, in one split")
            records[name] = _parse_row(name, path, row)
        except UnreadableClipError as error:
            skipped.append(Skipped(name, error.reason))
    doubt = _doubtful_median(rows)
    if not records:
        first = f"; the first: {skipped[0].name}: {skipped[0].reason}" if skipped else ""
        unit = f". The {doubt}" if doubt else ""
        raise ValueError(f"{folder / 'FileList.csv'} lists no usable clip{first}{unit}")
    if doubt:
        warnings.warn(f"{folder / 'FileList.csv'}: the {doubt}", stacklevel=2)
    return EchoNet(tuple(records.values()), tuple(skipped))


def check_inside(path: Path, row: dict[str, str], roots: tuple[Path, ...]) -> None:
    """Raise ValueError if a clip that a table names lies outside of the data set's folders."""
    if not any(path.resolve().is_relative_to(root) for root in roots):
        raise ValueError(
            f"FileList.csv names {row['FileName']!r}, which leads outside of {roots[0]}; nothing "
            "was read. Do not use this copy of the data set before you know who changed it"
        )


def _doubtful_median(rows: list[dict[str, str]]) -> str:
    """Say what is wrong with the median EDV of all rows, usable or not; empty if nothing is."""
    volumes = []
    for row in rows:
        with contextlib.suppress(UnreadableClipError):
            volumes.append(number(row, "EDV"))
    low, high = PLAUSIBLE_MEDIAN_EDV
    if not volumes or low <= (median := statistics.median(volumes)) <= high:
        return ""
    units = [unit for unit, size in OTHER_UNITS.items() if low <= median * size <= high]
    likely = units[0] if units else "pixels or another unit"
    return (
        f"median EDV is {median:g}: expected {low:g} to {high:g} mL in a cohort; the volumes are "
        f"likely in {likely}, so convert EDV and ESV to mL"
    )


def read_theta(folder: str | Path) -> dict[str, dict[str, float]]:
    """Read the true parameters of a phantom cohort. For evaluation only, never for training.

    Args:
        folder: Folder that contains `Theta.csv`. Phantom cohorts have it; real data sets do not.

    Returns:
        For each clip name, the value of each parameter, in the parameter's own unit.

    Raises:
        FileNotFoundError: If the folder or its `Theta.csv` is missing.
        ValueError: If the table has no column FileName, or a parameter is not a number.
    """
    path = Path(folder) / "Theta.csv"
    theta = {}
    for row in read_table(path, ("FileName",)):
        name = clip_name(row)
        try:
            theta[name] = {key: float(row[key]) for key in row if key != "FileName"}
        except (TypeError, ValueError):
            raise ValueError(f"{path}: {name} has a parameter that is no number") from None
    return theta


def read_table(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """Return a CSV file's rows; additional columns are allowed.

    Raises:
        FileNotFoundError: If the file is missing.
        ValueError: If it is no table, or a column is missing.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(f"no folder {path.parent}: expected a folder with {path.name}")
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: expected a data set in EchoNet-Dynamic's layout; give its folder"
        )
    try:
        # utf-8-sig drops the byte-order mark that spreadsheets write before the first column name.
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file)
            found = table.fieldnames or ()
            rows = list(table)
    except (csv.Error, UnicodeDecodeError):
        raise ValueError(f"{path} is not a comma-separated text table: copy it again") from None
    if missing := [column for column in columns if column not in found]:
        raise ValueError(
            f"{path} lacks the column {', '.join(missing)}: expected {', '.join(columns)}, "
            f"found {', '.join(found) or 'none'}"
        )
    return rows


def clip_name(row: dict[str, str]) -> str:
    """Return the name of a row's clip, without suffix."""
    name = (row["FileName"] or "").strip()
    return name[:-4] if name.lower().endswith(".avi") else name


def _parse_row(name: str, path: Path, row: dict[str, str]) -> Record:
    """Check one row's numbers; raise UnreadableClipError if they cannot be used."""
    if not name:
        raise UnreadableClipError("no FileName: expected the clip's name")
    edv, esv, ef, fps, frames = (
        number(row, column) for column in ("EDV", "ESV", "EF", "FPS", "NumberOfFrames")
    )
    if not 0 < esv < edv:
        raise UnreadableClipError(f"ESV {esv:g} and EDV {edv:g} mL: expected 0 < ESV < EDV")
    check_volume("EDV", edv, PLAUSIBLE_EDV)
    check_volume("ESV", esv, PLAUSIBLE_ESV)
    from_volumes = ejection_fraction(edv, esv)
    if abs(ef - from_volumes) > EF_TOLERANCE:
        raise UnreadableClipError(
            f"EF {ef:g} % contradicts its volumes, which give {from_volumes:.1f} %: "
            "one of the three is wrong"
        )
    if not SLOWEST_RATE <= fps <= FASTEST_RATE:
        raise UnreadableClipError(f"FPS {fps:g}: expected {SLOWEST_RATE:g} to {FASTEST_RATE:g}")
    if frames < 2:
        raise UnreadableClipError(
            f"NumberOfFrames {frames:g}: expected at least 2; a still image shows no heartbeat"
        )
    split = (row["Split"] or "").strip().upper()
    if split not in SPLITS:
        raise UnreadableClipError(f"split {split!r}: expected one of {', '.join(SPLITS)}")
    vitals = Vitals(**{vital: _vital(row, vital) for vital in VITAL_COLUMNS})
    if vitals.diastolic >= vitals.systolic:
        raise UnreadableClipError(
            f"blood pressure {vitals.systolic:g}/{vitals.diastolic:g} mmHg: expected the diastolic "
            "pressure to be lower"
        )
    return Record(name, path, edv, esv, ef, fps, int(frames), split, vitals)


def check_volume(name: str, volume: float, plausible: tuple[float, float]) -> None:
    """Raise UnreadableClipError if a volume [mL] is not plausible."""
    low, high = plausible
    if not low <= volume <= high:
        raise UnreadableClipError(
            f"{name} {volume:.4g} mL: expected {low:g} to {high:g}; it may be mistyped, or not in "
            "millilitres"
        )


def _vital(row: dict[str, str], vital: VitalName) -> float:
    column = VITAL_COLUMNS[vital]
    if (row.get(column) or "").strip().lower() in {"", "na", "nan"}:
        return math.nan
    value = number(row, column)
    low, high = PLAUSIBLE[vital]
    if not low <= value <= high:
        raise UnreadableClipError(
            f"{column} {value:g}: expected {low:g} to {high:g}, or an empty entry if not measured"
        )
    return value


def number(row: dict[str, str], column: str) -> float:
    """Return a number of a row; raise UnreadableClipError if it is missing or not a number."""
    try:
        value = float(row[column])
    except (TypeError, ValueError):  # a short row has None in its last columns
        value = math.nan
    if not math.isfinite(value):
        raise UnreadableClipError(f"{column} is {row[column]!r}: expected a number")
    return value
