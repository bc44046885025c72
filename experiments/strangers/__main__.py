"""Command line of the experiment: `python -m experiments.strangers`."""

from typing import Any

from experiments import strangers
from experiments.command import Run, main
from experiments.strangers.settings import PRESETS, Config


def experiment(config: Config, run: Run) -> dict[str, Any]:
    """Run the experiment. The import is local, so that --help is fast."""
    from experiments.strangers.study import experiment

    return experiment(config, run)


if __name__ == "__main__":
    main("strangers", PRESETS, experiment, strangers.__doc__)
