"""Digital twins of single recordings, from a run of `experiments.pssl`.

    python -m experiments.twin CLIP... --run runs/pssl-default [--out DIR]

Reads AVI, MP4, GIF or multi-frame DICOM files. For each recording, estimates the patient's
parameters, simulates the beat, and writes a figure (pressure-volume loop, pressure and volume
traces) and a JSON file with all numbers and their units. Takes seconds per clip. Recordings that
cannot be read are reported and skipped. Without CLIP, the real recording included in pydicom is
used. Otherwise equivalent to `jaxtwin twin`. Research use only.
"""

import dataclasses
from pathlib import Path
from typing import Any

import tyro

from experiments.command import Run, RunConfig, main
from jaxtwin.commands.settings import EXAMPLE, TwinConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(TwinConfig, RunConfig):
    """Build digital twins of single recordings.

    Attributes:
        clips: Recordings (AVI, MP4, GIF, multi-frame DICOM); `example` is the real one included in
            pydicom.
    """

    clips: tyro.conf.Positional[tuple[Path, ...]] = (EXAMPLE,)


PRESETS = {
    "tiny": Config(preset="tiny", run=Path("runs/pssl-tiny")),
    "default": Config(),
    "full": Config(preset="full", run=Path("runs/pssl-full")),
}


def experiment(config: Config, run: Run) -> dict[str, Any]:
    """Build a twin of every readable recording. The import is local, so that --help is fast."""
    from jaxtwin.commands.twin import twins

    return twins(config, run)


if __name__ == "__main__":
    main("twin", PRESETS, experiment, __doc__)
