"""What is read beside phantom clips."""

import numpy as np
import pytest

from jaxtwin.imaging.examples import Labelled


def labelled(phases):
    return Labelled(np.zeros((len(phases), 2, 2), np.uint8), (1.0, 1.0), phases, False)


def test_the_period_is_the_mean_of_the_whole_beats():
    times = np.arange(200) / 50
    starts = np.cumsum([-0.3, 0.8, 1.0, 0.9, 0.7, 1.4])
    beat = np.searchsorted(starts, times, side="right") - 1
    phases = (times - starts[beat]) / np.diff(starts)[beat]
    # From 0.5 to 3.1 s; the first and the last beat are cut.
    assert labelled(phases).period(times) == pytest.approx(2.6 / 3, abs=0.01)
    one = times < 1.4
    assert np.isnan(labelled(phases[one]).period(times[one]))
