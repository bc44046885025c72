"""Command line of the benchmark: `python -m benchmarks.circuits`."""

import dataclasses
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np
import tyro

from benchmarks import circuits
from benchmarks.circuits.loop import BOX
from benchmarks.circuits.measure import SERIES, equal_error, part
from benchmarks.circuits.solvers import Task, reference
from benchmarks.markdown import table
from jaxtwin.commands.run import origin

ERRORS = 4
"""Number of patients whose errors are measured."""


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Measure both solvers.

    Attributes:
        tasks: Tasks to measure.
        targets: Errors [%] at which both are compared.
        repeats: Number of measurements of each row, whose median is shown.
        json: File to write the rows to.
        part: Task and number of the series to measure in this process (internal).
        reference: File with the expected extremes (internal).
    """

    tasks: tuple[Task, ...] = ("third", "settled")
    targets: tuple[float, ...] = (1.0, 0.5, 0.2, 0.1)
    repeats: int = 5
    json: Path | None = None
    part: tuple[Task, int] | None = None
    reference: Path | None = None


def main(arguments: Arguments) -> None:
    """Measure every series in a process of its own, one at a time, and print both tables."""
    if arguments.part is not None:
        assert arguments.reference is not None
        expected = np.load(arguments.reference)
        print(json.dumps(part(*arguments.part, arguments.repeats, expected)))
        return
    jax.config.update("jax_enable_x64", True)
    print(json.dumps(origin()))
    rows, notes = [], []
    with tempfile.TemporaryDirectory() as folder:
        for task in arguments.tasks:
            file = Path(folder) / f"{task}.npy"
            np.save(file, reference(task, np.asarray(BOX.sample(ERRORS, seed=0))))
            for number in range(len(SERIES[task])):
                command = [sys.executable, "-m", "benchmarks.circuits", "--part", task, str(number)]
                command += ["--repeats", str(arguments.repeats), "--reference", str(file)]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                found = json.loads(done.stdout.splitlines()[-1])
                if isinstance(found, str):
                    notes.append(found)
                    continue
                rows += found
                print(table(found), flush=True)
    equal = equal_error(rows, arguments.targets)
    print("", "Beats a second, within an error of:", table(equal), *notes, sep="\n")
    if arguments.json is not None:
        told = {"rows": rows, "equal_error": equal, "notes": notes, **origin()}
        arguments.json.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Arguments, prog="python -m benchmarks.circuits", description=circuits.__doc__))
