"""Reading of video as written by scanners and data sets, intact and damaged."""

import io
from types import SimpleNamespace

import av
import numpy as np
import pytest
from PIL import Image

from jaxtwin.data import video
from jaxtwin.data.base import (
    ClipFormat,
    EchoVideo,
    UnreadableClipError,
    resample,
    window,
)
from jaxtwin.data.recording import read_recording
from jaxtwin.data.sector import tissue_brightness
from jaxtwin.data.video import _quarter_turns
from tests.data.recordings import assert_only_the_sector, flat_frames, screen, write_video

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


ONE, DEPTH = 2**16, 2**30  # in a display matrix


def display_matrix(a, b, c, d):
    return [round(a * ONE), round(b * ONE), 0, round(c * ONE), round(d * ONE), 0, 0, 0, DEPTH]


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("scale", [1, 2])
def test_a_phone_s_clip_is_upright(tmp_path, degrees, scale):
    """Phones store frames as the chip sees them, and how far to turn them clockwise."""
    sine, cosine = np.sin(np.deg2rad(degrees)), np.cos(np.deg2rad(degrees))
    matrix = display_matrix(scale * cosine, scale * sine, -scale * sine, scale * cosine)
    stored = np.rot90(screen(), degrees // 90, axes=(1, 2))
    write_video(tmp_path / "phone.mp4", stored, 30, "libx264", "yuv420p", matrix)
    assert_only_the_sector(read_recording(tmp_path / "phone.mp4").frames)


@pytest.mark.parametrize(
    "matrix",
    [
        (-1, 0, 0, 1),
        (1, 0, 0, -1),
        (0, 1, 1, 0),
        (0.8, 0.6, -0.6, 0.8),
        (1, 0, 0.5, 1),
        (2, 0, 0, 1),
    ],
)
def test_a_clip_shown_otherwise_than_turned_is_refused(tmp_path, matrix):
    path = tmp_path / "mirror.mp4"
    write_video(path, screen(), 30, "libx264", "yuv420p", display_matrix(*matrix))
    with pytest.raises(UnreadableClipError, match=r"mirror.mp4: .*display matrix: expected a turn"):
        read_recording(path)


def test_the_display_matrix_is_looked_at_once(tmp_path, monkeypatch):
    """PyAV loses memory each time."""
    calls = []
    monkeypatch.setattr(video, "_quarter_turns", lambda frame: calls.append(frame) or 0)
    write_video(tmp_path / "clip.avi", flat_frames(60))
    assert len(read_recording(tmp_path / "clip.avi").frames) == 60
    assert len(calls) == 1


def test_a_turn_is_found_beside_side_data_that_pyav_does_not_know(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    frame = np.zeros((100, 160), np.uint8)
    frame[:, :20] = 200
    Image.fromarray(frame).save(tmp_path / "a.jpg", exif=exif)
    with av.open(str(tmp_path / "a.jpg")) as container:
        (image,) = container.decode(video=0)
    assert _quarter_turns(image) % 4 == 3


def test_a_clip_that_is_cut_short_is_refused(tmp_path):
    path = tmp_path / "clip.avi"
    write_video(path, flat_frames(60))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(UnreadableClipError, match=r"clip.avi: cut short: .* of the 60 frames"):
        read_recording(path)


def test_frames_that_refer_to_later_ones_have_even_times_in_avi(tmp_path):
    path = tmp_path / "export.avi"
    codec = {"bf": "3", "x264-params": "bframes=3:b-adapt=0"}
    write_video(path, flat_frames(60), 25, "libx264", "yuv420p", codec_options=codec)
    with av.open(str(path)) as container:
        assert np.any(np.diff([frame.time for frame in container.decode(video=0)]) < 0)
    recording = read_recording(path)
    np.testing.assert_allclose(recording.times, np.arange(60) / 25)
    assert np.abs(recording.frames[:, 50, 50].astype(int) - 2 * np.arange(60)).max() <= 3


def noise(count, size=128):
    return np.random.default_rng(0).integers(0, 256, (count, size, size), np.uint8)


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("clip.mkv", "libx264", {}),
        ("clip.mkv", "mjpeg", {}),
        ("clip.webm", "libvpx", {}),
        ("clip.mp4", "libx264", {"options": {"movflags": "frag_keyframe+empty_moov"}}),
        ("clip.mp4", "libx264", {"options": {"movflags": "faststart"}}),
        ("clip.mov", "mjpeg", {"options": {"movflags": "faststart"}}),
        ("clip.flv", "flv", {}),
        ("clip.wmv", "wmv2", {}),
    ],
)
def test_a_clip_that_states_its_duration_is_read_whole_or_not_at_all(
    tmp_path, name, codec, options
):
    path = tmp_path / name
    pixel_format = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    write_video(path, noise(60), 25, codec, pixel_format, **options)
    whole = read_recording(path)
    np.testing.assert_allclose(whole.times, np.arange(60) / 25, atol=1e-3)
    content = path.read_bytes()
    for part in (0.34, 0.5, 0.8):
        path.write_bytes(content[: int(part * len(content))])
        with pytest.raises(UnreadableClipError, match=f"{name}: .*(cut short|damaged)"):
            read_recording(path)


def test_a_gif_that_is_cut_short_is_refused(tmp_path):
    path = tmp_path / "clip.gif"
    frames = [Image.fromarray(frame) for frame in flat_frames(30)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=40)
    content = path.read_bytes()
    path.write_bytes(content + bytes(10))
    assert len(read_recording(path).frames) == 30
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(UnreadableClipError, match=r"clip.gif: .*cut short"):
        read_recording(path)


def test_a_clip_that_states_no_duration_is_read_with_a_warning(tmp_path):
    live = io.BytesIO()
    stream = SimpleNamespace(write=live.write)  # cannot be rewound to state the duration
    write_video(stream, noise(20), 25, "libx264", "yuv420p", format="matroska")
    (tmp_path / "live.mkv").write_bytes(live.getvalue())
    with pytest.warns(UserWarning, match=r"live.mkv states no duration.* clip of 0.8 s"):
        assert len(read_recording(tmp_path / "live.mkv").frames) == 20


def test_a_trimmed_phone_clip_is_read_without_what_was_trimmed(tmp_path):
    path = tmp_path / "trimmed.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"bf": "0"})
        stream.height = stream.width = 112
        stream.pix_fmt = "yuv420p"
        images = [av.VideoFrame.from_ndarray(frame, "gray") for frame in flat_frames(60)]
        for packet in [p for image in [*images, None] for p in stream.encode(image)]:
            packet.pts = packet.dts = packet.pts - int(1 / packet.time_base)  # 1 s before the start
            container.mux(packet)
    recording = read_recording(path)
    assert len(recording.frames) == 35
    assert recording.frames[0, 50, 50] == pytest.approx(50, abs=3)


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
