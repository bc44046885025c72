"""EchoNet-Pediatric's layout: folds, tracings, and what is wrong with a row."""

import math
import re

import numpy as np
import pytest

from jaxtwin.data.cache import ClipCache
from jaxtwin.data.format import ClipFormat
from jaxtwin.data.pediatric import COLUMNS, read_pediatric
from tests.data.echonet_files import PEDIATRIC, ellipse, write_outlines, write_rows
from tests.data.recordings import flat_frames, write_video

# Ellipsoids with half axes of 15, 15, 30 and 12, 12, 24 pixels: EF 48.8.
LARGE, SMALL = ellipse((56, 50), 15, 30), ellipse((56, 50), 12, 24)
EF = 100 * (1 - 0.8**3)


def write(folder, clips, view="A4C", tracings=None):
    """Write a view from {name: changes to its row}."""
    place = folder / view
    (place / "Videos").mkdir(parents=True)
    row = {"EF": EF, "Sex": "F", "Age": 7, "Weight": 24.5, "Height": "", "Split": 0}
    rows = []
    for name, changes in clips.items():
        values = {"FileName": f"{name}.avi"} | row | changes
        rows.append([values[column] for column in COLUMNS])
        write_video(place / "Videos" / f"{name}.avi", flat_frames(20), rate=30)
    write_rows(place / "FileList.csv", COLUMNS, rows)
    if tracings is None:
        tracings = {(name, frame): LARGE for name in clips for frame in (4,)} | {
            (name, frame): SMALL for name in clips for frame in (11,)
        }
    write_outlines(place, tracings)
    return place


def test_clips_have_folds_and_relative_volumes(tmp_path):
    write(tmp_path, {f"c{fold}": {"Split": fold} for fold in range(10)})
    data = read_pediatric(tmp_path)
    assert [len(data.split(name)) for name in ("train", "VAL", "test")] == [8, 1, 1]
    assert data.split("VAL")[0].name == "c8" and data.split("TEST")[0].name == "c9"
    record, clip = data.records[0], data.clips["c0"]
    assert math.isnan(record.edv) and math.isnan(record.esv)  # no pixel size, no millilitres
    assert (record.ef, record.fps, record.frames) == (EF, 30, 20)
    assert clip.areas[0] == pytest.approx(np.pi * 15 * 30, rel=0.01)
    assert clip.volumes[0] == pytest.approx(4 / 3 * np.pi * 15**2 * 30 / 1000, rel=0.03)
    assert clip.ef_of_tracings == pytest.approx(EF, abs=1.5)
    assert (clip.view, clip.sex, clip.age, clip.weight) == ("A4C", "F", 7, 24.5)
    assert math.isnan(clip.height)


def test_the_records_can_be_cached(tmp_path):
    write(tmp_path, {"a": {}})
    cache = ClipCache.build(read_pediatric(tmp_path).records, ClipFormat(), tmp_path / "cache")
    assert cache.skipped == () and cache.clip(0).shape[1:] == (112, 112)


def test_the_caller_says_which_folds_are_which_split(tmp_path):
    write(tmp_path, {f"c{fold}": {"Split": fold} for fold in range(10)})
    data = read_pediatric(tmp_path, folds={"TRAIN": (3, 4), "TEST": (0,)})
    assert [(record.name, record.split) for record in data.records] == [
        ("c0", "TEST"),
        ("c3", "TRAIN"),
        ("c4", "TRAIN"),
    ]
    assert len(data.skipped) == 7 and "fold 1 is in none of the splits" in data.skipped[0].reason
    for folds in ({"TRAIN": (10,)}, {"TRAIN": (1,), "VAL": (1,)}, {"LEARN": (1,)}):
        with pytest.raises(ValueError, match="expected folds 0 to 9, each in one of TRAIN"):
            read_pediatric(tmp_path, folds=folds)


def test_short_axis_outlines_have_an_area_and_no_volume(tmp_path):
    write(tmp_path, {"a": {}})
    # Its fractional area change is far from EF, which is no contradiction.
    write(tmp_path, {"b": {"EF": 70}}, "PSAX")
    data = read_pediatric(tmp_path, views=("A4C", "PSAX"))
    assert [data.clips[name].view for name in ("a", "b")] == ["A4C", "PSAX"]
    assert data.clips["b"].areas[1] == pytest.approx(np.pi * 12 * 24, rel=0.01)
    assert np.isnan(data.clips["b"].volumes).all()
    with pytest.raises(ValueError, match="expected some of A4C, PSAX, each once"):
        read_pediatric(tmp_path, views=("4CH",))


def test_a_stated_ef_that_is_not_that_of_the_tracings_is_named(tmp_path):
    write(tmp_path, {"a": {}, "b": {"EF": EF + 19}, "c": {"EF": EF + 24}})
    with pytest.warns(UserWarning, match=r"EF \[%\] of c \(stated 73, traced 50\): more than 20"):
        assert len(read_pediatric(tmp_path).records) == 3


def test_frames_said_not_to_be_traced_are_left_out(tmp_path):
    place = write(tmp_path, {"a": {}, "b": {}}, tracings={("b", 4): LARGE, ("b", 9): SMALL})
    rows = [("b.avi", *point, 4) for point in LARGE] + [("b.avi", *point, 9) for point in SMALL]
    rows += [("a.avi", *point, 4) for point in LARGE] + [("a.avi", "", "", "No Systolic")]
    write_rows(place / "VolumeTracings.csv", PEDIATRIC, rows)
    data = read_pediatric(tmp_path)
    assert data.skipped == () and np.isnan(data.clips["a"].volumes).all()
    assert np.isfinite(data.clips["b"].volumes).all()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"Split": 10}, "fold 10: expected 0 to 9"),
        ({"Split": 2.5}, "fold 2.5: expected 0 to 9"),
        ({"Split": "TRAIN"}, "Split is 'TRAIN': expected a number"),
        ({"EF": ""}, "EF is '': expected a number"),
        ({"EF": 120}, "EF 120 %"),
        ({"Weight": "heavy"}, "Weight is 'heavy'"),
    ],
)
def test_a_wrong_row_is_skipped_with_its_reason(tmp_path, changes, words):
    write(tmp_path, {"good": {}, "bad": changes})
    data = read_pediatric(tmp_path)
    assert [record.name for record in data.records] == ["good"]
    (skipped,) = data.skipped
    assert skipped.name == "bad" and re.search(words, skipped.reason)


@pytest.mark.parametrize(
    ("outline", "frame", "words"),
    [
        (LARGE + 60, 4, "frame 4: an outline over columns 101 to 131 .* belongs to another clip"),
        (LARGE, 20, "traced in frame 20: expected 0 to 19"),
        (LARGE[:3], 4, "frame 4: an outline of 3 points"),
    ],
)
def test_a_wrong_tracing_is_skipped_with_its_reason(tmp_path, outline, frame, words):
    tracings = {("good", 4): LARGE, ("good", 9): SMALL, ("bad", frame): outline}
    write(tmp_path, {"good": {}, "bad": {}}, tracings=tracings)
    data = read_pediatric(tmp_path)
    assert [record.name for record in data.records] == ["good"]
    assert re.search(words, data.skipped[0].reason)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected EchoNet-Pediatric's folder"):
        read_pediatric(tmp_path)
    place = write(tmp_path, {"a": {}, "b": {}, "c": {}})
    (place / "Videos" / "a.avi").unlink()
    (place / "Videos" / "b.avi").write_bytes(b"text")
    data = read_pediatric(tmp_path)
    assert [record.name for record in data.records] == ["c"]
    assert re.search(r"a\.avi is missing", data.skipped[0].reason)
    assert "cannot be decoded" in data.skipped[1].reason
    (place / "Videos" / "c.avi").unlink()
    with pytest.raises(ValueError, match="lists no usable clip; the first: a: "):
        read_pediatric(tmp_path)
