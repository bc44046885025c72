"""Scan conversion of sectors whose picture is known."""

import numpy as np
import pytest

from jaxtwin.data.base import UnreadableClipError
from jaxtwin.data.beams import Sector, to_picture
from tests.data.echoxflow_files import GEOMETRY

SECTOR = Sector.from_mapping(GEOMETRY)


def places(sector):
    """Depth [mm] and angle [rad] of every pixel, from their columns and rows."""
    rows, columns = np.indices(sector.shape())
    left, _, upper, _ = sector.bounds()
    x = left + (columns + 0.5) * sector.pixel()
    y = upper + (rows + 0.5) * sector.pixel()
    return np.hypot(x, y), np.arctan2(x, y)


def test_all_ways_to_state_a_geometry_are_the_same():
    others = (
        {"DepthStart": 0.0, "DepthEnd": 0.16, "Tilt": 0.1, "Width": 1.2},
        {"depth_start_m": 0, "depth_end_m": 0.16, "angle_start_rad": -0.5, "angle_end_rad": 0.7},
    )
    for other in others:
        found = Sector.from_mapping(other)
        np.testing.assert_allclose(found.depths, SECTOR.depths)
        np.testing.assert_allclose(found.angles, SECTOR.angles, atol=1e-12)
    assert SECTOR.depths == (0, 160)


def test_the_picture_has_the_sector_s_size():
    left, right, upper, lower = SECTOR.bounds()
    np.testing.assert_allclose([left, right], 160 * np.sin([-0.5, 0.7]))
    assert (upper, lower) == (0, 160)
    assert SECTOR.pixel() == pytest.approx(max(right - left, 160) / 224)
    # A wide sector is widest at a right angle to the vertical, above its own apex at the sides.
    wide = Sector((20.0, 100.0), (-1.0, 1.8)).bounds()
    np.testing.assert_allclose(wide, [100 * np.sin(-1), 100, 100 * np.cos(1.8), 100])


def test_depth_and_angle_are_where_they_belong():
    depth, angle = places(SECTOR)
    inside = (depth < 157) & (depth > 20) & (angle > -0.48) & (angle < 0.68)
    beams = np.broadcast_to(np.linspace(0, 240, 400)[:, None], (400, 90))
    (shown,) = to_picture(np.rint(beams).astype(np.uint8)[None], SECTOR)
    np.testing.assert_allclose(shown[inside], 240 * depth[inside] / 160, atol=1.5)
    beams = np.broadcast_to(np.linspace(0, 240, 90)[None], (400, 90))
    (shown,) = to_picture(np.rint(beams).astype(np.uint8)[None], SECTOR)
    np.testing.assert_allclose(shown[inside], 240 * (angle[inside] + 0.5) / 1.2, atol=2.5)
    outside = (depth > 163) | (angle < -0.55) | (angle > 0.75)
    assert shown[outside & (depth > 8)].max() == 0 and outside.any()


def test_brightness_is_averaged_not_sampled():
    random = np.random.default_rng(0)
    beams = random.choice([0, 200], (1, 2000, 400)).astype(np.uint8)
    (shown,) = to_picture(beams, SECTOR)
    depth, angle = places(SECTOR)
    inside = (depth < 157) & (depth > 100) & (angle > -0.48) & (angle < 0.68)
    assert shown[inside].mean() == pytest.approx(100, abs=2)
    assert shown[inside].std() < 50  # 100 for single samples


def test_points_are_drawn_where_the_picture_shows_them():
    beams = np.zeros((1, 321, 121), np.uint8)
    beams[0, 198:203, 78:83] = 250  # at 100 mm and 0.3 rad
    (shown,) = to_picture(beams, SECTOR)
    rows, columns = np.nonzero(shown > 100)
    point = SECTOR.to_pixels(100 * np.array([[np.sin(0.3), np.cos(0.3)]]))
    np.testing.assert_allclose(point[0], [columns.mean(), rows.mean()], atol=0.3)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"depth_end_m": None}, "states no depth_end_m or DepthEnd"),
        ({"width_rad": "wide"}, "width_rad is 'wide': expected a number"),
        ({"depth_end_m": float("nan")}, "depth_end_m is nan"),
        ({"depth_end_m": 160}, "0 to 1.6e.05 mm: .*may not be in metres"),
        ({"depth_end_m": -0.1}, "expected 40 to 400 mm"),
        ({"width_rad": 70}, "may not be in radians"),
        ({"width_rad": -1.2}, "expected a width between 0 and π"),
    ],
)
def test_an_impossible_geometry_is_refused(changes, words):
    with pytest.raises(UnreadableClipError, match=words):
        Sector.from_mapping(GEOMETRY | changes)
