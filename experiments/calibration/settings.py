"""Settings of `experiments.calibration`."""

import dataclasses
import math
from pathlib import Path
from typing import Literal

from jaxtwin.commands.settings import RunConfig
from jaxtwin.inference.settings import POSTERIOR_TRAINING, VARIATIONAL_TRAINING
from jaxtwin.training.settings import TrainingConfig

Method = Literal["importance", "variational", "variational_importance", "laplace", "nuts"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(RunConfig):
    """Measure the calibration of posteriors.

    Attributes:
        noises: Standard deviations of the noise of the volume curve [mL].
        unknown_period: Whether to measure curves of unknown period, too.
        missing: Share of the samples that are missing in a further case, at the middle noise and
            known period; 0 leaves it out.
        methods: Other methods, at the middle noise and known period. Those named importance
            reweight what was learnt before by the simulator.
        patients: Number of unseen patients.
        weighed: Number of these that importance sampling sees.
        chained: Number of these that the slower methods see (laplace, nuts).
        draws: Number of draws per patient.
        simulated: Number of draws per patient that are simulated, for readings and waveforms.
        bank: Number of simulated patients that a flow learns from.
        cohort: Number of patients whose curves P-SSL learns from, for training and validation.
        training: Training of the flows.
        variational: Training of P-SSL with a posterior.
        clip_variational: Training of P-SSL with a posterior on clips.
        proposals: Number of proposals per patient of importance sampling.
        chains: Number of chains of each patient.
        warmup: Number of steps by which each chain adapts.
        chain_draws: Number of draws per patient of the chains.
        run: Folder of a training run of `jaxtwin train`, on whose unseen phantom clips the
            posteriors of twins are measured, too, beside P-SSL's from the curves of other clips.
    """

    noises: tuple[float, ...] = (0.5, 3.0, 6.0)
    unknown_period: bool = True
    missing: float = 0.3
    methods: tuple[Method, ...] = (
        "importance",
        "variational",
        "variational_importance",
        "laplace",
        "nuts",
    )
    patients: int = 4_000
    weighed: int = 1_000
    chained: int = 20
    draws: int = 1_000
    simulated: int = 200
    bank: int = 65_536
    cohort: tuple[int, int] = (4_000, 400)
    training: TrainingConfig = POSTERIOR_TRAINING
    variational: TrainingConfig = VARIATIONAL_TRAINING
    clip_variational: TrainingConfig = TrainingConfig(
        steps=1_500,
        batch_size=64,
        learning_rate=5e-3,
        weight_decay=1e-2,
        evaluate_every=100,
        patience=5,
    )
    proposals: int = 4_000
    chains: int = 16
    warmup: int = 100
    chain_draws: int = 1_600
    run: Path | None = None

    def __post_init__(self):
        super().__post_init__()
        positive = all(0 < noise < math.inf for noise in self.noises)
        if not (self.noises and positive and 0 <= self.missing < 1):
            raise ValueError(
                f"--noises {' '.join(map(str, self.noises))} --missing {self.missing}: expected "
                "positive and finite noises, and a share of at least 0 and less than 1"
            )
        counts = (self.patients, self.draws, self.simulated)
        if (
            min(counts) < 10
            or self.simulated > self.draws
            or max(self.chained, self.weighed) > self.patients
        ):
            raise ValueError(
                f"--patients {self.patients} --weighed {self.weighed} --chained {self.chained} "
                f"--draws {self.draws} --simulated {self.simulated}: expected at least 10 of each, "
                "and no more simulated than drawn, or weighed or chained than patients"
            )

        named = list(self.methods)
        if (
            "variational_importance" in named
            and "variational" not in named[: named.index("variational_importance")]
        ):
            raise ValueError(
                f"--methods {' '.join(named)}: variational_importance reweights what variational "
                "learnt, which has to come before"
            )

    def check_inputs(self) -> None:
        """Raise a ValueError if there is no training run."""
        if self.run is not None and not self.run.is_dir():
            raise ValueError(
                f"no folder {self.run}: give the output folder of `jaxtwin train` with --run"
            )


PRESETS = {
    "tiny": Config(
        preset="tiny",
        noises=(3.0,),
        unknown_period=False,
        missing=0.3,
        methods=("importance", "laplace"),
        patients=40,
        weighed=40,
        chained=10,
        draws=100,
        simulated=20,
        bank=2_048,
        cohort=(64, 16),
        training=TrainingConfig(steps=400, batch_size=128, learning_rate=1e-2, evaluate_every=100),
        clip_variational=TrainingConfig(steps=20, batch_size=8, evaluate_every=10),
        proposals=2_000,
    ),
    "default": Config(),
    "full": Config(preset="full", patients=20_000, chained=100, bank=262_144),
}
