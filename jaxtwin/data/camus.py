"""CAMUS: apical two- and four-chamber half sequences of 500 patients, with label maps.

Leclerc et al., "Deep Learning for Segmentation Using an Open Large-Scale Dataset in 2D
Echocardiography", IEEE Transactions on Medical Imaging 38(9), 2019. Both releases are read: the
official one (`patient0001_4CH_half_sequence.nii.gz`) and the older one
(`patient0001_4CH_sequence.mhd` with its `.raw`).

Time: a half sequence runs from end diastole to end systole ("ejection") or from end systole to
end diastole ("filling"). Frames keep their order and are 1/FrameRate seconds apart. Half a cycle
is not a beat, so nothing is mirrored, stretched or turned round to make one of it: the heart
period cannot be seen in these clips, and a clip is black after its end, as `window` has it.

Space: images differ in size and in the size of their pixels, which are often not square. Every
clip becomes the same square field in millimetres, so a larger heart is a larger heart.
"""

import csv
import dataclasses
import math
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from jaxtwin.data.base import (
    FASTEST_RATE,
    LEAST_COMPLETE,
    SLOWEST_RATE,
    EchoVideo,
    UnreadableClipError,
)
from jaxtwin.data.camus_image import (
    CamusImage,
    _simpleitk,
    to_field,
)
from jaxtwin.data.camus_split import draw_split, read_split
from jaxtwin.data.echonet import EF_TOLERANCE, Record, Skipped, check_split
from jaxtwin.data.simpson import simpson_biplane
from jaxtwin.models.ejection import ejection_fraction

VIEWS = ("2CH", "4CH")
SUFFIXES = (".nii.gz", ".nii", ".mhd")


@dataclasses.dataclass(frozen=True)
class CamusClip:
    """What CAMUS says of a clip beyond its record.

    Attributes:
        patient: The patient's name, for instance "patient0001".
        view: "2CH" or "4CH".
        quality: "Good", "Medium" or "Poor" by the cardiologist who drew the contours; "unknown"
            where the cfg file has no ImageQuality.
        spacing: Height and width of the stored pixels [mm].
        phase: "ejection" where the clip runs from end diastole to end systole, "filling" where
            it runs back.
    """

    patient: str
    view: str
    quality: str
    spacing: tuple[float, float]
    phase: str


@dataclasses.dataclass(frozen=True)
class Camus:
    """The data set; the clips themselves are not decoded.

    Attributes:
        records: One for each usable view of each patient, named like "patient0001_4CH". Volumes
            and ejection fraction are the patient's, from both views together.
        skipped: Views and patients that cannot be used.
        clips: More about each record, by its name.
        patients: The split of each patient in the folder, usable or not.
    """

    records: tuple[Record, ...]
    skipped: tuple[Skipped, ...]
    clips: dict[str, CamusClip]
    patients: dict[str, str]

    def split(self, name: str) -> tuple[Record, ...]:
        """The records of one split, TRAIN, VAL or TEST, in upper or lower case."""
        name = check_split(name)
        return tuple(record for record in self.records if record.split == name)


def read_camus(
    folder: str | Path,
    *,
    views: Sequence[str] = VIEWS,
    split: str | Path | None = None,
    seed: int = 0,
    frame_rate: float | None = None,
) -> Camus:
    """Reads what is known of every patient. Nothing is written into the folder.

    Volumes are those of the cfg file where it states them (LVedv, LVesv), and otherwise come
    from the label maps of both views by `simpson_biplane`. The ejection fraction is the cfg
    file's (EF or LVef) where it states one, and otherwise that of the volumes. A patient or view
    is skipped, with its reason, where files are missing or damaged, where numbers are
    impossible, or where the stated ejection fraction contradicts the volumes.

    Patients, not clips, are split: both views of a patient are in the same split.

    Args:
        folder: Holds `patient0001`, ...; or the folder above, where they are in
            `database_nifti` or `training`.
        views: Which views become records.
        split: A table (patient, split) as `write_split` writes it, or the data set's own folder
            `database_split`. By default, a tenth of all patients is for testing and a tenth for
            validation, drawn by the seed.
        seed: Of that draw.
        frame_rate: Frames a second [1/s] of clips whose cfg file has no FrameRate, as in the
            older release. Without it such clips are skipped.

    Raises:
        FileNotFoundError: The folder, its patients or the split is missing.
        ValueError: No patient is usable, a view does not exist, or the split does not have each
            patient exactly once.
        ImportError: SimpleITK is not installed.
    """
    _simpleitk()
    if not views or not set(views) <= set(VIEWS) or len(set(views)) < len(views):
        raise ValueError(f"views {tuple(views)}: expected some of {', '.join(VIEWS)}, each once")
    folders = _patient_folders(Path(folder))
    names = [patient.name for patient in folders]
    splits = draw_split(names, seed) if split is None else read_split(Path(split), names)

    def read(patient: Path) -> list[tuple[Record, CamusClip] | Skipped]:
        return _read_patient(patient, views, splits[patient.name], frame_rate)

    with ThreadPoolExecutor() as pool:  # most of the time goes into decompressing label maps
        found = [item for patient in pool.map(read, folders) for item in patient]
    skipped = tuple(item for item in found if isinstance(item, Skipped))
    usable = [item for item in found if not isinstance(item, Skipped)]
    if not usable:
        raise ValueError(
            f"{folder} holds no usable clip; the first: {skipped[0].name}: {skipped[0].reason}"
        )
    clips = {record.name: clip for record, clip in usable}
    return Camus(tuple(record for record, _ in usable), skipped, clips, splits)


def write_split(path: str | Path, camus: Camus) -> None:
    """Writes the split of every patient as a table (patient, split), for `read_camus(split=path)`.

    Raises:
        FileExistsError: The file exists: a split that was used is not to be lost.
    """
    with Path(path).open("x", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(("patient", "split"))
        table.writerows(camus.patients.items())


def read_camus_recording(path: str | Path, fps: float | None = None) -> EchoVideo:
    """Reads one sequence and brings it to the field of view.

    Each pixel of the result is the mean brightness of the area that it covers, 0.8 mm square.
    Nothing is cropped to the sector: the images show nothing else.

    Args:
        path: A sequence (.nii.gz, .nii or .mhd).
        fps: Frames a second [1/s]; by default that of the cfg file beside the sequence. The
            image file itself states none.

    Returns:
        Frames of 224 by 224 pixels, 180 mm square.

    Raises:
        UnreadableClipError: The file is missing, damaged, cut short or no sequence of grey
            images in millimetres, or there is no frame rate.
        ImportError: SimpleITK is not installed.
    """
    path = Path(path)
    fps = _rate_beside(path) if fps is None else fps
    if not (math.isfinite(fps) and fps > 0):
        raise UnreadableClipError(f"{fps:g} frames/s: expected a positive number")
    image = CamusImage(path)
    frames = image.read()
    lowest, highest = frames.min(), frames.max()
    if not (lowest >= 0 and highest <= 255):
        raise UnreadableClipError(
            f"brightness {lowest:g} to {highest:g}: expected 0 to 255, as the data set has it"
        )
    return EchoVideo(to_field(frames, image.spacing), np.arange(len(frames)) / fps)


def _patient_folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}: expected the one that holds CAMUS's patients")
    for place in (folder, folder / "database_nifti", folder / "training"):
        if found := sorted(
            path for path in place.glob("patient*") if re.fullmatch(r"patient\d+", path.name)
        ):
            return found
    raise FileNotFoundError(
        f"{folder} is no copy of CAMUS: expected folders patient0001, patient0002, ... in it, in "
        "its database_nifti or in its training"
    )


def _read_patient(
    folder: Path, views: Sequence[str], split: str, frame_rate: float | None
) -> list[tuple[Record, CamusClip] | Skipped]:
    """The patient's usable views, and why others are not."""
    info: dict[str, dict[str, str] | UnreadableClipError] = {}
    for view in VIEWS:
        try:
            info[view] = _read_info(folder / f"Info_{view}.cfg")
        except UnreadableClipError as error:
            info[view] = error
    try:
        stated = [facts for facts in info.values() if isinstance(facts, dict)]
        if not stated:
            raise UnreadableClipError("has no readable Info_2CH.cfg or Info_4CH.cfg: copy it again")
        edv, esv, ef = _volumes(folder, stated)
    except UnreadableClipError as error:
        return [Skipped(folder.name, error.reason)]

    found = []
    for view in views:
        name = f"{folder.name}_{view}"
        try:
            facts = info[view]
            if isinstance(facts, UnreadableClipError):
                raise facts
            path, frames, fps, clip = _read_view(folder, view, facts, frame_rate)
            found.append((Record(name, path, edv, esv, ef, fps, frames, split), clip))
        except UnreadableClipError as error:
            found.append(Skipped(name, error.reason))
    return found


def _read_info(path: Path) -> dict[str, str]:
    """The lines `Key: value` of a cfg file."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        raise UnreadableClipError(f"{path.name} is missing or no text: copy it again") from None
    pairs = (line.partition(":") for line in lines if ":" in line)
    return {key.strip(): value.strip() for key, _, value in pairs}


def _volumes(folder: Path, stated: list[dict[str, str]]) -> tuple[float, float, float]:
    """EDV [mL], ESV [mL] and EF [%] of a patient, checked."""
    edv, esv = _stated(stated, "LVedv"), _stated(stated, "LVesv")
    if edv is None or esv is None:
        edv, esv = (_from_label_maps(folder, instant) for instant in ("ED", "ES"))
    if not 0 < esv < edv:
        raise UnreadableClipError(f"ESV {esv:.4g} and EDV {edv:.4g} mL: expected 0 < ESV < EDV")
    from_volumes = ejection_fraction(edv, esv)
    ef = _stated(stated, "EF", "LVef")
    if ef is None:
        ef = from_volumes
    if abs(ef - from_volumes) > EF_TOLERANCE:
        raise UnreadableClipError(
            f"EF {ef:g} % contradicts its volumes {edv:.1f} and {esv:.1f} mL, which give "
            f"{from_volumes:.1f} %: one of the three is wrong"
        )
    return edv, esv, ef


def _stated(stated: list[dict[str, str]], *keys: str) -> float | None:
    """A number that both cfg files state of the same patient; None where neither does."""
    values = {_number(facts, key) for facts in stated for key in keys if key in facts}
    if len(values) > 1:
        raise UnreadableClipError(
            f"{' or '.join(keys)} is {' and '.join(f'{value:g}' for value in sorted(values))} in "
            "the two cfg files: expected one number; copy them again"
        )
    return values.pop() if values else None


def _from_label_maps(folder: Path, instant: str) -> float:
    maps, spacings = [], []
    for view in VIEWS:
        path = _find(folder, f"{folder.name}_{view}_{instant}_gt")
        try:
            image = CamusImage(path)
            maps.append(image.read()[0])
        except UnreadableClipError as error:
            raise UnreadableClipError(f"{path.name}: {error.reason}") from None
        spacings.append(image.spacing)
    two, four = maps
    try:
        return simpson_biplane(two, four, (spacings[0], spacings[1]))
    except UnreadableClipError as error:
        raise UnreadableClipError(f"{instant} label maps: {error.reason}") from None


def _read_view(
    folder: Path, view: str, facts: dict[str, str], frame_rate: float | None
) -> tuple[Path, int, float, CamusClip]:
    """A view's file, number of frames, frame rate [1/s] and other facts, checked."""
    path = _find(folder, f"{folder.name}_{view}_half_sequence", f"{folder.name}_{view}_sequence")
    fps = _number(facts, "FrameRate") if "FrameRate" in facts else frame_rate
    if fps is None:
        raise UnreadableClipError(
            f"Info_{view}.cfg has no FrameRate: call read_camus with frame_rate=, the frames a "
            "second that such clips were scanned at"
        )
    if not SLOWEST_RATE <= fps <= FASTEST_RATE:
        raise UnreadableClipError(
            f"{fps:g} frames/s: expected {SLOWEST_RATE:g} to {FASTEST_RATE:g}"
        )
    image = CamusImage(path)
    if image.count < LEAST_COMPLETE * _number(facts, "NbFrame"):
        raise UnreadableClipError(
            f"{path.name} holds {image.count} of the {facts['NbFrame']} frames that "
            f"Info_{view}.cfg states: copy it again"
        )
    ed, es = _number(facts, "ED"), _number(facts, "ES")
    if ed == es or not all(1 <= frame <= image.count for frame in (ed, es)):
        raise UnreadableClipError(
            f"ED {ed:g} and ES {es:g}: expected two frames among 1 to {image.count}"
        )
    phase = "ejection" if ed < es else "filling"
    quality = facts.get("ImageQuality") or "unknown"
    return path, image.count, fps, CamusClip(folder.name, view, quality, image.spacing, phase)


def _find(folder: Path, *stems: str) -> Path:
    for stem in stems:
        for suffix in SUFFIXES:
            if (path := folder / f"{stem}{suffix}").is_file():
                return path
    raise UnreadableClipError(f"{stems[0]}{SUFFIXES[0]} is missing: copy the patient again")


def _number(facts: dict[str, str], key: str) -> float:
    try:
        value = float(facts.get(key, ""))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UnreadableClipError(f"{key} is {facts.get(key)!r} in its cfg: expected a number")
    return value


def _rate_beside(path: Path) -> float:
    """The frame rate [1/s] in the cfg file that belongs to a sequence."""
    named = re.match(r"patient\d+_(2CH|4CH)_", path.name)
    facts = _read_info(path.parent / f"Info_{named[1]}.cfg") if named else {}
    if not named or "FrameRate" not in facts:
        raise UnreadableClipError(
            "states no frame rate, and no Info_2CH.cfg or Info_4CH.cfg beside it has a FrameRate: "
            "give the rate it was scanned at (fps)"
        )
    return _number(facts, "FrameRate")
