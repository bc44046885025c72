"""Reading of synthetic CAMUS files in both layouts."""

import re
import shutil
import sys

import numpy as np
import pytest
import SimpleITK as sitk
from camus_files import VIEWS, write_camus, write_image

from jaxtwin.data.base import ClipFormat, UnreadableClipError
from jaxtwin.data.cache import ClipCache
from jaxtwin.data.camus import read_camus, read_camus_recording, write_split
from jaxtwin.data.recording import read_recording

PATIENTS = 10


@pytest.fixture(scope="module")
def nifti(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nifti")
    return folder, write_camus(folder, PATIENTS)


@pytest.fixture
def copy(nifti, tmp_path):
    """Three patients whose files a test may spoil."""
    for k in (1, 2, 3):
        shutil.copytree(nifti[0] / f"patient000{k}", tmp_path / f"patient000{k}")
    return tmp_path


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def cut(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def reasons(camus):
    return {skipped.name: skipped.reason for skipped in camus.skipped}


# --- what is read -----------------------------------------------------------------------------


def test_every_view_is_a_record_with_the_volumes_of_its_patient(nifti):
    folder, written = nifti
    camus = read_camus(folder)
    assert camus.skipped == ()
    assert [record.name for record in camus.records] == [
        f"{patient.name}_{view}" for patient in written for view in VIEWS
    ]
    for patient in written:
        for view in VIEWS:
            name = f"{patient.name}_{view}"
            record = next(record for record in camus.records if record.name == name)
            clip = camus.clips[name]
            assert record.edv == pytest.approx(patient.edv, rel=0.01)
            assert record.esv == pytest.approx(patient.esv, rel=0.01)
            assert record.ef == round(patient.ef)
            assert (record.fps, record.frames) == (50.0, patient.frames[view])
            assert (clip.patient, clip.view) == (patient.name, view)
            assert (clip.quality, clip.phase) == (patient.quality, patient.phase)
            assert clip.spacing == pytest.approx(patient.spacing[view])
    assert {clip.phase for clip in camus.clips.values()} == {"ejection", "filling"}


def test_both_layouts_hold_the_same(nifti, tmp_path):
    old_folder = tmp_path / "training"  # the older release has its patients one folder down
    written = write_camus(old_folder, 3, "mhd")
    new = [record for record in read_camus(nifti[0]).records if record.name < "patient0004"]
    old = read_camus(tmp_path, frame_rate=50.0)
    for patient in written:
        assert {r.edv for r in old.records if r.name.startswith(patient.name)} == {patient.edv}
    for one, other in zip(new, old.records, strict=True):
        assert (one.name, one.ef, one.fps) == (other.name, other.ef, other.fps)
        assert one.frames == other.frames
        assert one.edv == pytest.approx(other.edv, rel=0.01)
        assert one.esv == pytest.approx(other.esv, rel=0.01)
    first, same = (read_recording(records[0].path, 50.0) for records in (new, old.records))
    # NIfTI holds its spacing in single precision, which moves a rounding here and there.
    assert np.abs(first.frames.astype(int) - same.frames).max() <= 1


def test_the_official_names_are_read_one_folder_down_and_one_view_alone(nifti, tmp_path):
    (tmp_path / "database_nifti").symlink_to(nifti[0])
    camus = read_camus(tmp_path, views=("4CH",))
    assert len(camus.records) == PATIENTS
    assert {clip.view for clip in camus.clips.values()} == {"4CH"}
    for views in ((), ("3CH",), ("4CH", "4CH")):
        with pytest.raises(ValueError, match="expected some of 2CH, 4CH"):
            read_camus(tmp_path, views=views)


def test_frames_keep_their_order_and_their_seconds(nifti):
    camus = read_camus(nifti[0])
    for record in camus.records[:4]:
        recording = read_camus_recording(record.path, record.fps)
        assert recording.pixel == pytest.approx((180 / 224, 180 / 224))
        np.testing.assert_allclose(recording.times, np.arange(record.frames) / 50)
        # The darkest part of the picture is blood: less of it at end systole.
        dark = ((recording.frames > 0) & (recording.frames < 25)).sum(axis=(1, 2))
        clip = camus.clips[record.name]
        shrinks = dark[-1] < 0.9 * dark[0]
        grows = dark[0] < 0.9 * dark[-1]
        assert (shrinks, grows) == (clip.phase == "ejection", clip.phase == "filling")


def test_a_file_alone_has_the_frame_rate_of_the_cfg_beside_it(nifti, tmp_path):
    path = nifti[0] / "patient0001" / "patient0001_4CH_half_sequence.nii.gz"
    assert read_recording(path).times[1] == pytest.approx(1 / 50)
    lonely = tmp_path / "a.nii.gz"
    shutil.copy(path, lonely)
    with pytest.raises(UnreadableClipError, match=r"a.nii.gz: states no frame rate"):
        read_recording(lonely)
    assert read_recording(lonely, 25.0).times[1] == pytest.approx(1 / 25)


# --- geometry ---------------------------------------------------------------------------------


def disc_image(spacing, depth, width):
    """Two frames [height, width] with a bright disc: 90 mm deep, 30 mm to the right, 20 mm wide."""
    y, x = np.mgrid[: round(depth / spacing[0]), : round(width / spacing[1])]
    down, across = (y + 0.5) * spacing[0], (x + 0.5) * spacing[1]
    middle = x.shape[1] * spacing[1] / 2
    image = np.where(np.hypot(down - 90, across - middle - 30) < 20, 200, 0).astype(np.uint8)
    return np.stack([image, image])


@pytest.mark.parametrize("spacing", [(0.154, 0.308), (0.9, 0.5), (1.2, 0.6)])
@pytest.mark.parametrize("extent", [(120, 140), (170, 220), (250, 130)])
def test_a_circle_in_millimetres_is_the_same_circle_in_every_clip(tmp_path, spacing, extent):
    path = tmp_path / "a.nii.gz"
    write_image(path, disc_image(spacing, *extent), spacing)
    recording = read_camus_recording(path, 50.0)
    assert recording.frames.shape == (2, 224, 224)
    weights = recording.frames[0].astype(float)
    y, x = (np.mgrid[:224, :224] + 0.5) * 180 / 224
    assert weights.sum() / 200 * (180 / 224) ** 2 == pytest.approx(np.pi * 20**2, rel=0.01)
    row, column = (np.average(place, weights=weights) for place in (y, x))
    assert (row, column) == (pytest.approx(90, abs=0.4), pytest.approx(120, abs=0.4))
    spread = [
        np.average((place - middle) ** 2, weights=weights)
        for place, middle in ((y, row), (x, column))
    ]
    assert spread == pytest.approx([100, 100], rel=0.02)  # radius² / 4


def test_a_clip_is_cropped_and_padded_but_not_to_the_sector(tmp_path):
    path = tmp_path / "a.mhd"
    for extent, black in (((120, 140), True), ((200, 200), False)):
        write_image(path, np.full((2, *extent), 90, np.uint8), (1.0, 0.99))
        frame = read_camus_recording(path, 50.0).frames[0]
        assert frame[0, 112] == 90, "the top is not the image's top"
        assert (frame[-1].max() == 0, frame[:, 0].max() == 0) == (black, black)
        np.testing.assert_array_equal(frame, frame[:, ::-1])


def test_numbers_beyond_eight_bits_and_other_units_are_refused(tmp_path):
    path = tmp_path / "a.nii.gz"
    frames = np.full((3, 100, 100), 90.0)
    write_image(path, frames, (1.0, 0.99))
    assert read_camus_recording(path, 50.0).frames[0, 0, 112] == 90
    write_image(path, 10 * frames, (1.0, 0.99))
    with pytest.raises(UnreadableClipError, match="900: expected 0 to 255"):
        read_camus_recording(path, 50.0)
    write_image(path, frames, (0.001, 0.001))
    with pytest.raises(UnreadableClipError, match=r"shows 0.1 x 0.1 mm.*not in millimetres"):
        read_camus_recording(path, 50.0)
    write_image(path, frames[:1], (1.0, 0.99))
    with pytest.raises(UnreadableClipError, match="still image"):
        read_camus_recording(path, 50.0)
    with pytest.raises(UnreadableClipError, match="positive"):
        read_camus_recording(path, 0.0)


@pytest.mark.parametrize("layout", ["nifti", "mhd"])  # the latter's cfg files have no FrameRate
def test_clips_are_cached_like_any_others(tmp_path, layout):
    write_camus(tmp_path / "data", 2, layout)
    records = read_camus(tmp_path / "data", frame_rate=50.0).records
    cache = ClipCache.build(records, ClipFormat(rate=16.0, size=112), tmp_path / "cache")
    assert cache.records == records and cache.skipped == ()
    for k, record in enumerate(records):
        assert len(cache.clip(k)) == int((record.frames - 1) / 50 * 16 + 1e-6) + 1
    # Half the recording's size: each pixel is the mean of four.
    frame = read_camus_recording(records[0].path, 50.0).frames[0].astype(float)
    means = frame.reshape(112, 2, 112, 2).mean(axis=(1, 3))
    assert np.abs(cache.clip(0)[0] - means).max() <= 0.51


# --- splits -----------------------------------------------------------------------------------


def test_both_views_of_a_patient_are_in_one_split_that_the_seed_decides(nifti):
    camus = read_camus(nifti[0])
    splits = list(camus.patients.values())
    assert [splits.count(split) for split in ("TRAIN", "VAL", "TEST")] == [8, 1, 1]
    for record in camus.records:
        assert record.split == camus.patients[camus.clips[record.name].patient]
    assert len(camus.split("test")) == 2
    assert read_camus(nifti[0]).patients == camus.patients
    others = [read_camus(nifti[0], views=["2CH"], seed=seed).patients for seed in (1, 2)]
    assert camus.patients not in others


def test_a_written_split_is_read_back_and_is_not_overwritten(nifti, tmp_path):
    before = sorted(nifti[0].rglob("*"))
    camus = read_camus(nifti[0], seed=3)
    write_split(tmp_path / "split.csv", camus)
    again = read_camus(nifti[0], split=tmp_path / "split.csv", seed=4)
    assert again == camus
    with pytest.raises(FileExistsError):
        write_split(tmp_path / "split.csv", camus)
    assert sorted(nifti[0].rglob("*")) == before


def test_a_skipped_patient_keeps_its_place_in_the_split(copy, tmp_path):
    whole = read_camus(copy)
    (copy / "patient0002" / "patient0002_2CH_ED_gt.nii.gz").unlink()
    camus = read_camus(copy)
    assert camus.patients == whole.patients
    write_split(tmp_path / "split.csv", camus)
    assert read_camus(copy, split=tmp_path / "split.csv") == camus


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("patient,split\npatient0001,TRAIN\n", "lacks patients.*2: patient0002, patient0003"),
        (
            "patient,split\npatient0001,TRAIN\npatient0002,VAL\npatient0003,VAL\npatient9999,VAL\n",
            r"not in the data set \(1: patient9999\)",
        ),
        ("patient,split\npatient0001,TRAIN\npatient0001,VAL\n", "patient0001 twice"),
        ("patient,split\npatient0001,spare\n", "'spare': expected TRAIN, VAL, TEST"),
        ("name,part\npatient0001,TRAIN\n", "columns name, part: expected patient, split"),
        ("", "columns none"),
        (b"\xff\xfe\x00\x01", "not a comma-separated"),
    ],
)
def test_bad_splits_are_refused(copy, tmp_path, text, words):
    path = tmp_path / "split.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=words):
        read_camus(copy, split=path)


def test_the_official_lists_are_a_split(copy, tmp_path):
    with pytest.raises(FileNotFoundError, match="write_split"):
        read_camus(copy, split=tmp_path / "no.csv")
    lists = tmp_path / "database_split"
    lists.mkdir()
    for k, name in enumerate(("testing", "training", "validation"), 1):
        with pytest.raises(FileNotFoundError, match="subgroup_"):
            read_camus(copy, split=lists)
        (lists / f"subgroup_{name}.txt").write_text(f"patient000{k}\n")
    assert list(read_camus(copy, split=lists).patients.values()) == ["TEST", "TRAIN", "VAL"]


# --- what is wrong with a copy ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "spoil", "skipped", "words"),
    [
        ("patient0002_4CH_ES_gt.nii.gz", "cut", "patient0002", "4CH_ES_gt.nii.gz: cut short"),
        ("patient0002_2CH_ED_gt.nii.gz", "remove", "patient0002", "2CH_ED_gt.nii.gz is missing"),
        ("patient0002_2CH_ED_gt.nii.gz", "empty", "patient0002", "cannot be read"),
        ("patient0002_4CH_half_sequence.nii.gz", "remove", "patient0002_4CH", "is missing"),
        ("patient0002_4CH_half_sequence.nii.gz", "empty", "patient0002_4CH", "cannot be read"),
        ("Info_2CH.cfg", "remove", "patient0002_2CH", "Info_2CH.cfg is missing"),
        ("Info_2CH.cfg", "empty", "patient0002_2CH", "no FrameRate"),
    ],
)
def test_a_spoilt_file_costs_its_clip_or_patient_and_no_other(copy, file, spoil, skipped, words):
    path = copy / "patient0002" / file
    {"cut": cut, "remove": lambda p: p.unlink(), "empty": lambda p: p.write_bytes(b"")}[spoil](path)
    camus = read_camus(copy)
    assert list(reasons(camus)) == [skipped]
    assert words in reasons(camus)[skipped]
    assert len(camus.records) == (5 if skipped.endswith("CH") else 4)


def test_a_patient_without_any_cfg_is_skipped(copy):
    for view in VIEWS:
        (copy / "patient0002" / f"Info_{view}.cfg").unlink()
    assert "copy it again" in reasons(read_camus(copy))["patient0002"]


@pytest.mark.parametrize(
    ("old", "new", "skipped", "words"),
    [
        ("NbFrame: ", "NbFrame: 9", "patient0001_4CH", "frames stated in Info_4CH.cfg"),
        ("ED: 1", "ED: 99", "patient0001_4CH", "ED 99 and ES"),
        ("ED: 1", "ED: one", "patient0001_4CH", "ED is 'one'"),
        ("FrameRate: 50.0", "FrameRate: 1.0", "patient0001_4CH", "1 frames/s: expected 5 to 500"),
        ("EF: 5", "EF: 4", "patient0001", "in the two cfg files"),
    ],
)
def test_impossible_facts_are_refused(copy, old, new, skipped, words):
    edit(copy / "patient0001" / "Info_4CH.cfg", old, new)
    camus = read_camus(copy)
    assert list(reasons(camus)) == [skipped]
    assert words in reasons(camus)[skipped]


def rewrite(path, change, spacing=None):
    """Change the array of an image file, and its spacing."""
    image = sitk.ReadImage(str(path))
    array = change(sitk.GetArrayFromImage(image))
    write_image(path, array, spacing or image.GetSpacing()[1::-1])


def halved(array):
    return array[..., ::2, ::2]


def label_maps(folder):
    return sorted(folder.glob("*_E?_gt.nii.gz"))


def test_a_spacing_of_exactly_one_millimetre_is_not_stated(copy):
    sequence = copy / "patient0001" / "patient0001_4CH_half_sequence.nii.gz"
    rewrite(sequence, halved, (1.0, 1.0))
    rewrite(label_maps(copy / "patient0002")[0], halved, (1.0, 1.0))
    with pytest.raises(UnreadableClipError, match="states no pixel spacing: 1 x 1 mm"):
        read_camus_recording(sequence, 50.0)
    skipped = reasons(read_camus(copy))
    assert list(skipped) == ["patient0001_4CH", "patient0002"]
    assert all("states no pixel spacing" in reason for reason in skipped.values())


def test_files_resized_with_the_old_spacing_are_refused(copy):
    for path in label_maps(copy / "patient0001"):
        rewrite(path, halved)
    for path in (copy / "patient0002").glob("*.nii.gz"):
        rewrite(path, lambda array: array.repeat(2, axis=-1).repeat(2, axis=-2))
    skipped = reasons(read_camus(copy))
    assert list(skipped) == ["patient0001", "patient0002"]
    assert "but its sequence shows" in skipped["patient0001"]
    assert "resized without its pixel spacing" in skipped["patient0001"]
    assert re.search(
        r"give [\d.e+]+ mL: expected 5 to 600; .* wrong pixel spacing", skipped["patient0002"]
    )


def renumber(**new):
    """Exchange numbers: cavity, myocardium, atrium, and a right ventricle beside the septum."""

    def change(labels):
        changed = np.zeros_like(labels)
        for name, number in (("cavity", 1), ("wall", 2), ("atrium", 3)):
            changed[labels == number] = new.get(name, 0)
        if "right" in new:
            rows, columns = np.nonzero(labels == 2)
            beside = slice(columns.min() - 40, columns.min() + 4)
            strip = changed[rows.min() + 40 : rows.max() - 10, beside]
            strip[strip == 0] = new["right"]
        return changed

    return change


@pytest.mark.parametrize(
    "numbers",
    [
        {"cavity": 3, "wall": 2, "right": 1},  # as in ACDC
        {"cavity": 3, "wall": 2, "atrium": 1},
        {"cavity": 2, "wall": 1, "atrium": 3},
        {"cavity": 1, "wall": 3, "atrium": 2},
        {"cavity": 255, "wall": 170, "atrium": 85},
        {"cavity": 2, "wall": 1},
    ],
)
def test_label_maps_numbered_otherwise_are_read_with_a_warning(nifti, copy, numbers):
    for path in label_maps(copy / "patient0001"):
        rewrite(path, renumber(**numbers))
    words = f"number the cavity {numbers['cavity']} and the myocardium {numbers['wall']}"
    with pytest.warns(UserWarning, match=words):
        record = read_camus(copy).records[0]
    true = nifti[1][0]
    assert (record.edv, record.esv) == pytest.approx((true.edv, true.esv), rel=0.03)


def test_label_maps_whose_cavity_cannot_be_told_are_refused(copy):
    for path in label_maps(copy / "patient0001"):
        rewrite(path, renumber(cavity=2, atrium=1))
    for path in label_maps(copy / "patient0002"):
        rewrite(path, lambda labels: labels.astype(np.float32) / 2)
    skipped = reasons(read_camus(copy))
    assert "none encloses another: expected 1 for the cavity" in skipped["patient0001"]
    assert "expected whole numbers from 0 to 255" in skipped["patient0002"]


def test_an_ejection_fraction_that_contradicts_the_volumes_is_refused(nifti, copy):
    ef = round(nifti[1][0].ef)
    for difference, usable in ((8, True), (12, False)):
        for view in VIEWS:
            path = copy / "patient0001" / f"Info_{view}.cfg"
            shutil.copy(nifti[0] / "patient0001" / path.name, path)
            edit(path, f"EF: {ef}", f"EF: {ef + difference}")
        camus = read_camus(copy)
        assert ("patient0001" not in reasons(camus)) == usable
        if usable:
            assert camus.records[0].ef == ef + difference, "the stated EF is not kept"
    assert "contradicts its volumes" in reasons(camus)["patient0001"]


def test_an_ejection_fraction_that_is_not_stated_is_that_of_the_volumes(nifti, copy):
    for view in VIEWS:
        edit(copy / "patient0001" / f"Info_{view}.cfg", "EF: ", "Unknown: ")
    record = read_camus(copy).records[0]
    assert record.ef == 100 * (record.edv - record.esv) / record.edv
    assert record.ef == pytest.approx(nifti[1][0].ef, abs=0.5)


def test_an_older_release_needs_its_frame_rate_told(tmp_path):
    write_camus(tmp_path, 1, "mhd")
    with pytest.raises(ValueError, match=r"no usable clip.*no FrameRate.*frame_rate="):
        read_camus(tmp_path)
    assert {record.fps for record in read_camus(tmp_path, frame_rate=40.0).records} == {40.0}


def test_a_sequence_that_is_cut_short_is_refused(tmp_path):
    # ITK itself fills the missing frames with black, or with what it finds.
    write_camus(tmp_path / "nifti", 1)
    write_camus(tmp_path / "mhd", 1, "mhd")
    compressed = tmp_path / "nifti" / "patient0001" / "patient0001_4CH_half_sequence.nii.gz"
    raw = tmp_path / "mhd" / "patient0001" / "patient0001_4CH_sequence.raw"
    plain = tmp_path / "patient0001_4CH_half_sequence.nii"
    write_image(plain, np.full((4, 200, 200), 90, np.uint8), (0.8, 0.8))
    for path in (compressed, raw, plain):
        header = path.with_suffix(".mhd") if path == raw else path
        assert len(read_recording(header, 50.0).frames) > 2
        cut(path)
        with pytest.raises(UnreadableClipError, match=f"{header.name}: cut short"):
            read_recording(header, 50.0)
    raw.unlink()
    with pytest.raises(UnreadableClipError, match="cut short or damaged"):
        read_recording(raw.with_suffix(".mhd"), 50.0)


def test_what_is_no_copy_of_camus_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        read_camus(tmp_path / "nowhere")
    (tmp_path / "patients.csv").touch()
    with pytest.raises(FileNotFoundError, match="no copy of CAMUS: expected folders patient0001"):
        read_camus(tmp_path)
    (tmp_path / "patient0001").mkdir()
    with pytest.raises(ValueError, match="no usable clip; the first: patient0001"):
        read_camus(tmp_path)


def test_without_simpleitk_the_extra_is_named(nifti, monkeypatch):
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    for read in (read_camus, lambda folder: read_camus_recording(folder / "a.mhd", 50.0)):
        with pytest.raises(ImportError, match=r"pip install 'jaxtwin\[camus\]', or in a clone "):
            read(nifti[0])
