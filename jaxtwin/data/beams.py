"""Scan conversion: from beams of a sector to a picture with square pixels."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from scipy import sparse

from jaxtwin.data.base import UnreadableClipError
from jaxtwin.data.camus_image import DEEPEST, SHALLOWEST

LONGER_SIDE = 224  # [pixels] of a picture; twice the 112 pixels of the default clip
_PARTS = 3  # of a pixel in each direction, over which its brightness is averaged
# The field in which each number may stand: in metres and radians, whatever its name.
DEPTHS = (("depth_start_m", "DepthStart"), ("depth_end_m", "DepthEnd"))
ANGLES = (("angle_start_rad", "AngleStart"), ("angle_end_rad", "AngleEnd"))
WIDTH, TILT = ("width_rad", "Width"), ("tilt_rad", "Tilt", "Angle")


@dataclasses.dataclass(frozen=True)
class Sector:
    """Geometry of a sector whose beams start from one point, the apex.

    Attributes:
        depths: Distance of the first and the last sample of a beam from the apex [mm].
        angles: Angle of the first and the last beam with the vertical [rad].
    """

    depths: tuple[float, float]
    angles: tuple[float, float]

    def __post_init__(self):
        (near, far), (first, last) = self.depths, self.angles
        if not (0 <= near < far and far - near >= SHALLOWEST and far <= DEEPEST):
            raise UnreadableClipError(
                f"a sector from {near:.4g} to {far:.4g} mm: expected {SHALLOWEST:g} to "
                f"{DEEPEST:g} mm; its depths may not be in metres"
            )
        if not (0 < last - first < np.pi and max(abs(first), abs(last)) < np.pi):
            raise UnreadableClipError(
                f"a sector from {first:.4g} to {last:.4g} rad: expected a width between 0 and π; "
                "its angles may not be in radians"
            )

    @classmethod
    def from_mapping(cls, geometry: Mapping[str, Any]) -> "Sector":
        """Read the geometry that EchoXFlow states with a picture, in metres and radians.

        The beams' angles are stated by the first and the last one, or by the width of the sector
        and its tilt.

        Raises:
            UnreadableClipError: If a number is missing or impossible.
        """
        near, far = (1000 * _number(geometry, names) for names in DEPTHS)
        if any(name in geometry for names in ANGLES for name in names):
            first, last = (_number(geometry, names) for names in ANGLES)
        else:
            width = _number(geometry, WIDTH)
            tilt = _number(geometry, TILT) if any(name in geometry for name in TILT) else 0.0
            first, last = tilt - width / 2, tilt + width / 2
        return cls((near, far), (first, last))

    def bounds(self) -> tuple[float, float, float, float]:
        """Return the extent of the sector [mm]: left, right, upper, lower, from the apex."""
        first, last = self.angles
        # A sector is widest at its sides or, if it reaches there, at right angles to the vertical.
        angles = np.clip([-np.pi / 2, 0, np.pi / 2, first, last], first, last)
        x = np.outer(self.depths, np.sin(angles))
        y = np.outer(self.depths, np.cos(angles))
        return float(x.min()), float(x.max()), float(y.min()), float(y.max())

    def pixel(self) -> float:
        """Return the side of a pixel of its picture [mm]."""
        left, right, upper, lower = self.bounds()
        return max(right - left, lower - upper) / LONGER_SIDE

    def shape(self) -> tuple[int, int]:
        """Return the height and width of its picture [pixels]."""
        left, right, upper, lower = self.bounds()
        height, width = (round(side / self.pixel()) for side in (lower - upper, right - left))
        return max(height, 1), max(width, 1)

    def to_pixels(self, points: Float[np.ndarray, "*points 2"]) -> Float[np.ndarray, "*points 2"]:
        """Return column and row of points [mm, to the right of the apex and below it]."""
        left, _, upper, _ = self.bounds()
        return (points - np.array([left, upper])) / self.pixel() - 0.5


def to_picture(
    beams: UInt8[np.ndarray, "time sample beam"], sector: Sector
) -> UInt8[np.ndarray, "time height width"]:
    """Convert frames of beams to pictures.

    Each pixel is the mean brightness of 3 x 3 points in it, interpolated linearly between the four
    nearest samples; black outside the sector.

    Args:
        beams: Brightness along each beam, the nearest sample first and the left beam first.
        sector: Geometry of the sector.

    Returns:
        Pictures of `sector.shape()`, with pixels of `sector.pixel()`.
    """
    height, width = sector.shape()
    samples, lines = beams.shape[1:]
    left, _, upper, _ = sector.bounds()
    step = sector.pixel() / _PARTS
    down, across = np.meshgrid(
        upper + (np.arange(height * _PARTS) + 0.5) * step,
        left + (np.arange(width * _PARTS) + 0.5) * step,
        indexing="ij",
    )
    (near, far), (first, last) = sector.depths, sector.angles
    sample = (np.hypot(across, down) - near) / (far - near) * (samples - 1)
    line = (np.arctan2(across, down) - first) / (last - first) * (lines - 1)
    inside = (sample >= 0) & (sample <= samples - 1) & (line >= 0) & (line <= lines - 1)
    rows, columns = np.nonzero(inside)
    target = rows // _PARTS * width + columns // _PARTS
    weights = sparse.csr_array((height * width, samples * lines), dtype=np.float32)
    sample, line = sample[inside], line[inside]
    low = np.minimum(sample.astype(int), samples - 2), np.minimum(line.astype(int), lines - 2)
    share = sample - low[0], line - low[1]
    for k in (0, 1):
        for m in (0, 1):
            weight = (share[0] if k else 1 - share[0]) * (share[1] if m else 1 - share[1])
            source = (low[0] + k) * lines + low[1] + m
            weights += sparse.csr_array(
                ((weight / _PARTS**2).astype(np.float32), (target, source)), shape=weights.shape
            )
    picture = (weights @ beams.reshape(len(beams), -1).T.astype(np.float32)).T
    return np.rint(picture).astype(np.uint8).reshape(len(beams), height, width)


def _number(geometry: Mapping[str, Any], names: tuple[str, ...]) -> float:
    for name in names:
        if geometry.get(name) is not None:
            try:
                value = float(geometry[name])
            except (TypeError, ValueError):
                value = np.nan
            if np.isfinite(value):
                return value
            raise UnreadableClipError(f"{name} is {geometry[name]!r}: expected a number")
    raise UnreadableClipError(
        f"its geometry states no {' or '.join(names)}: the picture cannot be drawn without it"
    )
