"""Settings of `experiments.methods`."""

import dataclasses
import math

from experiments.methods.compared import MEASURED, METHODS
from jaxtwin.commands.settings import TINY_EMULATOR, EmulatorConfig, EmulatorFlags, RunConfig
from jaxtwin.inference.settings import POSTERIOR_TRAINING
from jaxtwin.methods.settings import CURVE_TRAINING
from jaxtwin.training.settings import TrainingConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(RunConfig):
    """Compare methods that learn from a volume curve.

    Attributes:
        methods: Methods to compare, named as in experiments/methods/compared.py.
        noises: Standard deviations of the measurement noise [mL].
        incomplete: What else is measured, at the middle noise with known period, named as in
            experiments/methods/compared.py; for methods that use all of it.
        seeds: Number of seeds for each method.
        patients: Number of unseen patients per seed.
        cohort: Number of patients for training and validation.
        training: Training of P-SSL and of the supervised network.
        simulator_training: Training of SSL through the simulator, whose steps take longer.
        shared_training: Training of the shared Neural ODE.
        posterior_training: Training of the neural posterior.
        bank: Number of simulated patients that it learns from.
        pinn_steps: Number of optimiser steps of each patient's PINN.
        ode_steps: Number of optimiser steps of each patient's Neural ODE.
        starts: Number of starting points of the fit through the simulator.
        emulator: Emulator of each seed.
    """

    methods: tuple[str, ...] = tuple(METHODS)
    noises: tuple[float, ...] = (0.0, 3.0, 6.0)
    incomplete: tuple[str, ...] = tuple(MEASURED)[1:]
    seeds: int = 5
    patients: int = 20
    cohort: tuple[int, int] = (1_000, 100)
    training: TrainingConfig = CURVE_TRAINING
    simulator_training: TrainingConfig = dataclasses.replace(
        CURVE_TRAINING, steps=700, evaluate_every=100
    )
    shared_training: TrainingConfig = dataclasses.replace(
        CURVE_TRAINING, steps=2_000, batch_size=32, learning_rate=1e-2, evaluate_every=250
    )
    posterior_training: TrainingConfig = POSTERIOR_TRAINING
    bank: int = 65_536
    pinn_steps: int = 12_000
    ode_steps: int = 1_000
    starts: int = 4
    emulator: EmulatorFlags = EmulatorConfig()

    def __post_init__(self):
        super().__post_init__()
        if self.seeds < 1 or self.patients < 2 or not self.methods or not self.noises:
            raise ValueError(
                f"--seeds {self.seeds} --patients {self.patients} --methods "
                f"{' '.join(self.methods)} --noises {' '.join(map(str, self.noises))}: expected at "
                "least one seed, two patients, one method and one noise"
            )
        for name in self.methods:
            if name not in METHODS:
                raise ValueError(f"--methods {name}: expected names out of {', '.join(METHODS)}")
        for name in self.incomplete:
            if name not in MEASURED or name == "complete":
                names = ", ".join(tuple(MEASURED)[1:])
                raise ValueError(f"--incomplete {name}: expected names out of {names}")
        for noise in self.noises:
            if not 0 <= noise < math.inf:
                raise ValueError(f"--noises {noise}: expected 0 or more, and finite")


def _brief(steps: int) -> TrainingConfig:
    return TrainingConfig(steps=steps, batch_size=16, learning_rate=5e-3, evaluate_every=steps // 2)


PRESETS = {
    "tiny": Config(
        preset="tiny",
        noises=(3.0,),
        incomplete=("missing30", "no_cuff"),
        seeds=2,
        patients=3,
        cohort=(24, 8),
        training=_brief(20),
        simulator_training=_brief(4),
        shared_training=_brief(4),
        posterior_training=_brief(20),
        bank=2_048,
        pinn_steps=20,
        ode_steps=10,
        starts=2,
        emulator=TINY_EMULATOR,
    ),
    "default": Config(),
    "full": Config(preset="full", patients=100, cohort=(10_000, 500), pinn_steps=50_000),
}
