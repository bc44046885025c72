"""Batches of clips, drawn through Grain."""

from collections.abc import Iterator
from typing import NamedTuple

import grain
import numpy as np
from jaxtyping import Float32, Int, UInt8

from jaxtwin.data.base import window
from jaxtwin.data.cache import ClipCache

# Epochs that no run reaches. Grain's own endless repetition overflows for batches of one.
ENDLESS = 2**31


class Batch(NamedTuple):
    """Clips and what was measured on them: the encoder's input and its training signal.

    Attributes:
        clip: Brightness, 0 to 255.
        edv: End-diastolic volume [mL].
        esv: End-systolic volume [mL].
        vitals: The fields of `Vitals` [s, mmHg, mmHg]; NaN where nobody measured.
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
    """Batches for training, without end: every clip once an epoch, in another order each epoch.

    Each clip is a window that starts at a random frame. Batch k depends on the seed and on k
    alone, so a run that resumes at step k sees what an unbroken run sees.

    Args:
        cache: Where the clips are.
        indices: Which of them to draw from.
        batch_size: Clips a batch; all batches are full.
        seed: Of the order and of the windows, 0 to 2^32 - 1.
        start_step: The first batch's k.

    Raises:
        ValueError: There is no clip to draw from.
    """
    if len(indices) == 0:
        raise ValueError("no clips to train on: choose a split that has some")
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
    # Two threads read ahead from disk while the accelerator computes; more would only take
    # memory, for a batch is copied faster than any network is trained on it.
    ahead = grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)
    iterator = iter(dataset[start_step:].to_iter_dataset(ahead))
    return _closing(iterator)


def ordered_batches(
    cache: ClipCache, indices: Int[np.ndarray, " indices"], batch_size: int
) -> Iterator[Batch]:
    """Batches for evaluation: each clip once, in order, from its first frame on.

    The last batch is short where the clips do not fill it: nothing has to be masked out of a
    mean, at the price of one more compilation.
    """
    for first in range(0, len(indices), batch_size):
        some = indices[first : first + batch_size].tolist()
        examples = [_example(cache, index, 0) for index in some]
        yield Batch(*(np.stack(values) for values in zip(*examples, strict=True)))


def _example(cache: ClipCache, index: int, start: int) -> Batch:
    """One clip's window and measurements, as a batch without its leading axis."""
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
        iterator.close()  # ends the threads that read ahead
