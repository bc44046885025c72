"""Command line of the experiment: `python -m experiments.posterior_trial`."""

from typing import Any

from experiments import posterior_trial
from experiments.command import Run, main
from experiments.posterior_trial.settings import PRESETS, Config


def experiment(config: Config, run: Run) -> dict[str, Any]:
    """Run the experiment. The import is local, so that --help is fast."""
    from experiments.posterior_trial.study import experiment

    return experiment(config, run)


if __name__ == "__main__":
    main("posterior_trial", PRESETS, experiment, posterior_trial.__doc__)
