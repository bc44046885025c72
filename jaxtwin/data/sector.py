"""Cropping a scanner's screen to the sector of the ultrasound image.

A scanner's screen also shows the patient's name, depth ticks, menus and coloured traces. They
are static or coloured; the heart is grey and moves.
"""

import numpy as np
from jaxtyping import Bool, UInt8
from scipy import ndimage, spatial

from jaxtwin.data.base import UnreadableClipError

# EchoNet-Dynamic's clips have this size and are already cropped. No screen is this small.
CROPPED_SIZE = 112
# A pixel is static below this standard deviation over the clip. Compression noise exceeds it only
# in isolated specks; the near field, which hardly moves, is above it in most clips.
STILL = 1.5
# Fraction of the screen below which a moving area is a cursor, a clock or a heart-rate display.
SMALLEST_SECTOR = 0.02


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
    """Return a mask of the sector: the convex hull of the largest connected moving area.

    A sector is convex, so the hull adds only its static parts (the near field, black blood,
    shadows).

    Raises:
        UnreadableClipError: If nothing in the frames moves.
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

    row, column = np.ogrid[:height, :width]
    inside = np.ones((height, width), bool)
    hull = spatial.ConvexHull(np.argwhere(labels == sizes.argmax()))
    for row_normal, column_normal, offset in hull.equations:
        # One pixel wider than the hull, whose corners are the centres of the outermost pixels.
        inside &= row_normal * row + column_normal * column + offset <= 1.0
    return inside
