"""Cache of a data set's decoded clips in files on disk."""

import collections
import contextlib
import dataclasses
import hashlib
import itertools
import json
import math
import os
import tempfile
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, TypeAlias

import jax
import numpy as np
from jaxtyping import Int, UInt8

from jaxtwin.data.base import LEAST_COMPLETE, ClipFormat, EchoVideo, UnreadableClipError, resample
from jaxtwin.data.echonet import Record, Skipped, check_split
from jaxtwin.data.recording import read_recording
from jaxtwin.devices import check_same_everywhere, on_every_host, on_first_host

CACHE_VERSION = 3  # increase it when decoding gives different arrays for the same clips
# A larger fraction of unreadable clips indicates a damaged copy of the data set.
MOST_UNREADABLE = 0.05
# Clips decoded ahead of the writer: enough to use every core, few enough to fit in memory.
DECODED_AHEAD = 64
# Clips per file: enough files for many hosts, few enough to hold them all open.
SHARD = 256

Frames: TypeAlias = UInt8[np.ndarray, "_ size size"]
"""One decoded clip."""


@dataclasses.dataclass(frozen=True)
class ClipCache:
    """All readable clips of a data set, resampled to one format, on disk or in memory.

    Attributes:
        records: The readable clips, in the order given.
        skipped: The unreadable clips.
        format: The clips' format.
        clips: The decoded clips, one per record, each at its full length. A clip on disk is mapped
            into memory for as long as its array is used, so none of them occupy memory otherwise.
    """

    records: tuple[Record, ...]
    skipped: tuple[Skipped, ...]
    format: ClipFormat
    clips: Sequence[Frames]

    @classmethod
    def build(
        cls,
        records: Sequence[Record],
        format: ClipFormat,
        folder: str | Path,
        progress: Callable[[Iterable], Iterable] = lambda clips: clips,
    ) -> "ClipCache":
        """Decode the records' clips, or open the cache of an earlier call.

        The cache is identified by the names, sizes and modification times of its clips and by the
        format's frame rate and size. If any of these changed, it is rebuilt and replaced; if none
        did, no clip is opened. It consists of shards of 256 clips. An interrupted build leaves
        complete shards, with which the next call goes on.

        Of several processes (`jax.distributed.initialize`) all call this with the same arguments
        and a common folder. Each decodes its share of the shards, and can read all of them.

        Args:
            records: Clips to decode. Their measurements are not cached.
            format: Frame rate and size to decode to. Its length does not affect the cache.
            folder: Folder of the cache, created if it does not exist. It holds one cache.
            progress: Wrapper for the iterable of clips that are decoded here, such as `tqdm`. The
                iterable has a length.

        Raises:
            ValueError: If more than 5% of the clips are unreadable, there are no records, or the
                processes have different clips.
            OSError: If the cache cannot be written, for example because the disk is full, or the
                folder is not common to all processes.
            RuntimeError: If another process failed.
        """
        if not records:
            raise ValueError("no clips to decode: expected at least one record")
        folder = Path(folder)
        cache = f"clips-{_fingerprint(records, format)}"
        check_same_everywhere(
            cache,
            "the clips' names, sizes or modification times, or the format, differ between hosts: "
            "give all of them the same data set in a common folder",
        )
        shards = [
            _Shard(folder / f"{cache}-{number:05}", first, min(first + SHARD, len(records)))
            for number, first in enumerate(range(0, len(records), SHARD))
        ]

        def write() -> None:
            folder.mkdir(parents=True, exist_ok=True)
            own = shards[jax.process_index() :: jax.process_count()]
            missing = [shard for shard in own if shard.index(format.size) is None]
            if missing:
                _write(missing, records, format, folder, progress)

        def read() -> tuple[list[_Index], _OnDisk]:
            found = [shard.index(format.size) for shard in shards]
            if absent := [s.stem.name for s, one in zip(shards, found, strict=True) if one is None]:
                raise OSError(
                    f"{len(absent)} of {len(shards)} shards of the cache in {folder} are missing, "
                    f"the first: {absent[0]}; several hosts need a common folder, and on one host "
                    "the cache changed while being read, so run this again"
                )
            indices = [one for one in found if one is not None]
            return indices, _OnDisk(shards, indices, format.size)

        def remove() -> None:
            for path in folder.glob("clips-*"):
                if path.name.startswith(cache) == too_many:
                    path.unlink(missing_ok=True)

        on_every_host(write)
        indices, clips = on_every_host(read)
        skipped = {
            shard.first + i: reason
            for shard, index in zip(shards, indices, strict=True)
            for i, reason in index.skipped.items()
        }
        too_many = len(skipped) > MOST_UNREADABLE * len(records)
        on_first_host(remove)
        if too_many:
            raise ValueError(_losses(records, skipped))
        return cls(
            tuple(record for i, record in enumerate(records) if i not in skipped),
            tuple(Skipped(records[i].name, reason) for i, reason in skipped.items()),
            format,
            clips,
        )

    def split(self, name: str) -> Int[np.ndarray, " indices"]:
        """Return the indices into `records` of the clips in a split (TRAIN, VAL or TEST)."""
        name = check_split(name)
        return np.flatnonzero([record.split == name for record in self.records])

    def clip(self, index: int) -> Frames:
        """Return one clip at its full length."""
        return self.clips[index]


@dataclasses.dataclass(frozen=True)
class _Index:
    """What a complete shard contains.

    Attributes:
        start: Where the frames begin in its .npy file, one clip after the other [bytes].
        offsets: Clip boundaries [frames].
        skipped: Reasons why clips could not be read, by their number in the shard.
    """

    start: int
    offsets: list[int]
    skipped: dict[int, str]


@dataclasses.dataclass(frozen=True)
class _Shard:
    """The files `stem`.npy and `stem`.json of the records from `first` to before `end`."""

    stem: Path
    first: int
    end: int

    @property
    def file(self) -> Path:
        """Path of the frames."""
        return self.stem.with_suffix(".npy")

    def index(self, size: int) -> _Index | None:
        """Return what it contains, frames of a size; None if it is missing or incomplete."""
        try:
            index = json.loads(self.stem.with_suffix(".json").read_text())
            offsets = index["offsets"]
            skipped = {int(i): reason for i, reason in index["skipped"].items()}
            with self.file.open("rb") as file:
                np.lib.format.read_magic(file)
                shape, *_ = np.lib.format.read_array_header_1_0(file)
                start, there = file.tell(), os.fstat(file.fileno()).st_size
        except (OSError, ValueError, KeyError):
            return None
        expected = (offsets[-1], size, size)
        whole = shape == expected and there == start + math.prod(expected)
        all_clips = len(offsets) - 1 + len(skipped) == self.end - self.first
        return _Index(start, offsets, skipped) if whole and all_clips else None


class _OnDisk(Sequence[Frames]):
    """Clips of complete shards, each of which is mapped into memory while it is used.

    If the files were mapped as a whole, an epoch would leave every page of them in the memory that
    counts as this process's.
    """

    def __init__(self, shards: Sequence[_Shard], indices: Sequence[_Index], size: int):
        self._size, self._places = size, []
        stack = contextlib.ExitStack()
        weakref.finalize(self, stack.close)
        for shard, index in zip(shards, indices, strict=True):
            # Held open, so that a cache that is replaced in the meantime stays readable.
            file = stack.enter_context(shard.file.open("rb"))
            for first, end in itertools.pairwise(index.offsets):
                self._places.append((file, index.start + first * size**2, end - first))

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Frames:  # type: ignore[override]
        file, start, frames = self._places[index]
        shape = (frames, self._size, self._size)
        return np.asarray(np.memmap(file, np.uint8, "r", start, shape))


def _fingerprint(records: Sequence[Record], format: ClipFormat) -> str:
    """Return a hash of everything the cached arrays depend on."""
    digest = hashlib.sha256(f"{CACHE_VERSION} {format.rate} {format.size}".encode())
    for record in records:
        try:
            file = record.path.stat()
            state = f"{file.st_size} {file.st_mtime_ns}"
        except OSError:
            state = "missing"
        digest.update(f"\n{record.name} {record.fps} {record.frames} {state}".encode())
    return digest.hexdigest()[:16]


def _write(
    shards: Sequence[_Shard],
    records: Sequence[Record],
    format: ClipFormat,
    folder: Path,
    progress: Callable[[Iterable], Iterable],
) -> None:
    """Decode the clips of some shards into `folder`; a failure leaves only complete shards."""
    clips = _Decoding([r for shard in shards for r in records[shard.first : shard.end]], format)
    written = 0
    with (
        tempfile.TemporaryDirectory(prefix=".building-", dir=folder) as building,
        contextlib.closing(clips),
    ):
        decoded = iter(progress(clips))
        try:
            for shard in shards:
                some = itertools.islice(decoded, shard.end - shard.first)
                written += _write_shard(shard, some, format.size, Path(building))
        except OSError as error:
            error.add_note(
                f"The clip cache in {folder} was not finished (its first {written / 1e9:.1f} GB "
                "are kept): make room there or choose another folder, and run this again."
            )
            raise


def _write_shard(
    shard: _Shard, decoded: Iterable[Frames | UnreadableClipError], size: int, building: Path
) -> int:
    """Write one shard and return the number of its bytes."""
    clips, index = building / "clips.npy", building / "clips.json"
    offsets, skipped = [0], {}
    with clips.open("wb") as file:
        _write_header(file, 0, size)
        for i, frames in enumerate(decoded):
            if isinstance(frames, UnreadableClipError):
                skipped[i] = frames.reason
                continue
            file.write(frames.data)
            offsets.append(offsets[-1] + len(frames))
        file.seek(0)
        _write_header(file, offsets[-1], size)
    index.write_text(json.dumps({"offsets": offsets, "skipped": skipped}))
    clips.replace(shard.file)
    index.replace(shard.stem.with_suffix(".json"))  # last: its presence marks a complete shard
    return offsets[-1] * size**2


def _write_header(file: BinaryIO, total: int, size: int) -> None:
    """Write the .npy header, which NumPy pads to the same length for any `total`."""
    header = {"descr": "|u1", "fortran_order": False, "shape": (total, size, size)}
    np.lib.format.write_array_header_1_0(file, header)


class _Decoding:
    """The records' clips or their errors, in order, decoded on all cores while they are read."""

    def __init__(self, records: Sequence[Record], format: ClipFormat):
        self._records = records
        self._decoded = self._decode_all(format)

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Frames | UnreadableClipError]:
        return self._decoded

    def close(self) -> None:
        """Stop decoding."""
        self._decoded.close()

    def _decode_all(
        self, format: ClipFormat
    ) -> Generator[Frames | UnreadableClipError, None, None]:
        ahead: collections.deque[Future[Frames | UnreadableClipError]] = collections.deque()
        with ThreadPoolExecutor() as pool:
            try:
                for record in self._records:
                    ahead.append(pool.submit(_decode, record, format))
                    if len(ahead) == DECODED_AHEAD:
                        yield ahead.popleft().result()
                while ahead:
                    yield ahead.popleft().result()
            finally:
                pool.shutdown(cancel_futures=True)


def _decode(record: Record, format: ClipFormat) -> Frames | UnreadableClipError:
    try:
        frames = read_recording(record.path, record.fps).frames
        if len(frames) < LEAST_COMPLETE * record.frames:
            raise UnreadableClipError(
                f"cut short: {len(frames)} of {record.frames} listed frames; copy the file again"
            )
        # The table's rate rather than the file's: the table holds the scanner's rate, while a
        # re-encoded file may state any.
        times = np.arange(len(frames)) / record.fps
        return resample(EchoVideo(frames, times), format)
    except UnreadableClipError as error:
        return error


def _losses(records: Sequence[Record], skipped: dict[int, str]) -> str:
    first = "".join(
        f"\n  {records[i].name}: {reason}" for i, reason in itertools.islice(skipped.items(), 5)
    )
    return (
        f"{len(skipped)} of {len(records)} listed clips cannot be read, more than "
        f"{MOST_UNREADABLE:.0%}; the first ones:{first}\n"
        "Copy the data set's Videos folder again, or remove the rows of these clips from "
        "FileList.csv."
    )
