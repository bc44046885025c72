"""Settings of commands and experiments, each typed once.

Imports nothing heavy: `--help` is made from these classes alone.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from jaxtwin.data.format import ClipFormat
from jaxtwin.encoders.names import EncoderName
from jaxtwin.forward.settings import EMULATOR_TRAINING
from jaxtwin.training.settings import TrainingConfig

Preset = Literal["tiny", "default", "full"]

CLIP_TRAINING = TrainingConfig(
    steps=1_000, batch_size=16, weight_decay=1e-2, evaluate_every=100, patience=5
)
"""How an encoder of clips is trained unless told otherwise."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class OutputConfig:
    """Where a command writes.

    Attributes:
        out: The folder that gets everything the run writes; in runs/ by default.
        resume: Go on with a run that was cut short: repeat its flags and add this one.
    """

    out: Path | None = None
    resume: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeededConfig(OutputConfig):
    """Settings of a run with something random in it.

    Attributes:
        seed: Of everything random.
    """

    seed: int = 0

    def __post_init__(self):
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"--seed {self.seed}: expected 0 to {2**31 - 1}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig(SeededConfig):
    """What every experiment can be told.

    Attributes:
        preset: Where all other values start from.
    """

    preset: Preset = "default"


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmulatorConfig:
    """How an emulator is made.

    Attributes:
        simulations: Simulated patients that the emulator learns from.
        unseen: Simulated patients that it is measured on.
        training: How the emulator is trained.
    """

    simulations: int = 16_384
    unseen: int = 4_096
    training: Annotated[TrainingConfig, tyro.conf.arg(name="emulator")] = EMULATOR_TRAINING


TINY_EMULATOR = EmulatorConfig(
    simulations=512,
    unseen=128,
    training=TrainingConfig(steps=100, batch_size=128, learning_rate=4e-3, evaluate_every=50),
)
"""Enough to see that everything runs."""


def check_counts(counts: tuple[int, int, int]) -> None:
    """Raise a ValueError if so many phantoms cannot be learnt from, selected with or scored."""
    if counts[0] < 4 or min(counts) < 1:
        raise ValueError(
            f"--clips {' '.join(map(str, counts))}: expected at least 4 to train on, 1 to validate "
            "and 1 to test"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """Which clips are learnt from.

    Attributes:
        counts: Phantom clips for training, validation and test.
        format: What every clip is brought to.
    """

    counts: Annotated[tuple[int, int, int], tyro.conf.arg(name="clips")] = (1_000, 100, 200)
    format: ClipFormat = ClipFormat()

    def __post_init__(self):
        check_counts(self.counts)


# Their fields' flags have no prefix: --simulations, --clips.
EmulatorFlags = Annotated[EmulatorConfig, tyro.conf.arg(name="")]
ClipFlags = Annotated[ClipConfig, tyro.conf.arg(name="")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PSSLConfig(RunConfig):
    """Learn digital twins from echo clips.

    Attributes:
        data: A folder in EchoNet-Dynamic's layout; by default phantom clips are made.
        twin: Which of the paper's twins is learnt, with seven or three free parameters.
        emulator: The emulator that the encoder is trained through.
        clips: The clips.
        encoder: The default network or the paper's.
        training: How the encoder is trained.
    """

    data: Path | None = None
    twin: Literal["seven", "three"] = "seven"
    emulator: EmulatorFlags = EmulatorConfig()
    clips: ClipFlags = ClipConfig()
    encoder: EncoderName = "tubelet"
    training: TrainingConfig = CLIP_TRAINING


PSSL_PRESETS = {
    "tiny": PSSLConfig(
        preset="tiny",
        emulator=EmulatorConfig(
            simulations=1_024,
            unseen=256,
            training=dataclasses.replace(TINY_EMULATOR.training, steps=300, evaluate_every=100),
        ),
        clips=ClipConfig(counts=(48, 8, 16)),
        training=TrainingConfig(steps=24, batch_size=8, weight_decay=1e-2, evaluate_every=12),
    ),
    "default": PSSLConfig(),
    "full": PSSLConfig(
        preset="full",
        emulator=EmulatorConfig(
            simulations=65_536,
            training=TrainingConfig(
                steps=20_000, batch_size=1_024, learning_rate=4e-3, evaluate_every=1_000
            ),
        ),
        clips=ClipConfig(counts=(8_000, 1_000, 1_000)),
        training=TrainingConfig(steps=20_000, batch_size=32, weight_decay=1e-2, evaluate_every=500),
    ),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TwinConfig(OutputConfig):
    """Build digital twins of single recordings.

    Attributes:
        clips: The recordings (AVI, MP4, GIF, multi-frame DICOM); by default the real one that
            comes with pydicom.
        run: The folder of the training run whose networks are used.
        period: The patient's heart period [s], where the run's model needs it.
        systolic: The patient's systolic blood pressure [mmHg], where the run's model needs it.
        diastolic: The patient's diastolic blood pressure [mmHg], where the run's model needs it.
    """

    clips: tyro.conf.Positional[tuple[Path, ...]] = ()
    run: Path = Path("runs/pssl-default")
    period: float | None = None
    systolic: float | None = None
    diastolic: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrialConfig(SeededConfig):
    """Run a trial that is described in a file.

    Attributes:
        patients: At most so many patients, whatever the file says.
    """

    patients: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrialFileConfig(TrialConfig):
    """Run a trial that is described in a file.

    Attributes:
        file: The file (TOML) that describes it: [cohort], [arms.NAME], [analysis].
    """

    file: tyro.conf.Positional[Path]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PhantomConfig:
    """Render phantom clips of known patients, in EchoNet-Dynamic's layout.

    Attributes:
        out: The folder that gets the clips and their tables. A call that was cut short goes on
            where the same flags are given again.
        clips: Phantom clips for training, validation and test.
        seed: Of patients, views and noise.
    """

    out: Path = Path("runs/phantoms")
    clips: tuple[int, int, int] = ClipConfig().counts
    seed: int = 0

    def __post_init__(self):
        check_counts(self.clips)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckConfig:
    """Say whether a system of ODEs keeps its promises; exit status 1 where it does not.

    Attributes:
        system: A class, as MODULE:CLASS, of an installed module or of a .py file in the working
            directory.
    """

    system: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODULE:CLASS")]
