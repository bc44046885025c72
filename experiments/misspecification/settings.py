"""Settings of `experiments.misspecification`."""

import dataclasses
from pathlib import Path

from jaxtwin.commands.settings import RunConfig
from jaxtwin.inference.settings import POSTERIOR_TRAINING
from jaxtwin.training.settings import TrainingConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(RunConfig):
    """Measure how well a wrong model is noticed.

    Attributes:
        noises: Standard deviations of the noise of the volume curve [mL].
        patients: Number of patients of each kind, before the unusual ones are left out.
        reference: Number of the model's own patients that the checks are calibrated on.
        group: Number of patients of a group.
        fitted: Number of patients of each kind that are fitted, too.
        draws: Number of draws per patient.
        bank: Number of simulated patients that a flow learns from.
        training: Training of the flows.
        run: Folder of a training run of `jaxtwin train`, on whose unseen phantom clips the least
            certain are refused.
    """

    noises: tuple[float, ...] = (0.5, 3.0, 6.0)
    patients: int = 1_000
    reference: int = 4_000
    group: int = 20
    fitted: int = 100
    draws: int = 200
    bank: int = 65_536
    training: TrainingConfig = POSTERIOR_TRAINING
    run: Path | None = None

    def __post_init__(self):
        super().__post_init__()
        if not self.noises or min(self.noises) <= 0:
            raise ValueError(f"--noises {' '.join(map(str, self.noises))}: expected positive ones")
        if not 2 <= self.group <= self.patients or not 1 <= self.fitted <= self.patients:
            raise ValueError(
                f"--patients {self.patients} --group {self.group} --fitted {self.fitted}: expected "
                "groups of at least 2, and no more in a group or fitted than patients"
            )

    def check_inputs(self) -> None:
        """Raise a ValueError if there is no training run."""
        if self.run is not None and not self.run.is_dir():
            raise ValueError(
                f"no folder {self.run}: give the output folder of `jaxtwin train` with --run"
            )


PRESETS = {
    "tiny": Config(
        preset="tiny",
        noises=(3.0,),
        patients=60,
        reference=300,
        fitted=10,
        draws=40,
        bank=2_048,
        training=TrainingConfig(steps=400, batch_size=128, learning_rate=1e-2, evaluate_every=100),
    ),
    "default": Config(),
    "full": Config(preset="full", patients=10_000, reference=20_000, fitted=1_000, bank=262_144),
}
