"""Command line of the experiment: `python -m experiments.models`."""

from typing import Any

from experiments import models
from experiments.command import Run, main
from experiments.models.settings import PRESETS, Config


def experiment(config: Config, run: Run) -> dict[str, Any]:
    """Run the experiment. The import is local, so that --help is fast."""
    from experiments.models.study import experiment

    return experiment(config, run)


if __name__ == "__main__":
    main("models", PRESETS, experiment, models.__doc__)
