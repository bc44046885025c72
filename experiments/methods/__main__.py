"""`python -m experiments.methods`."""

from typing import Any

from experiments import methods
from experiments.command import Run, main
from experiments.methods.settings import PRESETS, Config


def experiment(config: Config, run: Run) -> dict[str, Any]:
    """All of it; imported here, so that --help answers at once."""
    from experiments.methods.cells import experiment

    return experiment(config, run)


if __name__ == "__main__":
    main("methods", PRESETS, experiment, methods.__doc__)
