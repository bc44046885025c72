"""Reading of files as written by scanners and data sets, intact and damaged."""

import csv
import re
from fractions import Fraction

import av
import numpy as np
import pydicom
import pydicom.examples
import pytest
from PIL import Image
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from jaxtwin.data.base import (
    ClipFormat,
    EchoVideo,
    UnreadableClipError,
    resample,
    window,
)
from jaxtwin.data.echonet import read_echonet, read_theta
from jaxtwin.data.recording import read_recording
from jaxtwin.data.sector import tissue_brightness
from jaxtwin.data.vitals import VITAL_COLUMNS


def write_video(path, frames, rate=50, codec="mjpeg", pixel_format="yuvj420p"):
    """Frames [time, height, width] or [time, height, width, 3] as a video file."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(rate))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pixel_format
        if codec == "mjpeg":
            stream.codec_context.qmin = stream.codec_context.qmax = 2
        for frame in frames:
            image = av.VideoFrame.from_ndarray(frame, "gray" if frame.ndim == 2 else "rgb24")
            container.mux(stream.encode(image))
        container.mux(stream.encode())


def flat_frames(count, height=112, width=112):
    """Frames of one brightness each: 0, 2, 4, ..."""
    values = 2 * np.arange(count, dtype=np.uint8)
    return np.broadcast_to(values[:, None, None], (count, height, width)).copy()


def sector_mask(height=240, width=320, apex=(30, 150), radius=180):
    """A 90 degree sector, symmetric about the column through its apex."""
    row, column = np.ogrid[:height, :width]
    down, across = row - apex[0], column - apex[1]
    return (abs(across) <= down) & (down**2 + across**2 <= radius**2)


def screen(count=20):
    """A scanner's screen in colour: a sector of moving speckle, a name, ticks, a colour trace."""
    random = np.random.default_rng(0)
    frames = np.zeros((count, 240, 320, 3), np.uint8)
    frames[:] = (random.uniform(40, 200, (count, 240, 320)) * sector_mask())[..., None]
    frames[:, 35:50, 25:80] = 230 * (random.random((15, 55)) > 0.5)[..., None]  # the name
    frames[:, 20:220:10, 312:318] = 255  # depth ticks
    for k in range(count):
        frames[k, 215:235, 10 + 10 * k : 30 + 10 * k, 1] = 220  # a trace, green and moving
    return frames


def write_dicom(path, pixels, photometric="RGB", **tags):
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.3.1"
    dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.PatientName = "SECRET^PATIENT"
    dataset.PatientID = "SECRET-1"
    dataset.PhotometricInterpretation = photometric
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = pixels.shape[:3]
    dataset.SamplesPerPixel = 3 if pixels.ndim == 4 else 1
    if pixels.ndim == 4:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = 0
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OB" if pixels.itemsize == 1 else "OW"
    for name, value in tags.items():
        setattr(dataset, name, value)
    dataset.save_as(path, enforce_file_format=True)


def region(left, top, right, bottom):
    item = pydicom.Dataset()
    item.RegionSpatialFormat = item.RegionDataType = 1
    item.RegionLocationMinX0, item.RegionLocationMinY0 = left, top
    item.RegionLocationMaxX1, item.RegionLocationMaxY1 = right, bottom
    return [item]


def assert_only_the_sector(frames):
    """The mask's bounding box is rows 30 to 210 and columns 22 to 278 (apex 150, 90 degrees)."""
    rows, columns = np.nonzero(sector_mask())
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert abs(frames.shape[1] - height) <= 8 and abs(frames.shape[2] - width) <= 8
    assert frames.max(axis=0)[:20, :40].max() == 0, "what lies beside the apex is not black"
    assert frames[:, 100].mean() > 60


# --- from recordings to clips -----------------------------------------------------------------


def test_resampling_is_at_fixed_seconds_whatever_the_frame_rate():
    for rate in (18.0, 50.0, 138.0):
        times = np.arange(int(2 * rate) + 1) / rate
        brightness = np.rint(100 * times).astype(np.uint8)
        frames = np.broadcast_to(brightness[:, None, None], (len(times), 112, 112)).copy()
        clip = resample(EchoVideo(frames, times), ClipFormat())
        assert len(clip) == 33
        expected = 100 * np.arange(33) / 16
        assert np.abs(clip[:, 5, 5] - expected).max() <= 1


def test_downsizing_averages_areas_and_pads_with_black():
    random = np.random.default_rng(0)
    frames = random.integers(0, 256, (2, 224, 448)).astype(np.uint8)
    clip = resample(EchoVideo(frames, np.array([0.0, 1 / 16])), ClipFormat())
    assert clip[:, :28].max() == 0 and clip[:, 84:].max() == 0
    means = frames.reshape(2, 56, 4, 112, 4).mean(axis=(2, 4))
    assert np.abs(clip[:, 28:84] - means).max() <= 0.5 + 1e-3


def test_a_picture_of_any_size_keeps_its_brightness():
    for shape in ((50, 50), (113, 97), (600, 800)):
        frames = np.full((2, *shape), 200, np.uint8)
        clip = resample(EchoVideo(frames, np.array([0.0, 0.1])), ClipFormat())
        assert clip[0, 56, 56] == 200
        covered = clip[0].sum() / 200 / 112**2
        assert covered == pytest.approx(min(shape) / max(shape), abs=0.01)


def test_a_window_is_black_past_the_end():
    resampled = np.full((10, 8, 8), 7, np.uint8)
    clip = window(resampled, ClipFormat(frames=6, size=8), start=7)
    assert clip.shape == (6, 8, 8)
    assert (clip[:3] == 7).all() and (clip[3:] == 0).all()


@pytest.mark.parametrize(
    ("times", "words"),
    [
        ([0.0], "1 frame"),
        ([0.0, 0.02, 0.02], "do not increase"),
        ([0.0, 1.0, 2.0], "1 frames/s"),
        ([0.0, 1e-5, 2e-5], "frames/s"),
    ],
)
def test_an_impossible_recording_is_refused(times, words):
    with pytest.raises(UnreadableClipError, match=words):
        EchoVideo(np.zeros((len(times), 8, 8), np.uint8), np.array(times))


# --- single files -----------------------------------------------------------------------------


def test_an_echonet_clip_passes_untouched(tmp_path):
    frames = flat_frames(20)
    frames[:, :5] = 250  # even a still bright border
    write_video(tmp_path / "clip.avi", frames)
    recording = read_recording(tmp_path / "clip.avi")
    assert recording.frames.shape == frames.shape
    assert np.abs(recording.frames.astype(int) - frames).max() <= 4
    np.testing.assert_allclose(recording.times, np.arange(20) / 50)


def test_video_of_limited_range_keeps_its_brightness(tmp_path):
    write_video(tmp_path / "clip.mp4", flat_frames(20), 25, "libx264", "yuv420p")
    recording = read_recording(tmp_path / "clip.mp4")
    assert np.abs(recording.frames[:, 50, 50].astype(int) - 2 * np.arange(20)).max() <= 3
    np.testing.assert_allclose(recording.times, np.arange(20) / 25)


def test_a_gif_has_the_times_of_its_frames(tmp_path):
    frames = [Image.fromarray(frame) for frame in 20 + flat_frames(4)]
    frames[0].save(
        tmp_path / "clip.gif", save_all=True, append_images=frames[1:], duration=[40, 100, 40, 200]
    )
    recording = read_recording(tmp_path / "clip.gif")
    np.testing.assert_allclose(recording.times, [0, 0.04, 0.14, 0.18])
    np.testing.assert_array_equal(recording.frames[:, 5, 5], [20, 22, 24, 26])


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format"),
    [("export.avi", "mjpeg", "yuvj420p"), ("export.mp4", "libx264", "yuv420p")],
)
def test_only_the_sector_of_a_scanner_export_is_left(tmp_path, name, codec, pixel_format):
    write_video(tmp_path / name, screen(), 30, codec, pixel_format)
    assert_only_the_sector(read_recording(tmp_path / name).frames)


def test_colours_are_overlays_and_tints_are_tissue():
    colours = {(90, 90, 90): 90, (200, 160, 120): 167, (255, 255, 0): 0, (0, 60, 180): 0}
    pixels = np.array([list(colours)], np.uint8)
    assert np.abs(tissue_brightness(pixels)[0] - np.array([*colours.values()])).max() <= 1


def test_a_clip_that_is_cut_short_is_refused(tmp_path):
    path = tmp_path / "clip.avi"
    write_video(path, flat_frames(60))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(UnreadableClipError, match=r"clip.avi: cut short: .* of the 60 frames"):
        read_recording(path)


def test_a_still_screen_is_refused(tmp_path):
    write_video(tmp_path / "report.avi", np.repeat(screen(1), 20, axis=0))
    with pytest.raises(UnreadableClipError, match=r"report.avi: no area of the picture moves"):
        read_recording(tmp_path / "report.avi")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such file"),
        (b"", "empty"),
        (b"These are notes, not a video.\n" * 50, "cannot be decoded"),
        (b"RIFF\x00\x10\x00\x00AVI LIST", "damaged|no frames|no video"),
    ],
)
def test_what_is_no_video_is_refused_by_name(tmp_path, content, words):
    path = tmp_path / "notes.avi"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UnreadableClipError, match=f"notes.avi: .*({words})"):
        read_recording(path)


def test_a_still_image_is_refused(tmp_path):
    Image.fromarray(np.zeros((112, 112), np.uint8)).save(tmp_path / "still.png")
    with pytest.raises(UnreadableClipError, match="still image"):
        read_recording(tmp_path / "still.png")


# --- DICOM ------------------------------------------------------------------------------------


def test_the_real_clip_is_its_sector_and_no_more():
    recording = read_recording(pydicom.examples.get_path("ybr_color"))
    np.testing.assert_allclose(recording.times, np.arange(30) * 0.033333)
    # The screen is 240 x 320; without its text, ticks and toolbar the sector that moves is this.
    assert recording.frames.shape[1:] == pytest.approx((177, 173), abs=10)
    clip = resample(recording, ClipFormat())
    seen = clip.max(axis=0) > 8
    assert np.ptp(np.flatnonzero(seen.any(axis=1))) > 100
    assert np.ptp(np.flatnonzero(seen.any(axis=0))) > 95
    corner = clip[:, :20]
    assert corner[:, :, :20].max() == 0 and corner[:, :, -20:].max() == 0


def test_nothing_of_the_patient_leaves_a_dicom_file(tmp_path, caplog, capfd):
    write_dicom(tmp_path / "a.dcm", screen())  # no frame time
    with pytest.raises(UnreadableClipError, match="FrameTime") as missing:
        read_recording(tmp_path / "a.dcm")
    content = (tmp_path / "a.dcm").read_bytes()
    (tmp_path / "b.dcm").write_bytes(content[: len(content) // 2])
    with pytest.raises(UnreadableClipError, match="damaged") as damaged:
        read_recording(tmp_path / "b.dcm")
    written = "".join(capfd.readouterr())
    for text in (str(missing.value), str(damaged.value), caplog.text, written):
        assert "SECRET" not in text
    assert damaged.value.__suppress_context__


def test_a_region_inside_the_image_is_used_and_one_outside_is_not(tmp_path):
    frames = screen()
    # What moves beside the sector and touches it: only the region tells the two apart.
    frames[:, 120:190, 260:305] = np.random.default_rng(1).integers(0, 255, (20, 70, 45, 1))
    inside = region(15, 25, 279, 212)
    write_dicom(tmp_path / "a", frames, FrameTime=33.3, SequenceOfUltrasoundRegions=inside)
    assert_only_the_sector(read_recording(tmp_path / "a").frames)
    outside = region(84, 31, 595, 414)
    write_dicom(tmp_path / "b", screen(), FrameTime=33.3, SequenceOfUltrasoundRegions=outside)
    assert_only_the_sector(read_recording(tmp_path / "b").frames)


@pytest.mark.parametrize(
    ("tags", "times"),
    [
        ({"FrameTime": 40.0}, np.arange(4) * 0.04),
        ({"FrameTimeVector": [0.0, 20.0, 40.0, 20.0]}, [0, 0.02, 0.06, 0.08]),
        ({"FrameTime": 0.0, "CineRate": 25}, np.arange(4) * 0.04),
        ({"RecommendedDisplayFrameRate": 25}, np.arange(4) * 0.04),
    ],
)
def test_dicom_times(tmp_path, tags, times):
    write_dicom(tmp_path / "a.dcm", flat_frames(4), "MONOCHROME2", **tags)
    np.testing.assert_allclose(read_recording(tmp_path / "a.dcm").times, times)


def test_grey_dicom_of_eight_sixteen_bits_and_inverted(tmp_path):
    grey = flat_frames(4)
    for photometric, pixels in (
        ("MONOCHROME2", grey),
        ("MONOCHROME1", 255 - grey),
        ("MONOCHROME2", grey.astype(np.uint16) * 257),
    ):
        write_dicom(tmp_path / "a.dcm", pixels, photometric, FrameTime=20.0)
        np.testing.assert_array_equal(read_recording(tmp_path / "a.dcm").frames, grey)


def test_dicom_with_a_colour_palette(tmp_path):
    # Each index stands for a grey level of half its value, on the palette's 16-bit scale.
    table = (np.arange(256) // 2 * 257).astype(np.uint16)
    palette = {
        f"{colour}PaletteColorLookupTable{part}": value
        for colour in ("Red", "Green", "Blue")
        for part, value in (("Descriptor", [256, 0, 16]), ("Data", table.tobytes()))
    }
    write_dicom(tmp_path / "a.dcm", flat_frames(4), "PALETTE COLOR", FrameTime=20.0, **palette)
    np.testing.assert_array_equal(read_recording(tmp_path / "a.dcm").frames[:, 3, 3], [0, 1, 2, 3])


# --- EchoNet-Dynamic's layout -----------------------------------------------------------------

ROW = {
    "FileName": "A",
    "EF": "60",
    "ESV": "40",
    "EDV": "100",
    "FrameHeight": "112",
    "FrameWidth": "112",
    "FPS": "50",
    "NumberOfFrames": "20",
    "Split": "TRAIN",
}


def write_table(folder, *changes, columns=tuple(ROW)):
    (folder / "Videos").mkdir(exist_ok=True)
    with (folder / "FileList.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, columns, extrasaction="ignore")
        table.writeheader()
        table.writerows({**ROW, **change} for change in changes)


def test_the_table_is_read_with_and_without_suffixes_and_extra_columns(tmp_path):
    write_table(
        tmp_path,
        {"FileName": "A", "Site": "1"},
        {"FileName": "B.avi", "Split": "val", "EF": "59.6"},
        {"FileName": "C", "Split": "Test"},
        columns=(*ROW, "Site"),
    )
    table = tmp_path / "FileList.csv"
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes())  # as spreadsheets save it
    data = read_echonet(tmp_path)
    assert [record.name for record in data.records] == ["A", "B", "C"]
    assert data.records[1].path == tmp_path / "Videos" / "B.avi"
    assert data.records[1].ef == 59.6 and data.records[1].frames == 20
    assert [len(data.split(name)) for name in ("TRAIN", "val", "TEST")] == [1, 1, 1]
    assert data.skipped == ()
    with pytest.raises(ValueError, match="'HOLDOUT': choose one of TRAIN, VAL, TEST"):
        data.split("HOLDOUT")


def test_vitals_are_read_where_somebody_measured(tmp_path):
    change = {"HeartPeriod": "0.9", "SystolicPressure": "NA", "DiastolicPressure": "70"}
    write_table(tmp_path, change, {"FileName": "B"}, columns=(*ROW, *VITAL_COLUMNS.values()))
    first, second = read_echonet(tmp_path).records
    assert first.vitals[::2] == (0.9, 70.0) and np.isnan(first.vitals.systolic)
    assert np.isnan(second.vitals).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"EDV": "nan"}, "EDV is 'nan'"),
        ({"EDV": "", "EF": ""}, "EDV is ''"),
        ({"ESV": "100", "EDV": "40"}, "0 < ESV < EDV"),
        ({"ESV": "-5"}, "0 < ESV < EDV"),
        ({"EF": "30"}, "contradicts"),
        ({"FPS": "0"}, "FPS 0"),
        ({"FPS": "1e6"}, "FPS 1e[+]06"),
        ({"NumberOfFrames": "1"}, "still"),
        ({"Split": "HOLDOUT"}, "HOLDOUT"),
        ({"FileName": "good"}, "listed before"),
        ({"FileName": ""}, "no FileName"),
        ({"HeartPeriod": "60"}, "HeartPeriod 60: expected 0.2 to 3, or an empty entry"),
        ({"SystolicPressure": "high"}, "SystolicPressure is 'high'"),
        ({"SystolicPressure": "80", "DiastolicPressure": "120"}, "80/120 mmHg"),
    ],
)
def test_an_impossible_row_is_skipped_with_its_reason(tmp_path, change, words):
    columns = (*ROW, *VITAL_COLUMNS.values())
    write_table(tmp_path, {"FileName": "good"}, change, {"FileName": "last"}, columns=columns)
    data = read_echonet(tmp_path)
    assert [record.name for record in data.records] == ["good", "last"]
    (skipped,) = data.skipped
    assert re.search(words, skipped.reason)


def test_a_short_row_is_skipped(tmp_path):
    write_table(tmp_path, {})
    with (tmp_path / "FileList.csv").open("a") as file:
        file.write("B,60,40\n")
    assert [skipped.name for skipped in read_echonet(tmp_path).skipped] == ["B"]


def test_missing_parts_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        read_echonet(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"FileList\.csv is missing"):
        read_echonet(tmp_path)
    write_table(tmp_path, {}, columns=tuple(name for name in ROW if name != "EDV"))
    with pytest.raises(ValueError, match=r"lacks the column EDV.*found FileName"):
        read_echonet(tmp_path)
    write_table(tmp_path, {"EF": "x"})
    with pytest.raises(ValueError, match=r"no usable clip.*EF is 'x'"):
        read_echonet(tmp_path)
    (tmp_path / "Videos").rmdir()
    with pytest.raises(FileNotFoundError, match="Videos is missing"):
        read_echonet(tmp_path)
    (tmp_path / "FileList.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ValueError, match="not a comma-separated text table"):
        read_echonet(tmp_path)


@pytest.mark.parametrize("name", ["../../secret", "/etc/secret", "link/secret"])
def test_a_name_that_leads_outside_the_folder_is_refused(tmp_path, name):
    data, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    data.mkdir()
    elsewhere.mkdir()
    write_table(data, {}, {"FileName": name})
    (data / "Videos" / "link").symlink_to(elsewhere)
    with pytest.raises(ValueError, match=f"'{name}', which leads outside"):
        read_echonet(data)


def test_theta_is_read_by_clip(tmp_path):
    (tmp_path / "Theta.csv").write_text("FileName,T_c,E_max\nA,0.8,2.5\nB.avi,1.1,1\n")
    assert read_theta(tmp_path) == {
        "A": {"T_c": 0.8, "E_max": 2.5},
        "B": {"T_c": 1.1, "E_max": 1.0},
    }
    (tmp_path / "Theta.csv").write_text("FileName,T_c\nA,fast\n")
    with pytest.raises(ValueError, match="A has a parameter that is no number"):
        read_theta(tmp_path)
