"""Volumes from label maps by the method of discs, of one view or of two."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from scipy import ndimage

from jaxtwin.data.base import UnreadableClipError
from jaxtwin.data.simpson import ATRIUM, CAVITY, MYOCARDIUM, simpson_biplane

DISCS = 20
SMALLEST = 40  # [pixels]; a smaller cavity has no axis
TOUCHING = 3  # [pixels] between the cavity and the atrium at the annulus


class Shape(NamedTuple):
    """The cavity in each frame of a clip.

    Attributes:
        volume: Volume by 20 discs perpendicular to the long axis [mL; cubic pixels / 1000 where
            the pixels' size is not known]; NaN without a cavity.
        length: Length of the long axis [cm; pixels / 10].
        area: Area of the cavity [cm²; square pixels / 100].
        quality: From 0 to 1: how much of the cavity is in one piece, bordered by myocardium and
            atrium, and not at the edge of the picture.
    """

    volume: Float[np.ndarray, " time"]
    length: Float[np.ndarray, " time"]
    area: Float[np.ndarray, " time"]
    quality: Float[np.ndarray, " time"]


def cavity_shape(
    labels: UInt8[np.ndarray, "time height width"], pixel: tuple[float, float] | None = None
) -> Shape:
    """Measure the cavity in each frame.

    V = π/4 · Σ d_i² · L/20 with the diameters d_i of 20 discs of equal height along the long axis
    of length L, from the middle of the mitral annulus to the apex: the single-plane method of Lang
    et al., "Recommendations for Cardiac Chamber Quantification by Echocardiography in Adults", J Am
    Soc Echocardiogr 28:1-39, 2015. A ventricle that is not round makes it wrong by the ratio of its
    diameters, in all frames alike.

    Args:
        labels: Label map of each frame: 1 is the cavity, 2 the myocardium, 3 the left atrium.
        pixel: Height and width of a pixel [mm]; None if they are not known.
    """
    size = np.array((1.0, 1.0) if pixel is None else pixel)
    rows = [_measure(frame, size) for frame in labels]
    return Shape(*np.array(rows, float).reshape(-1, 4).T)


def biplane(
    two_chamber: UInt8[np.ndarray, "time2 height2 width2"],
    four_chamber: UInt8[np.ndarray, "time4 height4 width4"],
    pixels: tuple[tuple[float, float], tuple[float, float]],
) -> Float[np.ndarray, " time2"]:
    """Return the volume in each frame from two views at right angles [mL].

    Unlike a single plane it is right for a ventricle that is not round; see
    `data.simpson.simpson_biplane` for the formula.

    Args:
        two_chamber: Label maps of the two-chamber view.
        four_chamber: Label maps of the four-chamber view at the same phases of the beat.
        pixels: Height and width of a pixel in each view [mm].

    Returns:
        The volumes; NaN where one of the views has no cavity that can be measured.

    Raises:
        ValueError: If the views do not have the same number of frames.
    """

    def volume(two: UInt8[np.ndarray, "..."], four: UInt8[np.ndarray, "..."]) -> float:
        try:
            return simpson_biplane(two, four, pixels)
        except UnreadableClipError:
            return np.nan

    if len(two_chamber) != len(four_chamber):
        raise ValueError(
            f"{len(two_chamber)} label maps of the two-chamber view and {len(four_chamber)} of the "
            "four-chamber view: expected pairs at the same phases"
        )
    return np.array([volume(*pair) for pair in zip(two_chamber, four_chamber, strict=True)])


def _measure(
    labels: UInt8[np.ndarray, "height width"], pixel: Float[np.ndarray, " 2"]
) -> tuple[float, float, float, float]:
    cavity = labels == CAVITY
    pieces, number = ndimage.label(cavity)  # pyright: ignore[reportGeneralTypeIssues]
    if number == 0:
        return np.nan, np.nan, 0.0, 0.0
    sizes = np.bincount(pieces.ravel())[1:]
    largest = int(sizes.argmax())
    # The rest looks at the cavity's neighbourhood alone.
    window = tuple(
        slice(max(part.start - TOUCHING - 1, 0), part.stop + TOUCHING + 1)
        for part in ndimage.find_objects(pieces)[largest]
    )
    height, width = labels.shape
    corner, labels = np.array([part.start for part in window]), labels[window]
    cavity = np.asarray(ndimage.binary_fill_holes(pieces[window] == 1 + largest))
    area = float(cavity.sum() * pixel.prod() / 100)
    if cavity.sum() < SMALLEST:
        return np.nan, np.nan, area, 0.0
    rim = cavity & np.logical_not(ndimage.binary_erosion(cavity))
    around = np.asarray(ndimage.binary_dilation(cavity)) & ~cavity
    walled = np.isin(labels[around], (MYOCARDIUM, ATRIUM)).mean()
    row, column = corner[:, None] + np.nonzero(rim)
    ends = [row == 0, row == height - 1, column == 0, column == width - 1]
    at_edge = np.sum(ends) / len(row)
    quality = float(sizes.max() / sizes.sum() * walled * (1 - at_edge))
    points = (corner + np.argwhere(cavity)) * pixel
    edge = np.column_stack([row, column]) * pixel
    middle = points.mean(axis=0)
    near = np.zeros(len(edge), bool)
    if (labels == ATRIUM).any():
        away = ndimage.distance_transform_edt(labels != ATRIUM)
        near = np.asarray(away)[rim] <= TOUCHING
    if near.sum() >= 2:
        base = edge[near].mean(axis=0)
    else:
        # Without an atrium: the lower end of the longest direction, as apical views show it.
        along = np.linalg.svd(np.cov((points - middle).T))[0][:, 0]
        along = along * (1 if along[0] > 0 else -1)
        base = middle + along * ((points - middle) @ along).max()
    apex = edge[np.argmax(np.linalg.norm(edge - base, axis=1))]
    axis = (apex - base) / np.linalg.norm(apex - base)
    place = (points - base) @ axis
    low, high = place.min(), place.max()
    # A pixel counts for its whole height.
    thick = float(np.abs(axis) @ pixel)
    length = high - low + thick
    disc = np.clip(((place - low + thick / 2) / length * DISCS).astype(int), 0, DISCS - 1)
    diameters = np.bincount(disc, minlength=DISCS) * pixel.prod() / (length / DISCS)
    volume = np.pi / 4 * np.sum(diameters**2) * length / DISCS
    return volume / 1000, length / 10, area, quality
