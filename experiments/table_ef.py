"""EF from clips: supervised against physics-informed learning, on every data set at hand.

    python -m experiments.table_ef [--echonet DIR] [--camus DIR] [--preset tiny|default]

Every method gets the same clips, the same split, the same number of clips to learn from (drawn in
the same order; one row has three times as many, and says so) and the same rule of selection: the
lowest loss on validation clips. Each is run with several seeds, and its error on unseen patients
stands beside that of predicting the median for everyone, and beside published figures for context.
EF is given as the method predicts it and, where the method gives parameters, re-simulated by the
circuit at those. After Kuang et al., NeurIPS 2024, table 1.

Phantom clips are always in the table; EchoNet-Dynamic and CAMUS where their folders are given.
Cells (data set, method, seed) that are finished are kept: `--resume` goes on with the others. The
default takes about two hours on two CPU cores, half of it for the paper's network;
tiny takes two minutes and only shows that everything runs.
"""

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import jax
import numpy as np

from experiments.command import Run, RunConfig, main, origin
from experiments.ef_table import TITLES, DataSet, MethodName, markdown, summarise, write_tables
from experiments.paper_emulator import obtain_paper_emulator
from experiments.pssl import (
    CHANNELS,
    PHASES,
    check_clips,
    check_splits,
    decode,
    make_phantoms,
    obtain_emulator,
)
from experiments.tables import write_table
from jaxtwin.cohorts.simulate import simulate_cohort
from jaxtwin.data.base import ClipFormat
from jaxtwin.data.cache import ClipCache
from jaxtwin.data.camus import Camus, read_camus, write_split
from jaxtwin.data.echonet import Record, Skipped, read_echonet
from jaxtwin.encoders.create import EncoderName, create_encoder
from jaxtwin.forward.base import AbstractForward
from jaxtwin.forward.simulator import Simulator
from jaxtwin.methods.clips import (
    AbstractClipModel,
    cached_measurements,
    predict_cached,
    train_on_clips,
)
from jaxtwin.methods.pssl import PSSL
from jaxtwin.methods.supervised import SupervisedClips
from jaxtwin.models.left_heart import SEVEN, LeftHeart
from jaxtwin.training.loop import TrainingConfig


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
        clips: Phantom clips for training, validation and test.
        format: What clips of whole beats are brought to.
        camus_format: What CAMUS's half beats are brought to: half a second.
        simulations: Simulated patients that the emulator learns from.
        unseen: Simulated patients that it is measured on.
        emulator: How the emulator is trained.
        paper_emulator: How the paper's is; its batch is its whole grid.
    """

    echonet: Path | None = None
    camus: Path | None = None
    camus_split: Path | None = None
    camus_frame_rate: float | None = None
    methods: tuple[MethodName, ...] = get_args(MethodName)
    seeds: int = 3
    training: TrainingConfig = TrainingConfig(
        steps=1_000, batch_size=16, weight_decay=1e-2, evaluate_every=100, patience=5
    )
    clips: tuple[int, int, int] = (1_000, 100, 200)
    format: ClipFormat = ClipFormat()
    camus_format: ClipFormat = ClipFormat(frames=32, rate=64.0)
    simulations: int = 16_384
    unseen: int = 4_096
    emulator: TrainingConfig = TrainingConfig(
        steps=3_500, batch_size=512, learning_rate=4e-3, evaluate_every=500
    )
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
        check_clips(self.clips)


PRESETS = {
    "tiny": Config(
        preset="tiny",
        seeds=2,
        training=TrainingConfig(steps=4, batch_size=4, evaluate_every=2),
        clips=(12, 4, 24),
        simulations=512,
        unseen=128,
        emulator=TrainingConfig(steps=100, batch_size=128, learning_rate=4e-3, evaluate_every=50),
        paper_emulator=TrainingConfig(steps=100, batch_size=3_840, evaluate_every=50),
    ),
    "default": Config(),
    "full": Config(
        preset="full",
        clips=(8_000, 1_000, 1_000),
        training=TrainingConfig(steps=20_000, batch_size=32, weight_decay=1e-2, evaluate_every=500),
    ),
}


def read_sets(config: Config, run: Run) -> list[DataSet]:
    """Every data set that there is, checked before any work is done."""
    found: list[tuple[str, tuple[Record, ...], tuple[Skipped, ...], dict[str, str]]] = []
    if config.echonet is not None:
        data = read_echonet(config.echonet)
        check_splits(data)
        found.append(("echonet", data.records, data.skipped, {}))
    if config.camus is not None:
        camus = camus_with_split(config, run, config.camus)
        patients = {name: clip.patient for name, clip in camus.clips.items()}
        found.append(("camus", camus.records, camus.skipped, patients))
    folder = run.folder / "phantom"
    make_phantoms(folder, config.clips, seed=config.seed)
    found.insert(0, ("phantom", read_echonet(folder).records, (), {}))
    sets = []
    for name, records, skipped, patients in found:
        format = config.camus_format if name == "camus" else config.format
        cache = decode(records, format, run.folder / f"clips_{name}")
        whose = tuple(patients.get(record.name, record.name) for record in cache.records)
        sets.append(DataSet(name, cache, whose, (*skipped, *cache.skipped)))
    return sets


def camus_with_split(config: Config, run: Run, folder: Path) -> Camus:
    """CAMUS under the split that was given, or one that is drawn once and kept in the run."""
    kept = run.folder / "camus_split.csv"
    split = config.camus_split or (kept if kept.exists() else None)
    camus = read_camus(folder, split=split, seed=config.seed, frame_rate=config.camus_frame_rate)
    check_splits(camus)
    if split is None:
        write_split(kept, camus)
    return camus


def create(
    method: MethodName, cache: ClipCache, forwards: Mapping[str, AbstractForward], seed: int
) -> AbstractClipModel:
    """An untrained model of a method; one that gives θ has a forward model."""
    name: EncoderName = "conv3d" if method == "supervised_conv3d" else "tubelet"
    forward = forwards.get(method)
    size = 3 if forward is None else len(SEVEN.names)
    encoder = create_encoder(name, cache.format, size, key=jax.random.key(seed))
    if forward is None:
        return SupervisedClips.create(encoder, cache, name)
    return PSSL(encoder=encoder, forward=forward, format=cache.format, name=name)


def fill_cell(
    folder: Path,
    data: DataSet,
    method: MethodName,
    seed: int,
    forwards: Mapping[str, AbstractForward],
    config: Config,
) -> None:
    """Train one method with one seed, and write what it says of the test clips."""
    if (folder / "result.json").exists():
        return
    cache, cell, training = data.cache, Run(folder), config.training
    if method == "supervised_longer":
        # A longer schedule stays longer at rates where nothing improves.
        training = dataclasses.replace(
            training, steps=3 * training.steps, patience=3 * training.patience
        )
    began = time.monotonic()
    fitted = train_on_clips(
        create(method, cache, forwards, seed),
        cache,
        training,
        folder=folder,
        description={"data": data.name, "method": method},
        seed=seed,
        resume=True,
    )
    test = cache.split("TEST")
    got, true = predict_cached(fitted.model, cache, test), cached_measurements(cache, test)
    columns: dict[str, Any] = {
        "patient": [data.patients[i] for i in test],
        "clip": [cache.records[i].name for i in test],
        **{f"{name}_true": getattr(true, name) for name in ("EDV", "ESV", "EF")},
        **{name: getattr(got, name) for name in ("EDV", "ESV", "EF")},
    }
    if got.theta is not None:
        again = simulate_cohort(LeftHeart(), SEVEN, got.theta)
        columns["EF_resimulated"] = np.where(again.success, again.read(["EF"])["EF"], np.nan)
        columns |= dict(zip(SEVEN.names, got.theta.T, strict=True))
    write_table(folder / "predictions.csv", columns)
    clips = fitted.steps * training.batch_size
    cell.json(
        "result",
        {
            "validation": fitted.validation,
            "best_step": fitted.best_step,
            "clips_seen": clips,
            "training_seconds": fitted.seconds,
            "seconds_since_last_start": time.monotonic() - began,
            **origin(),
        },
    )


def experiment(config: Config, run: Run) -> dict[str, Any]:
    """All cells, then the tables."""
    sets = read_sets(config, run)
    emulator, emulator_errors = obtain_emulator(
        run,
        SEVEN,
        simulations=config.simulations,
        unseen=config.unseen,
        training=config.emulator,
        seed=config.seed,
    )
    forwards: dict[str, AbstractForward] = {
        "pssl": emulator,
        "ssl_simulator": Simulator(system=LeftHeart(), box=SEVEN, channels=CHANNELS, phases=PHASES),
    }
    if "pssl_paper" in config.methods:
        forwards["pssl_paper"], paper_errors = obtain_paper_emulator(
            run.folder, config.paper_emulator, unseen=config.unseen, seed=config.seed
        )
        emulator_errors |= {f"paper_{name}": error for name, error in paper_errors.items()}
    cells: list[tuple[DataSet, MethodName, int]] = [
        (data, method, config.seed + seed)
        for data in sets
        for method in config.methods
        for seed in range(config.seeds)
    ]
    for i, (data, method, seed) in enumerate(cells):
        print(f"cell {i + 1} of {len(cells)}: {data.name}, {TITLES[method]}, seed {seed}")
        folder = run.folder / "cells" / data.name / f"{method}-{seed - config.seed}"
        fill_cell(folder, data, method, seed, forwards, config)
    rows = summarise(config.methods, config.seeds, run, sets)
    write_tables(run, rows)
    print(f"\n{markdown(rows)}")
    return {
        "rows": rows,
        "emulator": emulator_errors,
        "skipped": {
            data.name: [{"name": s.name, "reason": s.reason} for s in data.skipped] for data in sets
        },
    }


if __name__ == "__main__":
    main("table_ef", PRESETS, experiment, __doc__)
