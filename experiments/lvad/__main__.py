"""Command line of the experiment: `python -m experiments.lvad`."""

from typing import Any

from experiments import lvad
from experiments.command import Run, main
from experiments.lvad.settings import PRESETS, Config


def experiment(config: Config, run: Run) -> dict[str, Any]:
    """Run the experiment. The import is local, so that --help is fast."""
    from experiments.lvad.study import experiment

    return experiment(config, run)


if __name__ == "__main__":
    main("lvad", PRESETS, experiment, lvad.__doc__)
