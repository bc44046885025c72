"""Command line of the experiment: `python -m experiments.misspecification`."""

from typing import Any

from experiments import misspecification
from experiments.command import Run, main
from experiments.misspecification.settings import PRESETS, Config


def experiment(config: Config, run: Run) -> dict[str, Any]:
    """Run the experiment. The import is local, so that --help is fast."""
    from experiments.misspecification.study import experiment

    return experiment(config, run)


if __name__ == "__main__":
    main("misspecification", PRESETS, experiment, misspecification.__doc__)
