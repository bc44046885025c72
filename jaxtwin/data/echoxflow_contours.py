"""Contours of EchoXFlow's strain analyses, and their label maps.

The points of a contour are in rows across the wall, from the endocardium to the epicardium; the
first row is at one end of the mitral annulus and the last at the other.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from jaxtwin.data.base import UnreadableClipError
from jaxtwin.data.beams import Sector
from jaxtwin.data.echoxflow_store import PICTURE, Store, path_in
from jaxtwin.data.outlines import check_outline, filled
from jaxtwin.data.simpson import CAVITY, MYOCARDIUM, NOT_CAVITY

ACROSS = 5  # points in a row across the wall
ANALYSIS = "left_ventricular_strain"


@dataclasses.dataclass(frozen=True)
class Contours:
    """Contours of the left ventricle in one view.

    Attributes:
        view: "2ch", "3ch" or "4ch".
        recording: Identity of the recording that was traced.
        points: Places [mm] to the right of the sector's apex and below it.
        times: Time of each contour on the clock of the traced recording [s].
    """

    view: str
    recording: str
    points: Float[np.ndarray, "time point 2"]
    times: Float[np.ndarray, " time"]

    def frames(self, times: Float[np.ndarray, " time"]) -> Int[np.ndarray, " contour"]:
        """Return the frame that each contour was drawn in; -1 if none is within half a frame of it.

        Args:
            times: Time of each frame of the traced recording, on its own clock [s].
        """
        nearest = np.abs(times[None] - self.times[:, None]).argmin(axis=1)
        half = np.median(np.diff(times)) / 2 + 1e-6
        return np.where(np.abs(times[nearest] - self.times) <= half, nearest, -1)

    def label_map(self, k: int, sector: Sector) -> UInt8[np.ndarray, "height width"]:
        """Return the label map of a contour.

        Args:
            k: Number of the contour.
            sector: Geometry of the picture, see `beams.to_picture`.

        Returns:
            `CAVITY` within the endocardium, `MYOCARDIUM` where the wall was traced, `NOT_CAVITY`
            elsewhere: nobody traced the atrium.

        Raises:
            UnreadableClipError: If a point has no place, or the contour lies outside of the
                picture.
        """
        points, shape = sector.to_pixels(self.points[k]), sector.shape()
        if not np.isfinite(points).all():
            raise UnreadableClipError(
                f"contour {k} lacks {int((~np.isfinite(points)).any(axis=1).sum())} of "
                f"{len(points)} points"
            )
        walled = len(points) % ACROSS == 0
        rows = points.reshape(-1, ACROSS, 2) if walled else points[:, None]
        inner, outer = rows[:, 0], rows[:, -1]
        check_outline(inner, shape)
        cavity = filled(inner, shape)
        # The wall is open at the annulus: along one side of it and back along the other.
        wall = filled(np.concatenate([inner, outer[::-1]]), shape) & ~cavity & walled
        labels = np.where(cavity, CAVITY, np.where(wall, MYOCARDIUM, NOT_CAVITY))
        return labels.astype(np.uint8)


def read_contours(path: str | Path) -> tuple[Contours, ...]:
    """Read the contours of a strain analysis, one set for each traced view.

    Raises:
        UnreadableClipError: If there are none, they are another chamber's, or arrays are missing or
            do not fit together.
    """
    store = Store(path)
    analysis = str(store.manifest.get("annotation_type", ANALYSIS))
    if analysis != ANALYSIS:
        raise UnreadableClipError(f"contours of a {analysis}: expected a {ANALYSIS}")
    found = []
    for panel in store.entries("linked_panels"):
        view = str(panel.get("role_id") or panel.get("view_code") or "").lower()
        linked = panel.get("linked_recording")
        notes = [note for note in store.entries("annotations") if _is_contour(note, view)]
        if not isinstance(linked, Mapping) or not notes:
            continue
        frames = str(linked.get("frames_array_path") or f"data/{PICTURE}")
        if frames != f"data/{PICTURE}":
            raise UnreadableClipError(
                f"traced in {frames}: expected data/{PICTURE}; recordings of several planes are "
                "not read"
            )
        name = path_in(notes[0]["value"]) or ""
        points = store.array(name)
        if points.ndim != 3 or points.shape[2] != 2 or not len(points):
            raise UnreadableClipError(f"{name} has shape {points.shape}: expected (time, point, 2)")
        times = store.times(name, path_in(notes[0].get("time")), len(points))
        recording = str(linked.get("recording_id") or "")
        found.append(Contours(view, recording, 1000 * points.astype(float), times))
    if not found:
        raise UnreadableClipError("has no contours: expected a strain analysis with linked panels")
    return tuple(found)


def _is_contour(note: Mapping[str, Any], view: str) -> bool:
    target, value = note.get("target"), note.get("value")
    if not isinstance(target, Mapping) or path_in(value) is None:
        return False
    same = str(target.get("semantic_id", "")).lower() == view
    return same and "contour" in str(target.get("field", "")).lower()
