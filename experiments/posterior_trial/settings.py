"""Settings of `experiments.posterior_trial`."""

import dataclasses

from jaxtwin.commands.settings import RunConfig
from jaxtwin.inference.settings import POSTERIOR_TRAINING
from jaxtwin.training.settings import TrainingConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(RunConfig):
    """Carry posteriors through a trial and a choice of doses.

    Attributes:
        patients: Number of patients in the trial.
        dosed: Number of these whose pump speed is chosen.
        noise: Standard deviation of the noise of the volume curve [mL].
        draws: Number of draws per patient.
        highest_EF: Highest measured ejection fraction of a patient in the trial [%].
        speeds: Lowest and highest pump speed, and the step between candidates [rpm].
        pressure: Safe range of the mean aortic pressure [mmHg].
        filling: Lowest safe pressure in the ventricle, above which the pump does not suck [mmHg].
        bank: Number of simulated patients that the flow learns from.
        training: Training of the flow.
    """

    patients: int = 100
    dosed: int = 60
    noise: float = 3.0
    draws: int = 100
    highest_EF: float = 40.0
    speeds: tuple[float, float, float] = (6_500.0, 13_500.0, 500.0)
    pressure: tuple[float, float] = (60.0, 110.0)
    filling: float = 1.0
    bank: int = 32_768
    training: TrainingConfig = dataclasses.replace(POSTERIOR_TRAINING, steps=2_500)

    def __post_init__(self):
        super().__post_init__()
        if not 2 <= self.dosed <= self.patients or self.draws < 20:
            raise ValueError(
                f"--patients {self.patients} --dosed {self.dosed} --draws {self.draws}: expected "
                "at least 2 patients to dose, no more than in the trial, and at least 20 draws"
            )
        low, high, step = self.speeds
        if not 0 < low < high or not 0 < step <= high - low:
            raise ValueError(
                f"--speeds {low:g} {high:g} {step:g}: expected a low, a higher speed and a step"
            )


PRESETS = {
    "tiny": Config(
        preset="tiny",
        patients=12,
        dosed=4,
        draws=20,
        speeds=(8_000.0, 12_000.0, 1_000.0),
        bank=2_048,
        training=TrainingConfig(steps=400, batch_size=128, learning_rate=1e-2, evaluate_every=100),
    ),
    "default": Config(),
    "full": Config(
        preset="full",
        patients=1_000,
        dosed=400,
        draws=400,
        speeds=(6_500.0, 13_500.0, 250.0),
        bank=65_536,
        training=POSTERIOR_TRAINING,
    ),
}
