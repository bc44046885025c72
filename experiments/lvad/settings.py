"""Settings of `experiments.lvad`."""

import dataclasses
from pathlib import Path

from jaxtwin.commands.settings import RunConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(RunConfig):
    """Put a pump on every twin.

    Attributes:
        patients: Number of patients drawn from the box.
        twins: Table of learnt parameters to use instead, such as the predictions.csv of a P-SSL
            cell of experiments.table_ef.
        speeds: Pump speeds of the trial's arms [rpm].
        margin: Distance of the last arm from the suction speed, as a fraction of that speed.
    """

    patients: int = 1_000
    twins: Path | None = None
    speeds: tuple[float, ...] = (7_000.0, 8_000.0, 9_000.0, 10_000.0, 11_000.0, 12_000.0)
    margin: float = 0.1


PRESETS = {
    "tiny": Config(preset="tiny", patients=24, speeds=(8_000.0, 10_000.0)),
    "default": Config(),
    "full": Config(preset="full", patients=10_000),
}
