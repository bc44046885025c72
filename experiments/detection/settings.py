"""Settings of `experiments.detection`."""

import dataclasses
from pathlib import Path
from typing import Literal

from jaxtwin.commands.settings import (
    CLIP_TRAINING,
    TINY_EMULATOR,
    ClipConfig,
    ClipFlags,
    EmulatorConfig,
    EmulatorFlags,
    RunConfig,
)
from jaxtwin.encoders.names import EncoderName
from jaxtwin.inference.settings import CLIP_POSTERIOR_TRAINING
from jaxtwin.methods.settings import CURVE_TRAINING
from jaxtwin.training.settings import TrainingConfig

LearnFrom = Literal["volumes", "vitals", "curves"]
# Smallest number of training clips for fitting the bulk and the groups.
LEAST_TRAINING = 32
LEAST_TESTED = 40
LEAST_ILL = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(RunConfig):
    """Detect disease from twins that were learnt without diagnoses.

    Attributes:
        data: Data set in EchoNet-Dynamic's layout; by default phantom clips are rendered.
        labels: Diagnoses of its patients: a CSV file with the columns patient and diagnosis.
            Required with data, and not allowed without.
        healthy: Diagnosis of healthy patients in the labels.
        learn_from: What twins are learnt from: volumes, volumes with vital signs, or curves. By
            default all; the first two take most of the time.
        seeds: Number of seeds with which each encoder is trained.
        emulator: Emulator through which the encoders are trained.
        clips: Clips to learn from.
        encoder: Encoder architecture: the default (tubelet) or the paper's (conv3d).
        training: Training of the encoders.
        noise: Noise of the exact volume curves and allowed error of segmented ones [mL].
        run: Folder of a training run of `jaxtwin train`: twins are then also learnt from the
            volume curves that its networks find in phantom clips.
        curve_training: Training of the encoders of curves.
        posterior_training: Training of the posteriors from curves.
        bank: Number of simulated patients that a posterior learns from.
    """

    data: Path | None = None
    labels: Path | None = None
    healthy: str = "healthy"
    learn_from: tuple[LearnFrom, ...] = ("volumes", "vitals", "curves")
    seeds: int = 3
    emulator: EmulatorFlags = EmulatorConfig()
    clips: ClipFlags = ClipConfig(counts=(2_000, 250, 750))
    encoder: EncoderName = "tubelet"
    training: TrainingConfig = dataclasses.replace(CLIP_TRAINING, steps=2_000, evaluate_every=200)
    noise: float = 6.0
    run: Path | None = None
    curve_training: TrainingConfig = CURVE_TRAINING
    posterior_training: TrainingConfig = CLIP_POSTERIOR_TRAINING
    bank: int = 32_768

    def check_inputs(self) -> None:
        """Raise a ValueError if there is no training run."""
        if self.run is not None and not (self.run / "limits").is_dir():
            raise ValueError(
                f"--run {self.run}: no networks there that find a volume curve; give the output "
                "folder of a finished `jaxtwin train`"
            )

    def __post_init__(self):
        super().__post_init__()
        if (self.data is None) != (self.labels is None):
            raise ValueError(
                f"--data {self.data} --labels {self.labels}: expected both or neither; phantom "
                "clips have their own diagnoses"
            )
        if not self.learn_from or (self.data is not None and set(self.learn_from) == {"curves"}):
            raise ValueError(
                f"--learn-from {' '.join(self.learn_from)}: expected volumes, vitals or curves; "
                "with --data not curves alone, which need the parameters of phantoms"
            )
        if self.run is not None and "curves" not in self.learn_from:
            raise ValueError("--run without curves in --learn-from: only they need its networks")
        if self.run is not None and self.data is not None:
            raise ValueError(
                "--run with --data: the size of a pixel is known of phantom clips only, and "
                "without it a volume curve has no mL"
            )
        if not self.noise > 0:
            raise ValueError(f"--noise {self.noise}: expected a positive number [mL]")
        if self.seeds < 1:
            raise ValueError(f"--seeds {self.seeds}: expected at least 1")
        counts = self.clips.counts
        if counts[0] < LEAST_TRAINING or counts[2] < LEAST_TESTED:
            raise ValueError(
                f"--clips {' '.join(map(str, counts))}: expected at least {LEAST_TRAINING} to "
                f"train on and {LEAST_TESTED} to test, of which one in ten has each disease"
            )


PRESETS = {
    "tiny": Config(
        preset="tiny",
        seeds=2,
        emulator=TINY_EMULATOR,
        clips=ClipConfig(counts=(48, 8, 40)),
        training=TrainingConfig(steps=8, batch_size=8, weight_decay=1e-2, evaluate_every=4),
        curve_training=TrainingConfig(steps=40, batch_size=32, evaluate_every=20),
        posterior_training=TrainingConfig(
            steps=40, batch_size=128, learning_rate=1e-2, evaluate_every=20
        ),
        bank=1_024,
    ),
    "default": Config(),
    "full": Config(
        preset="full",
        clips=ClipConfig(counts=(8_000, 1_000, 2_000)),
        training=TrainingConfig(steps=10_000, batch_size=32, weight_decay=1e-2, evaluate_every=500),
    ),
}
