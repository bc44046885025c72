"""Synthetic patients in CAMUS's two layouts: a bright sector with a dark ventricle that moves.

The ventricle is half an ellipsoid, cut across its middle, so its volume and all values in the cfg
files have closed forms. No data of real patients are used.
"""

import dataclasses
from pathlib import Path

import numpy as np
import SimpleITK as sitk

VIEWS = ("2CH", "4CH")
FRAME_RATE = 50.0  # [1/s]
APEX_DEPTH = 22.0  # [mm]
WALL = 9.0  # [mm]
ATRIUM = 30.0  # [mm], from the mitral annulus to its roof
HALF_ANGLE = np.deg2rad(38)  # of the sector


@dataclasses.dataclass(frozen=True)
class Written:
    """What was written of one patient: the truth that a reader should find.

    Attributes:
        name: For instance "patient0001".
        edv: End-diastolic volume [mL].
        esv: End-systolic volume [mL].
        ef: Ejection fraction [%], of the unrounded volumes.
        phase: "ejection" or "filling".
        frames: Number of frames of each view.
        quality: "Good", "Medium" or "Poor", of both views.
        spacing: Height and width of a pixel of each view [mm].
    """

    name: str
    edv: float
    esv: float
    ef: float
    phase: str
    frames: dict[str, int]
    quality: str
    spacing: dict[str, tuple[float, float]]


def write_camus(
    folder: str | Path, patients: int, layout: str = "nifti", seed: int = 0
) -> tuple[Written, ...]:
    """Writes patients in the layout of the official release or of the older one.

    Every second patient's clips run from end systole to end diastole. Images differ in size and
    spacing, also between a patient's views. "nifti" states EF and FrameRate (50) in its cfg
    files, "mhd" states LVedv, LVesv and LVef but no FrameRate, as the two releases do. The same
    seed gives the same patients in both.

    Args:
        folder: Where the patients' folders go; made if it does not exist.
        patients: How many.
        layout: "nifti" or "mhd".
        seed: Of volumes, sizes and speckle.
    """
    random = np.random.default_rng(seed)
    folder = Path(folder)
    return tuple(_write_patient(folder, k, layout, random) for k in range(patients))


def _write_patient(folder, number, layout, random):
    name = f"patient{number + 1:04d}"
    (folder / name).mkdir(parents=True)
    edv = round(random.uniform(70, 160), 1)
    esv = round(edv * random.uniform(0.35, 0.7), 1)
    ef = 100 * (edv - esv) / edv
    phase = ("ejection", "filling")[number % 2]
    quality = ("Good", "Medium", "Poor")[number % 3]
    frames, spacings = {}, {}
    for view in VIEWS:
        frames[view] = int(random.integers(14, 22))
        spacings[view] = (random.uniform(0.5, 0.6), random.uniform(0.9, 1.1))
        volumes = esv + (edv - esv) * (1 + np.cos(np.linspace(0, np.pi, frames[view]))) / 2
        if phase == "filling":
            volumes = volumes[::-1]
        sequence, labels = draw(volumes, view, spacings[view], random)
        ed, es = (1, len(volumes)) if phase == "ejection" else (len(volumes), 1)
        _write_images(folder / name, name, view, layout, sequence, labels, spacings[view], ed, es)
        facts = {"ED": ed, "ES": es, "NbFrame": frames[view], "Sex": "F", "Age": 56}
        facts["ImageQuality"] = quality
        if layout == "nifti":
            facts |= {"EF": round(ef), "FrameRate": FRAME_RATE}
        else:
            facts |= {"LVedv": edv, "LVesv": esv, "LVef": round(ef)}
        lines = "".join(f"{key}: {value}\n" for key, value in facts.items())
        (folder / name / f"Info_{view}.cfg").write_text(lines)
    return Written(name, edv, esv, ef, phase, frames, quality, spacings)


def _write_images(folder, name, view, layout, sequence, labels, spacing, ed, es):
    stem, suffix = ("half_sequence", ".nii.gz") if layout == "nifti" else ("sequence", ".mhd")
    images = {stem: sequence}
    if layout == "nifti":
        images["half_sequence_gt"] = labels
    for instant, frame in (("ED", ed - 1), ("ES", es - 1)):
        # The official stills have two dimensions, the older ones a third of one pixel.
        still = np.s_[frame] if layout == "nifti" else np.s_[frame : frame + 1]
        images[instant] = sequence[still]
        images[f"{instant}_gt"] = labels[still]
    for what, array in images.items():
        write_image(folder / f"{name}_{view}_{what}{suffix}", array, spacing)


def write_image(path, array, spacing):
    """An array [height, width] or [time, height, width] with its pixels' height and width [mm]."""
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((spacing[1], spacing[0], 1.0)[: array.ndim])
    sitk.WriteImage(image, str(path))


def draw(volumes, view, spacing, random):
    """Images and label maps [time, height, width] of a ventricle with these volumes [mL]."""
    depth, width = random.uniform(148, 175), random.uniform(160, 190)
    y, x = np.mgrid[: round(depth / spacing[0]), : round(width / spacing[1])]
    down = (y + 0.5) * spacing[0]
    across = (x + 0.5) * spacing[1] - x.shape[1] * spacing[1] / 2
    tilt = random.uniform(-0.1, 0.1)
    along = np.cos(tilt) * (down - APEX_DEPTH) + np.sin(tilt) * across  # from the apex
    aside = np.cos(tilt) * across - np.sin(tilt) * (down - APEX_DEPTH)
    sector = (np.abs(np.arctan2(across, down)) < HALF_ANGLE) & (np.hypot(down, across) < depth)
    speckle = random.gamma(4, 1 / 4, down.shape)

    images, maps = [], []
    for volume in volumes:
        length, radius = size_at(volume, volumes.max(), view)
        base = along < length
        outside = np.hypot((along - length) / length, aside / radius)
        wall = np.hypot((along - length) / (length + WALL), aside / (radius + WALL))
        atrium = np.hypot((along - length) / ATRIUM, aside / (0.8 * radius))
        labels = np.zeros(down.shape, np.uint8)
        labels[base & (wall < 1)] = 2
        labels[base & (outside < 1)] = 1
        labels[~base & (atrium < 1)] = 3
        brightness = np.choose(labels, (70, 12, 150, 12)) * speckle * sector
        images.append(np.clip(brightness, 0, 255).astype(np.uint8))
        maps.append(labels)
    return np.stack(images), np.stack(maps)


def size_at(volume, edv, view):
    """Length and half-width [mm] in a view of half an ellipsoid of a volume [mL].

    The volume is 2/3 π · length · (half-width in 2CH) · (half-width in 4CH). The base comes
    down to the apex by the fourth root of the shrinkage, the walls do the rest.
    """
    radius = (1000 * edv / (2 / 3 * np.pi * 3.2)) ** (1 / 3)
    shrunk = volume / edv
    half_width = radius * shrunk**0.375 * (1.06 if view == "2CH" else 1 / 1.06)
    return 3.2 * radius * shrunk**0.25, half_width
