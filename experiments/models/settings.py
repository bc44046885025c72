"""Settings of `experiments.models`."""

import dataclasses
from typing import Literal

from jaxtwin.commands.settings import TINY_EMULATOR, EmulatorConfig, EmulatorFlags, RunConfig
from jaxtwin.methods.settings import CURVE_TRAINING
from jaxtwin.training.settings import TrainingConfig

SystemName = Literal[
    "windkessel",
    "stergiopulos",
    "ferreira",
    "her",
    "bjordalsbakke",
    "left_heart",
    "four_chambers",
    "lung",
    "two_lungs",
    "glucose",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(RunConfig):
    """Learn twins of any model from one of its curves.

    Attributes:
        system: Model to study, or all of them.
        emulator: Emulator of each model.
        cohort: Number of patients for training, validation and test.
        training: Training of the encoder.
        starts: Number of starting points of the fit through the simulator.
    """

    system: Literal[SystemName, "all"] = "left_heart"
    emulator: EmulatorFlags = EmulatorConfig()
    cohort: tuple[int, int, int] = (1_000, 100, 50)
    training: TrainingConfig = CURVE_TRAINING
    starts: int = 4

    def __post_init__(self):
        super().__post_init__()
        if min(self.cohort) < 3:
            raise ValueError(f"--cohort {self.cohort}: expected at least 3 patients in each split")


PRESETS = {
    "tiny": Config(
        preset="tiny",
        emulator=TINY_EMULATOR,
        cohort=(32, 8, 4),
        training=TrainingConfig(steps=20, batch_size=16, learning_rate=5e-3, evaluate_every=10),
        starts=2,
    ),
    "default": Config(),
    "full": Config(
        preset="full", emulator=EmulatorConfig(simulations=65_536), cohort=(10_000, 500, 500)
    ),
}
