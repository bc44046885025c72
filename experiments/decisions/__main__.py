"""Command line of the experiment: `python -m experiments.decisions`."""

from typing import Any

from experiments import decisions
from experiments.command import Run, main
from experiments.decisions.settings import PRESETS, Config


def experiment(config: Config, run: Run) -> dict[str, Any]:
    """Run the experiment. The import is local, so that --help is fast."""
    from experiments.decisions.study import experiment

    return experiment(config, run)


if __name__ == "__main__":
    main("decisions", PRESETS, experiment, decisions.__doc__)
