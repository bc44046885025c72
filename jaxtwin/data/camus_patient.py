"""One patient of CAMUS: its cfg files, volumes and sequences."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxtwin.data.base import FASTEST_RATE, LEAST_COMPLETE, SLOWEST_RATE, UnreadableClipError
from jaxtwin.data.camus_image import CamusImage
from jaxtwin.data.camus_labels import as_camus
from jaxtwin.data.echonet import (
    EF_TOLERANCE,
    PLAUSIBLE_EDV,
    PLAUSIBLE_ESV,
    Record,
    Skipped,
    check_volume,
)
from jaxtwin.data.simpson import simpson_biplane
from jaxtwin.models.ejection import ejection_fraction

VIEWS = ("2CH", "4CH")
SUFFIXES = (".nii.gz", ".nii", ".mhd")
# Range of volumes that label maps may give [mL]. The data set's patients are adults.
COMPUTED_VOLUME = (5.0, 600.0)
# Relative difference between the extents of a label map and its sequence, from rounding.
EXTENT_TOLERANCE = 0.02


@dataclasses.dataclass(frozen=True)
class CamusClip:
    """CAMUS's information about a clip beyond its record.

    Attributes:
        patient: The patient's name, such as "patient0001".
        view: "2CH" or "4CH".
        quality: "Good", "Medium" or "Poor", as rated by the cardiologist who drew the contours;
            "unknown" if the cfg file has no ImageQuality.
        spacing: Height and width of the stored pixels [mm].
        phase: "ejection" if the clip runs from end diastole to end systole, "filling" if it runs
            from end systole to end diastole.
    """

    patient: str
    view: str
    quality: str
    spacing: tuple[float, float]
    phase: str


def read_patient(
    folder: Path, views: Sequence[str], split: str, frame_rate: float | None
) -> list[tuple[Record, CamusClip] | Skipped]:
    """Return a record of each usable view of a patient, and the reason for each other view."""
    info: dict[str, dict[str, str] | UnreadableClipError] = {}
    for view in VIEWS:
        try:
            info[view] = read_info(folder / f"Info_{view}.cfg")
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


def read_info(path: Path) -> dict[str, str]:
    """Return the `Key: value` lines of a cfg file as a dictionary."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        raise UnreadableClipError(
            f"{path.name} is missing or not a text file: copy it again"
        ) from None
    pairs = (line.partition(":") for line in lines if ":" in line)
    return {key.strip(): value.strip() for key, _, value in pairs}


def _volumes(folder: Path, stated: list[dict[str, str]]) -> tuple[float, float, float]:
    """Return a patient's EDV [mL], ESV [mL] and EF [%], after checking them."""
    edv, esv = _stated(stated, "LVedv"), _stated(stated, "LVesv")
    if edv is None or esv is None:
        edv, esv = (_from_label_maps(folder, instant) for instant in ("ED", "ES"))
    if not 0 < esv < edv:
        raise UnreadableClipError(f"ESV {esv:.4g} and EDV {edv:.4g} mL: expected 0 < ESV < EDV")
    check_volume("EDV", edv, PLAUSIBLE_EDV)
    check_volume("ESV", esv, PLAUSIBLE_ESV)
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
    """Return a number stated in the patient's cfg files, or None if neither states it."""
    values = {number(facts, key) for facts in stated for key in keys if key in facts}
    if len(values) > 1:
        raise UnreadableClipError(
            f"{' or '.join(keys)} is {' and '.join(f'{value:g}' for value in sorted(values))} in "
            "the two cfg files: expected the same number in both; copy them again"
        )
    return values.pop() if values else None


def _from_label_maps(folder: Path, instant: str) -> float:
    maps, spacings = [], []
    for view in VIEWS:
        path = find_file(folder, f"{folder.name}_{view}_{instant}_gt")
        try:
            image = CamusImage(path)
            check_extent(folder, view, image)
            maps.append(as_camus(image.read()[0]))
        except UnreadableClipError as error:
            raise UnreadableClipError(f"{path.name}: {error.reason}") from None
        spacings.append(image.spacing)
    two, four = maps
    try:
        volume = simpson_biplane(two, four, (spacings[0], spacings[1]))
    except UnreadableClipError as error:
        raise UnreadableClipError(f"{instant} label maps: {error.reason}") from None
    low, high = COMPUTED_VOLUME
    if not low <= volume <= high:
        raise UnreadableClipError(
            f"{instant} label maps give {volume:.3g} mL: expected {low:g} to {high:g}; the likely "
            "cause is a wrong pixel spacing, as of images that were resized; use the original files"
        )
    return volume


def check_extent(folder: Path, view: str, labels: CamusImage) -> None:
    """Compare the extent of a label map with that of its sequence, if there is one."""
    try:
        sequence = CamusImage(_find_sequence(folder, view))
    except UnreadableClipError:
        return  # the view is skipped for its own reason
    if not np.allclose(labels.extent, sequence.extent, rtol=EXTENT_TOLERANCE):
        (depth, across), (depth_there, across_there) = labels.extent, sequence.extent
        raise UnreadableClipError(
            f"shows {across:.4g} x {depth:.4g} mm, but its sequence shows {across_there:.4g} x "
            f"{depth_there:.4g} mm: one was resized without its pixel spacing; use the original "
            "files"
        )


def _read_view(
    folder: Path, view: str, facts: dict[str, str], frame_rate: float | None
) -> tuple[Path, int, float, CamusClip]:
    """Return a view's file, number of frames, frame rate [1/s] and details, after checking them."""
    path = _find_sequence(folder, view)
    fps = number(facts, "FrameRate") if "FrameRate" in facts else frame_rate
    if fps is None:
        raise UnreadableClipError(
            f"Info_{view}.cfg has no FrameRate: call read_camus with frame_rate=, the frame rate "
            "[1/s] of these scans"
        )
    if not SLOWEST_RATE <= fps <= FASTEST_RATE:
        raise UnreadableClipError(
            f"{fps:g} frames/s: expected {SLOWEST_RATE:g} to {FASTEST_RATE:g}"
        )
    image = CamusImage(path)
    if image.count < LEAST_COMPLETE * number(facts, "NbFrame"):
        raise UnreadableClipError(
            f"{path.name} has {image.count} of the {facts['NbFrame']} frames stated in "
            f"Info_{view}.cfg: copy it again"
        )
    ed, es = number(facts, "ED"), number(facts, "ES")
    if ed == es or not all(1 <= frame <= image.count for frame in (ed, es)):
        raise UnreadableClipError(
            f"ED {ed:g} and ES {es:g}: expected two frames among 1 to {image.count}"
        )
    phase = "ejection" if ed < es else "filling"
    quality = facts.get("ImageQuality") or "unknown"
    return path, image.count, fps, CamusClip(folder.name, view, quality, image.spacing, phase)


def _find_sequence(folder: Path, view: str) -> Path:
    return find_file(
        folder, f"{folder.name}_{view}_half_sequence", f"{folder.name}_{view}_sequence"
    )


def find_file(folder: Path, *stems: str) -> Path:
    """Return the first of some files that exists; raise UnreadableClipError if none does."""
    for stem in stems:
        for suffix in SUFFIXES:
            if (path := folder / f"{stem}{suffix}").is_file():
                return path
    raise UnreadableClipError(f"{stems[0]}{SUFFIXES[0]} is missing: copy the patient again")


def number(facts: dict[str, str], key: str) -> float:
    """Return a number of a cfg file; raise UnreadableClipError if it is missing."""
    try:
        value = float(facts.get(key, ""))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UnreadableClipError(f"{key} is {facts.get(key)!r} in the cfg file: expected a number")
    return value
