"""Command line of the experiment: `python -m experiments.parameters`."""

from typing import Any

from experiments import parameters
from experiments.command import Run, main
from experiments.parameters.settings import PRESETS, Config


def experiment(config: Config, run: Run) -> dict[str, Any]:
    """Run the experiment. The import is local, so that --help is fast."""
    from experiments.parameters.comparison import experiment

    return experiment(config, run)


if __name__ == "__main__":
    main("parameters", PRESETS, experiment, parameters.__doc__)
