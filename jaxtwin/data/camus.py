"""CAMUS: apical two- and four-chamber half sequences of 500 patients, with label maps.

Leclerc et al., "Deep Learning for Segmentation Using an Open Large-Scale Dataset in 2D
Echocardiography", IEEE Transactions on Medical Imaging 38(9), 2019. Both releases can be read:
the official one (`patient0001_4CH_half_sequence.nii.gz`) and the older one
(`patient0001_4CH_sequence.mhd` with its `.raw`).

Time: a half sequence runs from end diastole to end systole ("ejection") or from end systole to
end diastole ("filling"). Frames keep their order and are 1/FrameRate seconds apart. Half a cycle
is not extended to a full beat by mirroring or stretching: the heart period is not visible in
these clips, and `window` pads a clip with black frames after its end.

Space: images differ in size and in pixel size, and pixels are often not square. Every clip is
resampled to the same square field of view in millimetres, which preserves the size of the heart.
"""

import csv
import dataclasses
import math
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from jaxtwin.data.base import EchoVideo, UnreadableClipError
from jaxtwin.data.camus_image import CANVAS, FIELD_OF_VIEW, CamusImage, _simpleitk, to_field
from jaxtwin.data.camus_patient import VIEWS, CamusClip, number, read_info, read_patient
from jaxtwin.data.camus_split import draw_split, read_split
from jaxtwin.data.echonet import Record, Skipped, check_split


@dataclasses.dataclass(frozen=True)
class Camus:
    """The data set's tables, without decoded clips.

    Attributes:
        records: One record for each usable view of each patient, named like "patient0001_4CH".
            Volumes and ejection fraction are the patient's, from both views together.
        skipped: Views and patients that cannot be used.
        clips: Additional information about each record, by record name.
        patients: The split of each patient in the folder, usable or not.
    """

    records: tuple[Record, ...]
    skipped: tuple[Skipped, ...]
    clips: dict[str, CamusClip]
    patients: dict[str, str]

    def split(self, name: str) -> tuple[Record, ...]:
        """Return the records of a split: TRAIN, VAL or TEST, in upper or lower case."""
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
    """Read the measurements and clip information of every patient, without decoding clips.

    Volumes are taken from the cfg file if it states them (LVedv, LVesv), and otherwise computed
    from the label maps of both views by `simpson_biplane`. The ejection fraction is the cfg
    file's (EF or LVef) if stated, and otherwise computed from the volumes. A patient or view is
    skipped, with a reason, if files are missing or damaged, numbers are impossible, or the stated
    ejection fraction contradicts the volumes.

    The split is by patient: both views of a patient are in the same split. Nothing is written to
    the folder.

    Args:
        folder: Folder that contains `patient0001`, ..., directly or in its subfolder
            `database_nifti` or `training`.
        views: Views to make records of.
        split: A table (patient, split) written by `write_split`, or the data set's own folder
            `database_split`. By default, a random tenth of the patients is used for testing and
            another tenth for validation.
        seed: Seed for the default split.
        frame_rate: Frame rate [1/s] of clips whose cfg file has no FrameRate, as in the older
            release. Without it such clips are skipped.

    Raises:
        FileNotFoundError: If the folder, its patients or the split is missing.
        ValueError: If no patient is usable, a view does not exist, or the split does not contain
            each patient exactly once.
        ImportError: If SimpleITK is not installed.
    """
    _simpleitk()
    if not views or not set(views) <= set(VIEWS) or len(set(views)) < len(views):
        raise ValueError(f"views {tuple(views)}: expected some of {', '.join(VIEWS)}, each once")
    folders = _patient_folders(Path(folder))
    names = [patient.name for patient in folders]
    splits = draw_split(names, seed) if split is None else read_split(Path(split), names)

    def read(patient: Path) -> list[tuple[Record, CamusClip] | Skipped]:
        return read_patient(patient, views, splits[patient.name], frame_rate)

    with ThreadPoolExecutor() as pool:  # decompressing label maps takes most of the time
        found = [item for patient in pool.map(read, folders) for item in patient]
    skipped = tuple(item for item in found if isinstance(item, Skipped))
    usable = [item for item in found if not isinstance(item, Skipped)]
    if not usable:
        raise ValueError(
            f"{folder} has no usable clip; the first: {skipped[0].name}: {skipped[0].reason}"
        )
    clips = {record.name: clip for record, clip in usable}
    return Camus(tuple(record for record, _ in usable), skipped, clips, splits)


def write_split(path: str | Path, camus: Camus) -> None:
    """Write the split of every patient as a table (patient, split), for `read_camus(split=path)`.

    Raises:
        FileExistsError: If the file exists; an existing split is never overwritten.
    """
    with Path(path).open("x", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(("patient", "split"))
        table.writerows(camus.patients.items())


def read_camus_recording(path: str | Path, fps: float | None = None) -> EchoVideo:
    """Read one sequence and resample it to the common field of view.

    Each pixel of the result is the mean brightness of the area it covers, 0.8 mm square. The
    frames are not cropped to the sector, because the images show nothing else.

    Args:
        path: A sequence (.nii.gz, .nii or .mhd).
        fps: Frame rate [1/s]; by default that of the cfg file in the same folder, because the
            image file itself does not state one.

    Returns:
        Frames of 224 by 224 pixels, 180 mm square.

    Raises:
        UnreadableClipError: If the file is missing, damaged, truncated or not a sequence of
            greyscale images in millimetres, or if there is no frame rate.
        ImportError: If SimpleITK is not installed.
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
            f"brightness {lowest:g} to {highest:g}: expected 0 to 255, as in the data set"
        )
    size = FIELD_OF_VIEW / CANVAS
    return EchoVideo(
        to_field(frames, image.spacing), np.arange(len(frames)) / fps, pixel=(size, size)
    )


def _patient_folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}: expected the folder of CAMUS's patients")
    for place in (folder, folder / "database_nifti", folder / "training"):
        if found := sorted(
            path for path in place.glob("patient*") if re.fullmatch(r"patient\d+", path.name)
        ):
            return found
    raise FileNotFoundError(
        f"{folder} is no copy of CAMUS: expected folders patient0001, patient0002, ... in it or "
        "in its subfolder database_nifti or training"
    )


def _rate_beside(path: Path) -> float:
    """Return the frame rate [1/s] in the cfg file that belongs to a sequence."""
    named = re.match(r"patient\d+_(2CH|4CH)_", path.name)
    facts = read_info(path.parent / f"Info_{named[1]}.cfg") if named else {}
    if not named or "FrameRate" not in facts:
        raise UnreadableClipError(
            "states no frame rate, and no Info_2CH.cfg or Info_4CH.cfg in its folder has a "
            "FrameRate: give the frame rate of the scan (fps)"
        )
    return number(facts, "FrameRate")
