"""Beats of volume curves whose period and extremes are known."""

import numpy as np
import pytest
from scipy import signal

from jaxtwin.imaging.beats import _detrended, _peaks, find_beats


def curve(times, period, EDV=100.0, ESV=40.0, start=0.3):
    """A third of each beat is ejection, then fast filling."""
    phase = np.mod(times / period + start, 1)
    falls = 0.5 + 0.5 * np.cos(np.pi * np.minimum(phase / 0.35, 1))
    rises = 1 - np.exp(-np.maximum(phase - 0.35, 0) / 0.12)
    return ESV + (EDV - ESV) * np.where(phase < 0.35, falls, rises)


@pytest.mark.parametrize("period", [0.4, 0.75, 1.2, 1.6])
@pytest.mark.parametrize("rate", [25.0, 50.0, 120.0])
def test_period_and_extremes(period, rate):
    times = np.arange(round(3.6 * rate)) / rate
    beats = find_beats(times, curve(times, period))
    assert beats.period == pytest.approx(period, rel=0.02)
    # At 25 frames/s a beat of 0.4 s has ten samples, and the sharp end of systole is between two.
    tolerance = 8 if rate * period < 12 else 4
    np.testing.assert_allclose(beats.EDV, 100, atol=2)
    np.testing.assert_allclose(beats.ESV, 40, atol=tolerance)
    assert not beats.irregular.any()
    assert beats.volume.argmax() == 0 and len(beats.volume) == 40


def test_noise_gaps_and_a_drift():
    times = np.arange(200) / 50
    noise = np.random.default_rng(0).normal(0, 5, 200)
    volumes = curve(times, 0.8) + noise + 3 * times
    volumes[20:26] = np.nan
    beats = find_beats(times, volumes)
    assert beats.period == pytest.approx(0.8, rel=0.02)
    assert pytest.approx(60, abs=6) == beats.EF
    # Five beats, each averaged over two or three samples around a phase.
    assert 0.5 < np.median(beats.volume_error) < 3


def test_one_beat_and_a_half_is_enough():
    times = np.arange(50) / 50
    beats = find_beats(times, curve(times, 0.7))
    assert beats.period == pytest.approx(0.7, rel=0.05)
    assert np.isnan(beats.period_error)


@pytest.mark.parametrize("start", [0.1, 0.35, 0.6, 0.85])
def test_a_short_clip_has_its_period_wherever_it_begins(start):
    """Flat diastole and parts of a beat look alike at lags that are no period."""
    times = np.arange(85) / 50
    assert find_beats(times, curve(times, 1.0, start=start)).period == pytest.approx(1.0, rel=0.03)


def test_alternating_beats_are_beats_of_their_own():
    times = np.arange(150) / 50
    EDV = np.where(np.floor(times / 0.64 + 0.3) % 2 == 0, 100, 84)
    assert find_beats(times, curve(times, 0.64, EDV)).period == pytest.approx(0.64, rel=0.03)


def test_an_irregular_beat_is_named():
    times = np.arange(300) / 50
    starts = np.cumsum([0.0, 0.8, 0.8, 1.3, 0.8, 0.8, 0.8, 0.8])
    beat = np.searchsorted(starts, times, side="right") - 1
    volumes = curve(times - starts[beat], 0.8, start=0.0)
    volumes = np.where(times - starts[beat] > 0.8, 100.0, volumes)
    beats = find_beats(times, volumes)
    assert beats.irregular.sum() == 1 and beats.period == pytest.approx(0.8, rel=0.02)


@pytest.mark.parametrize("volumes", [np.full(150, 80.0), np.linspace(80, 90, 150)])
def test_what_does_not_beat_has_no_period(volumes):
    beats = find_beats(np.arange(150) / 50, volumes)
    assert np.isnan(beats.period) and beats.volume.size == 0


def test_noise_alone_has_no_beats_of_its_own():
    random = np.random.default_rng(1)
    found = [
        find_beats(np.arange(150) / 50, 80 + random.normal(size=150)).period for _ in range(20)
    ]
    assert np.isnan(found).mean() > 0.5


def test_too_few_volumes_have_no_beats():
    assert np.isnan(find_beats(np.arange(150) / 50, np.full(150, np.nan)).period)
    assert np.isnan(find_beats(np.arange(7) / 50, np.ones(7)).period)


@pytest.mark.parametrize(("between", "noise"), [(4.0, 0.0), (0.0, 4.0), (3.0, 3.0)])
def test_standard_errors_are_as_large_as_the_errors(between, noise):
    """Sixty clips of six beats, whose volumes vary from beat to beat and from frame to frame."""
    random = np.random.default_rng(3)
    times = np.arange(240) / 50
    beat = np.floor(times / 0.8 + 0.3).astype(int)
    found = []
    for _ in range(60):
        EDV, ESV = ([100], [40]) + between * random.normal(size=(2, 7))
        volumes = curve(times, 0.8, EDV[beat], ESV[beat]) + noise * random.normal(size=240)
        found.append(find_beats(times, volumes))
    for name, true in {"EDV": 100, "ESV": 40, "EF": 60}.items():
        off = np.sqrt(np.mean([(getattr(beats, name) - true) ** 2 for beats in found]))
        stated = np.sqrt(np.mean([getattr(beats, f"{name}_error") ** 2 for beats in found]))
        assert 0.7 < stated / off < 1.5, name


def test_the_error_of_the_period_is_that_of_its_beats():
    random = np.random.default_rng(3)
    times = np.arange(240) / 50
    found = []
    for _ in range(60):
        starts = np.cumsum(0.8 * (1 + 0.08 * random.normal(size=9))) - 1
        beat = np.searchsorted(starts, times, side="right") - 1
        volumes = curve(times - starts[beat], np.diff(starts)[beat], start=0.0)
        found.append(find_beats(times, volumes + random.normal(size=240)))
    off = np.sqrt(np.mean([(beats.period - 0.8) ** 2 for beats in found]))
    stated = np.sqrt(np.mean([beats.period_error**2 for beats in found]))
    assert 0.7 < stated / off < 1.4


def test_the_error_of_one_beat_is_that_of_its_noise():
    times = np.arange(50) / 50
    noise = np.random.default_rng(0).normal(0, 3, 50)
    plain, noisy = (find_beats(times, curve(times, 0.7) + x) for x in (0.0, noise))
    assert plain.EDV_error < 1 and 1 < noisy.EDV_error < 4
    # To first order in the errors of EDV and ESV.
    expected = np.hypot(noisy.ESV_error, noisy.EDV_error * noisy.ESV / noisy.EDV) / noisy.EDV
    assert noisy.EF_error == pytest.approx(100 * expected)


@pytest.mark.parametrize("seed", range(40))
def test_peaks_are_those_of_scipy(seed):
    random = np.random.default_rng(seed)
    values = random.normal(size=random.integers(3, 90))
    values = np.cumsum(values) if seed % 3 == 0 else values
    # With flat maxima; equally high ones within the distance are kept in another order.
    flat, distance = seed % 2, int(random.integers(1, 9))
    values, distance = (np.round(2 * values) / 2, 1) if flat else (values, distance)
    prominence = random.uniform(0, 2)
    expected, _ = signal.find_peaks(values, distance=distance, prominence=prominence)
    np.testing.assert_array_equal(_peaks(values, prominence, distance), expected)
    np.testing.assert_allclose(_detrended(values), signal.detrend(values), atol=1e-12)
