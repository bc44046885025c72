"""Settings of `experiments.strangers`."""

import dataclasses
from pathlib import Path

from jaxtwin.commands.settings import RunConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(RunConfig):
    """Show strangers to a trained twin builder.

    Attributes:
        run: Folder of a training run of `jaxtwin train`; by default one is made first, with the
            same preset, in this run's folder.
        clips: Number of clean clips of which strangers are made.
    """

    run: Path | None = None
    clips: int = 40

    def check_inputs(self) -> None:
        """Raise a ValueError if there is no training run."""
        if self.run is not None and not self.run.is_dir():
            raise ValueError(
                f"no folder {self.run}: give the output folder of `jaxtwin train` with --run"
            )


PRESETS = {
    "tiny": Config(preset="tiny", clips=3),
    "default": Config(),
    "full": Config(preset="full", clips=400),
}
