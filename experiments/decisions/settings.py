"""Settings of `experiments.decisions`."""

import dataclasses
from pathlib import Path

from jaxtwin.commands.settings import TINY_EMULATOR, EmulatorConfig, EmulatorFlags, RunConfig
from jaxtwin.inference.settings import CLIP_POSTERIOR_TRAINING
from jaxtwin.methods.settings import CURVE_TRAINING
from jaxtwin.training.settings import TrainingConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(RunConfig):
    """Measure the reliability of probabilities of disease, and the cost of acting on them.

    Attributes:
        seeds: Number of seeds with which twins and posteriors are learnt.
        patients: Number of the clinic's patients that P-SSL learns from, that thresholds are
            chosen on, and that are unseen.
        prior_patients: Number of unseen patients of the posteriors' own prior.
        noise: Noise of the volume curves [mL].
        costs: Costs of a missed patient, in false alarms.
        draws: Number of draws per patient.
        bank: Number of simulated patients that a posterior learns from.
        emulator: Emulator through which the twins are trained.
        curve_training: Training of the twins.
        posterior: Training of the posteriors.
        run: Folder of a training run of `jaxtwin train`, whose twins and posteriors are then
            measured on phantom clips of the clinic, too.
        clips: Number of clips that thresholds are chosen on, and that are unseen.
    """

    seeds: int = 3
    patients: tuple[int, int, int] = (2_000, 500, 2_000)
    prior_patients: int = 2_000
    noise: float = 6.0
    costs: tuple[float, ...] = (1.0, 5.0, 20.0)
    draws: int = 1_000
    bank: int = 32_768
    emulator: EmulatorFlags = EmulatorConfig()
    curve_training: TrainingConfig = CURVE_TRAINING
    posterior: TrainingConfig = CLIP_POSTERIOR_TRAINING
    run: Path | None = None
    clips: tuple[int, int] = (250, 750)

    def __post_init__(self):
        super().__post_init__()
        if self.seeds < 1 or not self.noise > 0:
            raise ValueError(
                f"--seeds {self.seeds} --noise {self.noise}: expected at least 1, and a positive "
                "number [mL]"
            )
        counts = (*self.patients, self.prior_patients, *self.clips)
        if min(counts) < 40:
            raise ValueError(
                f"--patients {' '.join(map(str, self.patients))} --prior-patients "
                f"{self.prior_patients} --clips {' '.join(map(str, self.clips))}: expected at "
                "least 40 of each, of whom one in ten has each disease"
            )
        if not self.costs or min(self.costs) <= 0:
            raise ValueError(
                f"--costs {' '.join(map(str, self.costs))}: expected positive costs of a missed "
                "patient, in false alarms"
            )

    def check_inputs(self) -> None:
        """Raise a ValueError if there is no training run."""
        if self.run is not None and not (self.run / "limits").is_dir():
            raise ValueError(
                f"--run {self.run}: no networks there that find a volume curve; give the output "
                "folder of a finished `jaxtwin train`"
            )


PRESETS = {
    "tiny": Config(
        preset="tiny",
        seeds=1,
        patients=(48, 40, 80),
        prior_patients=80,
        draws=100,
        bank=1_024,
        emulator=TINY_EMULATOR,
        curve_training=TrainingConfig(steps=40, batch_size=32, evaluate_every=20),
        posterior=TrainingConfig(steps=60, batch_size=128, learning_rate=1e-2, evaluate_every=30),
        clips=(40, 60),
    ),
    "default": Config(),
    "full": Config(
        preset="full", seeds=5, patients=(8_000, 2_000, 20_000), prior_patients=20_000, bank=65_536
    ),
}
