"""Signs of a bad measurement."""

import numpy as np
import pytest

from jaxtwin.imaging.beats import find_beats
from jaxtwin.imaging.quality import measurement_quality
from jaxtwin.imaging.segmenter import Measured
from jaxtwin.imaging.volumes import cavity_shape

TIMES = np.arange(75) / 25
ROWS, COLUMNS = np.mgrid[:112, :112]


def clip(period=0.8, still=False):
    """A dark ellipse in a grey wall, that beats."""
    frames, labels = [], []
    for t in TIMES:
        size = 1.0 if still else 1 + 0.12 * np.cos(2 * np.pi * t / period)
        away = np.hypot((ROWS - 50) / (32 * size), (COLUMNS - 56) / (18 * size))
        labels.append(np.where(away < 1, 1, np.where(away < 1.3, 2, 0)))
        frames.append(np.where(away < 1, 20, 120))
    return np.stack(frames).astype(np.uint8), np.stack(labels).astype(np.uint8)


def measured(frames, labels, confidence=0.98):
    shape = cavity_shape(labels)
    sure = np.full(len(TIMES), confidence)
    return Measured(TIMES, frames, labels, sure, shape, find_beats(TIMES, shape.volume), None)


GOOD = measurement_quality(measured(*clip()))


def test_a_good_measurement_has_none():
    assert GOOD.missing == 0 and GOOD.outline < 0.05 and GOOD.doubt == pytest.approx(0.02)
    assert GOOD.unrepeated < 0.02 and GOOD.unsteady < 0.06 and GOOD.jump < 0.25


def test_each_fault_raises_its_own_sign():
    frames, labels = clip()
    lost = labels.copy()
    lost[10:25] = 0
    assert measurement_quality(measured(frames, lost)).missing == pytest.approx(15 / 75)
    broken = labels.copy()
    broken[:, 50:54] = 0  # two pieces
    assert measurement_quality(measured(frames, broken)).outline > GOOD.outline + 0.2
    unsteady = labels.copy()
    unsteady[::2] = np.roll(labels[::2], 8, axis=2)
    assert measurement_quality(measured(frames, unsteady)).unsteady > GOOD.unsteady + 0.2
    assert measurement_quality(measured(frames, labels, 0.6)).doubt == pytest.approx(0.4)


def test_two_hearts_make_the_picture_and_the_volume_jump():
    (frames, labels), (others, theirs) = clip(), clip(1.1)
    others = np.roll(others, 15, axis=2)
    frames[38:], labels[38:] = others[38:], np.roll(theirs, 15, axis=2)[38:]
    spliced = measurement_quality(measured(frames, labels))
    assert spliced.cut > GOOD.cut + 0.5 and spliced.unrepeated > GOOD.unrepeated + 0.02


def test_noise_is_no_motion():
    frames, labels = clip(still=True)
    still = measurement_quality(measured(frames, labels))
    noise = np.random.default_rng(0).normal(0, 3, frames.shape)
    noisy = measurement_quality(measured(np.clip(frames + noise, 0, 255).astype(np.uint8), labels))
    assert min(still.still, noisy.still) > GOOD.still + 1
    assert np.isnan(still.jump) and np.isnan(still.unrepeated)
