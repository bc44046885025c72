"""Frames with label maps, read from a data set whose clips have them."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from jaxtwin.data.echonet import Record
from jaxtwin.data.recording import read_recording
from jaxtwin.imaging.learning import Examples
from jaxtwin.imaging.segmenter import SIZE, with_context

THREADS = 4


class Labelled(NamedTuple):
    """Label maps of a clip.

    Attributes:
        labels: Label map of each frame, see `data.phantom.masks.label_maps`.
        pixel: Height and width of a pixel [mm].
    """

    labels: UInt8[np.ndarray, "time height width"]
    pixel: tuple[float, float]


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
    with np.load(path) as file:
        labels, (height, width) = file["labels"], file["pixel"].tolist()
    if labels.shape != (record.frames, SIZE, SIZE):
        raise ValueError(
            f"{path} has label maps of shape {labels.shape}: expected ({record.frames}, {SIZE}, "
            f"{SIZE}), one for each frame"
        )
    return Labelled(labels, (height, width))


def read_examples(
    records: Sequence[Record],
    per_clip: int,
    *,
    seed: int,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> Examples:
    """Read random frames of every clip, with their neighbours and label maps.

    Args:
        records: The clips.
        per_clip: Number of frames of each clip, fewer if it has fewer.
        seed: Seed for the choice of frames.
        progress: Wrapper for the iterable of clip numbers, such as `tqdm`.

    Raises:
        ValueError: If there is no clip, or one has no label maps.
        UnreadableClipError: If a clip cannot be read.
    """
    if not records:
        raise ValueError("no clips to read frames from: choose a split that is not empty")

    def read(k: int) -> Examples:
        frames, labels = (
            with_context(read_recording(records[k].path)),
            read_labels(records[k]).labels,
        )
        random = np.random.default_rng((seed, k))
        chosen = random.choice(len(frames), min(per_clip, len(frames)), replace=False)
        return Examples(frames[chosen], labels[chosen])

    with ThreadPoolExecutor(THREADS) as pool:
        numbers = range(len(records))
        parts = [part for _, part in zip(progress(numbers), pool.map(read, numbers), strict=True)]
    return Examples(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
