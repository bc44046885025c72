"""Settings of `experiments.table_ef`."""

import dataclasses
from pathlib import Path
from typing import Literal, get_args

from jaxtwin.commands.settings import (
    CLIP_TRAINING,
    PSSL_PRESETS,
    TINY_EMULATOR,
    ClipConfig,
    ClipFlags,
    EmulatorConfig,
    EmulatorFlags,
    RunConfig,
)
from jaxtwin.data.format import ClipFormat
from jaxtwin.training.settings import TrainingConfig

MethodName = Literal[
    "pssl",
    "ssl_simulator",
    "supervised",
    "supervised_longer",
    "supervised_conv3d",
    "pssl_paper",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(RunConfig):
    """Compare methods that see clips.

    Attributes:
        echonet: A folder in EchoNet-Dynamic's layout.
        camus: A folder of the CAMUS data set, in either layout.
        camus_split: A file that says which CAMUS patient is in which split; by default one is
            drawn and written into the run's folder.
        camus_frame_rate: Of CAMUS sequences whose cfg states none, as the older release's [1/s].
        methods: Which to compare.
        seeds: How many seeds each is run with.
        training: Of every method alike; where the table says so, three times the steps.
        clips: Phantom clips, and what clips of whole beats are brought to.
        camus_format: What CAMUS's half beats are brought to: half a second.
        emulator: The emulator that encoders are trained through.
        paper_emulator: How the paper's is; its batch is its whole grid.
    """

    echonet: Path | None = None
    camus: Path | None = None
    camus_split: Path | None = None
    camus_frame_rate: float | None = None
    methods: tuple[MethodName, ...] = get_args(MethodName)
    seeds: int = 3
    training: TrainingConfig = CLIP_TRAINING
    clips: ClipFlags = ClipConfig()
    camus_format: ClipFormat = ClipFormat(frames=32, rate=64.0)
    emulator: EmulatorFlags = EmulatorConfig()
    paper_emulator: TrainingConfig = TrainingConfig(
        steps=20_000, batch_size=3_840, evaluate_every=1_000, patience=20
    )

    def __post_init__(self):
        super().__post_init__()
        if self.seeds < 1 or not self.methods or len(set(self.methods)) < len(self.methods):
            raise ValueError(
                f"--seeds {self.seeds} --methods {' '.join(self.methods)}: expected at least one "
                "seed and one method, each method once"
            )


PRESETS = {
    "tiny": Config(
        preset="tiny",
        seeds=2,
        training=TrainingConfig(steps=4, batch_size=4, evaluate_every=2),
        clips=ClipConfig(counts=(12, 4, 24)),
        emulator=TINY_EMULATOR,
        paper_emulator=TrainingConfig(steps=100, batch_size=3_840, evaluate_every=50),
    ),
    "default": Config(),
    "full": Config(
        preset="full",
        clips=PSSL_PRESETS["full"].clips,
        training=PSSL_PRESETS["full"].training,
    ),
}
