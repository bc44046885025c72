"""Settings of `experiments.table_ef`."""

import dataclasses
from pathlib import Path

from experiments.table_ef.compared import METHODS
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(RunConfig):
    """Compare methods that learn from clips.

    Attributes:
        echonet: Data set in EchoNet-Dynamic's layout.
        camus: Folder of the CAMUS data set, in either layout.
        camus_split: Table with the split of each CAMUS patient; by default a split is drawn and
            written to the run's folder.
        camus_frame_rate: Frame rate [1/s] of CAMUS sequences whose cfg file has none, as in the
            older release.
        methods: Methods to compare, named as in experiments/table_ef/compared.py.
        run: Folder of a training run of `jaxtwin train`, whose segmentation finds volume curves in
            the phantom clips: P-SSL then learns from these, too.
        seeds: Number of seeds for each method.
        training: Training of all methods; one method has three times the steps.
        clips: Phantom clips, and the format of clips of whole beats.
        camus_format: Format of CAMUS's half beats, of half a second.
        emulator: Emulator through which the encoders are trained.
        paper_emulator: Training of the paper's emulator; its batch is the whole grid.
    """

    echonet: Path | None = None
    camus: Path | None = None
    camus_split: Path | None = None
    camus_frame_rate: float | None = None
    methods: tuple[str, ...] = tuple(METHODS)
    run: Path | None = None
    seeds: int = 3
    training: TrainingConfig = CLIP_TRAINING
    clips: ClipFlags = ClipConfig()
    camus_format: ClipFormat = ClipFormat(frames=32, rate=64.0)
    emulator: EmulatorFlags = EmulatorConfig()
    paper_emulator: TrainingConfig = TrainingConfig(
        steps=20_000, batch_size=3_840, evaluate_every=1_000, patience=20
    )

    def check_inputs(self) -> None:
        """Raise a ValueError if there is no training run."""
        if self.run is not None and not (self.run / "limits").is_dir():
            raise ValueError(
                f"--run {self.run}: no networks there that find a volume curve; give the output "
                "folder of a finished `jaxtwin train`"
            )

    def __post_init__(self):
        super().__post_init__()
        if self.seeds < 1 or not self.methods or len(set(self.methods)) < len(self.methods):
            raise ValueError(
                f"--seeds {self.seeds} --methods {' '.join(self.methods)}: expected at least one "
                "seed and one method, each method once"
            )
        for name in self.methods:
            if name not in METHODS:
                raise ValueError(f"--methods {name}: expected names out of {', '.join(METHODS)}")


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
