"""Command line of the experiment: `python -m experiments.table_ef`."""

from typing import Any

from experiments import table_ef
from experiments.command import Run, main
from experiments.table_ef.settings import PRESETS, Config


def experiment(config: Config, run: Run) -> dict[str, Any]:
    """Run the experiment. The import is local, so that --help is fast."""
    from experiments.table_ef.cells import experiment

    return experiment(config, run)


if __name__ == "__main__":
    main("table_ef", PRESETS, experiment, table_ef.__doc__)
