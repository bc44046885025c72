"""Cells of the table: every method, data set and seed."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.table_ef.compared import CURVE, METHODS
from experiments.table_ef.curves import fill_curve_cells
from experiments.table_ef.paper_emulator import obtain_paper_emulator
from experiments.table_ef.settings import Config
from experiments.table_ef.table import (
    DataSet,
    EF_errors,
    markdown,
    summarise,
    write_cell,
    write_tables,
)
from jaxtwin.commands.clips import check_splits, decode
from jaxtwin.commands.emulator import CHANNELS, PHASES, obtain_emulator
from jaxtwin.commands.run import Run
from jaxtwin.data.camus import Camus, read_camus, write_split
from jaxtwin.data.echonet import Record, Skipped, read_echonet
from jaxtwin.data.phantom.cohort import make_phantoms
from jaxtwin.forward.base import AbstractForward
from jaxtwin.forward.simulator import Simulator
from jaxtwin.methods.clips import Clips, ClipTask
from jaxtwin.models.left_heart import SEVEN, LeftHeart


def read_sets(config: Config, run: Run) -> list[DataSet]:
    """Read and check all data sets, then decode their clips."""
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
    make_phantoms(folder, LeftHeart(), SEVEN, config.clips.counts, seed=config.seed)
    found.insert(0, ("phantom", read_echonet(folder).records, (), {}))
    sets = []
    for name, records, skipped, patients in found:
        format = config.camus_format if name == "camus" else config.clips.format
        cache = decode(records, format, run.folder / f"clips_{name}")
        whose = tuple(patients.get(record.name, record.name) for record in cache.records)
        sets.append(DataSet(name, cache, whose, (*skipped, *cache.skipped)))
    return sets


def camus_with_split(config: Config, run: Run, folder: Path) -> Camus:
    """Read CAMUS with the given split, or with one drawn once and saved in the run's folder."""
    kept = run.folder / "camus_split.csv"
    split = config.camus_split or (kept if kept.exists() else None)
    camus = read_camus(folder, split=split, seed=config.seed, frame_rate=config.camus_frame_rate)
    check_splits(camus)
    if split is None:
        write_split(kept, camus)
    return camus


def fill_cell(
    folder: Path,
    data: DataSet,
    method: str,
    seed: int,
    forwards: Mapping[str, AbstractForward],
    config: Config,
) -> None:
    """Train one method with one seed and write its predictions for the test clips."""
    if (folder / "result.json").exists():
        return
    began = time.monotonic()
    training, validation, test = (
        Clips.from_split(data.cache, name) for name in ("TRAIN", "VAL", "TEST")
    )
    learnt = (
        METHODS[method]
        .create(config.training, forwards)
        .learn(
            ClipTask(LeftHeart(), SEVEN, data.cache.format),
            training,
            validation,
            seed=seed,
            folder=folder,
            resume=True,
        )
    )
    got = learnt.estimate(test)
    facts = {
        "validation": dict(learnt.validation),
        "best_step": learnt.best_step,
        "clips_seen": learnt.steps * config.training.batch_size,
        "training_seconds": learnt.seconds,
        "seconds_since_last_start": time.monotonic() - began,
    }
    write_cell(folder, data, got.readings, got.theta, facts)


def experiment(config: Config, run: Run) -> dict[str, Any]:
    """Compute all cells, then write the tables."""
    sets = read_sets(config, run)
    emulator, emulator_errors = obtain_emulator(
        run.folder, SEVEN, config.emulator, seed=config.seed
    )
    forwards: dict[str, AbstractForward] = {
        "emulator": emulator,
        "simulator": Simulator(system=LeftHeart(), box=SEVEN, channels=CHANNELS, phases=PHASES),
    }
    if "pssl_paper" in config.methods:
        forwards["paper"], paper_errors = obtain_paper_emulator(
            run.folder, config.paper_emulator, unseen=config.emulator.unseen, seed=config.seed
        )
        emulator_errors |= {f"paper_{name}": error for name, error in paper_errors.items()}
    cells: list[tuple[DataSet, str, int]] = [
        (data, method, config.seed + seed)
        for data in sets
        for method in config.methods
        for seed in range(config.seeds)
    ]
    for i, (data, method, seed) in enumerate(cells):
        print(f"cell {i + 1} of {len(cells)}: {data.name}, {METHODS[method].title}, seed {seed}")
        folder = run.folder / "cells" / data.name / f"{method}-{seed - config.seed}"
        fill_cell(folder, data, method, seed, forwards, config)
    methods, beating = config.methods, {}
    if config.run is not None:
        names = fill_curve_cells(run, sets[0], config.run, emulator, config)
        methods = (*methods, CURVE)
        beating = {"clips": len(names), "EF_error": EF_errors(run, methods, config.seeds, names)}
        print(f"EF error on the {len(names)} phantom clips in which a beat is found [points]:")
        for title, error in beating["EF_error"].items():
            print(f"    {title:55}{error:6.2f}")
    rows = summarise(methods, config.seeds, run, sets)
    write_tables(run, rows)
    print(f"\n{markdown(rows)}")
    return {
        "rows": rows,
        "with_a_beat": beating,
        "emulator": emulator_errors,
        "skipped": {
            data.name: [{"name": s.name, "reason": s.reason} for s in data.skipped] for data in sets
        },
    }
