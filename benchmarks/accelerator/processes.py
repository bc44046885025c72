"""Every part in a process and a time limit of its own, and the table of what they have measured."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.accelerator.parts import FULL, PARTS, QUICK, Row, on_a_cpu
from benchmarks.markdown import cell, line

# Nothing that imports JAX is imported here: two parts time its import.

HEADER = ("part", "what", "size", "per_second", "unit", "first_s", "share_of_peak")


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Measure what matters on a GPU.

    Attributes:
        out: Folder for the table and its rows.
        quick: Small sizes on a GPU too; a CPU always has them.
        parts: Parts to measure, in this order.
        minutes: Time limit of all of them.
        patience: What a part's own time limit is multiplied by, for slower devices.
        part: Part to measure in this process (internal).
    """

    out: Path = Path("runs/gpu")
    quick: bool = False
    parts: tuple[str, ...] = tuple(PARTS)
    minutes: float = 10.0
    patience: float = 1.0
    part: str | None = None

    def __post_init__(self):
        unknown = set(self.parts) - set(PARTS)
        if unknown:
            raise ValueError(f"no parts {unknown}: expected some of {', '.join(PARTS)}")


def measure(part: str, file: Path, quick: bool) -> None:
    """Append the rows of one part to a file, each as soon as it is measured."""
    timed_import = part in ("orbit", "gradient_of_one")
    small = quick or (not timed_import and on_a_cpu())
    with file.open("a") as lines:
        for found in PARTS[part][0](QUICK if small else FULL):
            lines.write(json.dumps({"part": part, **found}) + "\n")
            lines.flush()


def run(part: str, folder: Path, quick: bool, limit: float) -> tuple[list[Row], str]:
    """Measure a part in a process of its own; return its rows, and what went wrong ("" if not)."""
    if limit <= 0:
        return [], "no time was left"
    file = folder / f"{part}.jsonl"
    file.unlink(missing_ok=True)
    command = [sys.executable, "-m", "benchmarks.accelerator", "--part", part, "--out", str(folder)]
    command += ["--quick"] if quick else []
    # Every part compiles: what a first call takes is in the table.
    kept = {name: x for name, x in os.environ.items() if "COMPILATION_CACHE" not in name}
    wrong = ""
    with (folder / f"{part}.log").open("w+") as log:
        try:
            done = subprocess.run(command, stdout=log, stderr=log, timeout=limit, env=kept)
            if done.returncode:
                log.seek(0)
                last = (log.read().strip().splitlines() or ["no output"])[-1]
                wrong = f"ended with {done.returncode}: {last[:300]}"
        except subprocess.TimeoutExpired:
            wrong = f"stopped after {limit:.0f} s"
    text = file.read_text() if file.exists() else ""
    # A process that was stopped may have left half a line.
    return [json.loads(line) for line in text.splitlines(True) if line.endswith("\n")], wrong


def table(rows: list[Row], notes: list[str], heading: str) -> str:
    """Return the rows as a Markdown table, between a heading and the notes."""

    def shown(row: Row) -> list[str]:
        share = row.get("share_of_peak")
        percent = None if share is None else f"{100 * share:.2g}%"
        return [cell(value) for value in [*map(row.get, HEADER[:-1]), percent]]

    lines = [heading, "", line(HEADER), "|---" * len(HEADER) + "|", *map(line, map(shown, rows))]
    return "\n".join([*lines, "", *(f"- {note}" for note in notes)]) + "\n"


def main(arguments: Arguments) -> None:
    """Measure all parts, and write the table after each."""
    if arguments.part is not None:
        measure(arguments.part, arguments.out / f"{arguments.part}.jsonl", arguments.quick)
        return
    # Otherwise every process, this one too, would reserve most of the GPU's memory at once.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    from jaxtwin.commands.run import origin

    arguments.out.mkdir(parents=True, exist_ok=True)
    began, rows, notes = time.monotonic(), [], []
    told = origin()
    heading = f"{told['machine']}; jaxtwin at {told['commit']}, JAX {told['versions']['jax']}"
    for part in arguments.parts:
        left = 60 * arguments.minutes - (time.monotonic() - began)
        limit = min(PARTS[part][1] * arguments.patience, left)
        found, wrong = run(part, arguments.out, arguments.quick, limit)
        rows += found
        if wrong:
            notes.append(f"{part}: {wrong}; see {part}.log")
        content = {"rows": rows, "notes": notes, "seconds": time.monotonic() - began, **told}
        (arguments.out / "rows.json").write_text(json.dumps(content, indent=1) + "\n")
        (arguments.out / "table.md").write_text(table(rows, notes, heading))
    print((arguments.out / "table.md").read_text())
    print(f"{time.monotonic() - began:.0f} s in all; written to {arguments.out}")
    if notes:
        raise SystemExit(1)
