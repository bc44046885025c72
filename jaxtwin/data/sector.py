"""The scanner's picture within its screen: where the sector is, and nothing of what surrounds it.

A scanner's screen also carries the patient's name, depth ticks, menus and coloured traces. They
stand still or have colours; the heart moves and is grey.
"""

import numpy as np
from jaxtyping import Bool, UInt8
from scipy import ndimage, spatial

from jaxtwin.data.base import UnreadableClipError

# EchoNet-Dynamic's clips have this size and are cropped already. No screen is this small.
CROPPED_SIZE = 112
# A pixel stands still below this standard deviation over the clip. A codec's noise reaches it in
# places, but only in specks; the near field, which hardly moves, is above it in most clips.
STILL = 1.5
# A share of the screen below which what moves is a cursor, a clock or a heart-rate display.
SMALLEST_SECTOR = 0.02


def already_cropped(height: int, width: int) -> bool:
    """Whether frames of this size [pixels] are a sector already, and no scanner's screen."""
    return height == width <= CROPPED_SIZE


def tissue_brightness(
    rgb: UInt8[np.ndarray, "height width 3"],
) -> UInt8[np.ndarray, "height width"]:
    """Brightness of a colour image in which what is coloured is an overlay, and becomes black.

    A pixel is coloured where its weakest channel is less than half its strongest. The tints in
    which scanners show tissue are far from that; flow colours, traces and markers are beyond it.
    """
    red, green, blue = (rgb[..., channel].astype(np.uint16) for channel in range(3))
    strongest = np.maximum(np.maximum(red, green), blue)
    weakest = np.minimum(np.minimum(red, green), blue)
    # Near black, compression alone gives a pixel a colour: hence the second condition.
    coloured = (2 * weakest < strongest) & (strongest - weakest > 32)
    # BT.601's weights in 256ths: they are what made the brightness that JPEG and video store.
    brightness = (77 * red + 150 * green + 29 * blue) >> 8
    return np.where(coloured, 0, brightness).astype(np.uint8)


def crop_to_sector(
    frames: UInt8[np.ndarray, "time height width"],
) -> UInt8[np.ndarray, "time cropped_height cropped_width"]:
    """Cuts the sector out of a scanner's screen, black around it.

    Args:
        frames: Brightness. Frames for which `already_cropped` holds come back untouched.

    Returns:
        The sector's bounding box, black outside of the sector.

    Raises:
        UnreadableClipError: Nothing in the frames moves.
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
    """Where the sector is: the convex hull of the largest connected area that moves.

    A sector is convex, so the hull adds its still parts (the near field, black blood, shadows)
    and no more.

    Raises:
        UnreadableClipError: Nothing in the frames moves.
    """
    height, width = frames.shape[1:]
    total, squares = np.zeros((2, height, width))
    for frame in frames:
        total += frame
        squares += frame.astype(float) ** 2
    variance = squares / len(frames) - (total / len(frames)) ** 2

    # Opening removes specks and thin lines, over which the sector would reach to the next text.
    moves = ndimage.binary_opening(variance > STILL**2, np.ones((3, 3)))
    labels, _ = ndimage.label(moves)  # pyright: ignore[reportGeneralTypeIssues]
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    if sizes.max() < SMALLEST_SECTOR * variance.size:
        raise UnreadableClipError(
            "no area of the picture moves: expected an echo clip, whose sector is found by its "
            "motion; export the clip itself, not a still or a report"
        )

    row, column = np.ogrid[:height, :width]
    inside = np.ones((height, width), bool)
    hull = spatial.ConvexHull(np.argwhere(labels == sizes.argmax()))
    for row_normal, column_normal, offset in hull.equations:
        # A pixel more than the hull: its corners are the centres of the outermost pixels.
        inside &= row_normal * row + column_normal * column + offset <= 1.0
    return inside
