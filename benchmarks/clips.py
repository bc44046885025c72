"""A data set of EchoNet-Dynamic's size: decoding, cache, starts and epochs, with phantoms.

    python -m benchmarks.clips --folder DIR              # 10,030 clips; 15 GB, half an hour
    python -m benchmarks.clips --folder DIR --quick      # 64 clips, to see that it works
    python -m benchmarks.clips --folder DIR --json FILE  # also write the numbers to a file

Every row is a process of its own:

- written: phantoms with the views of a clinic, each rendered by itself, in the layout and with the
  splits of the real set. `DIR/data` is kept, and has no such row the next time.
- decoded: some clips read and resampled by a single thread, which writes nothing.
- cache: table and cache of a first start, on all cores.
- start: the same of a second start. `opened` counts the videos opened.
- first epoch: training batches of 16 clips, with no page of the cache in the system's memory.
- epoch: the epoch after it, in the same process; its peak is that of both.
- host 0, host 1: another cache and an epoch of two processes that run at the same time
  (`jax.distributed` on this machine), with each one's own share of the clips. `MB` of the cache is
  that of both shares.

`peak` is the largest resident memory of the process (`getrusage`), which includes imports (some
300 MB) and those pages of the mapped cache that it uses at the time; `own` is without pages of
files (RssAnon, looked at every 20 ms). The system's copy of files, which it gives up when memory is
needed, is in neither. `CPU` is user and system time of all threads.
"""

import dataclasses
import itertools
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tyro

# TRAIN, VAL and TEST of EchoNet-Dynamic.
REAL = (7_465, 1_288, 1_277)
BATCH = 16
DECODED = 500
HOSTS = 2
HEADER = ("part", "clips", "wall_s", "CPU_s", "clips/s", "MB", "peak_MB", "own_MB", "opened")


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Measure a large data set of clips.

    Attributes:
        folder: Folder of the phantoms; caches are made beside them and removed.
        clips: Number of clips.
        quick: Measure 64 clips.
        json: File to write the numbers to.
        part: What to measure in this process (internal).
        cache: Folder of the cache (internal).
        address: Where processes find each other (internal).
        host: Which of the processes this one is (internal).
    """

    folder: Path
    clips: int = sum(REAL)
    quick: bool = False
    json: Path | None = None
    part: str | None = None
    cache: Path | None = None
    address: str | None = None
    host: int = 0


def splits(clips: int) -> list[str]:
    """Return a split for each clip, in the real set's proportions and with some in each."""
    validation, test = (max(round(clips * n / sum(REAL)), 1) for n in REAL[1:])
    train = clips - validation - test
    return ["TRAIN"] * train + ["VAL"] * validation + ["TEST"] * test


def write(folder: Path, clips: int) -> None:
    """Write the phantoms; what an interrupted call wrote is kept."""
    from benchmarks.phantoms import cohort
    from jaxtwin.data.phantom.files import write_cohort

    write_cohort(folder, **{**cohort(clips), "splits": splits(clips)}, variety=1.0)


class Meter:
    """Wall and processor time and memory of a part of this process."""

    def __init__(self):
        self.row: dict[str, Any] = {}
        self._own = 0.0

    @contextmanager
    def measuring(self, part: str, clips: int) -> Iterator[None]:
        """Add a row for what happens inside."""
        done = threading.Event()
        watch = threading.Thread(target=self._watch, args=(done,), daemon=True)
        wall, processor = time.perf_counter(), time.process_time()
        watch.start()
        try:
            yield
        finally:
            done.set()
            watch.join()
        wall = time.perf_counter() - wall
        self.row = {
            "part": part,
            "clips": clips,
            "wall_s": wall,
            "CPU_s": time.process_time() - processor,
            "clips/s": clips / wall,
            "MB": None,
            "peak_MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "own_MB": self._own or None,
            "opened": None,
        }

    def _watch(self, done: threading.Event) -> None:
        status = Path("/proc/self/status")
        while status.exists():
            fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
            self._own = max(self._own, int(fields["RssAnon"].split()[0]) / 1024)
            if done.wait(0.02):
                return


def videos_opened(folder: Path) -> set[str]:
    """Return a set to which the name of every video that this process opens is added."""
    import av

    opened: set[str] = set()
    inside = str(folder.resolve() / "Videos")

    def heard(event: str, given: tuple) -> None:
        if event == "open" and str(given[0]).startswith(inside):
            opened.add(Path(given[0]).name)

    # Python reports its own files, but not those that FFmpeg opens.
    sys.addaudithook(heard)
    av_open = av.open

    def counting(file: Any, *given: Any, **options: Any) -> Any:
        opened.add(Path(str(file)).name)
        return av_open(file, *given, **options)

    av.open = counting
    return opened


def measure(arguments: Arguments) -> list[dict[str, Any]]:
    """Measure one part in this process, in which nothing was imported before."""
    part, data, cache, meter = arguments.part, arguments.folder / "data", arguments.cache, Meter()
    if part == "written":
        with meter.measuring(part, arguments.clips):
            write(data, arguments.clips)
        return [{**meter.row, "MB": size(data)}]

    import jax

    if arguments.address is not None:
        jax.distributed.initialize(arguments.address, HOSTS, arguments.host)
    from jaxtwin.data.cache import ClipCache
    from jaxtwin.data.echonet import read_echonet
    from jaxtwin.data.format import ClipFormat
    from jaxtwin.data.recording import read_clip

    opened = videos_opened(data)
    if part == "decoded":
        records = read_echonet(data).records[:DECODED]
        with meter.measuring(part, len(records)):
            for record in records:
                read_clip(record.path)
        frames = sum(record.frames for record in records)
        return [{**meter.row, "frames_per_CPU_s": frames / meter.row["CPU_s"]}]

    assert cache is not None and part is not None
    with meter.measuring(part, arguments.clips):
        began = time.perf_counter()
        records = read_echonet(data).records
        table = time.perf_counter() - began
        clips = ClipCache.build(records, ClipFormat(), cache)
    assert len(clips.records) == arguments.clips and not clips.skipped
    built = {**meter.row, "MB": size(cache), "opened": len(opened), "table_s": table}
    if part in ("cache", "start"):
        return [built]

    if arguments.address is None:
        forget(cache)
        return [epoch(clips, meter, name, None) for name in ("first epoch", "epoch")]
    mesh = jax.make_mesh((jax.device_count(),), ("batch",))
    rate = len(opened) / built["wall_s"]
    return [
        {**built, "part": f"host {arguments.host}, cache", "clips": len(opened), "clips/s": rate},
        epoch(clips, meter, f"host {arguments.host}, epoch", mesh),
    ]


def epoch(clips: Any, meter: Meter, part: str, mesh: Any) -> dict[str, Any]:
    """Measure one epoch of batches, which are looked at only in so far as they are given."""
    from jaxtwin.methods.clips import Clips

    training = Clips.from_split(clips, "TRAIN")
    steps, read = max(len(training) // BATCH, 1), 0
    batches = training.shuffled(BATCH, 0, 0, mesh)
    with meter.measuring(part, steps * BATCH // (1 if mesh is None else HOSTS)):
        for batch in itertools.islice(batches, steps):
            shards = getattr(batch.clip, "addressable_shards", None)
            read += sum(s.data.nbytes for s in shards) if shards else batch.clip.nbytes
    del batches
    return {**meter.row, "MB": read / 1e6}


def forget(folder: Path) -> None:
    """Make the system forget its copies of the files in a folder, so that the disk is read."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def size(folder: Path) -> float:
    """Return the size of a folder's files [MB]."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def main(arguments: Arguments) -> list[dict[str, Any]]:
    """Measure every part in processes of their own, and print one table."""
    clips = 64 if arguments.quick else arguments.clips
    if clips < 3:
        raise ValueError(f"{clips} clips: expected at least 3, one in each split")
    arguments.folder.mkdir(parents=True, exist_ok=True)
    rows = []

    def show(found: list[dict[str, Any]]) -> None:
        rows.extend(found)
        for row in found:
            print("| " + " | ".join(_text(row[name]) for name in HEADER) + " |", flush=True)

    print("| " + " | ".join(HEADER) + " |")
    print("|" + "---|" * len(HEADER), flush=True)
    if not (arguments.folder / "data" / "FileList.csv").exists():
        show(_process(arguments, clips, "written"))
    caches = Path(tempfile.mkdtemp(prefix="caches-", dir=arguments.folder))
    try:
        for part in ("decoded", "cache", "start", "epochs"):
            show(_process(arguments, clips, part, caches / "one"))
        show(_hosts(arguments, clips, caches / "two"))
    finally:
        shutil.rmtree(caches)
    notes = {row["part"]: row for row in rows}
    print(
        f"\nOne core decodes {notes['decoded']['frames_per_CPU_s']:.0f} frames a second. "
        f"{notes['start']['table_s']:.2f} of the {notes['start']['wall_s']:.2f} s of a second "
        "start are the table, the rest is the state of every file and the cache's index."
    )
    if arguments.json is not None:
        from jaxtwin.commands.run import origin

        arguments.json.write_text(json.dumps({"rows": rows, **origin()}, indent=1))
    return rows


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else value


def _command(arguments: Arguments, clips: int, part: str, cache: Path | None) -> list[str]:
    command = [sys.executable, "-m", "benchmarks.clips", "--part", part]
    command += ["--folder", str(arguments.folder), "--clips", str(clips)]
    return command if cache is None else [*command, "--cache", str(cache)]


def _process(
    arguments: Arguments, clips: int, part: str, cache: Path | None = None
) -> list[dict[str, Any]]:
    """Measure one part in a fresh process."""
    command = _command(arguments, clips, part, cache)
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def _hosts(arguments: Arguments, clips: int, cache: Path) -> list[dict[str, Any]]:
    """Measure processes that share the work."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    processes = [
        subprocess.Popen(
            [
                *_command(arguments, clips, "hosts", cache),
                *("--address", address, "--host", str(host)),
            ],
            stdout=subprocess.PIPE,
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
            text=True,
        )
        for host in range(HOSTS)
    ]
    try:
        said = [process.communicate()[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    if failed := [host for host, process in enumerate(processes) if process.returncode]:
        raise RuntimeError(f"host {failed[0]} failed; its error is above")
    return [row for text in said for row in json.loads(text.splitlines()[-1])]


if __name__ == "__main__":
    given = tyro.cli(Arguments, description=__doc__)
    if given.part is None:
        main(given)
    else:
        print(json.dumps(measure(given)))
