"""Recordings in EchoXFlow's layout, made of simple shapes."""

import json

import numpy as np
import zarr

GEOMETRY = {"depth_start_m": 0.0, "depth_end_m": 0.16, "tilt_rad": 0.1, "width_rad": 1.2}
PICTURE, MESH = "2d_brightness_mode", "3d_left_ventricle_mesh"
TIMES = 5.0 + np.arange(20) / 40  # the clock does not start at 0
# A half ellipse of these half axes [mm], whose base is this far from the sector's apex.
WIDTH, LENGTH, BASE = 24.0, 70.0, 120.0


def spheroid(radius, length, *, lid=True, around=48, along=24):
    """Half of an ellipsoid [m] with its base at z = 0, as points and quadrilaterals."""
    angle = 2 * np.pi * np.arange(around) / around
    height = np.linspace(0, np.pi / 2, along + 1)
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    points = [
        np.hstack([radius * np.cos(h) * ring, np.full((around, 1), length * np.sin(h))])
        for h in height
    ]
    points = np.vstack([*points, [[0, 0, 0]]])
    k, m = np.meshgrid(np.arange(along), np.arange(around), indexing="ij")
    here, there = k * around + m, k * around + (m + 1) % around
    faces = np.stack([here, there, there + around, here + around], axis=-1).reshape(-1, 4)
    if lid:
        rim, centre = np.arange(around), np.full(around, len(points) - 1)
        faces = np.vstack([faces, np.stack([centre, (rim + 1) % around, rim, rim], axis=1)])
    return points, faces


def half_ellipse(scale=1.0, points=30, wall=10.0):
    """Rows of five points across the wall [m], from one end of the annulus to the other."""
    angle = np.linspace(0, np.pi, points)
    rows = []
    for out in np.linspace(0, wall, 5):
        x = (scale * WIDTH + out) * np.cos(angle)
        y = BASE - (scale * LENGTH + out) * np.sin(angle)
        rows.append(np.stack([x, y], axis=1))
    return np.stack(rows, axis=1).reshape(-1, 2) / 1000


def write_store(path, arrays, manifest=None):
    group = zarr.open_group(path, mode="w")
    for name, values in arrays.items():
        group.create_array(name, data=np.asarray(values))
    if manifest is not None:
        group.attrs["recording_manifest"] = manifest


def write_picture(path, beams=None, times=TIMES, geometry=GEOMETRY):
    if beams is None:
        random = np.random.default_rng(0)
        beams = random.integers(0, 255, (len(times), 200, 60)).astype(np.uint8)
    arrays = {f"data/{PICTURE}": beams, f"timestamps/{PICTURE}": np.asarray(times, np.float32)}
    arrays |= {"data/ecg": np.zeros(9, np.float32), "timestamps/ecg": np.arange(9.0)}
    sector = {
        "semantic_id": "bmode",
        "frames": {"array_path": f"data/{PICTURE}", "format": "zarr_array"},
        "timestamps": {"array_path": f"timestamps/{PICTURE}", "format": "zarr_array"},
        "geometry": geometry,
    }
    write_store(path, arrays, {"manifest_type": "2d", "sectors": [sector]})


def write_contours(path, linked, contours=None, analysis="left_ventricular_strain"):
    """Write an analysis of {view: picture}, with contours {view: (points, times)}."""
    arrays, panels, notes = {}, [], []
    for view, name in linked.items():
        points, times = (contours or {}).get(view, (None, TIMES[4:12]))
        if points is None:
            points = np.stack([half_ellipse(1 - 0.03 * k) for k in range(len(times))])
        arrays[f"data/{view}_contour"] = np.asarray(points, np.float32)
        arrays[f"timestamps/{view}_contour"] = np.asarray(times, np.float32)
        panels.append(
            {
                "role_id": view,
                "view_code": view.upper(),
                "geometry": GEOMETRY,
                "linked_recording": {
                    "recording_id": name,
                    "recording_zarr_path": f"{name}.zarr",
                    "frames_array_path": f"data/{PICTURE}",
                },
            }
        )
        notes.append(
            {
                "kind": "contour",
                "target": {"type": "linked_panel", "semantic_id": view, "field": "contour_points"},
                "time": {"zarr_path": f"timestamps/{view}_contour", "format": "zarr_array"},
                "value": {"zarr_path": f"data/{view}_contour", "format": "zarr_array"},
            }
        )
    manifest = {"annotation_type": analysis, "linked_panels": panels, "annotations": notes}
    write_store(path, arrays, manifest)


def write_meshes(path, meshes, times=None, **changes):
    """Write meshes, each points and faces; `changes` replaces arrays by the end of their names."""
    points, faces = zip(*meshes, strict=True)
    starts = [np.cumsum([0, *map(len, part)]) for part in (points, faces)]
    arrays = {
        f"data/{MESH}/point_values": np.vstack(points).astype(np.float32),
        f"data/{MESH}/face_values": np.vstack(faces).astype(np.int32),
        f"data/{MESH}/point_frame_offsets": starts[0],
        f"data/{MESH}/face_frame_offsets": starts[1],
        f"timestamps/{MESH}": TIMES[: len(meshes)] if times is None else np.asarray(times),
    }
    for name, values in changes.items():
        found = next(key for key in arrays if key.endswith(name))
        del arrays[found]
        if values is not None:
            arrays[found] = values
    write_store(path, arrays, {"manifest_type": "3d"})


def write_list(folder, rows):
    """Write `croissant.json` from {recording: (exam, contents, names of arrays)}."""
    data = [
        {
            "recordings/exam_id": exam,
            "recordings/recording_id": name,
            "recordings/zarr_path": f"{name}.zarr",
            "recordings/modes": ["2d"],
            "recordings/content_types": list(contents),
            "recordings/array_paths": list(arrays),
        }
        for name, (exam, contents, arrays) in rows.items()
    ]
    text = json.dumps({"recordSet": [{"@id": "recordings", "data": data}]})
    (folder / "croissant.json").write_text(text)


def write_echoxflow(folder, exams=3, meshes=True):
    """Write examinations with pictures of two views, their analysis, and meshes of half EF 40."""
    rows = {}
    for k in range(exams):
        exam, names = f"exam{k}", {"4ch": f"four{k}", "2ch": f"two{k}"}
        for name in names.values():
            write_picture(folder / f"{name}.zarr")
            rows[name] = (exam, [PICTURE], [f"data/{PICTURE}", f"timestamps/{PICTURE}"])
        write_contours(folder / f"strain{k}.zarr", names)
        arrays = [f"data/{view}_contour" for view in names]
        rows[f"strain{k}"] = (exam, ["2d_left_ventricular_strain"], arrays)
        if meshes:
            sizes = 1 - 0.4 * np.sin(np.pi * np.arange(9) / 8)
            found = [spheroid(0.025 * np.sqrt(size), 0.08) for size in sizes]
            write_meshes(folder / f"mesh{k}.zarr", found)
            rows[f"mesh{k}"] = (exam, ["3d_brightness_mode"], [f"data/{MESH}/point_values"])
    write_list(folder, rows)
    return rows
