"""Which label of a label map is the cavity, told from its shape."""

import itertools
import warnings

import numpy as np
from jaxtyping import Bool, Shaped, UInt8
from scipy import ndimage

from jaxtwin.data.base import UnreadableClipError
from jaxtwin.data.simpson import ATRIUM, CAVITY, MYOCARDIUM

# The myocardium surrounds the cavity except at the mitral annulus. The rim of every other label is
# mostly background, the myocardium's too: its outer side is longer than its inner one.
LEAST_ENCLOSED = 0.5
# Share of the cavity's rim from which the third label is the atrium. A right ventricle lies beyond
# the septum.
LEAST_ANNULUS = 0.05


def as_camus(labels: Shaped[np.ndarray, "height width"]) -> UInt8[np.ndarray, "height width"]:
    """Return a label map numbered as in CAMUS: 1 cavity, 2 myocardium, 3 left atrium.

    Data sets number their labels differently: in ACDC, 3 is the cavity, 2 the myocardium and 1 the
    right ventricle. The cavity is the label that the myocardium encloses. A map without a
    myocardium is returned as it is. In a renumbered map, labels other than these three become
    background.

    Raises:
        UnreadableClipError: If no label is enclosed by another, or labels are not whole numbers.
    """
    found = np.unique(labels[labels != 0])
    if not np.isin(found, np.arange(1, 256)).all():
        raise UnreadableClipError(
            f"labels {found.min():g} to {found.max():g}: expected whole numbers from 0 to 255; "
            "the map may have been resized with interpolation, so use the original file"
        )
    numbers = {int(label) for label in found}
    labels = labels.astype(np.uint8)
    if len(numbers) < 2 or numbers == {CAVITY, ATRIUM}:
        return labels
    wall = labels == MYOCARDIUM
    expected = _enclosed(labels == CAVITY, wall)
    others = (_enclosed(labels == label, wall) for label in numbers - {CAVITY, MYOCARDIUM})
    if expected >= LEAST_ENCLOSED and expected > max(others, default=0.0):
        return labels
    shares = {
        (cavity, wall): _enclosed(labels == cavity, labels == wall)
        for cavity, wall in itertools.permutations(sorted(numbers), 2)
    }
    (cavity, wall), share = max(shares.items(), key=lambda item: item[1])
    if share < LEAST_ENCLOSED:
        raise UnreadableClipError(
            f"labels {', '.join(map(str, sorted(numbers)))}, of which none encloses another: "
            "expected 1 for the cavity, 2 for the myocardium around it and 3 for the left atrium; "
            "number the labels as in CAMUS"
        )
    renumbered = np.zeros_like(labels)
    renumbered[labels == cavity], renumbered[labels == wall] = CAVITY, MYOCARDIUM
    for other in numbers - {cavity, wall}:
        if _enclosed(labels == cavity, labels == other) >= LEAST_ANNULUS:
            renumbered[labels == other] = ATRIUM
    warnings.warn(
        f"label maps number the cavity {cavity} and the myocardium {wall}, told from their shapes; "
        f"CAMUS numbers them {CAVITY} and {MYOCARDIUM}: check that these are the label maps that "
        "belong to the clips",
        stacklevel=2,
    )
    return renumbered


def _enclosed(
    area: Bool[np.ndarray, "height width"], wall: Bool[np.ndarray, "height width"]
) -> float:
    """Return the share of an area's rim that borders on another label."""
    rim = np.asarray(ndimage.binary_dilation(area)) & ~area
    # Labels may be drawn with a line of background between them.
    near = np.asarray(ndimage.binary_dilation(wall, iterations=2))
    return float(np.mean(near[rim])) if rim.any() else 0.0
