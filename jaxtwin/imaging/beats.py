"""Beats found in a volume curve: period, end diastole and end systole, the mean beat."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage, signal

PERIODS = (0.3, 1.8)  # [s]: 33 to 200 beats a minute
SMOOTHING = 0.025  # [s]
FEWEST = 8  # volumes of a curve
STILL = 0.02  # relative to the mean volume: a curve that changes less does not beat
UNLIKE = 0.5  # relative mean square of the change over a beat, beyond which it is no beat
IRREGULAR = 0.15
"""Relative difference of a beat's length from the median beyond which it is irregular."""


class Beats(NamedTuple):
    """The beats of a volume curve.

    Attributes:
        period: Length of a beat [s]: the median time between ends of systole or, if there is only
            one, the lag at which the curve is most similar to itself. NaN if the curve does not
            repeat itself.
        period_error: Standard error of the period [s]; NaN if there are fewer than three ends of
            systole.
        end_systole: Times of the ends of systole [s].
        irregular: Which of the beats between them are irregular.
        volume: The mean beat at evenly spaced phases, from 0, end diastole; in the curve's unit.
        volume_error: Standard error of the mean beat.
    """

    period: float
    period_error: float
    end_systole: Float[np.ndarray, " systole"]
    irregular: Bool[np.ndarray, " beat"]
    volume: Float[np.ndarray, " phase"]
    volume_error: Float[np.ndarray, " phase"]

    @property
    def EDV(self) -> float:
        """End-diastolic volume, the largest of the mean beat."""
        return float(np.max(self.volume))

    @property
    def ESV(self) -> float:
        """End-systolic volume, the smallest of the mean beat."""
        return float(np.min(self.volume))

    @property
    def EF(self) -> float:
        """Ejection fraction [%]."""
        return 100 * (1 - self.ESV / self.EDV)


NO_BEATS = Beats(np.nan, np.nan, np.zeros(0), np.zeros(0, bool), np.zeros(0), np.zeros(0))


def find_beats(
    times: Float[np.ndarray, " time"], volumes: Float[np.ndarray, " time"], *, phases: int = 40
) -> Beats:
    """Find the beats of a volume curve.

    Args:
        times: Time of each sample [s], evenly spaced.
        volumes: The volumes; NaN where there is none.
        phases: Number of phases of the mean beat.

    Returns:
        The beats; without a period if the curve does not repeat itself, or has fewer than 8
        volumes.
    """
    held = np.isfinite(volumes)
    if np.sum(held) < FEWEST:
        return NO_BEATS
    step = float(np.median(np.diff(times)))
    smooth = np.interp(times, times[held], volumes[held])
    # A first-degree trend is breathing or a drifting probe, not the heart.
    smooth = ndimage.gaussian_filter1d(signal.detrend(smooth), SMOOTHING / step, mode="nearest")
    period = _lag(smooth, step, float(np.mean(volumes[held])))
    if not np.isfinite(period):
        return NO_BEATS
    minima, _ = signal.find_peaks(
        -smooth, distance=max(round(0.6 * period / step), 1), prominence=0.4 * np.ptp(smooth)
    )
    ends = times[0] + step * np.array([k + _vertex(-smooth, k) for k in minima.tolist()])
    lengths, error = np.diff(ends), np.nan
    if len(lengths):
        period = float(np.median(lengths))
    if len(lengths) > 1:
        error = float(np.std(lengths, ddof=1) / np.sqrt(len(lengths)))
    irregular = np.abs(lengths / period - 1) > IRREGULAR
    anchors = ends if len(ends) else times[:1] + step * np.argmin(smooth)
    mean, mean_error = _mean_beat(times[held], volumes[held], anchors, period, phases)
    return Beats(period, error, ends, irregular, mean, mean_error)


def _lag(smooth: Float[np.ndarray, " time"], step: float, level: float) -> float:
    """Return the shortest lag at which the curve repeats itself [s], or NaN."""
    longest = min(round(PERIODS[1] / step), len(smooth) - max(round(0.15 / step), 3))
    lags = np.arange(1, longest + 1)
    if len(lags) < 3 or not np.ptp(smooth) > STILL * level:
        return np.nan
    # Relative mean square of the change over each lag: 0 if periodic, 1 if unrelated.
    change = np.array([np.mean((smooth[lag:] - smooth[:-lag]) ** 2) for lag in lags])
    change /= 2 * np.var(smooth)
    dips, _ = signal.find_peaks(-change, prominence=0.2)
    dips = dips[(lags[dips] * step >= PERIODS[0]) & (change[dips] < UNLIKE)]
    if not dips.size:
        return np.nan
    # The curve repeats itself after two beats too: the first dip that is nearly the deepest.
    first = dips[change[dips] <= change[dips].min() + 0.15].tolist()[0]
    return float((lags[first] + _vertex(-change, first)) * step)


def _vertex(values: Float[np.ndarray, " sample"], k: int) -> float:
    """Return where the parabola through a maximum and its neighbours is highest, from −½ to ½."""
    if not 0 < k < len(values) - 1:
        return 0.0
    before, at, after = values[k - 1 : k + 2]
    bend = before - 2 * at + after
    return 0.0 if bend == 0 else float(np.clip((before - after) / (2 * bend), -0.5, 0.5))


def _mean_beat(
    times: Float[np.ndarray, " time"],
    volumes: Float[np.ndarray, " time"],
    ends: Float[np.ndarray, " systole"],
    period: float,
    phases: int,
) -> tuple[Float[np.ndarray, " phase"], Float[np.ndarray, " phase"]]:
    """Return the mean beat and its standard error, from end diastole on.

    Samples are aligned at the nearest end of systole, and averaged with Gaussian weights around
    each phase.
    """
    nearest = ends[np.argmin(np.abs(times[:, None] - ends), axis=1)]
    phase = np.mod((times - nearest) / period, 1)
    grid = np.arange(phases) / phases
    away = np.mod(phase[None] - grid[:, None] + 0.5, 1) - 0.5
    step = float(np.median(np.diff(times)))
    width = max(0.5 / phases, 0.5 * step / period)
    weights = np.exp(-0.5 * (away / width) ** 2)
    weights /= weights.sum(axis=1, keepdims=True)
    mean = weights @ volumes
    spread = np.sqrt(weights @ (volumes - np.interp(phase, grid, mean, period=1)) ** 2)
    error = spread * np.sqrt(np.sum(weights**2, axis=1))
    start = int(np.argmax(mean))
    return np.roll(mean, -start), np.roll(error, -start)
