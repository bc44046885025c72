"""Cropping a scanner's screen to the sector of the ultrasound image.

A scanner's screen also shows the patient's name, depth ticks, menus and coloured traces. They
are static or coloured; the heart is grey and moves.
"""

import numpy as np
from jaxtyping import Bool, Int, UInt8
from scipy import ndimage, spatial

from jaxtwin.data.base import UnreadableClipError

Pixels = Int[np.ndarray, "_ 2"]  # row and column of each
Point = Int[np.ndarray, "2"]

# EchoNet-Dynamic's clips have this size and are already cropped. No screen is this small.
CROPPED_SIZE = 112
# A pixel is static below this standard deviation over the clip. Compression noise exceeds it only
# in isolated specks; the near field, which hardly moves, is above it in most clips.
STILL = 1.5
# Fraction of the screen below which a moving area is a cursor, a clock or a heart-rate display.
SMALLEST_SECTOR = 0.02
# A dark band (a shadow of a rib, a line of text) may split a sector into parts of at least this
# fraction of the largest part,
SMALLEST_PART = 0.05
# and is at most this wide, as a fraction of the height or width of the sector. The apices of two
# sectors side by side are farther apart.
WIDEST_BAND = 0.4
# Allowance for ragged edges, as a fraction of the same.
RAGGED = 0.05
# Pixels at most this far from a straight edge lie on it.
EDGE = 3.0
# A rectangle that is at least so many times longer than wide is a trace, such as the ECG.
TRACE_ASPECT = 3.0
# Another area that moves, of at least this fraction of the sector and not a trace, is a second
# panel: there is no way to tell which of the two is meant.
SECOND_PANEL = 0.25


def already_cropped(height: int, width: int) -> bool:
    """Return whether frames of this size [pixels] are already cropped to the sector."""
    return height == width <= CROPPED_SIZE


def tissue_brightness(
    rgb: UInt8[np.ndarray, "height width 3"],
) -> UInt8[np.ndarray, "height width"]:
    """Return the brightness of a colour image, with coloured overlays made black.

    A pixel counts as coloured if its weakest channel is less than half its strongest. The tints
    in which scanners show tissue are well above this ratio; flow colours, traces and markers are
    below it.
    """
    red, green, blue = (rgb[..., channel].astype(np.uint16) for channel in range(3))
    strongest = np.maximum(np.maximum(red, green), blue)
    weakest = np.minimum(np.minimum(red, green), blue)
    # The second condition is needed because compression alone tints pixels that are nearly black.
    coloured = (2 * weakest < strongest) & (strongest - weakest > 32)
    # BT.601's weights in 256ths: they are what made the brightness that JPEG and video store.
    brightness = (77 * red + 150 * green + 29 * blue) >> 8
    return np.where(coloured, 0, brightness).astype(np.uint8)


def crop_to_sector(
    frames: UInt8[np.ndarray, "time height width"],
) -> UInt8[np.ndarray, "time cropped_height cropped_width"]:
    """Crop a scanner's screen to the sector.

    Args:
        frames: Brightness. Frames that are `already_cropped` are returned unchanged.

    Returns:
        The sector's bounding box, black outside the sector.

    Raises:
        UnreadableClipError: If nothing in the frames moves.
    """
    if already_cropped(*frames.shape[1:]):
        return frames
    inside = find_sector(frames)
    rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return frames[(slice(None), *box)] * inside[box]


def find_sector(
    frames: UInt8[np.ndarray, "time height width"],
) -> Bool[np.ndarray, "height width"]:
    """Return a mask of the sector: the convex hull of what moves, without traces and clocks.

    A sector is convex, so the hull adds only its static parts (the near field, black blood,
    shadows, a dark band that splits it).

    Raises:
        UnreadableClipError: If nothing in the frames moves, or two areas that do not make up one
            sector do.
    """
    height, width = frames.shape[1:]
    total, squares = np.zeros((2, height, width))
    for frame in frames:
        total += frame
        squares += frame.astype(float) ** 2
    variance = squares / len(frames) - (total / len(frames)) ** 2

    # Opening removes specks and thin lines, which could connect the sector to nearby text.
    moves = ndimage.binary_opening(variance > STILL**2, np.ones((3, 3)))
    labels, _ = ndimage.label(moves)  # pyright: ignore[reportGeneralTypeIssues]
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    if sizes.max() < SMALLEST_SECTOR * variance.size:
        raise UnreadableClipError(
            "no area of the picture moves: expected an echo clip, in which the sector is found by "
            "its motion; export the clip itself, not a still image or a report"
        )
    smallest = min(SMALLEST_SECTOR * variance.size, SMALLEST_PART * sizes.max())
    order = [label for label in np.argsort(-sizes) if sizes[label] >= smallest]
    parts = [np.argwhere(labels == label) for label in order]
    # A trace may move in a larger area than each part of a split sector.
    candidates = [part for part in parts if not _is_trace(part)] or parts
    return hull_mask(_joined(candidates), (height, width))


def hull_mask(points: Pixels, shape: tuple[int, int]) -> Bool[np.ndarray, "height width"]:
    """Return which pixels lie in the convex hull of some of them."""
    row, column = np.ogrid[: shape[0], : shape[1]]
    inside = np.ones(shape, bool)
    for row_normal, column_normal, offset in spatial.ConvexHull(points).equations:
        # One pixel wider than the hull, whose corners are the centres of the outermost pixels.
        inside &= row_normal * row + column_normal * column + offset <= 1.0
    return inside


def _joined(parts: list[Pixels]) -> Pixels:
    """Return the pixels of the first part, the largest, and of all that make up a sector with it.

    Raises:
        UnreadableClipError: If there is a second panel.
    """
    sector, others = parts[0], parts[1:]
    while True:
        joining = [part for part in others if _belongs(sector, part)]
        if not joining:
            break
        others = [part for part in others if not any(part is other for other in joining)]
        sector = np.concatenate([sector, *joining])
    for part in others:
        if len(part) >= SECOND_PANEL * len(sector) and _thickness(part) >= SECOND_PANEL * min(
            _extent(sector)
        ):
            raise UnreadableClipError(
                "two areas of the picture move that are not one sector, such as two panels side by "
                "side: export a clip that shows one view, or crop it to one sector"
            )
    return sector


def _belongs(sector: Pixels, part: Pixels) -> bool:
    """Return whether a part and the sector are two sides of one dark band.

    Where a convex area is split, the gap is narrowest at one of its ends. Two separate convex
    areas, such as a sector and the ECG under its arc, are closest somewhere in between.
    """
    if _same_shape(sector, part):
        return False
    both = np.concatenate([sector, part])
    corners = spatial.ConvexHull(both).vertices
    edges = zip(corners, np.roll(corners, -1), strict=True)
    gaps = [
        _gap(sector, part, both[first], both[second])
        for first, second in edges
        if (first < len(sector)) != (second < len(sector))
    ]
    if not gaps:
        return True  # inside the hull
    size = min(_extent(both))
    closest = float(spatial.KDTree(sector).query(part)[0].min())
    return min(gaps) <= 1.5 * closest + RAGGED * size and max(gaps) <= WIDEST_BAND * size


def _gap(sector: Pixels, part: Pixels, start: Point, end: Point) -> float:
    """Return how far apart two areas are along an edge of their common hull [pixels]."""
    length = float(np.linalg.norm(end - start))
    along, across = (
        (end - start) / length,
        np.array([start[1] - end[1], end[0] - start[0]]) / length,
    )
    places = []
    for points in (sector, part):
        offset = points - start
        at_edge = np.abs(offset @ across) <= EDGE
        places.append(offset[at_edge] @ along)
    low, high = sorted(places, key=np.mean)
    return max(float(high.min() - low.max()), 0.0)


def _extent(points: Pixels) -> tuple[int, int]:
    height, width = np.ptp(points, axis=0) + 1
    return int(height), int(width)


def _thickness(points: Pixels) -> float:
    """Return the mean width [pixels] across the longer side."""
    return len(points) / max(_extent(points))


def _is_trace(points: Pixels) -> bool:
    """Return whether an area is a long rectangle, upright or lying."""
    height, width = _extent(points)
    hull = spatial.ConvexHull(points)
    filled = hull.volume >= 0.95 * (height - 1) * (width - 1)
    return bool(filled and max(height, width) >= TRACE_ASPECT * min(height, width))


def _same_shape(one: Pixels, other: Pixels) -> bool:
    """Return whether two areas are copies of each other, as panels are; halves are mirrored."""
    extents = np.array([_extent(one), _extent(other)])
    if np.any(np.ptp(extents, axis=0) > RAGGED * extents.max(axis=0)):
        return False
    shape = int(extents[:, 0].max()), int(extents[:, 1].max())
    first, second = (hull_mask(each - each.min(axis=0), shape) for each in (one, other))
    return bool(np.sum(first & second) >= 0.9 * np.sum(first | second))
