"""Label maps: from outlines that a reader drew, and in another size."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Shaped, UInt8

from jaxtwin.data.base import UnreadableClipError
from jaxtwin.data.simpson import CAVITY, NOT_CAVITY

Outline = Float[np.ndarray, "points 2"]
"""Column and row of each point [pixels]; (0, 0) is the middle of the first pixel."""

FEWEST = 5  # points of an outline, and discs of a ventricle
# A reader may complete a wall that is just outside of the picture. Farther outside, as a fraction
# of the picture's height or width, an outline belongs to another picture.
OUTSIDE = 0.05
_PARTS = 4  # of a pixel in each direction


def filled(outline: Outline, shape: tuple[int, int]) -> Bool[np.ndarray, "height width"]:
    """Return the pixels of which at least half lies inside an outline.

    Args:
        outline: The outline; its last point is joined to its first.
        shape: Height and width of the picture [pixels].
    """
    height, width = shape
    points = (outline + 0.5) * _PARTS - 0.5
    (x, y), (x_next, y_next) = points.T, np.roll(points, -1, axis=0).T
    rows = np.arange(height * _PARTS)[:, None]
    row, edge = np.nonzero((y <= rows) != (y_next <= rows))
    share = (row - y[edge]) / (y_next[edge] - y[edge])
    crossing = np.ceil(x[edge] + share * (x_next[edge] - x[edge]))
    crossings = np.zeros((height * _PARTS, width * _PARTS + 1), int)
    np.add.at(crossings, (row, np.clip(crossing, 0, width * _PARTS).astype(int)), 1)
    inside = np.cumsum(crossings, axis=1)[:, :-1] % 2
    return inside.reshape(height, _PARTS, width, _PARTS).mean(axis=(1, 3)) >= 0.5


def check_outline(outline: Outline, shape: tuple[int, int]) -> None:
    """Check that an outline encloses something, and that it lies in its picture.

    Raises:
        UnreadableClipError: If it does not.
    """
    if len(outline) < FEWEST:
        raise UnreadableClipError(
            f"an outline of {len(outline)} points: expected at least {FEWEST}; copy the tracings "
            "again"
        )
    size = np.array(shape[::-1])
    low, high = outline.min(axis=0), outline.max(axis=0)
    if (low < -OUTSIDE * size).any() or (high > (1 + OUTSIDE) * size - 1).any():
        raise UnreadableClipError(
            f"an outline over columns {low[0]:.4g} to {high[0]:.4g} and rows {low[1]:.4g} to "
            f"{high[1]:.4g}, in a picture of {shape[1]} columns and {shape[0]} rows: it belongs to "
            "another clip, or to this clip in another size"
        )


def cavity_map(outline: Outline, shape: tuple[int, int]) -> UInt8[np.ndarray, "height width"]:
    """Return the label map of a picture in which nothing but the cavity was traced.

    Args:
        outline: Outline of the cavity.
        shape: Height and width of the picture [pixels].

    Returns:
        `CAVITY` inside the outline and `NOT_CAVITY` elsewhere.

    Raises:
        UnreadableClipError: If the outline has too few points, lies outside of the picture, or
            encloses nothing.
    """
    check_outline(outline, shape)
    inside = filled(outline, shape)
    if not inside.any():
        raise UnreadableClipError("an outline that encloses nothing: copy the tracings again")
    return np.where(inside, CAVITY, NOT_CAVITY).astype(np.uint8)


def resampled(
    labels: Shaped[np.ndarray, "time height width"],
    resample: Callable[
        [UInt8[np.ndarray, "time height width"]], UInt8[np.ndarray, "time new_height new_width"]
    ],
) -> UInt8[np.ndarray, "time new_height new_width"]:
    """Return label maps in another size: in each pixel the label that covers most of it.

    Args:
        labels: The maps.
        resample: What was done to the pictures; it averages areas, and what lies outside is black.
    """
    values = np.unique(labels[labels != 0])
    shares = [resample(np.where(labels == value, 255, 0).astype(np.uint8)) for value in values]
    if not shares:
        return resample(np.zeros(labels.shape, np.uint8))
    covered = np.stack(shares).astype(int)
    rest = np.clip(255 - covered.sum(axis=0), 0, 255)
    most = np.concatenate([rest[None], covered]).argmax(axis=0)
    return np.concatenate([[0], values])[most].astype(np.uint8)
