"""Frame times of a DICOM file, which several of its tags may state."""

import numpy as np
import pydicom
from jaxtyping import Float
from pydicom.datadict import keyword_for_tag
from pydicom.multival import MultiValue

from jaxtwin.data.base import UnreadableClipError

# Two tags agree if their frame rates differ by less than either tolerance. Rates are stored as
# whole numbers, and scanners round frame times to milliseconds.
RATE_TOLERANCE = 1.0  # [1/s]
RELATIVE_RATE_TOLERANCE = 0.05


def frame_times(
    header: pydicom.Dataset, count: int
) -> tuple[Float[np.ndarray, " count"], list[str]]:
    """Return the time of each frame [s], and what is doubtful about it.

    FrameIncrementPointer decides which tag is used. Without it, or if that tag is unusable, the
    first usable one is.
    """
    stated = _stated_times(header, count)
    if not stated:
        raise UnreadableClipError(
            "states no frame time or rate (FrameTime, FrameTimeVector, CineRate): "
            "export it from the scanner again as a clip"
        )
    pointer = header.get("FrameIncrementPointer")
    tags = pointer if isinstance(pointer, MultiValue) else [pointer] if pointer else []
    pointed = [keyword_for_tag(tag) or str(tag) for tag in tags]
    used = next((name for name in pointed if name in stated), next(iter(stated)))
    doubts = []
    if pointed and used not in pointed:
        doubts.append(
            f"FrameIncrementPointer names {' and '.join(pointed)}, which does not state a time "
            f"for each of the {count} frames; used {used} instead, so check the frame rate"
        )
    reason = (
        "FrameIncrementPointer names it"
        if used in pointed
        else "there is no usable FrameIncrementPointer"
    )
    duration = float(stated[used][-1])
    for name, times in stated.items():
        # The rate of display may differ on purpose, as in slow motion.
        if name != "RecommendedDisplayFrameRate" and not _agree(stated[used], times):
            doubts.append(
                f"{used} gives {duration:.3g} s for {count} frames, but {name} gives "
                f"{times[-1]:.3g} s; used {used}, because {reason}; check the frame rate"
            )
    return stated[used], doubts


def _stated_times(header: pydicom.Dataset, count: int) -> dict[str, Float[np.ndarray, " count"]]:
    """Return the time of each frame [s] according to each usable tag."""
    stated = {}
    if header.get("FrameTime"):
        stated["FrameTime"] = np.arange(count) * (float(header.FrameTime) * 1e-3)
    if "FrameTimeVector" in header and count == header["FrameTimeVector"].VM > 1:
        # Milliseconds since the previous frame; the first is 0 by definition, but not in all files.
        steps = [0.0, *(float(step) * 1e-3 for step in header.FrameTimeVector[1:])]
        stated["FrameTimeVector"] = np.cumsum(steps)
    for name in ("CineRate", "RecommendedDisplayFrameRate"):
        if header.get(name):
            stated[name] = np.arange(count) / float(header[name].value)
    return stated


def _agree(times: Float[np.ndarray, " count"], others: Float[np.ndarray, " count"]) -> bool:
    if len(times) < 2 or times[-1] <= 0 or others[-1] <= 0:
        return True  # a still image or negative times, which are refused later
    rate, other = ((len(times) - 1) / float(each[-1]) for each in (times, others))
    return abs(rate - other) <= max(RATE_TOLERANCE, RELATIVE_RATE_TOLERANCE * rate)
