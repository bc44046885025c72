"""Finding of the sector on a scanner's screen, in one part or more."""

import numpy as np
import pytest

from jaxtwin.data.base import UnreadableClipError
from jaxtwin.data.sector import find_sector

HEIGHT, WIDTH = 300, 420
APEX, RADIUS = (20, 210), 220


def speckle(where, count=12):
    """Frames in which these pixels move."""
    random = np.random.default_rng(0)
    return (random.uniform(40, 200, (count, *where.shape)) * where).astype(np.uint8)


def sector(apex=APEX, radius=RADIUS, half_angle=45.0, deepest=HEIGHT):
    row, column = np.mgrid[:HEIGHT, :WIDTH]
    down, across = row - apex[0], column - apex[1]
    angle = np.rad2deg(np.arctan2(across, down))
    return (abs(angle) <= half_angle) & (np.hypot(down, across) <= radius) & (row < deepest)


def polar():
    """Depth below the apex [pixels] and angle from the middle [degrees] of each pixel."""
    row, column = np.mgrid[:HEIGHT, :WIDTH]
    down, across = row - APEX[0], column - APEX[1]
    return np.hypot(down, across), np.rad2deg(np.arctan2(across, down)), down, across


def rectangle(top, bottom, left, right):
    where = np.zeros((HEIGHT, WIDTH), bool)
    where[top:bottom, left:right] = True
    return where


def assert_same(found, expected):
    """Up to what is lost of the edges of a part that ends in a band."""
    assert np.sum(found ^ expected) <= 0.05 * np.sum(expected)


depth, angle, down, across = polar()
BANDS = {
    "rib": (angle > -10) & (angle < 10),
    "rib aside": (angle > 12) & (angle < 24),
    "two ribs": (abs(angle) > 12) & (abs(angle) < 24),
    "line": abs(down - 120) < 12,
    "line near the probe": abs(down - 70) < 8,
    "line far down": abs(down - 150) < 5,
    "arc": abs(depth - 140) < 15,
    "slanted line": abs(down + across / 2 - 110) < 10,
    "upright line": abs(across + 20) < 10,
    "cross": (abs(down - 130) < 8) | (abs(across) < 8),
}


@pytest.mark.parametrize("band", BANDS)
@pytest.mark.parametrize("deepest", [HEIGHT, 200])  # whole, and with its arc cut off
@pytest.mark.parametrize("half_angle", [35, 45])
def test_a_sector_split_by_a_dark_band_is_whole(band, deepest, half_angle):
    whole = sector(half_angle=half_angle, deepest=deepest)
    found = find_sector(speckle(whole & ~BANDS[band]))
    assert_same(found, find_sector(speckle(whole)))


def upside_down(where):
    return where[::-1]


@pytest.mark.parametrize("band", ["rib", "line", "arc"])
def test_a_split_sector_with_its_apex_below_is_whole(band):
    whole = upside_down(sector())
    found = find_sector(speckle(whole & ~upside_down(BANDS[band])))
    assert_same(found, find_sector(speckle(whole)))


def trace(top, bottom, left, right):
    """A white ECG that scrolls: at some time each pixel of its strip is passed."""
    row, column = np.mgrid[:HEIGHT, :WIDTH]
    frames = np.zeros((12, HEIGHT, WIDTH), np.uint8)
    middle, half = (top + bottom) / 2, (bottom - top) / 2
    for k in range(12):
        wave = middle - half * np.sin(0.15 * column + 0.5 * k) ** 9
        frames[k] = 220 * ((abs(row - wave) < 6) & (column >= left) & (column < right))
    return frames


@pytest.mark.parametrize(
    "beside",
    [
        speckle(rectangle(245, 290, 5, 415)),
        speckle(rectangle(242, 272, 60, 360)),
        speckle(rectangle(245, 285, 150, 270)),
        trace(245, 295, 5, 415),
        speckle(rectangle(5, 40, 340, 415)),  # a clock
        speckle(rectangle(60, 120, 350, 415)),
        speckle(rectangle(5, 295, 400, 418)),  # a bar
    ],
    ids=["wide ECG", "ECG", "short ECG", "curve", "clock", "heart rate", "bar"],
)
@pytest.mark.parametrize("band", [None, "rib", "line"])
def test_what_moves_beside_the_sector_is_left_out(beside, band):
    whole = sector()
    split = whole & ~BANDS[band] if band else whole
    found = find_sector(np.maximum(speckle(split), beside))
    assert_same(found, find_sector(speckle(whole)))


def test_an_ecg_under_a_sector_whose_arc_is_cut_off_is_left_out():
    whole = sector(deepest=200)
    for strip in (rectangle(206, 240, 30, 390), rectangle(206, 240, 5, 415)):
        assert_same(find_sector(speckle(whole | strip)), find_sector(speckle(whole)))


@pytest.mark.parametrize(
    "panels",
    [
        sector((20, 105), 140) | sector((20, 310), 140),
        sector((20, 105), 140) | sector((20, 310), 110),
        sector((20, 110), 150, 30) | sector((20, 300), 150, 30),
        rectangle(50, 250, 20, 205) | rectangle(50, 250, 210, 395),  # whole rectangles
        sector((20, 110), 140) | rectangle(60, 180, 230, 410),  # a spectrum beside the sector
    ],
)
def test_two_panels_are_refused(panels):
    with pytest.raises(UnreadableClipError, match="two areas of the picture move"):
        find_sector(speckle(panels))
