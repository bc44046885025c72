"""Command line of the benchmark: `python -m benchmarks.accelerator`."""

import tyro

from benchmarks import accelerator
from benchmarks.accelerator.processes import Arguments, main

if __name__ == "__main__":
    main(
        tyro.cli(
            Arguments, prog="python -m benchmarks.accelerator", description=accelerator.__doc__
        )
    )
