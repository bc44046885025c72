"""Volumes enclosed by meshes."""

import dataclasses
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse

from jaxtwin.data.base import UnreadableClipError

Points = Float[np.ndarray, "point 3"]
Triangles = Int[np.ndarray, "triangle 3"]

# An endocardial surface may end at the mitral annulus, which is less than a tenth of it. If a
# larger part is missing, a lid over the hole is no part of the ventricle's surface.
LARGEST_LID = 0.25
# Points that are closer than this fraction of the mesh's size are one.
SAME_PLACE = 1e-6


class Enclosed(NamedTuple):
    """What a mesh encloses.

    Attributes:
        volume: Volume in the cube of the points' unit.
        open_edges: Number of edges around the hole that was closed; 0 if the mesh is closed.
    """

    volume: float
    open_edges: int


def enclosed(points: Points, faces: Int[np.ndarray, "face corner"]) -> Enclosed:
    """Return the volume that a mesh encloses.

    V = Σ p₁·(p₂ × p₃)/6 over the triangles, by the divergence theorem. Points at the same place are
    one; quadrilaterals are two triangles. A mesh with one hole is closed by a lid of triangles from
    the hole's rim to its centre.

    Args:
        points: The points.
        faces: Indices of the three or four corners of each face, all in the same sense; it does
            not matter whether that is seen from outside or from inside.

    Raises:
        UnreadableClipError: If indices are out of range, there are several separate surfaces, an
            edge belongs to more than two faces, the faces have different senses, or there is more
            than one hole or a large one.
    """
    if faces.ndim != 2 or faces.shape[1] not in (3, 4):
        raise UnreadableClipError(f"faces of shape {faces.shape}: expected three or four corners")
    if not len(faces) or faces.min() < 0 or faces.max() >= len(points):
        raise UnreadableClipError(
            f"{len(faces)} faces between {len(points)} points: expected indices from 0 to "
            f"{len(points) - 1}"
        )
    if not np.isfinite(points).all():
        raise UnreadableClipError(
            f"{int((~np.isfinite(points)).any(axis=1).sum())} of {len(points)} points have no place"
        )
    grid = np.rint((points - points.min(axis=0)) / (SAME_PLACE * np.ptp(points) + 1e-30))
    _, first, index = np.unique(grid, axis=0, return_index=True, return_inverse=True)
    places = points[first].astype(float)
    triangles = _triangles(index.reshape(-1)[faces])
    _check_one_part(triangles)
    rim = _open_rim(triangles)
    corners = places[triangles] - places[triangles].mean(axis=(0, 1))
    if len(rim):
        ring = places[rim] - places[triangles].mean(axis=(0, 1))
        middle = np.broadcast_to(ring[:, 0].mean(axis=0), ring[:, 0].shape)
        lid = np.stack([ring[:, 1], ring[:, 0], middle], axis=1)
        share = _area(lid) / (_area(lid) + _area(corners))
        if share > LARGEST_LID:
            raise UnreadableClipError(
                f"a mesh with a hole of {len(rim)} edges, {share:.0%} of its surface: expected a "
                f"closed one, or a hole of at most {LARGEST_LID:.0%}, as the mitral annulus is"
            )
        corners = np.concatenate([corners, lid])
    normals = np.cross(corners[:, 1], corners[:, 2])
    return Enclosed(abs(float(np.sum(corners[:, 0] * normals))) / 6, len(rim))


def _triangles(faces: Int[np.ndarray, "face corner"]) -> Triangles:
    """Return the triangles of faces, without those that have no area as two corners are one."""
    if faces.shape[1] == 4:
        faces = np.concatenate([faces[:, :3], faces[:, [0, 2, 3]]])
    a, b, c = faces.T
    return faces[(a != b) & (b != c) & (a != c)]


def _check_one_part(triangles: Triangles) -> None:
    used, index = np.unique(triangles, return_inverse=True)
    a, b, c = index.reshape(triangles.shape).T
    links = sparse.coo_array((np.ones(2 * len(a)), (np.r_[a, b], np.r_[b, c])), (len(used),) * 2)
    parts, _ = sparse.csgraph.connected_components(links, directed=False)
    if parts != 1:
        raise UnreadableClipError(
            f"{parts} separate surfaces: expected one, the endocardium of the left ventricle"
        )


def _open_rim(triangles: Triangles) -> Int[np.ndarray, "edge 2"]:
    """Return the edges around the one hole of a mesh, none if it is closed."""
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    number = int(edges.max(initial=0)) + 1
    codes, back = edges @ [number, 1], edges @ [1, number]
    undirected = np.minimum(codes, back)
    most = np.unique(undirected, return_counts=True)[1].max(initial=0)
    if most > 2:
        raise UnreadableClipError(
            f"an edge that belongs to {most} faces: expected a surface, with two faces at each edge"
        )
    if len(np.unique(codes)) < len(codes):
        raise UnreadableClipError(
            "faces of different senses: expected the corners of all faces in the same order, as "
            "seen from outside"
        )
    rim = edges[~np.isin(codes, back)]
    following = dict(rim.tolist())
    start, length = (int(rim[0, 0]), 1) if len(rim) else (0, 0)
    place = following.get(start)
    while place is not None and place != start and length <= len(rim):
        place, length = following.get(place), length + 1
    if length != len(rim):
        raise UnreadableClipError(
            f"a mesh with more than one hole ({len(rim)} open edges): expected a closed one"
        )
    return rim


def _area(triangles: Float[np.ndarray, "triangle 3 3"]) -> float:
    sides = triangles[:, 1:] - triangles[:, :1]
    return float(np.linalg.norm(np.cross(sides[:, 0], sides[:, 1]), axis=1).sum() / 2)


@dataclasses.dataclass(frozen=True)
class MeshSequence:
    """Meshes of successive instants, packed one after the other.

    Attributes:
        points: Points of all frames [m].
        faces: Corners of the faces of all frames, each counted from its frame's first point.
        point_starts: Where the points of each frame start, and their total number.
        face_starts: The same of the faces; None if the frames share all faces.

    Raises:
        UnreadableClipError: If the arrays do not fit together.
    """

    points: Float[np.ndarray, "all_points 3"]
    faces: Int[np.ndarray, "all_faces corner"]
    point_starts: Int[np.ndarray, " starts_of_points"]
    face_starts: Int[np.ndarray, " starts_of_faces"] | None

    def __post_init__(self):
        for kind, starts, total in (
            ("point", self.point_starts, len(self.points)),
            ("face", self.face_starts, len(self.faces)),
        ):
            if starts is not None and (
                len(starts) < 2
                or starts[0] != 0
                or starts[-1] != total
                or (np.diff(starts) < 0).any()
            ):
                raise UnreadableClipError(
                    f"{kind}_frame_offsets do not increase from 0 to the {total} {kind}s there are"
                )

        if self.face_starts is not None and len(self.face_starts) != len(self.point_starts):
            raise UnreadableClipError(
                f"point_frame_offsets of {len(self)} frames and face_frame_offsets of "
                f"{len(self.face_starts) - 1}: expected the same frames"
            )

    def __len__(self) -> int:
        return len(self.point_starts) - 1

    def frame(self, k: int) -> tuple[Points, Int[np.ndarray, "face corner"]]:
        """Return points and faces of a frame."""
        points = self.points[self.point_starts[k] : self.point_starts[k + 1]]
        if self.face_starts is None:
            return points, self.faces
        return points, self.faces[self.face_starts[k] : self.face_starts[k + 1]]
