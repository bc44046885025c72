"""Phantom clips per second, with their label maps, encoded and written to disk.

    python -m benchmarks.phantoms                          # textbook and varied views: a minute
    python -m benchmarks.phantoms --beside ../old ../main  # in turns with other checkouts

Each checkout has a process of its own, which first writes the clips once to compile; then all write
them in turns, so that other load on the machine affects them equally. Checkouts from before
`variety` have no row for varied views, those from before label maps write none. Both relative
columns compare the best round with the first row's: of clips per second, and of processor time.
"""

import dataclasses
import inspect
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import tyro

PHASES = 80
HERE = Path(__file__).resolve()


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Measure the rendering of phantoms.

    Attributes:
        clips: Number of clips per round.
        rounds: Number of rounds.
        beside: Other checkouts of the repository to measure in turns with this one.
        measure: Whether to write rounds in this process, as standard input asks (internal).
    """

    clips: int = 32
    rounds: int = 5
    beside: tuple[Path, ...] = ()
    measure: bool = False


def cohort(clips: int) -> dict[str, Any]:
    """Return arguments of `write_cohort`: beats whose volume is a squared sine."""
    from jaxtwin.data.phantom.heart import PhantomBeat

    random = np.random.default_rng(0)
    period, largest = random.uniform(0.6, 1.1, clips), random.uniform(60.0, 220.0, clips)
    stroke = largest * random.uniform(0.25, 0.7, clips)
    phase = np.arange(PHASES) / PHASES
    volume = largest[:, None] - stroke[:, None] * np.sin(np.pi * phase) ** 2
    flow = -np.pi * (stroke / period)[:, None] * np.sin(2 * np.pi * phase)
    leaves = (volume, np.maximum(flow, 0), np.maximum(-flow, 0), period)
    beats = PhantomBeat(*(leaf.astype(np.float32) for leaf in leaves))
    return {"beats": beats, "theta": {"T_c": period}, "splits": ["TRAIN"] * clips, "seed": 0}


def measure(clips: int) -> None:
    """For each variety read from standard input, write the clips and print the seconds taken."""
    from jaxtwin.data.phantom.files import write_cohort

    knows_variety = "variety" in inspect.signature(write_cohort).parameters
    for line in sys.stdin:
        variety = float(line)
        if variety and not knows_variety:
            print("null", flush=True)
            continue
        arguments = cohort(clips)
        if knows_variety:
            arguments["variety"] = variety
        with tempfile.TemporaryDirectory() as folder:
            wall, processor = time.perf_counter(), time.process_time()
            write_cohort(Path(folder), **arguments)
            seconds = time.perf_counter() - wall, time.process_time() - processor
        print(json.dumps(seconds), flush=True)


def start(checkout: Path, clips: int) -> subprocess.Popen[str]:
    """Start the process that measures a checkout."""
    return subprocess.Popen(
        [sys.executable, str(HERE), "--measure", "--clips", str(clips)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(checkout)},
        text=True,
    )


def ask(process: subprocess.Popen[str], variety: float) -> tuple[float, float] | None:
    """Return wall and processor time [s] of one round; None if it has no views so varied."""
    assert process.stdin is not None and process.stdout is not None
    print(variety, file=process.stdin, flush=True)
    answer = process.stdout.readline()
    if not answer:
        raise RuntimeError(f"measuring ended with {process.wait()}; its error is above")
    seconds = json.loads(answer)
    return None if seconds is None else tuple(seconds)


def commit(checkout: Path) -> str:
    """Return the checkout's commit, marked with + if files differ from it."""
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty=+", "--exclude", "*"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def main(arguments: Arguments) -> None:
    """Measure every checkout and print one table."""
    if arguments.measure:
        measure(arguments.clips)
        return
    checkouts = [*(path.resolve() for path in arguments.beside), HERE.parents[1]]
    processes = [start(checkout, arguments.clips) for checkout in checkouts]
    jobs = list(itertools.product((0.0, 1.0), range(len(checkouts))))
    known = [job for job in jobs if ask(processes[job[1]], job[0]) is not None]
    rounds = [[ask(processes[i], variety) for variety, i in known] for _ in range(arguments.rounds)]
    # Job, round, and wall or processor time.
    seconds = np.swapaxes(np.array(rounds, float), 0, 1) / arguments.clips
    best = seconds.min(axis=1)
    print("| commit | variety | clips/s, best | median | relative | CPU, ms a clip | relative |")
    print("|---|---|---|---|---|---|---|")
    for (variety, i), job, (wall, processor) in zip(known, seconds, best, strict=True):
        print(
            f"| {commit(checkouts[i])} | {variety:g} | {1 / wall:.1f} "
            f"| {1 / np.median(job[:, 0]):.1f} | {best[0, 0] / wall:.2f} "
            f"| {1000 * processor:.1f} | {processor / best[0, 1]:.2f} |"
        )
    for process in processes:
        process.communicate()


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
