"""Batches of clips, loaded with Grain."""

from collections.abc import Iterator
from typing import NamedTuple

import grain
import numpy as np
from jaxtyping import Float32, Int, UInt8

from jaxtwin.data.base import window
from jaxtwin.data.cache import ClipCache

# More epochs than any run needs. Grain's own infinite repetition overflows for batches of one.
ENDLESS = 2**31


class Batch(NamedTuple):
    """Clips and their measurements: the encoder's input and its training signal.

    Attributes:
        clip: Brightness, 0 to 255.
        edv: End-diastolic volume [mL].
        esv: End-systolic volume [mL].
        vitals: The fields of `Vitals` [s, mmHg, mmHg]; NaN if not measured.
    """

    clip: UInt8[np.ndarray, "*batch frames size size"]
    edv: Float32[np.ndarray, "*batch"]
    esv: Float32[np.ndarray, "*batch"]
    vitals: Float32[np.ndarray, "*batch vital"]


def batches(
    cache: ClipCache,
    indices: Int[np.ndarray, " indices"],
    batch_size: int,
    seed: int,
    start_step: int = 0,
) -> Iterator[Batch]:
    """Yield training batches indefinitely, with every clip once per epoch in random order.

    Each clip is a window that starts at a random frame. Batch k depends only on the seed and k,
    so a run resumed at step k sees the same batches as an uninterrupted run.

    Args:
        cache: The clips.
        indices: Indices of the clips to draw from.
        batch_size: Number of clips per batch; all batches are full.
        seed: Seed for the order and the windows, 0 to 2^32 - 1.
        start_step: The first batch's k.

    Raises:
        ValueError: If there is no clip to draw from.
    """
    if len(indices) == 0:
        raise ValueError("no clips to train on: choose a split that is not empty")
    length = cache.format.frames

    def draw(index: int, random: np.random.Generator) -> Batch:
        latest = max(len(cache.clip(index)) - length, 0)
        return _example(cache, index, int(random.integers(latest + 1)))

    dataset = (
        grain.MapDataset.source(indices.tolist())
        .seed(seed)
        .shuffle()
        .repeat(ENDLESS)
        .random_map(draw)
        .batch(batch_size)
    )
    # Two threads read ahead from disk while the accelerator computes. More would only use memory:
    # copying a batch is faster than a training step on it.
    ahead = grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)
    iterator = iter(dataset[start_step:].to_iter_dataset(ahead))
    return _closing(iterator)


def ordered_batches(
    cache: ClipCache, indices: Int[np.ndarray, " indices"], batch_size: int
) -> Iterator[Batch]:
    """Yield evaluation batches with each clip once, in order, starting at its first frame.

    The last batch may be smaller. This avoids masking in means, at the cost of one more
    compilation.
    """
    for first in range(0, len(indices), batch_size):
        some = indices[first : first + batch_size].tolist()
        examples = [_example(cache, index, 0) for index in some]
        yield Batch(*(np.stack(values) for values in zip(*examples, strict=True)))


def _example(cache: ClipCache, index: int, start: int) -> Batch:
    """Return one clip's window and measurements, without a batch axis."""
    record = cache.records[index]
    clip = window(cache.clip(index), cache.format, start)
    edv, esv, vitals = (
        np.asarray(value, np.float32) for value in (record.edv, record.esv, record.vitals)
    )
    return Batch(clip, edv, esv, vitals)


def _closing(iterator: grain.DatasetIterator[Batch]) -> Iterator[Batch]:
    try:
        yield from iterator
    finally:
        iterator.close()  # stops the threads that read ahead
