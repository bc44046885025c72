"""Settings of commands and experiments.

Imports nothing heavy: `--help` is generated from these classes alone.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from jaxtwin.data.format import ClipFormat
from jaxtwin.encoders.names import EncoderName
from jaxtwin.forward.settings import EMULATOR_TRAINING
from jaxtwin.imaging.settings import ORIENTATION_TRAINING, SEGMENTATION_TRAINING
from jaxtwin.inference.settings import CLIP_POSTERIOR_TRAINING
from jaxtwin.methods.settings import CLIP_TRAINING, CURVE_TRAINING
from jaxtwin.training.settings import Precision, TrainingConfig

Preset = Literal["tiny", "default", "full"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class OutputConfig:
    """Output settings of a command.

    Attributes:
        out: Folder for everything the run writes; a folder in runs/ by default.
        resume: Resume an interrupted run: repeat its flags and add this one.
    """

    out: Path | None = None
    resume: bool = False

    def check_inputs(self) -> None:
        """Raise a ValueError if an input is missing; called before the run's folder is made."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeededConfig(OutputConfig):
    """Settings of a run with randomness.

    Attributes:
        seed: Seed for all random numbers.
    """

    seed: int = 0

    def __post_init__(self):
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"--seed {self.seed}: expected 0 to {2**31 - 1}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig(SeededConfig):
    """Settings common to all experiments.

    Attributes:
        preset: Preset that provides the defaults of all other settings.
    """

    preset: Preset = "default"


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmulatorConfig:
    """Settings of an emulator.

    Attributes:
        simulations: Number of simulated patients for training.
        unseen: Number of simulated patients for measuring the error.
        training: Training of the emulator.
    """

    simulations: int = 16_384
    unseen: int = 4_096
    training: Annotated[TrainingConfig, tyro.conf.arg(name="emulator")] = EMULATOR_TRAINING

    def __post_init__(self):
        for name in ("simulations", "unseen"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} {getattr(self, name)}: expected at least 1")


TINY_EMULATOR = EmulatorConfig(
    simulations=512,
    unseen=128,
    training=TrainingConfig(steps=100, batch_size=128, learning_rate=4e-3, evaluate_every=50),
)
"""A tiny emulator, to test that everything runs."""


def check_counts(counts: tuple[int, int, int]) -> None:
    """Raise a ValueError if there are too few phantoms to train, validate or test."""
    if counts[0] < 4 or min(counts) < 1:
        raise ValueError(
            f"--clips {' '.join(map(str, counts))}: expected at least 4 to train on, 1 to validate "
            "and 1 to test"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """Clips to learn from.

    Attributes:
        counts: Number of phantom clips for training, validation and test.
        format: Format to which all clips are resampled.
    """

    counts: Annotated[tuple[int, int, int], tyro.conf.arg(name="clips")] = (1_000, 100, 200)
    format: ClipFormat = ClipFormat()

    def __post_init__(self):
        check_counts(self.counts)


# The flags of their fields have no prefix: --simulations, --clips.
EmulatorFlags = Annotated[EmulatorConfig, tyro.conf.arg(name="")]
ClipFlags = Annotated[ClipConfig, tyro.conf.arg(name="")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PSSLConfig(RunConfig):
    """Learn digital twins from echo clips.

    Attributes:
        learn_from: What a clip is compared by: the volume curve that a segmentation network finds
            in it, or the two labelled volumes of the paper.
        data: Data set in EchoNet-Dynamic's layout, whose clips are learnt from and tested on; by
            default phantom clips. Its tracings teach the segmentation, too.
        twin: Number of free parameters of the twin. Nine describe the patients of a clinic, of
            whom phantoms are then rendered; seven and three are the paper's, with phantoms of the
            paper's seven-parameter box.
        emulator: Emulator through which the encoder is trained.
        clips: Clips to learn from.
        per_clip: Number of frames of each phantom that the segmentation network learns from.
        widths: Number of channels of each level of the segmentation network.
        segmentation: Training of the segmentation network.
        orientation: Training of the network that tells whether a heart is shown upright.
        curve: Training of the encoder of volume curves.
        posterior: Training of the posteriors of twins.
        posterior_patients: Number of simulated patients that they learn from.
        encoder: Encoder of clips that learns from two volumes: the default (tubelet) or the
            paper's (conv3d).
        training: Its training.
        devices: Number of this machine's devices over which simulations and batches are spread; it
            divides every batch size.
        precision: In what the networks that look at clips and pictures compute while they are
            trained. bfloat16 is faster on GPUs that have it (NVIDIA's since Ampere), and slower
            elsewhere. Parameters, losses and what is learnt remain float32.
    """

    learn_from: Literal["curve", "volumes"] = "curve"
    data: Path | None = None
    twin: Literal["nine", "seven", "three"] = "nine"
    emulator: EmulatorFlags = EmulatorConfig()
    clips: ClipFlags = ClipConfig()
    per_clip: int = 12
    widths: tuple[int, int, int, int] = (24, 40, 64, 96)
    segmentation: TrainingConfig = SEGMENTATION_TRAINING
    orientation: TrainingConfig = ORIENTATION_TRAINING
    curve: TrainingConfig = CURVE_TRAINING
    posterior: TrainingConfig = CLIP_POSTERIOR_TRAINING
    posterior_patients: int = 8_192
    encoder: EncoderName = "tubelet"
    training: TrainingConfig = CLIP_TRAINING
    devices: int = 1
    precision: Precision = "float32"

    def check_inputs(self) -> None:
        """Raise a ValueError if there is no data set, or devices that do not divide the batches."""
        if self.data is not None and not self.data.is_dir():
            raise ValueError(f"--data: no folder {self.data}")
        if self.devices != 1:
            from jaxtwin.devices import first_devices

            first_devices(self.devices)
            trainings = {"emulator": self.emulator.training} | {
                name: getattr(self, name)
                for name in (
                    ("segmentation", "orientation", "curve", "posterior")
                    if self.learn_from == "curve"
                    else ("training",)
                )
            }
            for name, training in trainings.items():
                if training.batch_size % self.devices:
                    raise ValueError(
                        f"--devices {self.devices} and --{name}.batch-size {training.batch_size}: "
                        "expected a number of devices that divides every batch"
                    )


PSSL_PRESETS = {
    "tiny": PSSLConfig(
        preset="tiny",
        emulator=EmulatorConfig(
            simulations=1_024,
            unseen=256,
            training=dataclasses.replace(TINY_EMULATOR.training, steps=300, evaluate_every=100),
        ),
        clips=ClipConfig(counts=(36, 6, 6)),
        per_clip=6,
        widths=(12, 16, 24, 32),
        segmentation=TrainingConfig(steps=100, batch_size=8, learning_rate=1e-2, evaluate_every=50),
        orientation=TrainingConfig(steps=20, batch_size=16, learning_rate=4e-3, evaluate_every=20),
        curve=dataclasses.replace(CURVE_TRAINING, steps=200, evaluate_every=50),
        posterior=TrainingConfig(steps=200, batch_size=64, learning_rate=1e-2, evaluate_every=100),
        posterior_patients=3_072,
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
        segmentation=dataclasses.replace(SEGMENTATION_TRAINING, steps=20_000, batch_size=32),
        orientation=dataclasses.replace(ORIENTATION_TRAINING, steps=6_000),
        curve=dataclasses.replace(CURVE_TRAINING, steps=20_000, evaluate_every=1_000),
        training=TrainingConfig(steps=20_000, batch_size=32, weight_decay=1e-2, evaluate_every=500),
    ),
}


EXAMPLE = Path("example")
"""Name that stands for the real recording included in pydicom."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TwinConfig(OutputConfig):
    """Build digital twins of single recordings.

    Attributes:
        clips: Recordings (AVI, MP4, GIF, multi-frame DICOM); `example` is the real one included in
            pydicom.
        run: Folder of the training run whose networks are used.
        pixel: Height and width of a pixel [mm] of recordings that do not state them. Without it,
            volumes in mL are inferred from the picture.
        period: The patient's heart period [s], if the run's model needs it.
        systolic: The patient's systolic blood pressure [mmHg], for all the recordings given. Some
            models need it; one that learnt from curves uses it if it is known.
        diastolic: The patient's diastolic blood pressure [mmHg], likewise.
    """

    clips: tyro.conf.Positional[tuple[Path, ...]] = ()
    run: Path = Path("runs/pssl-default")
    pixel: tuple[float, float] | None = None
    period: float | None = None
    systolic: float | None = None
    diastolic: float | None = None

    def check_inputs(self) -> None:
        """Raise a ValueError if there is no recording or no training run, or pixels are odd."""
        if self.pixel is not None and not all(0.02 <= side <= 5 for side in self.pixel):
            raise ValueError(
                f"--pixel {self.pixel[0]:g} {self.pixel[1]:g}: expected a height and a width of "
                "0.02 to 5 mm"
            )
        if not self.clips:
            raise ValueError(
                f"no recording: give one or more files, or `{EXAMPLE}` for the real one included "
                "in pydicom"
            )
        if not self.run.is_dir():
            raise ValueError(
                f"no folder {self.run}: give the output folder of `jaxtwin train` with --run"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrialConfig(SeededConfig):
    """Run a trial that is described in a file.

    Attributes:
        patients: Maximum number of patients, which takes precedence over the file.
        stream: Write the endpoints of every patient to a Zarr group in the folder, block by block,
            instead of holding them and the patients' waveforms in memory. There is no patients.csv.
        devices: Number of this machine's devices over which patients are spread.
        distributed: Use all devices of all processes of this run, each of which has the same flags;
            jax.distributed finds them (SLURM, Open MPI, JAX_COORDINATOR_ADDRESS).
    """

    patients: int | None = None
    stream: bool = False
    devices: int = 1
    distributed: bool = False

    def __post_init__(self):
        super().__post_init__()
        if self.distributed and self.devices != 1:
            raise ValueError(
                f"--distributed and --devices {self.devices}: expected one of them, as "
                "--distributed uses all devices"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrialFileConfig(TrialConfig):
    """Run a trial that is described in a file.

    Attributes:
        file: TOML file that describes the trial: [cohort], [arms.NAME], [analysis].
    """

    file: tyro.conf.Positional[Path]

    def check_inputs(self) -> None:
        """Raise a ValueError if there is no file."""
        if not self.file.is_file():
            raise ValueError(f"no file {self.file}: expected a TOML file that describes a trial")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PhantomConfig:
    """Render phantom clips of simulated patients, in EchoNet-Dynamic's layout.

    Attributes:
        out: Folder for the clips and their tables. To resume an interrupted call, repeat it with
            the same flags.
        clips: Number of phantom clips for training, validation and test.
        seed: Seed for patients, views and noise.
    """

    out: Path = Path("runs/phantoms")
    clips: tuple[int, int, int] = ClipConfig().counts
    seed: int = 0

    def __post_init__(self):
        check_counts(self.clips)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckConfig:
    """Check that a system of ODEs is defined correctly; exit with status 1 if it is not.

    Attributes:
        system: Class to check, as MODULE:CLASS, in an installed module or in a .py file in the
            working directory. Or a model file (SBML: .xml, .sbml), whose states and parameters are
            listed, or what in it is not supported.
    """

    system: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODULE:CLASS or FILE")]
