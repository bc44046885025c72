"""VolumeTracings.csv: the cavity as readers of EchoNet-Dynamic and EchoNet-Pediatric traced it.

EchoNet-Dynamic's table has the columns FileName, X1, Y1, X2, Y2, Frame. The first row of a frame is
the ventricle's long axis, the others are diameters of discs across it. EchoNet-Pediatric's has
FileName, X, Y, Frame, one row for each point of the outline. Coordinates are columns and rows of
the clips as the data sets have them, 112 x 112 pixels; frames are counted from 0.
"""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from jaxtwin.data.base import UnreadableClipError
from jaxtwin.data.echonet import clip_name, number, read_table
from jaxtwin.data.outlines import FEWEST, Outline, cavity_map
from jaxtwin.data.sector import CROPPED_SIZE

TABLE = "VolumeTracings.csv"
ENDS = ("X1", "Y1", "X2", "Y2")
POINT = ("X", "Y")
# Discs lie across the long axis. Below this angle with it [degrees] a line is something else.
LEAST_ANGLE = 45.0


@dataclasses.dataclass(frozen=True)
class Tracings:
    """Tracings of all clips of a data set, in the table's own numbers.

    Attributes:
        columns: Columns of the coordinates: `ENDS` (EchoNet-Dynamic) or `POINT`
            (EchoNet-Pediatric).
        rows: Rows of each clip, by its name without suffix, in the table's order.
    """

    columns: tuple[str, ...]
    rows: Mapping[str, list[dict[str, str]]]

    def outlines(self, name: str) -> dict[int, Outline]:
        """Return the outline of the cavity in each traced frame of a clip.

        Rows that say in words that a frame was not traced ("No Systolic"), or that have no
        coordinates at all, are left out.

        Args:
            name: The clip's name, without suffix.

        Raises:
            UnreadableClipError: If the clip has no tracing, or a wrong one.
        """
        frames: dict[int, list[list[float]]] = {}
        for row in self.rows.get(name, ()):
            said = (row["Frame"] or "").strip()
            empty = not any((row[column] or "").strip() for column in self.columns)
            if empty or said.lower().startswith("no "):
                continue
            frame = number(row, "Frame")
            if frame != int(frame) or frame < 0:
                raise UnreadableClipError(f"traced in frame {said}: expected 0, 1, 2, ...")
            frames.setdefault(int(frame), []).append([number(row, c) for c in self.columns])
        if not frames:
            raise UnreadableClipError(f"{TABLE} has no tracing of this clip")
        outlines = {}
        for frame, values in frames.items():
            try:
                found = np.array(values)
                outlines[frame] = found if self.columns == POINT else around_discs(found)
            except UnreadableClipError as error:
                raise UnreadableClipError(f"tracing of frame {frame}: {error.reason}") from None
        return outlines

    def label_maps(self, name: str, frames: int) -> dict[int, UInt8[np.ndarray, "112 112"]]:
        """Return the label map of each traced frame of a clip, see `outlines.cavity_map`.

        Args:
            name: The clip's name, without suffix.
            frames: Number of frames of the clip.

        Raises:
            UnreadableClipError: If the clip has no tracing, or a wrong one.
        """
        shape, maps = (CROPPED_SIZE, CROPPED_SIZE), {}
        for frame, outline in self.outlines(name).items():
            if frame >= frames:
                raise UnreadableClipError(
                    f"traced in frame {frame}: expected 0 to {frames - 1}; the clip may be cut "
                    "short, so copy it again"
                )
            try:
                maps[frame] = cavity_map(outline, shape)
            except UnreadableClipError as error:
                raise UnreadableClipError(f"tracing of frame {frame}: {error.reason}") from None
        return maps


def read_tracings(folder: str | Path) -> Tracings:
    """Read the tracings of a data set. A table that was read before is not read again.

    Args:
        folder: Folder that contains `VolumeTracings.csv`.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If the table is not a CSV file, or lacks a column.
    """
    path = Path(folder) / TABLE
    return _read(path, path.stat().st_mtime_ns if path.is_file() else 0)


@functools.lru_cache(maxsize=2)
def _read(path: Path, changed: int) -> Tracings:
    rows = read_table(path, ("FileName", "Frame"))
    columns = ENDS if rows and "X1" in rows[0] else POINT
    read_table(path, columns)
    clips: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        clips.setdefault(clip_name(row), []).append(row)
    return Tracings(columns, clips)


def around_discs(lines: Float[np.ndarray, "line 4"]) -> Outline:
    """Return the outline of a ventricle that was traced by its long axis and its discs.

    It goes from one end of the long axis along the ends of the discs on one side to the other end,
    and back on the other side, in whatever order discs and their ends are given.

    Args:
        lines: Column and row of both ends of each line; the long axis first.

    Raises:
        UnreadableClipError: If there are fewer than five discs, or the first line is not across
            the others.
    """
    if len(lines) < 1 + FEWEST:
        raise UnreadableClipError(
            f"{len(lines)} lines: expected the long axis and at least {FEWEST} discs"
        )
    start, end = lines[0, :2], lines[0, 2:]
    length = np.linalg.norm(end - start)
    along = (end - start) / max(length, 1e-9)
    ends = lines[1:].reshape(-1, 2, 2)
    across = ends[:, 1] - ends[:, 0]
    # A disc at the apex may be a point, which has no direction.
    width = np.linalg.norm(across, axis=1)
    slant = np.abs(across @ along) > np.cos(np.radians(LEAST_ANGLE)) * width
    if length == 0 or slant[width > 1].any():
        raise UnreadableClipError(
            f"{int(slant.sum())} of {len(ends)} discs do not lie across the first line: expected "
            "the long axis in the first row, and the discs after it"
        )
    other_way = along[0] * across[:, 1] < along[1] * across[:, 0]
    ends[other_way] = ends[other_way][:, ::-1]
    ends = ends[np.argsort((ends.mean(axis=1) - start) @ along)]
    return np.concatenate([start[None], ends[:, 1], end[None], ends[::-1, 0]])
