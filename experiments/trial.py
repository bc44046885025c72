"""A trial that is written in a file: the same hearts under several treatments.

    python -m experiments.trial --config FILE [--out DIR]

The file (TOML, see experiments/trials/heart_failure.toml) says which patients there are, drawn
from the box or learnt from clips, and what each arm does to them. Writes every patient's endpoints
in every arm, paired effects with bootstrap intervals by EF level, safety events, and a figure of
the effects. A thousand patients in five arms take under a minute on two CPU cores. The same as
`jaxtwin trial FILE`.
"""

import dataclasses
from pathlib import Path
from typing import Any

from experiments.command import Run, RunConfig, main
from jaxtwin.commands.settings import TrialConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(TrialConfig, RunConfig):
    """Run a trial.

    Attributes:
        config: The file that describes it.
    """

    config: Path = Path(__file__).parent / "trials" / "heart_failure.toml"


PRESETS = {
    "tiny": Config(preset="tiny", patients=24),
    "default": Config(),
    "full": Config(preset="full"),
}


def experiment(config: Config, run: Run) -> dict[str, Any]:
    """The trial, its tables and its figure; imported here, so that --help answers at once."""
    from jaxtwin.commands.trial import trial

    return trial(config.config, config, run)


if __name__ == "__main__":
    main("trial", PRESETS, experiment, __doc__)
