"""Command line of the experiment: `python -m experiments.pressures`."""

from typing import Any

from experiments import pressures
from experiments.command import Run, main
from experiments.pressures.settings import PRESETS, Config


def experiment(config: Config, run: Run) -> dict[str, Any]:
    """Run the experiment. The import is local, so that --help is fast."""
    from experiments.pressures.study import experiment

    return experiment(config, run)


if __name__ == "__main__":
    main("pressures", PRESETS, experiment, pressures.__doc__)
