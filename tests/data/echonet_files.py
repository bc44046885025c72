"""Clips, and tables of tracings, in the layouts of EchoNet-Dynamic and EchoNet-Pediatric."""

import csv
from fractions import Fraction

import av
import numpy as np

DYNAMIC = ("FileName", "X1", "Y1", "X2", "Y2", "Frame")
PEDIATRIC = ("FileName", "X", "Y", "Frame")
FILE_LIST = ("FileName", "EF", "ESV", "EDV", "FPS", "NumberOfFrames", "Split")


def write_clips(folder, clips):
    """Write clips to train on, of 20 or more frames, whose brightness is 10 times their number."""
    (folder / "Videos").mkdir(parents=True)
    rows = []
    for i in range(clips):
        frames = np.full((20 + i, 32, 32), 10 * i, np.uint8)
        with av.open(str(folder / "Videos" / f"c{i}.avi"), "w") as container:
            stream = container.add_stream("mjpeg", rate=Fraction(40))
            stream.height, stream.width, stream.pix_fmt = 32, 32, "yuvj420p"
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "gray")))
            container.mux(stream.encode())
        rows.append([f"c{i}", 60, 40 + 0.4 * i, 100 + i, 40, len(frames), "TRAIN"])
    write_rows(folder / "FileList.csv", FILE_LIST, rows)


def half_ellipse(base, apex, width, discs=20):
    """The long axis and the discs of half an ellipse, as [line, 4]."""
    base, apex = np.array(base, float), np.array(apex, float)
    along = apex - base
    across = np.array([-along[1], along[0]]) / np.linalg.norm(along)
    height = (np.arange(discs) + 0.5) / discs
    middle = base + height[:, None] * along
    half = (width / 2 * np.sqrt(1 - height**2))[:, None] * across
    return np.vstack([[*base, *apex], np.hstack([middle - half, middle + half])])


def ellipse(middle, half_width, half_height, points=60):
    """Points of an outline."""
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    return np.array(middle) + np.stack(
        [half_width * np.cos(angle), half_height * np.sin(angle)], axis=1
    )


def write_rows(path, columns, rows):
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(columns)
        table.writerows(rows)


def write_discs(folder, tracings):
    """Write `VolumeTracings.csv` from {(clip, frame): lines}."""
    rows = [(f"{n}.avi", *line, frame) for (n, frame), lines in tracings.items() for line in lines]
    write_rows(folder / "VolumeTracings.csv", DYNAMIC, rows)


def write_outlines(folder, tracings):
    """Write `VolumeTracings.csv` from {(clip, frame): points}."""
    rows = [(f"{n}.avi", *point, frame) for (n, frame), all in tracings.items() for point in all]
    write_rows(folder / "VolumeTracings.csv", PEDIATRIC, rows)
