"""Cache of a data set's decoded clips in one memory-mapped file."""

import contextlib
import dataclasses
import hashlib
import itertools
import json
import tempfile
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Int, UInt8

from jaxtwin.data.base import LEAST_COMPLETE, ClipFormat, EchoVideo, UnreadableClipError, resample
from jaxtwin.data.echonet import Record, Skipped, check_split
from jaxtwin.data.recording import read_recording

CACHE_VERSION = 2  # increase it when decoding gives different arrays for the same clips
# A larger fraction of unreadable clips indicates a damaged copy of the data set.
MOST_UNREADABLE = 0.05
# Clips decoded ahead of the writer: enough to use every core, few enough to fit in memory.
DECODED_AHEAD = 64


@dataclasses.dataclass(frozen=True)
class ClipCache:
    """All readable clips of a data set, resampled to one format, in one file on disk.

    Attributes:
        records: The readable clips, in the order given.
        skipped: The unreadable clips.
        format: The clips' format.
        frames: Frames of all clips, concatenated and memory-mapped from disk.
        offsets: Clip boundaries: clip i is `frames[offsets[i]:offsets[i + 1]]`.
    """

    records: tuple[Record, ...]
    skipped: tuple[Skipped, ...]
    format: ClipFormat
    frames: UInt8[np.ndarray, "total size size"]
    offsets: Int[np.ndarray, " boundaries"]

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
        format's frame rate and size. If any of these changed, it is rebuilt and replaced. An
        interrupted build leaves nothing behind.

        Args:
            records: Clips to decode. Their measurements are not cached.
            format: Frame rate and size to decode to. Its length does not affect the cache.
            folder: Folder of the cache, created if it does not exist. It holds one cache.
            progress: Wrapper for the iterable of decoded clips, such as `tqdm`.

        Raises:
            ValueError: If more than 5% of the clips are unreadable, or there are no records.
            OSError: If the cache cannot be written, for example because the disk is full.
        """
        if not records:
            raise ValueError("no clips to decode: expected at least one record")
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        stem = f"clips-{_fingerprint(records, format)}"
        cache = cls._open(records, format, folder / stem)
        if cache is None:
            _write(records, format, folder, stem, progress)
            cache = cls._open(records, format, folder / stem)
            if cache is None:
                raise OSError(f"the cache in {folder} changed while being read: run this again")
            for stale in folder.glob("clips-*"):
                if stale.stem != stem:
                    stale.unlink(missing_ok=True)
        return cache

    @classmethod
    def _open(cls, records: Sequence[Record], format: ClipFormat, stem: Path) -> "ClipCache | None":
        """Open the cache in `stem`.npy and `stem`.json; return None if missing or incomplete."""
        try:
            index = json.loads(stem.with_suffix(".json").read_text())
            frames = np.load(stem.with_suffix(".npy"), mmap_mode="r", allow_pickle=False)
            skipped = {int(i): reason for i, reason in index["skipped"].items()}
            offsets = np.array(index["offsets"])
        except (OSError, ValueError, KeyError):
            return None
        return cls(
            tuple(record for i, record in enumerate(records) if i not in skipped),
            tuple(Skipped(records[i].name, reason) for i, reason in skipped.items()),
            format,
            frames,
            offsets,
        )

    def split(self, name: str) -> Int[np.ndarray, " indices"]:
        """Return the indices into `records` of the clips in a split (TRAIN, VAL or TEST)."""
        name = check_split(name)
        return np.flatnonzero([record.split == name for record in self.records])

    def clip(self, index: int) -> UInt8[np.ndarray, "time size size"]:
        """Return one clip at its full length."""
        return self.frames[self.offsets[index] : self.offsets[index + 1]]


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
    records: Sequence[Record],
    format: ClipFormat,
    folder: Path,
    stem: str,
    progress: Callable[[Iterable], Iterable],
) -> None:
    """Decode the clips into `folder`; a failure leaves no partial cache there."""
    offsets, skipped = [0], {}
    with (
        tempfile.TemporaryDirectory(prefix=".building-", dir=folder) as building,
        contextlib.closing(_decode_all(records, format)) as decoded,
    ):
        clips, index = Path(building) / "clips.npy", Path(building) / "clips.json"
        try:
            with clips.open("wb") as file:
                _write_header(file, 0, format.size)
                for i, frames in enumerate(progress(decoded)):
                    if isinstance(frames, UnreadableClipError):
                        skipped[i] = frames.reason
                        continue
                    file.write(frames.data)
                    offsets.append(offsets[-1] + len(frames))
                _check_losses(records, skipped)
                file.seek(0)
                _write_header(file, offsets[-1], format.size)
            index.write_text(json.dumps({"offsets": offsets, "skipped": skipped}))
            clips.replace(folder / f"{stem}.npy")
            index.replace(folder / f"{stem}.json")  # last: its presence marks a complete cache
        except OSError as error:
            written = offsets[-1] * format.size**2 / 1e9
            error.add_note(
                f"The clip cache in {folder} was not finished ({written:.1f} GB were written and "
                "have been removed): make room there or choose another folder, and run this again."
            )
            raise


def _write_header(file: BinaryIO, total: int, size: int) -> None:
    """Write the .npy header, which NumPy pads to the same length for any `total`."""
    header = {"descr": "|u1", "fortran_order": False, "shape": (total, size, size)}
    np.lib.format.write_array_header_1_0(file, header)


def _decode_all(
    records: Sequence[Record], format: ClipFormat
) -> Generator[UInt8[np.ndarray, "time size size"] | UnreadableClipError, None, None]:
    """Yield each record's clip or its error, in order, decoding on all cores."""
    with ThreadPoolExecutor() as pool:
        for first in range(0, len(records), DECODED_AHEAD):
            chunk = records[first : first + DECODED_AHEAD]
            yield from pool.map(_decode, chunk, itertools.repeat(format))


def _decode(
    record: Record, format: ClipFormat
) -> UInt8[np.ndarray, "time size size"] | UnreadableClipError:
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


def _check_losses(records: Sequence[Record], skipped: dict[int, str]) -> None:
    if len(skipped) <= MOST_UNREADABLE * len(records):
        return
    first = "".join(
        f"\n  {records[i].name}: {reason}" for i, reason in itertools.islice(skipped.items(), 5)
    )
    raise ValueError(
        f"{len(skipped)} of {len(records)} listed clips cannot be read, more than "
        f"{MOST_UNREADABLE:.0%}; the first ones:{first}\n"
        "Copy the data set's Videos folder again, or remove the rows of these clips from "
        "FileList.csv."
    )
