"""One recording of EchoXFlow: a Zarr store with beams or meshes.

A store has the groups `data` and `timestamps` [s], whose arrays have the same names, and the
attribute `recording_manifest`, which states how they belong together. The manifest's `sectors` have
the geometry of each picture; a strain analysis has `linked_panels`, which name the recordings that
were traced, and `annotations`, which name the contours of each panel. Its electrocardiogram
(`data/ecg`) is not used: beats are found from volume curves.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from jaxtwin.data.base import EchoVideo, UnreadableClipError
from jaxtwin.data.beams import Sector, to_picture
from jaxtwin.data.echonet import PLAUSIBLE_EDV, PLAUSIBLE_ESV
from jaxtwin.data.mesh import MeshSequence, enclosed

PICTURE = "2d_brightness_mode"
MESH = "3d_left_ventricle_mesh"
# Names of points, faces and where the points of each frame start: within the group of that name,
# or beside it with another end.
MESH_ARRAYS = (
    ("point_values", "_points", ""),
    ("face_values", "_faces", "_face_indices"),
    ("point_frame_offsets", "_frame_offsets", "_offsets"),
)


class MeshVolumes(NamedTuple):
    """Volume of the left ventricle at each instant of a three-dimensional recording.

    Attributes:
        times: Time since the first mesh [s].
        volumes: Volume that each mesh encloses [mL].
    """

    times: Float[np.ndarray, " time"]
    volumes: Float[np.ndarray, " time"]


def is_store(path: Path) -> bool:
    """Return whether a path is named as a Zarr store is."""
    return path.name.lower().endswith((".zarr", ".zarr.zip"))


def read_store(path: str | Path) -> EchoVideo:
    """Read the two-dimensional picture of a recording.

    Returns:
        The sector with square pixels, black around it; `pixel` is their size.

    Raises:
        UnreadableClipError: If there is no picture of one plane, its geometry or times are missing
            or impossible, or arrays do not fit together.
    """
    store = Store(path)
    beams, times = store.array(f"data/{PICTURE}"), store.picture_times()
    if beams.ndim != 3 or beams.dtype != np.uint8 or min(beams.shape[1:]) < 2:
        raise UnreadableClipError(
            f"data/{PICTURE} has shape {beams.shape} and type {beams.dtype}: expected "
            "(time, sample, beam) and brightness from 0 to 255 as uint8"
        )
    sector = store.sector()
    size = sector.pixel()
    return EchoVideo(to_picture(beams, sector), times - times[0], (size, size))


def read_volumes(path: str | Path) -> MeshVolumes:
    """Read the volume curve that the meshes of a left ventricle give.

    A warning says if meshes are open at one place, which is taken for the mitral annulus and closed
    by a lid; see `mesh.enclosed`.

    Raises:
        UnreadableClipError: If there are no meshes or one is wrong, if times are missing or do not
            increase, or if a volume is not plausible.
    """
    store = Store(path)
    points, faces, starts = (
        store.array(f"data/{MESH}/{inside}", *(f"data/{MESH}{end}" for end in beside))
        for inside, *beside in MESH_ARRAYS
    )
    face_starts = f"data/{MESH}/face_frame_offsets"
    names = f"data/{MESH}/component_names"
    if names in store and (number := store.group[names].shape[0]) > 1:  # pyright: ignore
        raise UnreadableClipError(
            f"meshes of {number} components: expected the left ventricle's alone"
        )
    if points.ndim != 2 or points.shape[1] != 3 or faces.ndim != 2:
        raise UnreadableClipError(
            f"points of shape {points.shape} and faces of shape {faces.shape}: expected (point, 3) "
            "and (face, corner)"
        )
    frames = MeshSequence(
        points.astype(float),
        faces.astype(int),
        starts.reshape(-1).astype(int),
        store.array(face_starts).reshape(-1).astype(int) if face_starts in store else None,
    )
    times = store.mesh_times(len(frames))
    found = []
    for k in range(len(frames)):
        try:
            one = enclosed(*frames.frame(k))
            volume = 1e6 * one.volume
            if not PLAUSIBLE_ESV[0] <= volume <= PLAUSIBLE_EDV[1]:
                raise UnreadableClipError(
                    f"encloses {volume:.4g} mL: expected {PLAUSIBLE_ESV[0]:g} to "
                    f"{PLAUSIBLE_EDV[1]:g}; its points may not be in metres"
                )
        except UnreadableClipError as error:
            raise UnreadableClipError(f"mesh {k}: {error.reason}") from None
        found.append((volume, one.open_edges))
    volumes, edges = np.array(found).T
    if (edges > 0).any():
        warnings.warn(
            f"{store.path.name}: {int((edges > 0).sum())} of {len(frames)} meshes are open, the "
            f"first with {int(edges[edges > 0][0])} edges around the hole, which was closed by a "
            "lid: check that it is the mitral annulus",
            stacklevel=2,
        )
    return MeshVolumes(times - times[0], volumes)


class Store:
    """A recording's Zarr store: a folder, or one zip file.

    Raises:
        UnreadableClipError: If it is missing or not a Zarr group.
    """

    def __init__(self, path: str | Path):
        import zarr
        from zarr.storage import ZipStore

        self.path = Path(path)
        if not self.path.exists():
            raise UnreadableClipError("no such recording: copy it again")
        try:
            store = ZipStore(self.path, mode="r") if self.path.is_file() else self.path
            self.group = zarr.open_group(store, mode="r")
        except Exception as error:  # Zarr and zipfile raise many kinds for a damaged store
            raise UnreadableClipError(
                f"is not a Zarr group ({error}): copy the recording again"
            ) from None
        manifest = self.group.attrs.get("recording_manifest")
        self.manifest = manifest if isinstance(manifest, Mapping) else {}

    def __contains__(self, name: str) -> bool:
        return name in self.group

    def array(self, *names: str) -> np.ndarray:
        """Return an array, by the first of its names that there is."""
        for name in names:
            if name in self.group and hasattr(self.group[name], "shape"):
                try:
                    return np.asarray(self.group[name][...])  # pyright: ignore
                except Exception as error:
                    raise UnreadableClipError(
                        f"{name} is damaged ({error}): copy the recording again"
                    ) from None
        raise UnreadableClipError(
            f"has no array {' or '.join(names)}: the recording is of another kind, or incomplete"
        )

    def times(self, data: str, stated: str | None, count: int) -> Float[np.ndarray, " time"]:
        """Return the time of each frame of an array [s].

        Args:
            data: Name of the array.
            stated: Name of its times in the manifest; by default they are named as the array is.
            count: Number of frames.
        """
        name = stated or data.replace("data/", "timestamps/", 1)
        times = self.array(name).reshape(-1).astype(float)
        if len(times) != count:
            raise UnreadableClipError(f"{name} has {len(times)} times for {count} frames")
        if missing := int((~np.isfinite(times)).sum()):
            raise UnreadableClipError(f"{name} lacks {missing} of {count} times")
        if not (np.diff(times) > 0).all():
            raise UnreadableClipError(
                f"{name}: times do not increase, from frame {int(np.argmin(np.diff(times)))}: the "
                "order of the frames is unknown; copy the recording again"
            )
        return times

    def entries(self, name: str) -> list[Mapping[str, Any]]:
        """Return the entries of a list in the manifest."""
        found = self.manifest.get(name)
        return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []

    def sector(self) -> Sector:
        """Return the geometry of the two-dimensional picture."""
        geometry = self._picture().get("geometry")
        if not isinstance(geometry, Mapping):
            raise UnreadableClipError(
                "states no geometry of its sector: the picture cannot be drawn without it"
            )
        return Sector.from_mapping(geometry)

    def picture_times(self) -> Float[np.ndarray, " time"]:
        """Return the time of each frame of the two-dimensional picture [s]."""
        name = f"data/{PICTURE}"
        if name not in self:
            raise UnreadableClipError(f"has no array {name}: the recording is of another kind")
        stated = path_in(self._picture().get("timestamps"))
        return self.times(name, stated, self.group[name].shape[0])  # pyright: ignore

    def mesh_times(self, count: int) -> Float[np.ndarray, " time"]:
        """Return the time of each mesh [s]."""
        stated = [
            path_in(linked.get("timestamps"))
            for linked in self.entries("linked_mesh_sequences")
            if (path_in(linked.get("mesh_data")) or "").startswith(f"data/{MESH}")
        ]
        return self.times(f"data/{MESH}", stated[0] if stated else None, count)

    def _picture(self) -> Mapping[str, Any]:
        sectors = self.entries("sectors")
        own = [one for one in sectors if path_in(one.get("frames")) == f"data/{PICTURE}"]
        # An entry may name its role alone.
        roles = [
            one for one in sectors if one.get("semantic_id") == "bmode" and "frames" not in one
        ]
        return next(iter(own + roles), {})


def path_in(reference: Any) -> str | None:
    """Return the name of the array that an entry of the manifest refers to."""
    if not isinstance(reference, Mapping):
        return None
    for key in ("array_path", "zarr_path", "path"):
        if isinstance(reference.get(key), str) and reference[key].strip("/ "):
            return reference[key].strip("/ ")
    return None
