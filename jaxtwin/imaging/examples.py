"""Frames with label maps, read from a data set whose clips have them."""

import enum
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from jaxtwin.data.base import EchoVideo, UnreadableClipError
from jaxtwin.data.camus_masks import read_masks
from jaxtwin.data.camus_patient import SUFFIXES
from jaxtwin.data.echonet import Record
from jaxtwin.data.echoxflow import contour_maps
from jaxtwin.data.echoxflow_store import is_store
from jaxtwin.data.outlines import resampled
from jaxtwin.data.recording import read_recording
from jaxtwin.data.sector import CROPPED_SIZE
from jaxtwin.data.tracings import TABLE, read_tracings
from jaxtwin.imaging.learning import Examples, joined
from jaxtwin.imaging.segmenter import SIZE, scaled, whole_clip, with_context

THREADS = 4
# NumPy parses an array's header with `ast`, which raises now and then if several threads of
# CPython 3.11 parse at once (python/cpython#106905).
_PARSING = Lock()


class Labelled(NamedTuple):
    """Label maps of a clip.

    Attributes:
        labels: Label map of each frame, see `data.phantom.masks.label_maps`.
        pixel: Height and width of a pixel [mm].
        phases: Phase of the beat in each frame, 0 to 1.
        mirrored: Whether left and right are exchanged.
    """

    labels: UInt8[np.ndarray, "time height width"]
    pixel: tuple[float, float]
    phases: Float[np.ndarray, " time"]
    mirrored: bool

    def period(self, times: Float[np.ndarray, " time"]) -> float:
        """Return the mean length of the clip's own beats [s]; NaN without a whole beat.

        In an irregular rhythm it differs from the patient's T_c, as every sample from its mean.

        Args:
            times: Time of each frame [s].
        """
        beat = np.cumsum(np.concatenate([[0], np.diff(self.phases) < -0.5])) + self.phases
        starts = np.interp(np.arange(1, np.floor(beat[-1]) + 1), beat, times)
        return float(np.mean(np.diff(starts))) if len(starts) > 1 else np.nan


def read_labels(record: Record) -> Labelled:
    """Read the label maps that were rendered with a phantom clip.

    Raises:
        ValueError: If there are none, or not one for each frame.
    """
    path = record.path.parent.parent / "Masks" / f"{record.name}.npz"
    if not path.exists():
        raise ValueError(
            f"no {path}: expected the label maps of {record.path.name}, as `jaxtwin phantoms` "
            "writes them beside the clips"
        )
    with _PARSING, np.load(path) as file:
        if not {"phases", "mirrored"} <= set(file):
            raise ValueError(
                f"{path} does not state the phase of the beat and whether it is mirrored: it is of "
                "an older version; render the phantoms again"
            )
        labels, (height, width), phases = file["labels"], file["pixel"].tolist(), file["phases"]
        mirrored = bool(file["mirrored"])
    if labels.shape != (record.frames, SIZE, SIZE):
        raise ValueError(
            f"{path} has label maps of shape {labels.shape}: expected ({record.frames}, {SIZE}, "
            f"{SIZE}), one for each frame"
        )
    return Labelled(labels, (height, width), phases, mirrored)


class LabelSource(enum.Enum):
    """Where the labels of a clip come from."""

    PHANTOM = "label maps of phantoms"
    TRACINGS = "tracings of the cavity"
    MASKS = "label maps of CAMUS"
    CONTOURS = "contours of EchoXFlow"


class FrameLabels(NamedTuple):
    """Label maps of some frames of a clip, at the network's size.

    Attributes:
        source: Where they come from.
        frames: The frames that have labels, in order.
        maps: Label map of each, see `learning.Examples`.
    """

    source: LabelSource
    frames: Int[np.ndarray, " labelled"]
    maps: UInt8[np.ndarray, "labelled size size"]


def label_source(record: Record) -> LabelSource:
    """Return where the labels of a clip come from, told by what lies beside it.

    That is a label map in the folder `Masks` of phantoms, EchoNet's table `VolumeTracings.csv`, or
    the clip's own kind: a sequence of CAMUS or a recording of EchoXFlow.

    Raises:
        UnreadableClipError: If none of them is there.
    """
    folder = record.path.parent.parent
    if is_store(record.path):
        return LabelSource.CONTOURS
    if record.path.name.lower().endswith(SUFFIXES):
        return LabelSource.MASKS
    if (folder / "Masks").is_dir():
        return LabelSource.PHANTOM
    if (folder / TABLE).is_file():
        return LabelSource.TRACINGS
    raise UnreadableClipError(
        f"no labels beside {record.path.name}: expected Masks/{record.name}.npz or {TABLE} in "
        f"{folder}, a sequence of CAMUS, or a recording of EchoXFlow"
    )


def find_labels(record: Record, recording: EchoVideo) -> FrameLabels:
    """Read the label maps of a clip, wherever they come from; see `label_source`.

    Args:
        record: The clip.
        recording: Its content, as `read_recording` gives it.

    Raises:
        UnreadableClipError: If there are no labels, or they do not fit the clip.
        ValueError: If the label maps of a phantom do not fit it.
    """
    source = label_source(record)
    count, shape = len(recording.frames), recording.frames.shape[1:]
    if source is LabelSource.PHANTOM:
        return FrameLabels(source, np.arange(count), read_labels(record).labels)
    if source is LabelSource.TRACINGS:
        if shape != (CROPPED_SIZE, CROPPED_SIZE):
            raise UnreadableClipError(
                f"frames of {shape[1]} x {shape[0]} pixels: expected {CROPPED_SIZE} x "
                f"{CROPPED_SIZE}, in which the tracings are"
            )
        maps = read_tracings(record.path.parent.parent).label_maps(record.path.stem, count)
    elif source is LabelSource.MASKS:
        maps = read_masks(record.path)
    else:
        maps, _ = contour_maps(record.path)
    frames = np.array(sorted(maps))
    found = np.stack([maps[frame] for frame in frames.tolist()])
    return FrameLabels(source, frames, resampled(found, scaled))


def read_pictures(
    records: Sequence[Record],
    *,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> UInt8[np.ndarray, "clip picture size size"]:
    """Read the darkest, mean and brightest picture of every clip, none of them mirrored.

    Args:
        records: The clips.
        progress: Wrapper for the iterable of clip numbers, such as `tqdm`.

    Raises:
        ValueError: If a clip has no label maps.
        UnreadableClipError: If a clip cannot be read.
    """

    def read(k: int) -> UInt8[np.ndarray, "picture size size"]:
        pictures = whole_clip(scaled(read_recording(records[k].path).frames))
        return pictures[:, :, ::-1] if read_labels(records[k]).mirrored else pictures

    with ThreadPoolExecutor(THREADS) as pool:
        numbers = range(len(records))
        return np.stack(
            [part for _, part in zip(progress(numbers), pool.map(read, numbers), strict=True)]
        )


def read_examples(
    records: Sequence[Record],
    per_clip: int,
    *,
    seed: int,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> Examples:
    """Read random labelled frames of every clip, with their neighbours and label maps.

    Labels are what `find_labels` finds beside each clip. Clips that cannot be read, or without
    labels that can be used, are left out with a warning.

    Args:
        records: The clips.
        per_clip: Number of frames of each clip, fewer if it has fewer with labels.
        seed: Seed for the choice of frames.
        progress: Wrapper for the iterable of clip numbers, such as `tqdm`.

    Raises:
        ValueError: If there is no clip, none can be used, or the label maps of a phantom do not
            fit it.
    """
    if not records:
        raise ValueError("no clips to read frames from: choose a split that is not empty")

    def read(k: int) -> Examples | UnreadableClipError:
        try:
            recording = read_recording(records[k].path)
            found = find_labels(records[k], recording)
        except UnreadableClipError as error:
            return error
        random = np.random.default_rng((seed, k))
        count = len(found.frames)
        chosen = random.choice(count, min(per_clip, count), replace=False)
        return Examples(with_context(recording)[found.frames[chosen]], found.maps[chosen])

    with ThreadPoolExecutor(THREADS) as pool:
        numbers = range(len(records))
        parts = [part for _, part in zip(progress(numbers), pool.map(read, numbers), strict=True)]
    usable = [part for part in parts if isinstance(part, Examples)]
    failed = [(k, part) for k, part in enumerate(parts) if isinstance(part, UnreadableClipError)]
    if failed:
        some = "; ".join(f"{records[k].name}: {error.reason}" for k, error in failed[:3])
        said = f"{len(failed)} of {len(records)} clips have no labels that can be used: {some}"
        if not usable:
            raise ValueError(said)
        warnings.warn(said, stacklevel=2)
    return joined(*usable)
