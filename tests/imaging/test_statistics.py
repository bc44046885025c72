"""Statistics of pictures: of patterns in closed form, and of phantoms beside real clips."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtwin.data.phantom.image import render
from jaxtwin.data.phantom.view import draw_view
from jaxtwin.imaging.statistics import picture_statistics
from tests.phantom import make_beat

REAL = {
    "sector": (0.46, 0.63, 0.68, 0.58),
    "dark": (0.42, 0.28, 0.35, 0.41),
    "median": (22, 46, 31, 21),
    "bright": (132, 194, 126, 71),
    "brightest": (227, 252, 192, 119),
    "across": (0.65, 0.65, 0.59, 0.88),
    "down": (0.57, 0.58, 0.49, 0.68),
    "change": (0.22, 0.20, 0.32, 0.23),
}
"""Three public clips of EchoNet-Dynamic and pydicom's apical clip, measured by this function."""


def test_a_plain_picture_and_white_noise():
    still = np.zeros((10, 112, 112), np.uint8)
    still[:, 20:100, 30:90] = 100
    found = picture_statistics(still)
    assert found.sector == pytest.approx(80 * 60 / 112**2, rel=0.01)
    assert found.median == 100 and found.dark == 0 and found.change == 0
    noise = np.random.default_rng(0).integers(20, 180, (10, 112, 112)).astype(np.uint8)
    found = picture_statistics(noise)
    # The mean of 81 pixels is subtracted, with which each shares a little.
    assert abs(found.across) < 0.05 and abs(found.down) < 0.05 and found.change > 0.4
    pairs = np.repeat(np.random.default_rng(0).integers(20, 180, (10, 112, 56)), 2, axis=2)
    assert picture_statistics(pairs.astype(np.uint8)).across == pytest.approx(0.5, abs=0.1)


def test_an_empty_picture_has_no_sector():
    found = picture_statistics(np.zeros((10, 112, 112), np.uint8))
    assert found.sector == 0 and np.isnan(found.across)


def test_real_clips_are_among_the_phantoms():
    beat = make_beat(90, 58)
    rows = []
    for seed in range(30):
        view = draw_view(jax.random.key(seed), beat, 0.2 + 0.8 * seed / 29)
        view = view._replace(duration=jnp.float32(0.4), frame_rate=jnp.float32(50))
        rows.append(picture_statistics(render(beat, view, jax.random.key(seed))))
    for name, values in REAL.items():
        low, high = np.nanquantile([getattr(row, name) for row in rows], (0.02, 0.98))
        inside = [low <= value <= high for value in values]
        assert np.mean(inside) >= 0.75, f"{name}: {values}, phantoms {low:.3g} to {high:.3g}"
