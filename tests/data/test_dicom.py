"""Reading of DICOM files, without anything of the patient."""

import io
import warnings
from contextlib import nullcontext

import numpy as np
import pydicom
import pydicom.examples
import pytest
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels.processing import convert_color_space
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from jaxtwin.data.base import (
    ClipFormat,
    UnreadableClipError,
    resample,
)
from jaxtwin.data.recording import read_recording
from tests.data.recordings import assert_only_the_sector, flat_frames, region, screen, write_dicom

FRAME_TIME, VECTOR, CINE_RATE = 0x00181063, 0x00181065, 0x00180040
FORTY = np.arange(4) * 0.04


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


@pytest.mark.parametrize(
    "tags",
    [
        {"NumberOfFrames": 7},
        {"NumberOfFrames": None},
        {"PixelData": None},
        {"PhotometricInterpretation": "YBR_FULL_422"},
        {"CineRate": 11},
        {"FrameIncrementPointer": [0x00100010, 0x00100020]},
    ],
)
@pytest.mark.parametrize("prefix", [True, False])
def test_no_error_or_warning_names_the_patient(tmp_path, capfd, caplog, tags, prefix):
    path = tmp_path / "a.dcm"
    write_dicom(path, screen(), **{"FrameTime": 20.0, **tags})
    if not prefix:
        path.write_bytes(path.read_bytes()[132:])
    assert b"SECRET" in path.read_bytes()
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        try:
            read_recording(path)
            said = ""
        except UnreadableClipError as error:
            said = str(error)
    said += " ".join(str(warning.message) for warning in found)
    assert said
    assert "SECRET" not in said + caplog.text + "".join(capfd.readouterr())


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
    ("told", "expected"),
    [
        ({}, None),
        ({"unit": 3, "delta": (0.05, 0.04)}, (0.5, 0.4)),
        ({"unit": 3, "delta": (-0.05, 0.04)}, (0.5, 0.4)),  # some scanners count upwards
        ({"unit": 4, "delta": (0.05, 0.04)}, None),  # seconds
        ({"unit": 3, "delta": (0.0, 0.04)}, None),
        ({"unit": 3, "delta": (5.0, 4.0)}, None),  # metres deep
        ({"unit": 3, "delta": (0.05, 0.005)}, None),
    ],
    ids=["unstated", "centimetres", "upwards", "seconds", "zero", "too deep", "too narrow"],
)
def test_the_size_of_a_pixel_is_the_regions(tmp_path, told, expected):
    (item,) = region(15, 25, 279, 212)
    if told:
        item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = told["unit"]
        item.PhysicalDeltaY, item.PhysicalDeltaX = told["delta"]
    write_dicom(tmp_path / "a", screen(), FrameTime=33.3, SequenceOfUltrasoundRegions=[item])
    found = read_recording(tmp_path / "a").pixel
    assert found == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("tags", "times"),
    [
        ({"FrameTime": 40.0}, np.arange(4) * 0.04),
        ({"FrameTimeVector": [0.0, 20.0, 40.0, 20.0]}, [0, 0.02, 0.06, 0.08]),
        ({"FrameTime": 0.0, "CineRate": 25}, np.arange(4) * 0.04),
        ({"RecommendedDisplayFrameRate": 25}, np.arange(4) * 0.04),
        ({"FrameTime": 40.0, "CineRate": 24, "FrameIncrementPointer": FRAME_TIME}, FORTY),
        ({"FrameTime": 40.0, "RecommendedDisplayFrameRate": 10}, FORTY),
    ],
)
def test_dicom_times(tmp_path, tags, times):
    write_dicom(tmp_path / "a.dcm", flat_frames(4), "MONOCHROME2", **tags)
    np.testing.assert_allclose(read_recording(tmp_path / "a.dcm").times, times)


@pytest.mark.parametrize(
    ("tags", "times", "words"),
    [
        (
            {"FrameIncrementPointer": VECTOR, "FrameTime": 10.0, "FrameTimeVector": [0] + 3 * [40]},
            FORTY,
            "FrameTimeVector gives 0.12 s for 4 frames, but FrameTime gives 0.03 s; used FrameTime"
            "Vector, because FrameIncrementPointer names it",
        ),
        (
            {"FrameIncrementPointer": FRAME_TIME, "FrameTime": 40.0, "CineRate": 100},
            FORTY,
            "FrameTime gives 0.12 s for 4 frames, but CineRate gives 0.03 s; used FrameTime",
        ),
        (
            {"FrameIncrementPointer": CINE_RATE, "FrameTime": 10.0, "CineRate": 25},
            FORTY,
            "CineRate gives 0.12 s for 4 frames, but FrameTime gives 0.03 s; used CineRate",
        ),
        (
            {"FrameTime": 40.0, "FrameTimeVector": [0, 10, 10, 10]},
            FORTY,
            "but FrameTimeVector gives 0.03 s; used FrameTime, because there is no usable",
        ),
        (
            {"FrameIncrementPointer": VECTOR, "FrameTimeVector": [0, 10, 10], "FrameTime": 40.0},
            FORTY,
            "names FrameTimeVector, which does not state a time for each of the 4 frames; used "
            "FrameTime",
        ),
        (
            {"FrameIncrementPointer": [0x00180040, 0x00181063], "FrameTime": 40.0},
            FORTY,
            None,
        ),
    ],
)
def test_the_pointer_decides_between_times_that_disagree(tmp_path, tags, times, words):
    write_dicom(tmp_path / "a.dcm", flat_frames(4), "MONOCHROME2", **tags)
    with pytest.warns(UserWarning, match=f"a.dcm: .*{words}") if words else nullcontext():
        recording = read_recording(tmp_path / "a.dcm")
    np.testing.assert_allclose(recording.times, times)


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


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        (30, "NumberOfFrames is 30, but the pixel data hold 20 frames: the file may be damaged"),
        (10, "NumberOfFrames is 10, but the pixel data hold 20 frames: one is wrong"),
        (1, "NumberOfFrames is 1, but the pixel data hold 20 frames"),
        (None, "states no NumberOfFrames, but its pixel data hold 20 frames"),
    ],
)
@pytest.mark.parametrize("photometric", ["RGB", "MONOCHROME2"])
def test_a_wrong_number_of_frames_is_refused(tmp_path, photometric, stated, words):
    frames = screen() if photometric == "RGB" else screen()[..., 0]
    write_dicom(tmp_path / "a.dcm", frames, photometric, FrameTime=20.0, NumberOfFrames=stated)
    with pytest.raises(UnreadableClipError, match=f"a.dcm: {words}"):
        read_recording(tmp_path / "a.dcm")


def jpeg_dicom(path, *, stated=30, table=True, parts=1):
    """The 30 JPEG frames of pydicom's example, stored in another layout."""
    dataset = pydicom.dcmread(pydicom.examples.get_path("ybr_color"))
    frames = list(generate_frames(dataset.PixelData, number_of_frames=30))
    dataset.PixelData = encapsulate(frames, fragments_per_frame=parts, has_bot=table)
    dataset.NumberOfFrames = stated
    dataset.save_as(path)


@pytest.mark.parametrize("layout", [{}, {"table": False}, {"table": False, "parts": 2}])
def test_the_frames_of_a_compressed_file_are_counted(tmp_path, layout):
    path = tmp_path / "a.dcm"
    jpeg_dicom(path, **layout)
    assert len(read_recording(path).frames) == 30
    for stated in (20, 40):
        jpeg_dicom(path, stated=stated, **layout)
        words = f"NumberOfFrames is {stated}, but the pixel data hold 30 frames"
        with pytest.raises(UnreadableClipError, match=words):
            read_recording(path)


def test_padding_after_the_last_frame_is_no_frame(tmp_path):
    frames = flat_frames(3)
    padded = frames.tobytes() + bytes(1000)
    write_dicom(tmp_path / "a.dcm", frames, "MONOCHROME2", FrameTime=20.0, PixelData=padded)
    np.testing.assert_array_equal(read_recording(tmp_path / "a.dcm").frames, frames)


# --- colour spaces and encodings --------------------------------------------------------------


def grey_screen():
    frames = screen()
    return frames[..., :1].repeat(3, axis=-1)


def stored_as(frames, colours):
    if colours == "RGB":
        return frames
    converted = np.stack([convert_color_space(frame, "RGB", "YBR_FULL") for frame in frames])
    if colours == "YBR_FULL":
        return converted
    pairs = converted.reshape(*frames.shape[:2], -1, 2, 3)
    shared = np.concatenate([pairs[..., 0], pairs[..., :1, 1], pairs[..., :1, 2]], axis=-1)
    return shared.reshape(*frames.shape[:2], -1)


@pytest.mark.parametrize("stated", ["RGB", "YBR_FULL", "YBR_FULL_422"])
@pytest.mark.parametrize("colours", ["RGB", "YBR_FULL"])
@pytest.mark.parametrize("planar", [0, 1])
def test_pixels_are_read_as_what_they_are_and_not_as_their_label(tmp_path, stated, colours, planar):
    path, frames = tmp_path / "a.dcm", screen()
    stored = stored_as(frames, colours)
    if planar:
        stored = np.ascontiguousarray(np.moveaxis(stored, 3, 1))
    tags = {"FrameTime": 20.0, "PixelData": stored.tobytes(), "PlanarConfiguration": planar}
    write_dicom(path, frames, stated, **tags)
    words = f"a.dcm: PhotometricInterpretation is {stated}, but the pixels are {colours}"
    with nullcontext() if stated == colours else pytest.warns(UserWarning, match=words):
        recording = read_recording(path)
    write_dicom(path, frames, FrameTime=20.0)
    expected = read_recording(path).frames
    assert np.abs(recording.frames.astype(int) - expected).max() <= 2


def test_pixels_that_share_their_colours_are_read_as_labelled(tmp_path):
    frames = grey_screen()
    stored = stored_as(frames, "YBR_FULL_422")
    write_dicom(
        tmp_path / "a.dcm", frames, "YBR_FULL_422", FrameTime=20.0, PixelData=stored.tobytes()
    )
    recording = read_recording(tmp_path / "a.dcm")
    write_dicom(tmp_path / "a.dcm", frames, FrameTime=20.0)
    expected = read_recording(tmp_path / "a.dcm").frames
    assert np.abs(recording.frames.astype(int) - expected).max() <= 2


def test_pixels_of_no_known_colours_are_refused(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (5, 60, 80, 3), np.uint8)
    write_dicom(tmp_path / "a.dcm", frames, "YBR_FULL_422", FrameTime=20.0)
    with pytest.raises(UnreadableClipError, match=r"is YBR_FULL_422, but .* fit neither"):
        read_recording(tmp_path / "a.dcm")


@pytest.mark.parametrize(
    "syntax",
    [
        DeflatedExplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        ExplicitVRBigEndian,
    ],
)
@pytest.mark.parametrize("name", ["clip", "clip.avi", "clip.nii.gz", "clip.dcm"])
def test_every_uncompressed_syntax_is_read_whatever_the_suffix(tmp_path, syntax, name):
    write_dicom(tmp_path / name, flat_frames(5), "MONOCHROME2", syntax, FrameTime=20.0)
    recording = read_recording(tmp_path / name)
    np.testing.assert_array_equal(recording.frames, flat_frames(5))
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(UnreadableClipError, match="damaged"):
        read_recording(tmp_path / name)


@pytest.mark.parametrize("name", ["clip", "clip.avi", "clip.dcm"])
@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian]
)
def test_a_file_without_its_prefix_is_read(tmp_path, name, syntax):
    path = tmp_path / name
    write_dicom(path, flat_frames(5), "MONOCHROME2", syntax, FrameTime=20.0)
    content = path.read_bytes()
    path.write_bytes(content[132:])  # with its header still
    np.testing.assert_array_equal(read_recording(path).frames, flat_frames(5))
    dataset = pydicom.dcmread(io.BytesIO(content))
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID
    del dataset.file_meta
    dataset.preamble = None
    dataset.save_as(path, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian)
    assert b"DICM" not in path.read_bytes()
    np.testing.assert_array_equal(read_recording(path).frames, flat_frames(5))


def test_a_compressed_file_without_its_header_is_refused(tmp_path):
    dataset = pydicom.dcmread(pydicom.examples.get_path("ybr_color"))
    del dataset.file_meta
    dataset.preamble = None
    dataset.save_as(tmp_path / "a", implicit_vr=False, little_endian=True)
    with pytest.raises(UnreadableClipError, match="a: states no TransferSyntaxUID"):
        read_recording(tmp_path / "a")
