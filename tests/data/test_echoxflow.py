"""EchoXFlow's layout: pictures from beams, label maps from contours, volumes from meshes."""

import json
import math
import re
import shutil

import numpy as np
import pytest

from jaxtwin.data.base import ClipFormat, UnreadableClipError
from jaxtwin.data.cache import ClipCache
from jaxtwin.data.echoxflow import contour_maps, read_echoxflow
from jaxtwin.data.echoxflow_contours import read_contours
from jaxtwin.data.echoxflow_store import read_volumes
from jaxtwin.data.recording import read_recording
from jaxtwin.data.simpson import CAVITY, MYOCARDIUM, NOT_CAVITY
from tests.data.echoxflow_files import (
    BASE,
    GEOMETRY,
    LENGTH,
    MESH,
    PICTURE,
    TIMES,
    WIDTH,
    half_ellipse,
    spheroid,
    write_contours,
    write_echoxflow,
    write_list,
    write_meshes,
    write_picture,
    write_store,
)

FINE = spheroid(0.025, 0.08)
EDV = 2 / 3 * np.pi * 2.5**2 * 8  # [mL]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("echoxflow")
    write_echoxflow(folder)
    return folder


@pytest.fixture
def copy(data, tmp_path):
    shutil.copytree(data, tmp_path / "copy")
    return tmp_path / "copy"


# --- pictures ---------------------------------------------------------------------------------


def test_beams_become_a_picture_with_times_and_pixels(data):
    recording = read_recording(data / "four0.zarr")
    height, width = recording.frames.shape[1:]
    assert max(height, width) == 224 and len(recording.frames) == 20
    np.testing.assert_allclose(recording.times, TIMES - TIMES[0], atol=1e-6)
    assert recording.pixel is not None
    assert height * recording.pixel[0] == pytest.approx(160, abs=recording.pixel[0])
    assert recording.frames[:, 0, 0].max() == 0 and recording.frames[:, height // 2].mean() > 50


def test_a_store_may_be_one_file(data, tmp_path):
    name = shutil.make_archive(str(tmp_path / "four.zarr"), "zip", data / "four0.zarr")
    np.testing.assert_array_equal(
        read_recording(name).frames, read_recording(data / "four0.zarr").frames
    )


NAN, LATE = TIMES.copy(), TIMES.copy()
NAN[3], LATE[3] = np.nan, 4.0


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"times": NAN}, f"timestamps/{PICTURE} lacks 1 of 20 times"),
        ({"times": LATE}, "times do not increase, from frame 2"),
        ({"times": TIMES / 100}, "4e.03 frames/s: expected 5 to 500"),
        ({"geometry": None}, "states no geometry of its sector"),
        ({"geometry": {**GEOMETRY, "depth_end_m": 160}}, "may not be in metres"),
        ({"beams": np.zeros((20, 200), np.uint8)}, r"has shape \(20, 200\) and type uint8"),
        ({"beams": np.zeros((20, 200, 60), np.float32)}, "type float32: expected"),
        ({"beams": np.zeros((19, 200, 60), np.uint8)}, "has 20 times for 19 frames"),
    ],
)
def test_a_wrong_picture_is_named(tmp_path, given, words):
    path = tmp_path / "a.zarr"
    write_picture(path, **given)
    with pytest.raises(UnreadableClipError, match=r"a\.zarr: .*" + words):
        read_recording(path)


def test_missing_arrays_and_stores_are_named(tmp_path, data):
    with pytest.raises(UnreadableClipError, match=r"a\.zarr: no such recording"):
        read_recording(tmp_path / "a.zarr")
    (tmp_path / "a.zarr").write_text("no zip")
    with pytest.raises(UnreadableClipError, match=r"a\.zarr: is not a Zarr group"):
        read_recording(tmp_path / "a.zarr")
    with pytest.raises(UnreadableClipError, match=f"mesh0.zarr: has no array data/{PICTURE}"):
        read_recording(data / "mesh0.zarr")
    write_store(tmp_path / "b.zarr", {f"data/{PICTURE}": np.zeros((4, 9, 9), np.uint8)})
    with pytest.raises(UnreadableClipError, match=f"has no array timestamps/{PICTURE}"):
        read_recording(tmp_path / "b.zarr")


# --- meshes -----------------------------------------------------------------------------------


def test_meshes_become_a_volume_curve(data):
    curve = read_volumes(data / "mesh0.zarr")
    expected = EDV * (1 - 0.4 * np.sin(np.pi * np.arange(9) / 8))
    np.testing.assert_allclose(curve.volumes, expected, rtol=6e-3)
    np.testing.assert_allclose(curve.times, TIMES[:9] - TIMES[0], atol=1e-6)


@pytest.mark.parametrize(
    "ends", [("_points", "_faces", "_frame_offsets"), ("", "_face_indices", "_offsets")]
)
def test_other_names_and_shared_faces_are_the_same(tmp_path, ends):
    points, faces = FINE
    both = np.vstack([points, 0.9 * points])
    arrays = {
        f"data/{MESH}{ends[0]}": both.astype(np.float32),
        f"data/{MESH}{ends[1]}": faces.astype(np.int32),
        f"data/{MESH}{ends[2]}": np.array([0, len(points), 2 * len(points)]),
        "timestamps/elsewhere": np.array([0.0, 0.4]),
    }
    linked = {
        "mesh_data": {"zarr_path": f"data/{MESH}", "format": "zarr_group"},
        "timestamps": {"zarr_path": "timestamps/elsewhere", "format": "zarr_array"},
    }
    write_store(tmp_path / "a.zarr", arrays, {"linked_mesh_sequences": [linked]})
    curve = read_volumes(tmp_path / "a.zarr")
    np.testing.assert_allclose(curve.volumes, EDV * np.array([1, 0.9**3]), rtol=6e-3)
    np.testing.assert_allclose(curve.times, [0, 0.4])


def test_an_open_mesh_is_closed_with_a_warning(tmp_path):
    meshes = [FINE, spheroid(0.024, 0.08, lid=False), spheroid(0.023, 0.08, lid=False)]
    write_meshes(tmp_path / "a.zarr", meshes)
    with pytest.warns(UserWarning, match=r"a\.zarr: 2 of 3 meshes are open, the first with 48"):
        curve = read_volumes(tmp_path / "a.zarr")
    np.testing.assert_allclose(curve.volumes[1] / curve.volumes[0], (24 / 25) ** 2, rtol=1e-5)


@pytest.mark.parametrize(
    ("meshes", "changes", "words"),
    [
        ([FINE, (FINE[0], np.delete(FINE[1], [0, 500], 0))], {}, "mesh 1: .*more than one hole"),
        ([FINE, spheroid(0.04, 0.02, lid=False)], {}, "mesh 1: .*a hole of 48 edges, 4.% of its"),
        ([FINE, (1000 * FINE[0], FINE[1])], {}, "mesh 1: encloses 1.043e.11 mL: .*in metres"),
        ([FINE, FINE], {f"timestamps/{MESH}": None}, f"has no array timestamps/{MESH}"),
        ([FINE, FINE], {f"timestamps/{MESH}": np.array([0, np.nan])}, "lacks 1 of 2 times"),
        ([FINE, FINE], {f"timestamps/{MESH}": np.array([0.4, 0])}, "times do not increase"),
        ([FINE, FINE], {f"timestamps/{MESH}": np.arange(3.0)}, "3 times for 2 frames"),
        ([FINE, FINE], {"point_frame_offsets": np.array([0, 9])}, "point_frame_offsets do not"),
        ([FINE, FINE], {"face_frame_offsets": np.array([0, 9])}, "face_frame_offsets do not"),
        ([FINE, FINE], {"face_frame_offsets": np.array([0, 2400])}, "offsets of 2 frames and .* 1"),
        ([FINE, FINE], {"point_frame_offsets": None}, "has no array .*frame_offsets"),
        ([FINE, FINE], {"point_values": np.zeros((9, 2))}, r"points of shape \(9, 2\)"),
        ([FINE, FINE], {"face_values": None}, "has no array .*face_values"),
    ],
)
def test_wrong_meshes_are_named(tmp_path, meshes, changes, words):
    write_meshes(tmp_path / "a.zarr", meshes, **changes)
    with pytest.raises(UnreadableClipError) as error:
        read_volumes(tmp_path / "a.zarr")
    assert re.search(words, error.value.reason)


# --- contours ---------------------------------------------------------------------------------


def test_contours_become_label_maps_of_the_frames_they_were_drawn_in(data):
    maps, analysis = contour_maps(data / "four1.zarr")
    assert analysis.name == "strain1.zarr" and list(maps) == list(range(4, 12))
    pixel = read_recording(data / "four1.zarr").pixel
    assert pixel is not None
    for k, labels in enumerate(maps.values()):
        scale = 1 - 0.03 * k
        area = np.sum(labels == CAVITY) * pixel[0] ** 2
        assert area == pytest.approx(np.pi / 2 * WIDTH * LENGTH * scale**2, rel=0.02)
        assert set(np.unique(labels)) == {CAVITY, MYOCARDIUM, NOT_CAVITY}
    wall = np.sum(maps[4] == MYOCARDIUM) * pixel[0] ** 2
    assert wall == pytest.approx(np.pi / 2 * (34 * 80 - 24 * 70), rel=0.03)
    # Nobody traced the atrium, below the annulus.
    base = round(BASE / pixel[0] - 0.5), round(160 * np.sin(0.5) / pixel[0] - 0.5)
    assert maps[4][base[0] - 3, base[1]] == CAVITY
    assert (maps[4][base[0] + 3 :] == NOT_CAVITY).all()


def test_contours_without_rows_across_the_wall_are_the_cavity_alone(copy):
    points = half_ellipse(points=31).reshape(31, 5, 2)[:, 0]
    contours = {"4ch": (points[None], TIMES[:1])}
    write_contours(copy / "strain0.zarr", {"4ch": "four0"}, contours)
    (labels,) = contour_maps(copy / "four0.zarr")[0].values()
    assert set(np.unique(labels)) == {CAVITY, NOT_CAVITY}


@pytest.mark.parametrize(
    ("points", "times", "words"),
    [
        (half_ellipse()[None], TIMES[-1:] + 1, r"contours at 6\.475 to .* expected contours of"),
        (half_ellipse()[None] * 1000, TIMES[:1], "outline over columns .* another clip"),
        (half_ellipse()[None] * np.nan, TIMES[:1], "contour 0 lacks 150 of 150 points"),
        (half_ellipse(), TIMES[:1], r"4ch_contour has shape \(150, 2\)"),
        (half_ellipse()[None], TIMES[:2], "has 2 times for 1 frames"),
        (half_ellipse()[None], TIMES[:1] * np.nan, "lacks 1 of 1 times"),
    ],
)
def test_wrong_contours_are_named(copy, points, times, words):
    write_contours(copy / "strain0.zarr", {"4ch": "four0"}, {"4ch": (points, times)})
    with pytest.raises(UnreadableClipError, match=words):
        contour_maps(copy / "four0.zarr")


def test_other_chambers_and_other_stores_have_no_contours(copy):
    write_contours(copy / "strain0.zarr", {"4ch": "four0"}, analysis="left_atrial_strain")
    with pytest.raises(UnreadableClipError, match="contours of a left_atrial_strain"):
        read_contours(copy / "strain0.zarr")
    with pytest.raises(UnreadableClipError, match="has no contours"):
        read_contours(copy / "four0.zarr")
    with pytest.raises(
        UnreadableClipError, match=r"no analysis in .* traced this picture; strain0"
    ):
        contour_maps(copy / "four0.zarr")
    shutil.move(copy / "four1.zarr", copy.parent / "four1.zarr")
    with pytest.raises(UnreadableClipError, match=r"no croissant\.json in the folders above"):
        contour_maps(copy.parent / "four1.zarr")


# --- the data set -----------------------------------------------------------------------------


def test_traced_pictures_have_the_volumes_of_their_examination(data):
    found = read_echoxflow(data)
    assert found.skipped == ()
    assert [record.name for record in found.records] == [
        f"{view}{k}" for k in range(3) for view in ("four", "two")
    ]
    for record in found.records:
        assert record.edv == pytest.approx(EDV, rel=6e-3)
        assert record.ef == pytest.approx(40, abs=0.1)
        assert (record.frames, record.fps) == (20, pytest.approx(40, rel=1e-4))
    clip = found.clips["two1"]
    assert (clip.exam, clip.view, clip.analysis.name) == ("exam1", "2ch", "strain1.zarr")
    assert set(found.curves) == {"mesh0", "mesh1", "mesh2"} and len(found.recordings) == 12
    assert sorted(found.exams.values()) == ["TEST", "TRAIN", "VAL"]
    assert len(found.split("val")) == 2
    assert [r.name for r in read_echoxflow(data, views=("2ch",)).records] == [
        "two0",
        "two1",
        "two2",
    ]


def test_the_records_can_be_cached(data, tmp_path):
    records = read_echoxflow(data).records[:2]
    cache = ClipCache.build(records, ClipFormat(), tmp_path)
    assert cache.skipped == () and cache.clip(0).shape[1:] == (112, 112)


def test_pictures_without_meshes_have_no_volumes(tmp_path):
    write_echoxflow(tmp_path, meshes=False)
    found = read_echoxflow(tmp_path)
    assert len(found.records) == 6 and found.curves == {}
    assert all(math.isnan(record.edv) and math.isnan(record.ef) for record in found.records)


@pytest.mark.parametrize("name", ["splits.csv", "five_fold_split.csv"])
def test_folds_are_those_of_the_data_set(copy, name):
    (copy / name).write_text("exam_id,five_fold_split\nexam0,4\nexam1,0\nexam2,3\n")
    assert read_echoxflow(copy).exams == {"exam0": "TEST", "exam1": "TRAIN", "exam2": "VAL"}
    folds = {0: "TEST", 3: "TRAIN", 4: "TRAIN"}
    assert read_echoxflow(copy, folds=folds).exams["exam1"] == "TEST"
    for rows in ("exam0,4\nexam1,0\n", "exam0,4\nexam1,0\nexam2,5\n"):
        (copy / name).write_text(f"exam_id,five_fold_split\n{rows}")
        with pytest.raises(ValueError, match=r"exam2 is in fold (none|5): expected 0, 1, 2, 3, 4"):
            read_echoxflow(copy)
    (copy / name).write_text("exam,part\nexam0,4\n")
    with pytest.raises(ValueError, match="expected the columns exam_id and five_fold_split"):
        read_echoxflow(copy)


def test_one_bad_examination_never_spoils_the_others(copy):
    shutil.rmtree(copy / "four0.zarr")
    write_meshes(copy / "mesh1.zarr", [FINE, FINE], point_frame_offsets=None)
    write_contours(copy / "strain2.zarr", {"2ch": "two1", "4ch": "nowhere"})
    found = read_echoxflow(copy)
    assert [record.name for record in found.records] == ["two0", "four1", "two1"]
    assert math.isnan(found.records[1].edv) and found.records[0].edv > 0
    reasons = {one.name: one.reason for one in found.skipped}
    assert "no such recording" in reasons["strain0 4ch"]
    assert "frame_offsets" in reasons["mesh1"]
    assert "traced before" in reasons["strain2 2ch"]
    assert "traced in nowhere, of which the list has no" in reasons["strain2 4ch"]


def test_a_list_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"croissant\.json is missing"):
        read_echoxflow(tmp_path)
    for text in ("{", "[]", json.dumps({"recordSet": [{"@id": "recordings"}]})):
        (tmp_path / "croissant.json").write_text(text)
        with pytest.raises(ValueError, match="is not EchoXFlow's list"):
            read_echoxflow(tmp_path)
    write_list(tmp_path, {"../secret": ("exam", [PICTURE], [])})
    with pytest.raises(ValueError, match="leads outside"):
        read_echoxflow(tmp_path)
    write_list(tmp_path, {"a": ("exam", [PICTURE], [])})
    with pytest.raises(ValueError, match="no usable mesh and no picture traced in 2ch, 4ch"):
        read_echoxflow(tmp_path)
