"""Outlines and their label maps, against shapes in closed form."""

import re

import numpy as np
import pytest

from jaxtwin.data.base import UnreadableClipError
from jaxtwin.data.outlines import cavity_map, filled
from jaxtwin.data.simpson import CAVITY, NOT_CAVITY
from jaxtwin.data.tracings import around_discs, read_tracings
from tests.data.echonet_files import (
    DYNAMIC,
    ellipse,
    half_ellipse,
    write_discs,
    write_outlines,
    write_rows,
)

SIZE = (112, 112)
LINES = half_ellipse((50, 90), (62, 25), 34)


def test_a_filled_outline_has_the_area_and_the_place_of_its_shape():
    inside = filled(ellipse((40.3, 61.8), 20, 31, 400), SIZE)
    assert inside.sum() == pytest.approx(np.pi * 20 * 31, rel=3e-3)
    rows, columns = np.nonzero(inside)
    np.testing.assert_allclose([columns.mean(), rows.mean()], [40.3, 61.8], atol=0.1)
    # (0, 0) is the middle of a pixel, so this square covers nine pixels.
    square = filled(np.array([[9.5, 19.5], [12.5, 19.5], [12.5, 22.5], [9.5, 22.5]]), (40, 30))
    expected = np.zeros((40, 30), bool)
    expected[20:23, 10:13] = True
    np.testing.assert_array_equal(square, expected)


def test_an_outline_that_leaves_the_picture_is_cut_at_its_border():
    inside = filled(ellipse((0.0, 50.0), 20, 20, 400), SIZE)
    # The picture begins half a pixel before the middle of its first one.
    assert inside.sum() == pytest.approx(np.pi * 20**2 / 2 + 20, rel=0.01)
    assert inside[50, :19].all() and not inside[:, 25:].any()


def test_discs_enclose_the_ventricle_whatever_their_order():
    true = np.pi / 4 * 34 * np.hypot(12, 65)
    assert filled(around_discs(LINES), SIZE).sum() == pytest.approx(true, rel=0.02)
    random = np.random.default_rng(0)
    mixed = LINES.copy()
    mixed[1:] = random.permutation(mixed[1:])
    swapped = random.random(len(mixed)) < 0.5
    mixed[swapped] = mixed[swapped][:, [2, 3, 0, 1]]
    np.testing.assert_array_equal(
        filled(around_discs(mixed), SIZE), filled(around_discs(LINES), SIZE)
    )


def test_both_tables_are_read(tmp_path):
    write_discs(tmp_path, {("a", 3): LINES, ("a", 17): LINES * 0.8, ("b", 0): LINES})
    found = read_tracings(tmp_path).label_maps("a", 20)
    assert list(found) == [3, 17]
    for labels in found.values():
        assert set(np.unique(labels)) == {CAVITY, NOT_CAVITY} and labels.shape == SIZE
    larger, smaller = (int(np.sum(labels == CAVITY)) for labels in found.values())
    assert smaller / larger == pytest.approx(0.64, abs=0.02)
    (tmp_path / "other").mkdir()
    write_outlines(tmp_path / "other", {("a", 5): ellipse((56, 50), 15, 30)})
    (labels,) = read_tracings(tmp_path / "other").label_maps("a", 20).values()
    assert np.sum(labels == CAVITY) == pytest.approx(np.pi * 15 * 30, rel=0.01)


def test_a_table_that_changed_is_read_again(tmp_path):
    write_discs(tmp_path, {("a", 3): LINES})
    assert list(read_tracings(tmp_path).rows) == ["a"]
    write_discs(tmp_path, {("b", 3): LINES})
    assert list(read_tracings(tmp_path).rows) == ["b"]


@pytest.mark.parametrize(
    ("lines", "frame", "words"),
    [
        (LINES + 30, 3, r"frame 3: .*rows 55 to 121.5, .*belongs to another clip"),
        (LINES[:5], 3, "frame 3: 5 lines: expected the long axis and at least 5 discs"),
        (LINES[1:], 3, "19 of 19 discs do not lie across the first line"),
        (LINES, 20, "traced in frame 20: expected 0 to 19"),
        (LINES, -1, "traced in frame -1"),
        (LINES, 2.5, "traced in frame 2.5"),
        (LINES * [1, 1, np.nan, 1], 3, "X2 is 'nan': expected a number"),
    ],
)
def test_a_wrong_tracing_is_named(tmp_path, lines, frame, words):
    write_discs(tmp_path, {("a", frame): lines, ("b", 1): LINES})
    tracings = read_tracings(tmp_path)
    with pytest.raises(UnreadableClipError) as error:
        tracings.label_maps("a", 20)
    assert re.search(words, error.value.reason)
    assert list(tracings.label_maps("b", 20)) == [1]


def test_clips_without_a_tracing_and_tables_without_a_column_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"VolumeTracings\.csv is missing"):
        read_tracings(tmp_path)
    write_discs(tmp_path, {("a", 3): LINES})
    with pytest.raises(UnreadableClipError, match="no tracing of this clip"):
        read_tracings(tmp_path).label_maps("c", 20)
    write_rows(tmp_path / "VolumeTracings.csv", [*DYNAMIC[:4], "Frame"], [("a", 1, 2, 3, 4)])
    with pytest.raises(ValueError, match="lacks the column Y2"):
        read_tracings(tmp_path)


def test_an_outline_of_few_points_or_without_area_is_named():
    with pytest.raises(UnreadableClipError, match="of 3 points: expected at least 5"):
        cavity_map(np.array([[1.0, 1], [5, 5], [9, 1]]), SIZE)
    with pytest.raises(UnreadableClipError, match="encloses nothing"):
        cavity_map(np.full((6, 2), 30.0), SIZE)
