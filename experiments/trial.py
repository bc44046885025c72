"""A trial described in a file: the same patients under several treatments.

    python -m experiments.trial --config FILE [--out DIR]

The file (TOML, see experiments/trials/heart_failure.toml) defines the patients, drawn from the box
or learnt from clips, and the treatment in each arm. Writes every patient's endpoints in every arm,
paired effects with bootstrap intervals by EF level, safety events, and a figure of the effects. A
thousand patients in five arms take less than a minute on two CPU cores. Equivalent to
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
        config: File that describes the trial.
    """

    config: Path = Path(__file__).parent / "trials" / "heart_failure.toml"


PRESETS = {
    "tiny": Config(preset="tiny", patients=24),
    "default": Config(),
    "full": Config(preset="full"),
}


def experiment(config: Config, run: Run) -> dict[str, Any]:
    """Run the trial. The import is local, so that --help is fast."""
    from jaxtwin.commands.trial import trial

    return trial(config.config, config, run)


if __name__ == "__main__":
    main("trial", PRESETS, experiment, __doc__)
