"""EchoNet-Pediatric: apical and parasternal clips of children, with tracings and ten folds.

Reddy et al., "Video-Based Deep Learning for Automated Assessment of Left Ventricular Ejection
Fraction in Pediatric Patients", J Am Soc Echocardiogr 36(5), 2023. Each view has a folder, A4C and
PSAX, with `Videos/`, `FileList.csv` (FileName, EF, Sex, Age, Weight, Height, Split) and
`VolumeTracings.csv` (FileName, X, Y, Frame).

The data set states no volumes and no pixel size. Volumes from its tracings are therefore relative,
and the records' EDV and ESV [mL] are NaN: only EF is a label.
"""

import dataclasses
import math
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path

from jaxtwin.data.base import FASTEST_RATE, SLOWEST_RATE, UnreadableClipError
from jaxtwin.data.echonet import (
    SPLITS,
    Record,
    Skipped,
    check_inside,
    check_split,
    clip_name,
    number,
    read_table,
)
from jaxtwin.data.simpson import CAVITY, simpson_biplane
from jaxtwin.data.tracings import Tracings, read_tracings
from jaxtwin.data.video import read_rate
from jaxtwin.models.ejection import ejection_fraction

VIEWS = ("A4C", "PSAX")
COLUMNS = ("FileName", "EF", "Sex", "Age", "Weight", "Height", "Split")
FOLDS: Mapping[str, Iterable[int]] = {"TRAIN": range(8), "VAL": (8,), "TEST": (9,)}
# The clinic's EF is of several views and beats. A larger difference between it and the EF of the
# tracings suggests that one of them is another clip's.
EF_APART = 20.0  # [points]
_NAMED = 5  # clips in a warning


@dataclasses.dataclass(frozen=True)
class PediatricClip:
    """What the data set tells about a clip beyond its record.

    Attributes:
        view: "A4C" or "PSAX".
        areas: Area of the cavity in the traced frames, larger and smaller [square pixels]; NaN
            where fewer frames were traced.
        volumes: Volume by discs of the same frames, larger and smaller [1000 cubic pixels]; NaN in
            PSAX, whose outlines do not show the long axis.
        sex: As in the table, "M" or "F"; empty if not stated.
        age: Age [years]; NaN if not stated.
        weight: Weight [kg]; NaN if not stated.
        height: Height [cm]; NaN if not stated.
    """

    view: str
    areas: tuple[float, float]
    volumes: tuple[float, float]
    sex: str
    age: float
    weight: float
    height: float

    @property
    def ef_of_tracings(self) -> float:
        """Ejection fraction of the traced volumes [%], which needs no pixel size; or NaN."""
        return ejection_fraction(*self.volumes)


@dataclasses.dataclass(frozen=True)
class Pediatric:
    """The data set's tables, without decoded clips.

    Attributes:
        records: One record for each usable clip, with its stated EF; EDV and ESV are NaN.
        skipped: The clips that cannot be used.
        clips: Additional information about each record, by record name.
    """

    records: tuple[Record, ...]
    skipped: tuple[Skipped, ...]
    clips: dict[str, PediatricClip]

    def split(self, name: str) -> tuple[Record, ...]:
        """Return the records of a split: TRAIN, VAL or TEST, in upper or lower case."""
        name = check_split(name)
        return tuple(record for record in self.records if record.split == name)


def read_pediatric(
    folder: str | Path,
    *,
    views: Iterable[str] = ("A4C",),
    folds: Mapping[str, Iterable[int]] = FOLDS,
) -> Pediatric:
    """Read the tables of EchoNet-Pediatric and the headers of its clips.

    A clip is skipped, with a reason, if its numbers are missing or impossible, its file is missing,
    its tracings are wrong, or its fold is in no split. A warning names the clips whose stated EF
    differs by more than 20 points from that of their tracings (A4C alone).

    Args:
        folder: Folder that contains `A4C` and `PSAX`.
        views: Views to read.
        folds: Folds (0 to 9) of each split.

    Raises:
        FileNotFoundError: If a folder or a table is missing.
        ValueError: If a table lacks a column or names a file outside the folder, no clip is
            usable, or a view or fold is not one of the data set's, or in two splits.
    """
    views, split_of = tuple(views), _split_of(folds)
    if not views or not set(views) <= set(VIEWS) or len(set(views)) < len(views):
        raise ValueError(f"views {views}: expected some of {', '.join(VIEWS)}, each once")
    records, skipped, clips = [], [], {}
    for view in views:
        place = Path(folder) / view
        if not (place / "Videos").is_dir():
            raise FileNotFoundError(
                f"no {place / 'Videos'}: expected EchoNet-Pediatric's folder, with A4C and PSAX"
            )
        tracings, roots = read_tracings(place), (place.resolve(), (place / "Videos").resolve())
        for row in read_table(place / "FileList.csv", COLUMNS):
            name = clip_name(row)
            path = place / "Videos" / f"{name}.avi"
            check_inside(path, row, roots)
            try:
                if name in clips:
                    raise UnreadableClipError("listed before: expected each clip once")
                record, clip = _read(name, path, view, row, split_of, tracings)
            except UnreadableClipError as error:
                skipped.append(Skipped(name, error.reason))
                continue
            records.append(record)
            clips[name] = clip
    if not records:
        first = f"; the first: {skipped[0].name}: {skipped[0].reason}" if skipped else ""
        raise ValueError(f"{folder} lists no usable clip{first}")
    _compare(records, clips)
    return Pediatric(tuple(records), tuple(skipped), clips)


def _split_of(folds: Mapping[str, Iterable[int]]) -> dict[int, str]:
    """Return the split of each fold."""
    found: dict[int, str] = {}
    for split, numbers in folds.items():
        for fold in numbers:
            if split not in SPLITS or fold not in range(10) or fold in found:
                raise ValueError(
                    f"fold {fold} in {split!r}: expected folds 0 to 9, each in one of "
                    f"{', '.join(SPLITS)}"
                )
            found[fold] = split
    return found


def _read(
    name: str,
    path: Path,
    view: str,
    row: dict[str, str],
    split_of: dict[int, str],
    tracings: Tracings,
) -> tuple[Record, PediatricClip]:
    """Check one clip; raise UnreadableClipError if it cannot be used."""
    if not name:
        raise UnreadableClipError("no FileName: expected the clip's name")
    ef, fold = number(row, "EF"), number(row, "Split")
    if not 0 < ef < 100:
        raise UnreadableClipError(f"EF {ef:g} %: expected 0 to 100")
    if fold not in range(10):
        raise UnreadableClipError(f"fold {fold:g}: expected 0 to 9")
    if fold not in split_of:
        raise UnreadableClipError(f"fold {fold:g} is in none of the splits asked for")
    if not path.is_file():
        raise UnreadableClipError(f"{path} is missing: copy it again")
    fps, frames = read_rate(path)
    if not SLOWEST_RATE <= fps <= FASTEST_RATE or frames < 2:
        raise UnreadableClipError(
            f"{frames} frames at {fps:g} frames/s: expected at least 2, at {SLOWEST_RATE:g} to "
            f"{FASTEST_RATE:g}"
        )
    areas, volumes = _measure(tracings, name, frames, view)
    told = [_optional(row, column) for column in ("Age", "Weight", "Height")]
    clip = PediatricClip(view, areas, volumes, (row["Sex"] or "").strip(), *told)
    split = split_of[int(fold)]
    return Record(name, path, math.nan, math.nan, ef, fps, frames, split), clip


def _measure(
    tracings: Tracings, name: str, frames: int, view: str
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the areas and volumes of the largest and the smallest tracing."""
    nothing = (math.nan, math.nan)
    if name not in tracings.rows:
        return nothing, nothing
    maps = sorted(
        tracings.label_maps(name, frames).values(), key=lambda one: -int((one == CAVITY).sum())
    )
    if len(maps) < 2:
        return nothing, nothing
    large, small = maps[0], maps[-1]
    areas = float((large == CAVITY).sum()), float((small == CAVITY).sum())
    if view == "PSAX":
        return areas, nothing
    # The same diameters in both planes: the single-plane method of discs.
    pixel = (1.0, 1.0)
    return areas, (
        simpson_biplane(large, large, (pixel, pixel)),
        simpson_biplane(small, small, (pixel, pixel)),
    )


def _optional(row: dict[str, str], column: str) -> float:
    text = (row[column] or "").strip().lower()
    return math.nan if text in {"", "na", "nan", "missing"} else number(row, column)


def _compare(records: list[Record], clips: dict[str, PediatricClip]) -> None:
    """Name the clips whose stated EF is not that of their tracings."""
    apart = [
        f"{record.name} (stated {record.ef:.0f}, traced {clips[record.name].ef_of_tracings:.0f})"
        for record in records
        if abs(record.ef - clips[record.name].ef_of_tracings) > EF_APART
    ]
    if apart:
        more = f" and {len(apart) - _NAMED} more" if len(apart) > _NAMED else ""
        warnings.warn(
            f"EF [%] of {', '.join(apart[:_NAMED])}{more}: more than {EF_APART:g} points apart; "
            "look at these clips before they are used",
            stacklevel=3,
        )
