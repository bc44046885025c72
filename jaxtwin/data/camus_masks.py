"""CAMUS's label maps, in the frames and on the pixels of the clips that are read from it."""

import re
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from jaxtwin.data.base import UnreadableClipError
from jaxtwin.data.camus_image import CamusImage, to_field
from jaxtwin.data.camus_labels import as_camus
from jaxtwin.data.camus_patient import check_extent, find_file, number, read_info
from jaxtwin.data.outlines import resampled


def read_masks(path: str | Path) -> dict[int, UInt8[np.ndarray, "canvas canvas"]]:
    """Return the label maps of a sequence by frame, on the field of view of `read_camus_recording`.

    The official release has a map for every frame. In the older one, and where that file is
    missing, there are those at end diastole and end systole.

    Args:
        path: The sequence.

    Raises:
        UnreadableClipError: If there are no maps, they are damaged, or they do not fit the
            sequence.
    """
    path = Path(path)
    named = re.match(r"(patient\d+)_(2CH|4CH)_(half_)?sequence", path.name)
    if not named:
        raise UnreadableClipError(
            "expected a file named as in CAMUS, such as patient0001_4CH_half_sequence.nii.gz"
        )
    folder, view = path.parent, named[2]
    stem, sequence = f"{named[1]}_{view}", CamusImage(path)
    try:
        every = find_file(folder, f"{stem}_half_sequence_gt", f"{stem}_sequence_gt")
    except UnreadableClipError:
        facts, found = read_info(folder / f"Info_{view}.cfg"), {}
        for instant in ("ED", "ES"):
            frame = number(facts, instant) - 1
            if frame not in range(sequence.count):
                raise UnreadableClipError(
                    f"{instant} {frame + 1:g} in Info_{view}.cfg: expected 1 to {sequence.count}"
                ) from None
            found[int(frame)] = _read(find_file(folder, f"{stem}_{instant}_gt"), view)[0]
        return found
    maps = _read(every, view)
    if len(maps) != sequence.count:
        raise UnreadableClipError(
            f"{every.name} has {len(maps)} label maps for {sequence.count} frames: copy it again"
        )
    return dict(enumerate(maps))


def _read(path: Path, view: str) -> UInt8[np.ndarray, "time canvas canvas"]:
    image = CamusImage(path)
    check_extent(path.parent, view, image)
    maps = np.stack([as_camus(labels) for labels in image.read()])
    return resampled(maps, lambda stack: to_field(stack, image.spacing))
