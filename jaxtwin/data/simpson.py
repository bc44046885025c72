"""Volumes from label maps of two views by Simpson's biplane rule."""

import numpy as np
from jaxtyping import Bool, Float, Shaped
from scipy import ndimage
from scipy.spatial.distance import cdist

from jaxtwin.data.base import UnreadableClipError

CAVITY, MYOCARDIUM, ATRIUM = 1, 2, 3  # labels; 0 is anything else
# What a tracing of one chamber leaves open: this pixel is anything but the cavity, or anything.
NOT_CAVITY, UNKNOWN = 254, 255
SMALLEST_CAVITY = 100.0  # [mm²]; a real cavity is ten times larger, a smaller one has no axis
DISCS = 20
# Contours are drawn separately, so a line of unlabelled pixels may lie between the chambers.
ANNULUS_GAP = 2.0  # [mm]


def simpson_biplane(
    two_chamber_mask: Shaped[np.ndarray, "height2 width2"],
    four_chamber_mask: Shaped[np.ndarray, "height4 width4"],
    spacings: tuple[tuple[float, float], tuple[float, float]],
) -> float:
    """Return the ventricle's volume by the biplane method of discs.

    V = π/4 · Σ a_i b_i · L/20, where a_i and b_i are the diameters in the two views of 20 discs
    of equal height, perpendicular to the long axis. The long axis runs from the centre of the
    mitral annulus to the apex, the point of the cavity farthest from it; L is the longer axis of
    the two views. See Lang et al., "Recommendations for Cardiac Chamber Quantification by
    Echocardiography in Adults", J Am Soc Echocardiogr 28:1-39, 2015, p. 4 and table 1.

    Args:
        two_chamber_mask: Label map of the two-chamber view: 1 (or True) is the cavity, 3 the
            left atrium. The annulus is where the two meet or, without an atrium, the wider end
            of the cavity.
        four_chamber_mask: Label map of the four-chamber view at the same instant.
        spacings: Height and width of a pixel in each view [mm].

    Returns:
        The volume [mL].

    Raises:
        UnreadableClipError: If the cavity in a map is missing or too small, or the atrium does
            not touch it.
    """
    two, four = (
        _discs(mask, spacing)
        for mask, spacing in zip((two_chamber_mask, four_chamber_mask), spacings, strict=True)
    )
    length = max(two[1], four[1])
    return float(np.pi / 4 * np.sum(two[0] * four[0]) * length / DISCS / 1000)


def _discs(
    labels: Shaped[np.ndarray, "height width"], spacing: tuple[float, float]
) -> tuple[Float[np.ndarray, " discs"], float]:
    """Return the disc diameters from annulus to apex and the length of the long axis [mm]."""
    cavity = _largest_part(labels == CAVITY)
    pixel = np.asarray(spacing)
    if not (area := np.sum(cavity) * pixel.prod()) >= SMALLEST_CAVITY:
        raise UnreadableClipError(
            f"a cavity (label 1) of {area:.3g} mm²: expected at least {SMALLEST_CAVITY:g}; copy "
            "the label map again"
        )
    border = cavity & np.logical_not(ndimage.binary_erosion(cavity))
    points = np.argwhere(border) * pixel
    if np.any(labels == ATRIUM):
        away = ndimage.distance_transform_edt(labels != ATRIUM, sampling=spacing)
        # A border pixel is at least its own size away from the nearest pixel of the atrium.
        near = np.asarray(away)[border] <= ANNULUS_GAP + max(spacing)
    else:
        near = _wider_end(cavity, points, pixel)
    annulus = points[near]
    if len(annulus) < 2:
        raise UnreadableClipError(
            "the left atrium (label 3) does not touch the cavity (label 1), so the mitral annulus "
            "cannot be found: check the label map"
        )

    # The annulus is the straight line between the two hinge points of the leaflets.
    distances = cdist(annulus, annulus)
    hinges = np.unravel_index(distances.argmax(), distances.shape)
    middle = annulus[list(hinges)].mean(axis=0)
    apex = points[np.argmax(np.linalg.norm(points - middle, axis=1))]
    axis = (apex - middle) / np.linalg.norm(apex - middle)
    across = np.array([-axis[1], axis[0]])

    # The mask is interpolated between pixels: the cavity's edge is where the value is one half,
    # and the sum along a line is the length of the line inside the cavity.
    values = cavity.astype(np.float32)
    reach = distances.max() + np.linalg.norm(apex - middle)

    def along(start: Float[np.ndarray, "..."], direction: Float[np.ndarray, " 2"], step: float):
        places = np.arange(-reach, reach, step)
        pixels = (start[..., None, :] + places[:, None] * direction) / pixel
        return places, ndimage.map_coordinates(values, np.moveaxis(pixels, -1, 0), order=1)

    places, inside = along(middle, axis, min(spacing) / 10)
    base, end = places[inside >= 0.5][[0, -1]]
    heights = base + (np.arange(DISCS) + 0.5) / DISCS * (end - base)
    step = min(spacing) / 2
    _, inside = along(middle + heights[:, None] * axis, across, step)
    return inside.sum(axis=1, dtype=float) * step, float(end - base)


def _largest_part(mask: Bool[np.ndarray, "height width"]) -> Bool[np.ndarray, "height width"]:
    """Return the largest connected part, so that a stray pixel is not taken for the apex."""
    parts, _ = ndimage.label(mask)  # pyright: ignore[reportGeneralTypeIssues]
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return mask & (parts == sizes.argmax())


def _wider_end(
    cavity: Bool[np.ndarray, "height width"],
    border: Float[np.ndarray, "points 2"],
    pixel: Float[np.ndarray, " 2"],
) -> Bool[np.ndarray, " points"]:
    """Return which border points lie at the wider end of the cavity's longest direction."""
    inside = np.argwhere(cavity) * pixel
    middle = inside.mean(axis=0)
    longest = np.linalg.svd(np.cov((inside - middle).T))[0][:, 0]
    along = (inside - middle) @ longest
    low, high = along.min(), along.max()
    tenth = (high - low) / 10
    place = (border - middle) @ longest
    # The last twentieth, but at least two pixels for small maps.
    depth = max(tenth / 2, 2 * pixel.max())
    if np.sum(along < low + tenth) > np.sum(along > high - tenth):
        return place < low + depth
    return place > high - depth
