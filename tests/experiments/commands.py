"""Command lines of experiments, each in a process of its own or one after another in one."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SMALL = [
    "--preset=tiny",
    "--simulations=256",
    "--unseen=64",
    "--emulator.steps=60",
    "--emulator.evaluate-every=20",
    *("--clips", "40", "6", "6"),
    "--orientation.steps=20",
]
"""Flags of a training run for tests: twins from volume curves, of few patients and clips."""


def _start(
    module: str, *arguments: str, stdin: int | None = None, stderr: int | None = None
) -> subprocess.Popen[str]:
    cache = Path(tempfile.gettempdir()) / "jaxtwin-tests-experiments"
    environment = {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        # Small programs too: a run has many, and each process would compile them again.
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env=environment,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )


def start(name: str, *arguments: str) -> subprocess.Popen[str]:
    return _start(f"experiments.{name}", *arguments, stderr=subprocess.STDOUT)


def run(name: str, *arguments: str) -> tuple[int, str]:
    """Exit status and output."""
    process = start(name, *arguments)
    output, _ = process.communicate(timeout=1800)
    return process.returncode, output


@contextlib.contextmanager
def one_interpreter() -> Iterator[Callable[..., tuple[int, str]]]:
    """As `run`, but in one process, which imports once and compiles no program twice."""
    with _start("tests.experiments.interpreter", stdin=subprocess.PIPE) as process:

        def run(name: str, *arguments: str) -> tuple[int, str]:
            assert process.stdin is not None and process.stdout is not None
            print(json.dumps([name, *arguments]), file=process.stdin, flush=True)
            code, output = json.loads(process.stdout.readline())
            return code, output

        yield run
