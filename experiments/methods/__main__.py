"""Command line of the experiment: `python -m experiments.methods`."""

from typing import Any

from experiments import methods
from experiments.command import Run, main
from experiments.methods.settings import PRESETS, Config


def experiment(config: Config, run: Run) -> dict[str, Any]:
    """Run the experiment. The import is local, so that --help is fast."""
    from experiments.methods.cells import experiment

    return experiment(config, run)


if __name__ == "__main__":
    main("methods", PRESETS, experiment, methods.__doc__)
