"""Batches of clips, loaded with Grain."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, cast

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float32, Int, UInt8

from jaxtwin.data.base import window
from jaxtwin.data.cache import ClipCache
from jaxtwin.data.echonet import Record
from jaxtwin.devices import joined, own_rows

# More epochs than any run needs. Grain's own infinite repetition overflows for batches of one.
ENDLESS = 2**31


class Batch(NamedTuple):
    """Clips and their measurements: the encoder's input and its training signal.

    NumPy arrays, or arrays over the devices of several processes.

    Attributes:
        clip: Brightness, 0 to 255.
        edv: End-diastolic volume [mL].
        esv: End-systolic volume [mL].
        vitals: The fields of `Vitals` [s, mmHg, mmHg]; NaN if not measured.
    """

    clip: UInt8[np.ndarray | jax.Array, "*batch frames size size"]
    edv: Float32[np.ndarray | jax.Array, "*batch"]
    esv: Float32[np.ndarray | jax.Array, "*batch"]
    vitals: Float32[np.ndarray | jax.Array, "*batch vital"]


def batches(
    cache: ClipCache,
    indices: Int[np.ndarray, " indices"],
    batch_size: int,
    seed: int,
    start_step: int = 0,
    mesh: Mesh | None = None,
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
        mesh: Devices to train on. If they belong to several processes, each process reads only the
            rows that its own devices compute, and the batches are arrays over the mesh.

    Raises:
        ValueError: If there is no clip to draw from, or the processes' devices cannot share a
            batch equally.
    """
    if len(indices) == 0:
        raise ValueError("no clips to train on: choose a split that is not empty")
    import grain  # Nothing else needs it, and whoever has a trained network does without.

    length = cache.format.frames

    def draw(index: int, random: np.random.Generator) -> Batch:
        clip = cache.clip(index)
        latest = max(len(clip) - length, 0)
        start = int(random.integers(latest + 1))
        return _example(cache.records[index], window(clip, cache.format, start))

    examples = (
        grain.MapDataset.source(indices.tolist())
        .seed(seed)
        .shuffle()
        .repeat(ENDLESS)
        .random_map(draw)
    )
    shared = mesh if mesh is not None and mesh.is_multi_process else None
    rows = np.arange(batch_size) if shared is None else own_rows(batch_size, shared)

    def read(step: int) -> Batch:
        some = [examples[step * batch_size + row] for row in rows.tolist()]
        return _stack(cast(list[Batch], some))  # Grain's types allow that an example is left out.

    dataset = grain.MapDataset.range(len(examples) // batch_size).map(read)
    # Two threads read ahead from disk while the accelerator computes. More would only use memory:
    # copying a batch is faster than a training step on it.
    ahead = grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)
    found = _closing(iter(dataset[start_step:].to_iter_dataset(ahead)))
    if shared is None:
        return found
    return (Batch(*(joined(values, batch_size, shared) for values in batch)) for batch in found)


def ordered_batches(
    cache: ClipCache, indices: Int[np.ndarray, " indices"], batch_size: int
) -> Iterator[Batch]:
    """Yield evaluation batches with each clip once, in order, starting at its first frame.

    The last batch may be smaller. This avoids masking in means, at the cost of one more
    compilation.
    """
    for first in range(0, len(indices), batch_size):
        some = indices[first : first + batch_size].tolist()
        examples = [
            _example(cache.records[index], window(cache.clip(index), cache.format, 0))
            for index in some
        ]
        yield _stack(examples)


def _stack(examples: Sequence[Batch]) -> Batch:
    return Batch(*(np.stack(values) for values in zip(*examples, strict=True)))


def _example(record: Record, clip: UInt8[np.ndarray, "frames size size"]) -> Batch:
    """Return one clip's window and measurements, without a batch axis."""
    edv, esv, vitals = (
        np.asarray(value, np.float32) for value in (record.edv, record.esv, record.vitals)
    )
    return Batch(clip, edv, esv, vitals)


def _closing(iterator: Any) -> Iterator[Batch]:
    """Yield from one of Grain's iterators, and close it at the end."""
    try:
        yield from iterator
    finally:
        iterator.close()  # stops the threads that read ahead
