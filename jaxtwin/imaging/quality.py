"""How well a clip could be measured: of the labels, of the curve, of the clip as a whole."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from jaxtwin.data.simpson import CAVITY
from jaxtwin.imaging.learning import dice
from jaxtwin.imaging.segmenter import Measured

NEAR = 5  # [pixels], over which brightness is averaged to see motion
STEP = 0.04  # [s], over which labels and volumes are compared


class MeasurementQuality(NamedTuple):
    """Signs of a bad measurement: each is larger, the worse the measurement.

    Attributes:
        outline: One less the quality of the cavity's outline, see `Shape`, in the worst tenth of
            the frames.
        missing: Fraction of the frames without a cavity.
        doubt: One less the mean probability of the cavity's label within the cavity.
        unsteady: One less the mean Dice coefficient of cavities 40 ms apart.
        jump: Largest change of the volume within 40 ms, relative to EDV.
        unrepeated: Root mean square of the deviations from the mean beat, relative to EDV.
        cut: Logarithm of the largest change between successive frames, relative to the median.
        still: Less the logarithm of the change over 160 ms beyond that over 40 ms [grey values].
            Motion goes on, and noise does not.
    """

    outline: float
    missing: float
    doubt: float
    unsteady: float
    jump: float
    unrepeated: float
    cut: float
    still: float


def measurement_quality(found: Measured) -> MeasurementQuality:
    """Compute the signs of a bad measurement; those that need a beat are NaN without one."""
    quality, volume = found.shape.quality, found.shape.volume
    step = max(round(STEP / float(np.median(np.diff(found.times)))), 1)
    together = dice(found.labels[step:], found.labels[:-step], CAVITY)
    # Smoothed, because noise changes without a motion.
    smooth = ndimage.uniform_filter1d(found.frames.astype(np.float32), NEAR, axis=1)
    smooth = ndimage.uniform_filter1d(smooth, NEAR, axis=2)
    changes = np.abs(np.diff(smooth, axis=0)).mean(axis=(1, 2))
    later = smooth[4 * step :] - smooth[: -4 * step]
    moved = (
        np.mean(later**2) - np.mean((smooth[step:] - smooth[:-step]) ** 2) if later.size else 0.0
    )
    typical = float(np.median(changes))
    beats = found.beats
    jump = unrepeated = np.nan
    if np.isfinite(beats.period):
        steps = np.abs(volume[step:] - volume[:-step])
        jump = float(np.nanmax(steps) / beats.EDV)
        unrepeated = float(np.sqrt(np.nanmean(_deviations(found) ** 2)) / beats.EDV)
    return MeasurementQuality(
        outline=float(1 - np.quantile(quality, 0.1)),
        missing=float(np.mean(~np.isfinite(volume))),
        doubt=float(1 - found.confidence.mean()),
        unsteady=float(1 - together.mean()) if len(together) else 0.0,
        jump=jump,
        unrepeated=unrepeated,
        cut=float(np.log((changes.max() + 0.1) / (typical + 0.1))),
        still=-float(np.log(np.sqrt(max(moved, 0.0)) + 0.01)),
    )


def _deviations(found: Measured) -> Float[np.ndarray, " time"]:
    """Return each volume less that of the mean beat at its phase."""
    beats = found.beats
    phase = beats.phase(found.times)
    grid = np.arange(len(beats.volume)) / len(beats.volume)
    turned = beats.volume
    if len(beats.end_systole):
        turned = np.roll(beats.volume, -int(np.argmin(beats.volume)))
    else:
        # Without an end of systole, the phase that fits best.
        shifts = range(len(turned))
        errors = [
            np.nanmean(
                (found.shape.volume - np.interp(phase, grid, np.roll(turned, k), period=1)) ** 2
            )
            for k in shifts
        ]
        turned = np.roll(turned, int(np.argmin(errors)))
    return found.shape.volume - np.interp(phase, grid, turned, period=1)
