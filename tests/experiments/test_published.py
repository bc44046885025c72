"""Clips beside a published segmentation: what is painted is read, and held against the network."""

import av
import numpy as np
import pytest

from experiments.command import Run
from experiments.published import against_published, read_beside
from jaxtwin.data.base import UnreadableClipError
from jaxtwin.imaging.beats import find_beats
from jaxtwin.imaging.segmenter import Measured, with_context
from jaxtwin.imaging.volumes import cavity_shape

ROWS, COLUMNS = np.mgrid[:112, :112] - 56.0
TIMES = np.arange(120) / 50


def discs(factor=1.0):
    """Label maps of a disc that beats every 0.8 s, its radius changed by a factor."""
    radius = factor * (24 + 5 * np.cos(2 * np.pi * TIMES / 0.8))
    return (np.hypot(ROWS, COLUMNS)[None] < radius[:, None, None]).astype(np.uint8)


def write(path, painted):
    """Write grey frames with a dark disc, and beside them the same with the disc painted blue."""
    grey = np.where(discs() == 1, 40, 160).astype(np.uint8)[..., None].repeat(3, axis=-1)
    blue = np.where(painted[..., None] == 1, np.uint8([40, 60, 230]), grey)
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=50, options={"crf": "4"})
        stream.width, stream.height, stream.pix_fmt = 224, 112, "yuv420p"
        for frame in np.concatenate([grey, blue], axis=2):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


class Larger:
    """A segmenter that draws the disc a tenth too wide."""

    def measure(self, recording):
        labels = discs(1.1)
        shape = cavity_shape(labels)
        beats = find_beats(recording.times, shape.volume)
        sure = np.ones(len(labels))
        frames = with_context(recording)[:, 1]
        return Measured(recording.times, frames, labels, sure, shape, beats, None)


def test_what_is_painted_is_read_and_compared(tmp_path):
    write(tmp_path / "clip.mp4", discs())
    recording, labels = read_beside(tmp_path / "clip.mp4")
    np.testing.assert_allclose(recording.times, TIMES)
    assert np.mean(labels != discs()) < 0.01
    assert np.abs(recording.frames.astype(float) - np.where(discs() == 1, 40, 160)).mean() < 4
    (row,) = against_published(Run(tmp_path), Larger(), tmp_path)
    assert row["period"] == pytest.approx(0.8, rel=0.02) == row["period_published"]
    for phase in ("diastole", "systole"):
        assert row[f"area_ratio_{phase}"] == pytest.approx(1.21, rel=0.05)
    # Areas of 1 and 1.21 of which 1 is common.
    assert row["dice"] == pytest.approx(2 / 2.21, abs=0.02)
    assert row["EF"] == pytest.approx(row["EF_published"], abs=3)
    assert (tmp_path / "real.csv").exists() and (tmp_path / "real.png").exists()


def test_without_a_segmentation_there_is_nothing_to_compare(tmp_path):
    with pytest.raises(ValueError, match=r"no file NAME\.mp4"):
        against_published(Run(tmp_path), Larger(), tmp_path)
    write(tmp_path / "clip.mp4", np.zeros_like(discs()))
    with pytest.raises(UnreadableClipError, match="nothing is painted"):
        read_beside(tmp_path / "clip.mp4")
