"""Beats found in a volume curve: period, end diastole and end systole, the mean beat."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage

PERIODS = (0.3, 1.8)  # [s]: 33 to 200 beats a minute
SMOOTHING = 0.025  # [s]
FEWEST = 8  # volumes of a curve
STILL = 0.02  # relative to the mean volume: a curve that changes less does not beat
UNLIKE = 0.5  # relative mean square of the change over a beat, beyond which it is no beat
IRREGULAR = 0.15
"""Relative difference of a beat's length from the median beyond which it is irregular."""
POOLED = 0.05  # part of a beat over which the spread between beats is averaged
PAUSE = 0.4
"""Relative difference beyond which it is a pause, or two beats of which one was missed."""


class Beats(NamedTuple):
    """The beats of a volume curve.

    Attributes:
        period: Length of a beat [s]: the mean time between systoles, without pauses and missed
            beats, or, if there is only one, the lag at which the curve is most similar to itself.
            NaN if the curve does not repeat itself.
        period_error: Standard error of the period [s] as a sample of the patient's beats; NaN if
            there are fewer than three systoles.
        end_systole: Times of the ends of systole [s].
        irregular: Which of the beats between them are irregular.
        volume: The mean beat at evenly spaced phases, from 0, end diastole; in the curve's unit.
        volume_error: Standard error of the mean beat, from the spread between the beats and the
            noise of the curve. What is wrong with all beats alike is not in it.
    """

    period: float
    period_error: float
    end_systole: Float[np.ndarray, " systole"]
    irregular: Bool[np.ndarray, " beat"]
    volume: Float[np.ndarray, " phase"]
    volume_error: Float[np.ndarray, " phase"]

    def phase(self, times: Float[np.ndarray, " time"]) -> Float[np.ndarray, " time"]:
        """Return the phase at each time, from 0 to 1, after the nearest end of systole.

        If there is none, it is after the first of the times.
        """
        ends = self.end_systole if len(self.end_systole) else times[:1]
        return _phase(times, ends, self.period)[0]

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

    @property
    def EDV_error(self) -> float:
        """Standard error of EDV."""
        return float(self.volume_error[np.argmax(self.volume)])

    @property
    def ESV_error(self) -> float:
        """Standard error of ESV."""
        return float(self.volume_error[np.argmin(self.volume)])

    @property
    def EF_error(self) -> float:
        """Standard error of EF [points], as if EDV and ESV were off independently."""
        from_ESV, from_EDV = self.ESV_error, self.EDV_error * self.ESV / self.EDV
        return 100 * float(np.hypot(from_ESV, from_EDV)) / self.EDV


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
    smooth = ndimage.gaussian_filter1d(_detrended(smooth), SMOOTHING / step, mode="nearest")
    period = _lag(smooth, step, float(np.mean(volumes[held])))
    if not np.isfinite(period):
        return NO_BEATS
    minima = _peaks(-smooth, 0.4 * float(np.ptp(smooth)), max(round(0.6 * period / step), 1))
    ends = times[0] + step * np.array([k + _vertex(-smooth, k) for k in minima.tolist()])
    # The curve falls steeply in systole and is flat at its end, whose time is known less well.
    falls = step * np.array([_half_fallen(smooth, k, period / step) for k in minima.tolist()])
    lengths, error = np.diff(falls), np.nan
    known = np.isfinite(lengths) | ~np.any(np.isfinite(lengths))
    lengths = np.where(np.isfinite(lengths), lengths, np.diff(ends))
    off = np.abs(lengths / np.median(lengths) - 1) if len(lengths) else lengths
    usual = lengths[known & (off <= PAUSE)]
    if len(usual):
        # The mean depends on the first and the last systole alone if all beats are usual.
        period = float(np.mean(usual))
    if len(usual) > 1:
        error = float(np.std(usual, ddof=1) / np.sqrt(len(usual)))
    anchors = ends if len(ends) else times[:1] + step * np.argmin(smooth)
    mean, mean_error = _mean_beat(times[held], volumes[held], anchors, period, phases)
    return Beats(period, error, ends, off > IRREGULAR, mean, mean_error)


def _detrended(values: Float[np.ndarray, " sample"]) -> Float[np.ndarray, " sample"]:
    """Return the values without the straight line that fits them best."""
    place = np.arange(len(values)) - (len(values) - 1) / 2
    return values - values.mean() - place * (place @ values) / (place @ place)


def _peaks(
    values: Float[np.ndarray, " sample"], prominence: float, distance: int = 1
) -> Int[np.ndarray, " peak"]:
    """Return the places of the local maxima, the middle ones of flat ones.

    This is what `scipy.signal.find_peaks` returns, whose import takes half a second.

    Args:
        values: The curve.
        prominence: Least height above the higher of the two lowest points between the maximum and
            a higher value, or the end of the curve, on either side.
        distance: Least number of samples between two maxima; the higher ones are kept.
    """
    starts = np.concatenate([[0], np.flatnonzero(np.diff(values)) + 1])
    heights, ends = values[starts], np.append(starts[1:], len(values)) - 1
    highest = np.flatnonzero((heights[1:-1] > heights[:-2]) & (heights[1:-1] > heights[2:])) + 1
    places = (starts[highest] + ends[highest]) // 2
    kept: list[int] = []
    for place in places[np.argsort(values[places], kind="stable")[::-1]].tolist():
        if all(abs(place - other) >= distance for other in kept):
            kept.append(place)

    def rises(place: int) -> float:
        higher = np.flatnonzero(values > values[place])
        after = int(np.searchsorted(higher, place))
        left = int(higher[after - 1]) + 1 if after else 0
        right = int(higher[after]) if after < len(higher) else len(values)
        lowest = max(values[left : place + 1].min(), values[place:right].min())
        return float(values[place] - lowest)

    return np.array(sorted(place for place in kept if rises(place) >= prominence), int)


def _lag(smooth: Float[np.ndarray, " time"], step: float, level: float) -> float:
    """Return the shortest lag at which the curve repeats itself [s], or NaN."""
    longest = min(round(PERIODS[1] / step), len(smooth) - max(round(0.15 / step), 3))
    lags = np.arange(1, longest + 1)
    if len(lags) < 3 or not np.ptp(smooth) > STILL * level:
        return np.nan
    # Relative variance of the change over each lag: 0 if periodic, 1 if unrelated. The variances
    # are those of the parts that overlap, which in a short clip may be a part of a beat; a tenth
    # of the whole curve's is added, because flat parts are alike at any lag.
    parts = [(smooth[lag:], smooth[:-lag]) for lag in lags]
    change = np.array(
        [np.var(a - b) / (np.var(a) + np.var(b) + 0.1 * np.var(smooth)) for a, b in parts]
    )
    dips = _peaks(-change, 0.2)
    dips = dips[(lags[dips] * step >= PERIODS[0]) & (change[dips] < UNLIKE)]
    if not dips.size:
        return np.nan
    # The curve repeats itself after two beats too: the first dip that is nearly the deepest.
    first = dips[change[dips] <= change[dips].min() + 0.25].tolist()[0]
    return float((lags[first] + _vertex(-change, first)) * step)


def _half_fallen(smooth: Float[np.ndarray, " time"], end: int, period: float) -> float:
    """Return where the curve was half fallen before an end of systole; NaN before the clip.

    Args:
        smooth: The curve.
        end: Index of the end of systole.
        period: Number of samples in a beat.
    """
    start = max(end - round(0.7 * period), 0)
    start += int(np.argmax(smooth[start : end + 1]))
    if start == 0:
        return np.nan
    half = (smooth[start] + smooth[end]) / 2
    above = start + np.flatnonzero(smooth[start:end] > half)[-1]
    return float(above + (smooth[above] - half) / (smooth[above] - smooth[above + 1]))


def _vertex(values: Float[np.ndarray, " sample"], k: int) -> float:
    """Return where the parabola through a maximum and its neighbours is highest, from −½ to ½."""
    if not 0 < k < len(values) - 1:
        return 0.0
    before, at, after = values[k - 1 : k + 2]
    bend = before - 2 * at + after
    return 0.0 if bend == 0 else float(np.clip((before - after) / (2 * bend), -0.5, 0.5))


def _phase(
    times: Float[np.ndarray, " time"], ends: Float[np.ndarray, " systole"], period: float
) -> tuple[Float[np.ndarray, " time"], Int[np.ndarray, " time"]]:
    """Return the phase at each time after the nearest end of systole, and which one that is."""
    nearest = np.argmin(np.abs(times[:, None] - ends), axis=1)
    return np.mod((times - ends[nearest]) / period, 1), nearest


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
    phase, beat = _phase(times, ends, period)
    grid = np.arange(phases) / phases
    away = np.mod(phase[None] - grid[:, None] + 0.5, 1) - 0.5
    step = float(np.median(np.diff(times)))
    width = max(0.5 / phases, 0.5 * step / period)
    weights = np.exp(-0.5 * (away / width) ** 2)
    weights /= weights.sum(axis=1, keepdims=True)
    mean = weights @ volumes
    # Errors of one beat's volumes go together, so that beats count, not frames: the residuals are
    # summed within each beat first. A phase has few beats; its neighbours are taken with it.
    residuals = weights * (volumes - np.interp(phase, grid, mean, period=1))
    members = np.arange(len(ends)) == beat[:, None]
    correction = len(ends) / max(len(ends) - 1, 1)
    between = correction * np.sum((residuals @ members) ** 2, axis=1)
    between = ndimage.gaussian_filter1d(between, POOLED * phases, mode="wrap")
    # The second difference of white noise has six times its variance, and that of a smooth curve
    # is small: the least that the error can be, even with a single beat.
    noise = np.mean(np.diff(volumes, 2) ** 2) / 6 * np.sum(weights**2, axis=1)
    error = np.sqrt(np.maximum(between, noise))
    start = int(np.argmax(mean))
    return np.roll(mean, -start), np.roll(error, -start)
