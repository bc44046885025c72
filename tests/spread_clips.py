"""Script run by test_clips_of_hosts.py in processes of their own: a cache of clips, and batches."""

import itertools
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtwin.data import cache as cache_module
from jaxtwin.data import loading
from jaxtwin.data.base import ClipFormat
from jaxtwin.data.cache import ClipCache
from jaxtwin.data.echonet import read_echonet
from jaxtwin.methods.clips import Clips
from jaxtwin.training.loop import fit
from jaxtwin.training.progress import silent
from jaxtwin.training.settings import TrainingConfig
from tests.processes import started

FORMAT = ClipFormat(frames=8, rate=20.0, size=16)
BATCH = 8
BATCHES = 20


class Line(eqx.Module):
    """EDV [mL] as a linear function of the mean brightness."""

    slope: jax.Array
    start: jax.Array


def train(clips: Clips, folder: Path, mesh) -> list[float]:
    """Return slope and start after a training on the clips."""

    def loss(line, batch, key):
        del key
        got = line.slope * jnp.asarray(batch.clip).mean((1, 2, 3)) + line.start
        return jnp.mean((got - batch.edv) ** 2)

    model = Line(jnp.zeros(()), jnp.zeros(()))
    fitted = fit(
        model,
        loss,
        lambda step: clips.shuffled(BATCH, 0, step, mesh),
        lambda line: {"loss": float((line.slope - 1) ** 2)},
        TrainingConfig(steps=6, batch_size=BATCH, learning_rate=1.0, evaluate_every=6),
        stage="line", folder=folder, description={}, seed=0, resume=False, mesh=mesh,
        progress_bar=silent,
    )  # fmt: skip
    return [float(fitted.model.slope), float(fitted.model.start)]


def counted(module, name):
    """Replace a function by one that counts its calls; return the list of them."""
    calls, function = [], getattr(module, name)

    def counting(*given):
        calls.append(given)
        return function(*given)

    setattr(module, name, counting)
    return calls


def main() -> None:
    arguments, mesh = started()
    several = arguments.processes > 1
    cache_module.SHARD = 5
    records = read_echonet(arguments.out / "data").records
    decoded, read = counted(cache_module, "_decode"), counted(loading, "window")

    if several:
        other = records[1:] if arguments.process else records
        own = arguments.out / f"own-{arguments.process}"
        with pytest.raises(ValueError, match="host 1 differs from host 0"):
            ClipCache.build(other, FORMAT, arguments.out / "other")
        assert not decoded
        with pytest.raises(OSError, match="a common folder"):
            ClipCache.build(records, FORMAT, own)
    decoded.clear()

    cache = ClipCache.build(records, FORMAT, arguments.out / "cache")
    clips = Clips.from_split(cache, "TRAIN")
    taken = list(itertools.islice(clips.shuffled(BATCH, 0, 0, mesh), BATCHES))
    batches = [np.concatenate([np.asarray(s.data) for s in shards(b.clip)]) for b in taken]
    rows = sorted({row for s in shards(taken[0].clip) for row in range(BATCH)[s.index[0]]})
    names = sorted(int(record.name[1:]) for record, _ in decoded)
    clips_read = len(read)
    if mesh is not None:
        with pytest.raises(ValueError, match=f"a batch of {BATCH + 1} on {mesh.size} devices"):
            clips.shuffled(BATCH + 1, 0, 0, mesh)
    trained = train(clips, arguments.out / "run", mesh)
    np.savez(
        arguments.out / f"{arguments.process}.npz",
        names, np.stack(batches), rows, clips_read, np.concatenate(list(cache.clips)), trained,
    )  # fmt: skip


def shards(array):
    """Parts of an array that are in this process, in order."""
    return sorted(jnp.asarray(array).addressable_shards, key=lambda s: s.index[0].start or 0)


if __name__ == "__main__":
    main()
