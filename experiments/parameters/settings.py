"""Settings of `experiments.parameters`."""

import dataclasses
from pathlib import Path

from jaxtwin.commands.settings import RunConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(RunConfig):
    """Compare learnt parameters between patients with reduced and with preserved EF.

    Attributes:
        run: Folder of a run of experiments.table_ef.
        method: Method of that run whose parameters are compared.
        prior: Number of patients drawn within physiological limits for the prior's histogram.
    """

    run: Path = Path("runs/table_ef-default")
    method: str = "pssl"
    prior: int = 4_096


PRESETS = {
    "tiny": Config(preset="tiny", run=Path("runs/table_ef-tiny"), prior=256),
    "default": Config(),
    "full": Config(preset="full", run=Path("runs/table_ef-full")),
}
