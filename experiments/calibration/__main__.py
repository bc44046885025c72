"""Command line of the experiment: `python -m experiments.calibration`."""

from typing import Any

from experiments import calibration
from experiments.calibration.settings import PRESETS, Config
from experiments.command import Run, main


def experiment(config: Config, run: Run) -> dict[str, Any]:
    """Run the experiment. The import is local, so that --help is fast."""
    from experiments.calibration.study import experiment

    return experiment(config, run)


if __name__ == "__main__":
    main("calibration", PRESETS, experiment, calibration.__doc__)
