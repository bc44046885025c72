"""Statistics of a clip's pictures: brightness, speckle, and how much changes between frames."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy import ndimage

DARK = 16  # grey value
FRAMES = 40  # that are looked at
NEAR = 9  # [pixels], side of the square that speckle is compared with
TISSUE = 40  # mean grey value of a square of tissue


class PictureStatistics(NamedTuple):
    """Statistics of the pixels inside the sector.

    Attributes:
        sector: Fraction of the frame that the sector covers.
        dark: Fraction of the pixels that are nearly black.
        median, bright, brightest: Median, 90% and 99% quantile of the grey values.
        across, down: Correlation of the speckle of neighbouring pixels of tissue, across and down;
            NaN if there is no tissue.
        change: Mean absolute change of the logarithm of grey values from frame to frame.
    """

    sector: float
    dark: float
    median: float
    bright: float
    brightest: float
    across: float
    down: float
    change: float


def picture_statistics(frames: UInt8[np.ndarray, "time height width"]) -> PictureStatistics:
    """Compute the statistics of the first frames of a clip, cropped to the sector."""
    frames = frames[:FRAMES]
    inside = _lit(frames)
    grey = frames.astype(np.float32)
    logarithm = np.log1p(grey)
    speckle = logarithm - _averaged(logarithm)
    tissue = (_averaged(grey) > TISSUE) & inside
    values = grey[:, inside] if inside.any() else np.zeros((len(frames), 1))
    change = np.abs(np.diff(logarithm, axis=0))[:, inside]
    return PictureStatistics(
        sector=float(inside.mean()),
        dark=float(np.mean(values < DARK)),
        median=float(np.median(values)),
        bright=float(np.quantile(values, 0.9)),
        brightest=float(np.quantile(values, 0.99)),
        across=_correlation(speckle, tissue, 2),
        down=_correlation(speckle, tissue, 1),
        change=float(change.mean()) if change.size else 0.0,
    )


def _averaged(
    values: Float[np.ndarray, "time height width"],
) -> Float[np.ndarray, "time height width"]:
    """Return the mean of the square around each pixel."""
    rows = ndimage.uniform_filter1d(values, NEAR, axis=1)
    return np.asarray(ndimage.uniform_filter1d(rows, NEAR, axis=2))


def _lit(frames: UInt8[np.ndarray, "time height width"]) -> Bool[np.ndarray, "height width"]:
    """Return the largest area that is ever lit, with its holes."""
    lit = ndimage.binary_opening(frames.max(axis=0) >= 12)
    parts, number = ndimage.label(lit)  # pyright: ignore[reportGeneralTypeIssues]
    if not number:
        return np.zeros(frames.shape[1:], bool)
    largest = parts == 1 + np.bincount(parts.ravel())[1:].argmax()
    closed = ndimage.binary_closing(np.pad(largest, 3), iterations=3)
    return np.asarray(ndimage.binary_fill_holes(closed))[3:-3, 3:-3]


def _correlation(
    speckle: Float[np.ndarray, "time height width"],
    tissue: Bool[np.ndarray, "time height width"],
    axis: int,
) -> float:
    first, second = (
        (np.s_[:, :-1], np.s_[:, 1:]) if axis == 1 else (np.s_[..., :-1], np.s_[..., 1:])
    )
    both = tissue[first] & tissue[second]
    if both.sum() < 100:
        return np.nan
    return float(np.corrcoef(speckle[first][both], speckle[second][both])[0, 1])
