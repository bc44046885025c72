"""Settings of `experiments.pressures`."""

import dataclasses

from jaxtwin.commands.settings import TINY_EMULATOR, EmulatorConfig, EmulatorFlags, RunConfig
from jaxtwin.inference.settings import CLIP_POSTERIOR_TRAINING
from jaxtwin.methods.settings import CURVE_TRAINING
from jaxtwin.training.settings import TrainingConfig

CIRCUITS = ("bjordalsbakke", "her", "four_chambers")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(RunConfig):
    """Estimate pressures from a volume curve, with and without a cuff.

    Attributes:
        cohort: Number of a laboratory's patients to learn from, to select by, and unseen. Each is
            measured at rest and under dobutamine.
        points: Number of points of the box that stand for the laboratory in each round of drawing.
        without_cuff: Whether to measure all of them without a cuff, too.
        circuits: Other circuits, of bjordalsbakke, her and four_chambers.
        others: Number of unseen patients of each of them.
        training: Training of P-SSL.
        posterior: Training of the posteriors.
        bank: Number of simulated patients that a posterior learns from, and the template is the
            mean of.
        draws: Number of simulated draws per patient.
        starts: Number of starting points of the fit through the simulator.
        iterations: Largest number of iterations from each start.
        emulator: Emulator through which P-SSL learns.
    """

    cohort: tuple[int, int, int] = (800, 100, 100)
    points: int = 16_384
    without_cuff: bool = True
    circuits: tuple[str, ...] = CIRCUITS
    others: int = 40
    training: TrainingConfig = CURVE_TRAINING
    posterior: TrainingConfig = CLIP_POSTERIOR_TRAINING
    bank: int = 16_384
    draws: int = 200
    starts: int = 2
    iterations: int = 20
    emulator: EmulatorFlags = EmulatorConfig()

    def __post_init__(self):
        super().__post_init__()
        for name in self.circuits:
            if name not in CIRCUITS:
                raise ValueError(f"--circuits {name}: expected names out of {', '.join(CIRCUITS)}")
        if min(self.cohort) < 6 or self.others < 3 or self.draws < 20:
            raise ValueError(
                f"--cohort {' '.join(map(str, self.cohort))} --others {self.others} --draws "
                f"{self.draws}: expected at least 6 patients of each kind, 3 of each other "
                "circuit, and 20 draws"
            )


PRESETS = {
    "tiny": Config(
        preset="tiny",
        cohort=(24, 6, 6),
        points=1_024,
        without_cuff=False,
        circuits=("bjordalsbakke",),
        others=3,
        training=TrainingConfig(steps=20, batch_size=16, learning_rate=5e-3, evaluate_every=10),
        posterior=TrainingConfig(steps=40, batch_size=64, learning_rate=5e-3, evaluate_every=20),
        bank=1_024,
        draws=20,
        starts=1,
        iterations=2,
        emulator=TINY_EMULATOR,
    ),
    "default": Config(),
    "full": Config(
        preset="full",
        cohort=(4_000, 500, 1_000),
        points=131_072,
        others=300,
        bank=65_536,
        starts=8,
        iterations=30,
    ),
}
