"""Volumes of meshes against shapes in closed form."""

import numpy as np
import pytest

from jaxtwin.data.base import UnreadableClipError
from jaxtwin.data.mesh import enclosed
from tests.data.echoxflow_files import spheroid

CUBE = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], float)
SIDES = np.array(
    [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
)


def test_a_cube_has_its_volume_wherever_it_is_and_however_it_is_turned():
    random = np.random.default_rng(0)
    turn, _ = np.linalg.qr(random.normal(size=(3, 3)))
    for faces in (SIDES, SIDES[:, ::-1], np.vstack([SIDES[:, :3], SIDES[:, [0, 2, 3]]])):
        assert enclosed(2 * CUBE @ turn + 50, faces) == (pytest.approx(8, rel=1e-12), 0)


def test_points_at_the_same_place_are_one():
    apart = CUBE[SIDES].reshape(-1, 3)
    assert enclosed(apart, np.arange(24).reshape(6, 4)) == (pytest.approx(1, rel=1e-12), 0)


def test_half_an_ellipsoid_with_collapsed_faces_at_the_apex():
    closed = enclosed(*spheroid(0.025, 0.08, around=96, along=64))
    assert closed.volume == pytest.approx(2 / 3 * np.pi * 0.025**2 * 0.08, rel=2e-3)
    assert closed.open_edges == 0


def test_a_hole_is_closed_by_a_lid_and_said():
    closed, hole = enclosed(*spheroid(0.025, 0.08)), enclosed(*spheroid(0.025, 0.08, lid=False))
    assert hole == (pytest.approx(closed.volume, rel=1e-9), 48)
    # The lid is drawn in the right sense whatever the sense of the faces.
    points, faces = spheroid(0.025, 0.08, lid=False)
    assert enclosed(points, faces[:, ::-1]).volume == pytest.approx(closed.volume, rel=1e-9)


@pytest.mark.parametrize(
    ("points", "faces", "words"),
    [
        (CUBE, SIDES[2:], r"more than one hole \(8 open edges\)"),
        (np.array([[1, 1, 0.2]]) * CUBE, np.delete(SIDES, 5, 0), "hole of 4 edges, 36% of its"),
        (CUBE, np.vstack([SIDES[:5], SIDES[5:, ::-1]]), "faces of different senses"),
        (CUBE, np.vstack([SIDES, SIDES[:1, ::-1]]), "an edge that belongs to 3 faces"),
        (CUBE, SIDES + 1, "expected indices from 0 to 7"),
        (CUBE, SIDES[:0], "0 faces between 8 points"),
        (CUBE, SIDES[:, :2], "expected three or four corners"),
        (np.where(CUBE[:, :1] + CUBE[:, 1:2] > 1, np.nan, CUBE), SIDES, "2 of 8 points have no"),
        (np.vstack([CUBE, CUBE + 3]), np.vstack([SIDES, SIDES + 8]), "2 separate surfaces"),
    ],
)
def test_what_encloses_nothing_certain_is_refused(points, faces, words):
    with pytest.raises(UnreadableClipError, match=words):
        enclosed(points, faces)
