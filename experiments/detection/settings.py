"""Settings of `experiments.detection`."""

import dataclasses
from pathlib import Path

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
from jaxtwin.training.settings import TrainingConfig

# Of whom the bulk and the groups are sought.
LEAST_TRAINING = 32
LEAST_TESTED = 40
LEAST_ILL = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(RunConfig):
    """Find disease in twins that never met a diagnosis.

    Attributes:
        data: A folder in EchoNet-Dynamic's layout; by default phantom clips are made.
        labels: Diagnoses of its patients: a CSV file with the columns patient and diagnosis. Only
            needed, and only allowed, with data.
        healthy: What the labels call those who are not ill.
        seeds: How many seeds each encoder is trained with.
        emulator: The emulator that the encoders are trained through.
        clips: The clips.
        encoder: The default network or the paper's.
        training: How the encoders are trained.
    """

    data: Path | None = None
    labels: Path | None = None
    healthy: str = "healthy"
    seeds: int = 3
    emulator: EmulatorFlags = EmulatorConfig()
    clips: ClipFlags = ClipConfig(counts=(2_000, 250, 750))
    encoder: EncoderName = "tubelet"
    training: TrainingConfig = dataclasses.replace(CLIP_TRAINING, steps=2_000, evaluate_every=200)

    def __post_init__(self):
        super().__post_init__()
        if (self.data is None) != (self.labels is None):
            raise ValueError(
                f"--data {self.data} --labels {self.labels}: expected both or neither; phantom "
                "clips have diagnoses of their own"
            )
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
    ),
    "default": Config(),
    "full": Config(
        preset="full",
        clips=ClipConfig(counts=(8_000, 1_000, 2_000)),
        training=TrainingConfig(steps=10_000, batch_size=32, weight_decay=1e-2, evaluate_every=500),
    ),
}
