"""Command line of the experiment: `python -m experiments.detection`."""

from typing import Any

from experiments import detection
from experiments.command import Run, main
from experiments.detection.settings import PRESETS, Config


def experiment(config: Config, run: Run) -> dict[str, Any]:
    """Run the experiment. The import is local, so that --help is fast."""
    from experiments.detection.cells import experiment

    return experiment(config, run)


if __name__ == "__main__":
    main("detection", PRESETS, experiment, detection.__doc__)
