"""Digital twins of single recordings, from a run of `experiments.pssl`.

    python -m experiments.twin CLIP... --run runs/pssl-default [--out DIR]

Reads AVI, MP4, GIF or multi-frame DICOM; estimates the parameters of each recording's patient,
simulates the beat, and writes for each a figure (pressure-volume loop, pressure and volume
traces) and a JSON file with every number and its unit. Takes seconds a clip. A recording that
cannot be read is reported and does not stop the others. The same as `jaxtwin twin`. Research use
only.
"""

import dataclasses
from pathlib import Path
from typing import Any

from experiments.command import Run, RunConfig, main
from jaxtwin.commands.settings import TwinConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(TwinConfig, RunConfig):
    """Build digital twins of single recordings."""


PRESETS = {
    "tiny": Config(preset="tiny", run=Path("runs/pssl-tiny")),
    "default": Config(),
    "full": Config(preset="full", run=Path("runs/pssl-full")),
}


def experiment(config: Config, run: Run) -> dict[str, Any]:
    """A twin for every readable recording; imported here, so that --help answers at once."""
    from jaxtwin.commands.twin import twins

    return twins(config, run)


if __name__ == "__main__":
    main("twin", PRESETS, experiment, __doc__)
