"""From records to batches: the cache, its failures, and the order of the batches."""

import dataclasses
import errno
import gc
import io
import itertools
import os
import shutil
import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from jaxtwin.data import cache as cache_module
from jaxtwin.data.base import ClipFormat
from jaxtwin.data.cache import ClipCache
from jaxtwin.data.echonet import Record
from jaxtwin.data.loading import batches, ordered_batches

CLIPS = 24
FORMAT = ClipFormat(frames=8, rate=20.0, size=16)


def write_avi(path, frames):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=Fraction(40))
        stream.height, stream.width = frames.shape[1:]
        stream.pix_fmt = "yuvj420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "gray")))
        container.mux(stream.encode())


def make_records(folder):
    """Clips of 20 to 43 frames at 40 frames/s, of brightness 10 i + (0, 0, 1, 1, 2, 2, ...)."""
    records = []
    for i in range(CLIPS):
        count = 20 + i
        values = (10 * i + np.arange(count) // 2).astype(np.uint8)
        path = folder / f"c{i}.avi"
        write_avi(path, np.broadcast_to(values[:, None, None], (count, 32, 32)).copy())
        split = "VAL" if i % 4 == 3 else "TRAIN"
        records.append(Record(f"c{i}", path, 100.0 + i, 40.0 + i, 60.0, 40.0, count, split))
    return records


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return make_records(tmp_path_factory.mktemp("written"))


@pytest.fixture
def records(written, tmp_path):
    """The same clips anew for each test, to be damaged."""
    videos = tmp_path / "Videos"
    shutil.copytree(written[0].path.parent, videos)
    return [dataclasses.replace(record, path=videos / record.path.name) for record in written]


@pytest.fixture(scope="module")
def cache(written, tmp_path_factory):
    return ClipCache.build(written, FORMAT, tmp_path_factory.mktemp("cache"))


def assert_same(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


def files(folder):
    return sorted(path.name for path in folder.rglob("*"))


# --- the cache --------------------------------------------------------------------------------


def test_every_clip_is_cached_over_its_whole_length(cache):
    assert len(cache.records) == CLIPS and cache.skipped == ()
    for i, record in enumerate(cache.records):
        clip = cache.clip(i)
        assert clip.shape == ((record.frames - 1) // 2 + 1, 16, 16)
        # 20 of the 40 frames a second: every second one, whose values rise by 1.
        expected = 10 * i + np.arange(len(clip))
        assert np.abs(clip[:, 8, 8].astype(int) - expected).max() <= 3


def test_a_second_build_opens_the_first_ones_cache_and_no_video(records, tmp_path, monkeypatch):
    def forbidden(*given):
        raise AssertionError("decoded again")

    first = ClipCache.build(records, FORMAT, tmp_path / "cache")
    monkeypatch.setattr(av, "open", forbidden)
    again = ClipCache.build(records, FORMAT, tmp_path / "cache", progress=forbidden)
    assert_same(first.clips, again.clips)
    longer = ClipFormat(frames=16, rate=FORMAT.rate, size=FORMAT.size)
    again = ClipCache.build(records, longer, tmp_path / "cache", progress=forbidden)
    assert again.format.frames == 16


@pytest.mark.parametrize("change", ["clip", "time", "format", "rate", "records"])
def test_a_stale_cache_is_replaced(records, tmp_path, change):
    old = ClipCache.build(records, FORMAT, tmp_path / "cache")
    old_files = files(tmp_path / "cache")
    format = FORMAT
    if change == "clip":
        write_avi(records[0].path, np.full((20, 32, 32), 99, np.uint8))
    elif change == "time":
        os.utime(records[0].path, (1, 1))
    elif change == "format":
        format = ClipFormat(frames=8, rate=10.0, size=16)
    elif change == "rate":
        records[0] = dataclasses.replace(records[0], fps=20.0)
    else:
        records = records[1:]
    new = ClipCache.build(records, format, tmp_path / "cache")
    new_files = files(tmp_path / "cache")
    assert len(new_files) == 2 and not set(new_files) & set(old_files)
    if change != "time":
        assert not np.array_equal(np.concatenate(old.clips), np.concatenate(new.clips))


def test_a_damaged_cache_is_built_again(records, tmp_path):
    built = ClipCache.build(records, FORMAT, tmp_path / "cache")
    first = [np.array(clip) for clip in built.clips]
    for suffix in ("npy", "json"):
        (path,) = (tmp_path / "cache").glob(f"*.{suffix}")
        path.write_bytes(path.read_bytes()[:100])
        again = ClipCache.build(records, FORMAT, tmp_path / "cache")
        assert_same(again.clips, first)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.unlink(), "no such file"),
        (lambda path: path.write_bytes(b""), "empty"),
        (lambda path: path.write_text("Notes, not a video.\n" * 99), "cannot be decoded"),
        (lambda path: path.write_bytes(path.read_bytes()[:-4000]), "may be damaged"),
        (lambda path: write_avi(path, np.zeros((1, 32, 32), np.uint8)), "still image"),
        (lambda path: write_avi(path, np.zeros((12, 32, 32), np.uint8)), "cut short: 12 of 23"),
    ],
)
def test_an_unreadable_clip_is_skipped_with_its_reason(records, tmp_path, damage, words):
    damage(records[3].path)
    for _ in ("decoded", "opened"):
        cache = ClipCache.build(records, FORMAT, tmp_path / "cache")
        (skipped,) = cache.skipped
        assert skipped.name == "c3"
        assert words in skipped.reason
        assert [record.name for record in cache.records] == [
            f"c{i}" for i in range(CLIPS) if i != 3
        ]
        assert abs(int(cache.clip(3)[0, 8, 8]) - 40) <= 3, "the clip after it took its place"


def test_too_many_unreadable_clips_are_an_error_that_lists_them(records, tmp_path):
    for record in records[:3]:
        record.path.unlink()
    with pytest.raises(ValueError, match=r"3 of 24 .* more than 5%") as error:
        ClipCache.build(records, FORMAT, tmp_path / "cache")
    assert "c0: no such file" in str(error.value) and "Copy the data set" in str(error.value)
    assert files(tmp_path / "cache") == []
    with pytest.raises(ValueError, match="at least one record"):
        ClipCache.build([], FORMAT, tmp_path / "cache")


def test_a_full_disk_leaves_nothing_behind(records, tmp_path, monkeypatch):
    original = Path.open

    class FullDisk(io.FileIO):
        room = 20_000

        def write(self, data):
            self.room -= memoryview(data).nbytes
            if self.room < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(data)

    def open_on_full_disk(path, mode="r", *rest, **options):
        return FullDisk(path, mode) if mode == "wb" else original(path, mode, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", open_on_full_disk)
        with pytest.raises(OSError, match="No space left") as error:
            ClipCache.build(records, FORMAT, tmp_path / "cache")
    assert "make room" in error.value.__notes__[0]
    assert files(tmp_path / "cache") == []
    assert len(ClipCache.build(records, FORMAT, tmp_path / "cache").records) == CLIPS


def test_an_interrupted_build_leaves_nothing_broken(records, tmp_path):
    stale = ClipCache.build(records, FORMAT, tmp_path / "cache")
    before = files(tmp_path / "cache")
    write_avi(records[0].path, np.full((20, 32, 32), 99, np.uint8))

    def interrupt(clips):
        yield from itertools.islice(clips, 5)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ClipCache.build(records, FORMAT, tmp_path / "cache", progress=interrupt)
    assert files(tmp_path / "cache") == before
    cache = ClipCache.build(records, FORMAT, tmp_path / "cache")
    assert abs(int(cache.clip(0)[0, 8, 8]) - 99) <= 3
    assert int(stale.clip(0)[0, 8, 8]) <= 3, "who still reads the old cache keeps it"


def decoded(records, folder, monkeypatch):
    """Build a cache; return it and the names of the clips that were decoded for it."""
    names = []

    def counting(record, format):
        names.append(record.name)
        return decode(record, format)

    decode = cache_module._decode
    with monkeypatch.context() as patch:
        patch.setattr(cache_module, "_decode", counting)
        return ClipCache.build(records, FORMAT, folder), sorted(names)


def test_a_shard_that_is_missing_is_decoded_alone(records, cache, tmp_path, monkeypatch):
    monkeypatch.setattr(cache_module, "SHARD", 10)
    records[13].path.unlink()
    first, names = decoded(records, tmp_path / "cache", monkeypatch)
    assert len(names) == CLIPS and len(files(tmp_path / "cache")) == 2 * 3
    assert [clip.name for clip in first.skipped] == ["c13"]
    assert_same(first.clips, [clip for i, clip in enumerate(cache.clips) if i != 13])
    (path,) = (tmp_path / "cache").glob("*-00001.json")
    path.unlink()
    again, names = decoded(records, tmp_path / "cache", monkeypatch)
    assert names == [f"c{i}" for i in range(10, 20)]
    assert again.skipped == first.skipped
    assert_same(again.clips, first.clips)


def test_an_interrupted_build_goes_on(records, cache, tmp_path, monkeypatch):
    monkeypatch.setattr(cache_module, "SHARD", 5)

    def interrupt(clips):
        assert len(clips) == CLIPS
        yield from itertools.islice(clips, 12)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ClipCache.build(records, FORMAT, tmp_path / "cache", progress=interrupt)
    again, names = decoded(records, tmp_path / "cache", monkeypatch)
    assert names == sorted(f"c{i}" for i in range(10, CLIPS))
    assert_same(again.clips, cache.clips)


def test_clips_occupy_memory_only_while_they_are_used(cache):
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("no /proc to see what is mapped")

    def mapped():
        gc.collect()
        return sum("/clips-" in line and ".npy" in line for line in maps.read_text().splitlines())

    before, clip = mapped(), cache.clip(0)
    assert mapped() == before + 1
    del clip
    for _ in ordered_batches(cache, np.arange(CLIPS), 7):
        pass
    assert mapped() == before


# --- batches ----------------------------------------------------------------------------------


def take(iterator, count):
    taken = list(itertools.islice(iterator, count))
    iterator.close()
    return taken


def test_a_batch_holds_clips_and_their_own_volumes(cache):
    (batch,) = take(batches(cache, cache.split("TRAIN"), 5, seed=0), 1)
    assert batch.clip.shape == (5, 8, 16, 16) and batch.clip.dtype == np.uint8
    assert batch.edv.shape == batch.esv.shape == (5,)
    assert batch.edv.dtype == batch.esv.dtype == np.float32
    np.testing.assert_allclose(batch.edv - batch.esv, 60)
    clip_index = batch.edv - 100
    assert (clip_index % 4 != 3).all(), "a validation clip is among the training clips"
    # The windows start within the clip: brightness 10 i and up to 21 more.
    rise = batch.clip[:, 0, 8, 8] - 10 * clip_index
    assert rise.min() >= -3 and rise.max() <= 25


def test_an_epoch_has_every_clip_once_and_each_epoch_another_order(cache):
    indices = cache.split("TRAIN")
    drawn = np.concatenate([batch.edv for batch in take(batches(cache, indices, 3, seed=0), 12)])
    epochs = drawn.reshape(2, len(indices))
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), 100 + indices)
    assert (epochs[0] != epochs[1]).any()


@pytest.mark.parametrize("step", [1, 7, 40])
def test_resuming_gives_the_batches_of_an_unbroken_run(cache, step):
    indices = cache.split("TRAIN")
    unbroken = take(batches(cache, indices, 4, seed=3), step + 5)
    resumed = take(batches(cache, indices, 4, seed=3, start_step=step), 5)
    assert_same(unbroken[step:], resumed)


def test_another_seed_gives_other_batches_and_windows(cache):
    one = np.array([CLIPS - 1])
    starts = {
        seed: [batch.clip[0, 0, 8, 8] for batch in take(batches(cache, one, 1, seed=seed), 10)]
        for seed in (0, 1)
    }
    assert len(set(starts[0])) > 3, "the window's start is not random"
    assert starts[0] != starts[1]


def test_a_clip_shorter_than_the_window_ends_in_black(records, tmp_path):
    long = ClipFormat(frames=64, rate=20.0, size=16)
    cache = ClipCache.build(records, long, tmp_path / "cache")
    (batch,) = take(batches(cache, np.array([5]), 2, seed=0), 1)
    length = len(cache.clip(5))
    np.testing.assert_array_equal(batch.clip[1, :length], cache.clip(5))
    assert batch.clip[:, length:].max() == 0


def test_evaluation_sees_each_clip_once_in_order_and_ends_short(cache):
    found = list(ordered_batches(cache, cache.split("VAL"), 4))
    assert [len(batch.clip) for batch in found] == [4, 2]
    np.testing.assert_array_equal(
        np.concatenate([batch.edv for batch in found]), 100 + cache.split("VAL")
    )
    np.testing.assert_array_equal(found[0].clip[1], cache.clip(7)[:8])


def test_unknown_splits_and_empty_selections_are_refused(cache):
    with pytest.raises(ValueError, match="choose one of TRAIN, VAL, TEST"):
        cache.split("HOLDOUT")
    assert len(cache.split("TEST")) == 0
    with pytest.raises(ValueError, match="no clips to train on"):
        batches(cache, cache.split("TEST"), 4, seed=0)


def test_reading_ahead_ends_with_the_iterator(cache):
    gc.collect()
    before = set(threading.enumerate())  # Other tests' iterators may not have ended yet.
    iterator = batches(cache, cache.split("TRAIN"), 4, seed=0)
    next(iterator)
    started = set(threading.enumerate()) - before
    ahead = [thread for thread in started if "grain" in thread.name]
    assert ahead
    del iterator
    gc.collect()
    for thread in ahead:
        thread.join(timeout=600)
        assert not thread.is_alive()
