"""EF from clips: supervised against physics-informed learning, on every data set at hand.

    python -m experiments.table_ef [--echonet DIR] [--camus DIR] [--preset tiny|default]

Every method gets the same clips, the same split, the same number of clips to learn from (drawn in
the same order) and the same rule of selection: the lowest loss on validation clips. Each is run
with several seeds, and its error on unseen patients stands beside that of predicting the median
for everyone, and beside published figures for context. EF is given as the method predicts it and,
where the method gives parameters, re-simulated by the circuit at those. After Kuang et al.,
NeurIPS 2024, table 1.

Phantom clips are always in the table; EchoNet-Dynamic and CAMUS where their folders are given.
Cells (data set, method, seed) that are finished are kept: `--resume` goes on with the others. The
default takes about an hour and a half on two CPU cores, two thirds of it for the paper's
network; tiny takes two minutes and only shows that everything runs.
"""

import dataclasses
import functools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from matplotlib.figure import Figure

from experiments.command import Run, RunConfig, main
from experiments.pssl import CHANNELS, check_splits, make_phantoms, obtain_emulator
from experiments.tables import by_patient, read_table, write_table
from jaxtwin import plotting
from jaxtwin.analysis.metrics import Interval, mean_with_interval
from jaxtwin.cohort import simulate_cohort
from jaxtwin.data.base import ClipFormat
from jaxtwin.data.cache import ClipCache
from jaxtwin.data.camus import Camus, read_camus, write_split
from jaxtwin.data.echonet import Record, Skipped, read_echonet
from jaxtwin.emulator import Emulator
from jaxtwin.encoder import EncoderName, create_encoder
from jaxtwin.forward import AbstractForward, Simulator
from jaxtwin.methods.clips import (
    AbstractClipModel,
    cached_measurements,
    predict_cached,
    train_on_clips,
)
from jaxtwin.methods.pssl import PSSL
from jaxtwin.methods.supervised import SupervisedClips
from jaxtwin.physics.left_heart import SEVEN, LeftHeart
from jaxtwin.physics.observables import ejection_fraction
from jaxtwin.progress import progress_bar
from jaxtwin.training import TrainingConfig

MethodName = Literal["pssl", "ssl_simulator", "supervised", "supervised_conv3d"]
TITLES: dict[str, str] = {
    "pssl": "P-SSL (emulator)",
    "ssl_simulator": "SSL through the simulator",
    "supervised": "supervised, default encoder",
    "supervised_conv3d": "supervised, the paper's 3D-CNN",
    "median": "predicting the median",
}
# Errors on the real test sets as published, under other budgets and on other machines.
PUBLISHED: dict[str, dict[str, float]] = {
    "echonet": {
        "R(2+1)D, Ouyang et al. 2020": 4.1,
        "CoReEcho, Maani et al. 2024": 3.9,
    },
    "camus": {"U-Net, Leclerc et al. 2019": 5.6},
}


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
        training: Of every method alike.
        clips: Phantom clips for training, validation and test.
        format: What clips of whole beats are brought to.
        camus_format: What CAMUS's half beats are brought to: half a second.
        simulations: Simulated patients that the emulator learns from.
        unseen: Simulated patients that it is measured on.
        emulator: How the emulator is trained.
    """

    echonet: Path | None = None
    camus: Path | None = None
    camus_split: Path | None = None
    camus_frame_rate: float | None = None
    methods: tuple[MethodName, ...] = ("pssl", "ssl_simulator", "supervised", "supervised_conv3d")
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
        clips=(12, 4, 24),
        simulations=512,
        unseen=128,
        emulator=TrainingConfig(steps=100, batch_size=128, learning_rate=4e-3, evaluate_every=50),
    ),
    "default": Config(),
    "full": Config(
        preset="full",
        clips=(8_000, 1_000, 1_000),
        training=TrainingConfig(steps=20_000, batch_size=32, weight_decay=1e-2, evaluate_every=500),
    ),
}


class DataSet(NamedTuple):
    """Clips of one data set, all read.

    Attributes:
        name: "phantom", "echonet" or "camus".
        cache: The clips.
        patients: Whose each clip is: answers for several clips of one patient are averaged.
        skipped: What could not be used.
    """

    name: str
    cache: ClipCache
    patients: tuple[str, ...]
    skipped: tuple[Skipped, ...]


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
        cache = ClipCache.build(
            records,
            config.camus_format if name == "camus" else config.format,
            run.folder / f"clips_{name}",
            progress=functools.partial(
                progress_bar, total=len(records), desc=f"decoding {name}", unit="clip"
            ),
        )
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
    method: MethodName, cache: ClipCache, emulator: Emulator, seed: int
) -> AbstractClipModel:
    """An untrained model of a method."""
    name: EncoderName = "conv3d" if method == "supervised_conv3d" else "tubelet"
    theta = method in ("pssl", "ssl_simulator")
    key = jax.random.key(seed)
    encoder = create_encoder(name, cache.format, len(SEVEN.names) if theta else 3, key=key)
    if not theta:
        return SupervisedClips.create(encoder, cache, name)
    simulator = Simulator(system=LeftHeart(), box=SEVEN, channels=CHANNELS, phases=80)
    forward: AbstractForward = emulator if method == "pssl" else simulator
    return PSSL(encoder=encoder, forward=forward, format=cache.format, name=name)


def fill_cell(
    folder: Path, data: DataSet, method: MethodName, seed: int, emulator: Emulator, config: Config
) -> None:
    """Train one method with one seed, and write what it says of the test clips."""
    if (folder / "result.json").exists():
        return
    cache, cell = data.cache, Run(folder)
    began = time.monotonic()
    fitted = train_on_clips(
        create(method, cache, emulator, seed),
        cache,
        config.training,
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
        **{f"{name}_true": column for name, column in true._asdict().items()},
        **{name: getattr(got, name) for name in ("EDV", "ESV", "EF")},
    }
    if got.theta is not None:
        again = simulate_cohort(LeftHeart(), SEVEN, got.theta)
        EF = ejection_fraction(again.maximum.V_lv, again.minimum.V_lv)
        columns["EF_resimulated"] = np.where(again.converged, EF, np.nan)
        columns |= dict(zip(SEVEN.names, got.theta.T, strict=True))
    write_table(folder / "predictions.csv", columns)
    clips = fitted.steps * config.training.batch_size
    cell.json(
        "result",
        {
            "validation": fitted.validation,
            "best_step": fitted.best_step,
            "clips_seen": clips,
            "training_seconds": fitted.seconds,
            "seconds_since_last_start": time.monotonic() - began,
        },
    )


COLUMNS: dict[str, Callable[[dict[str, np.ndarray]], np.ndarray]] = {
    "EF": lambda t: np.abs(t["EF"] - t["EF_true"]),
    "EF_resimulated": lambda t: np.abs(t["EF_resimulated"] - t["EF_true"]),
    "EDV": lambda t: np.abs(t["EDV"] - t["EDV_true"]),
    "ESV": lambda t: np.abs(t["ESV"] - t["ESV_true"]),
}
"""Absolute errors of each patient: EF in points, volumes in mL."""


def errors(predictions: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Absolute errors of each patient, whose clips' answers are averaged first."""
    patients = predictions["patient"]
    mean = {
        name: by_patient(patients, values)
        for name, values in predictions.items()
        if values.dtype.kind == "f"
    }
    wanted = {name: f for name, f in COLUMNS.items() if name in mean}
    return {name: f(mean) for name, f in wanted.items()}


def summarise(config: Config, run: Run, sets: Sequence[DataSet]) -> list[dict[str, Any]]:
    """One row a data set and method: means over patients and seeds, with their intervals."""
    rows = []
    for data in sets:
        for method in config.methods:
            found, facts = [], []
            for seed in range(config.seeds):
                folder = run.folder / "cells" / data.name / f"{method}-{seed}"
                if (folder / "result.json").exists():
                    found.append(errors(read_table(folder / "predictions.csv")))
                    facts.append(json.loads((folder / "result.json").read_text()))
            if found:
                rows.append(_row(data, method, found, facts))
        cache, test = data.cache, data.cache.split("TEST")
        median = [np.median(x) for x in cached_measurements(cache, cache.split("TRAIN"))]
        guess = {
            "patient": np.array([data.patients[i] for i in test]),
            **{f"{k}_true": v for k, v in cached_measurements(cache, test)._asdict().items()},
            **{k: np.full(len(test), m) for k, m in zip(("EDV", "ESV", "EF"), median, strict=True)},
        }
        rows.append(_row(data, "median", [errors(guess)], []))
    return rows


def _row(
    data: DataSet, method: str, found: list[dict[str, np.ndarray]], facts: list[dict[str, Any]]
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "data": data.name,
        "method": TITLES[method],
        "seeds": len(found),
        "patients": len(found[0]["EF"]),
    }
    for name in COLUMNS:
        if name not in found[0]:
            row |= {name: None, f"{name}_low": None, f"{name}_high": None, f"{name}_seeds": None}
            continue
        mean, low, high = mean_with_interval(np.mean([f[name] for f in found], axis=0))
        spread = float(np.std([f[name].mean() for f in found], ddof=1)) if len(found) > 1 else None
        row |= {name: mean, f"{name}_low": low, f"{name}_high": high, f"{name}_seeds": spread}
    row["clips_seen"] = int(np.mean([f["clips_seen"] for f in facts])) if facts else 0
    row["training_minutes"] = (
        float(np.mean([f["training_seconds"] for f in facts])) / 60 if facts else 0.0
    )
    return row


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table as Markdown, with published figures as context rows."""
    lines = [
        "| data | method | EF error [points] | re-simulated | EDV [mL] | ESV [mL] "
        "| seeds | clips seen | minutes |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for data in dict.fromkeys(row["data"] for row in rows):
        for row in rows:
            if row["data"] != data:
                continue
            cells = [_cell(row, name) for name in COLUMNS]
            learnt = bool(row["clips_seen"])
            lines.append(
                f"| {data} (n = {row['patients']}) | {row['method']} | {' | '.join(cells)} "
                f"| {row['seeds'] if learnt else '–'} "
                f"| {format(row['clips_seen'], ',') if learnt else '–'} "
                f"| {format(row['training_minutes'], '.1f') if learnt else '–'} |"
            )
        for title, error in PUBLISHED.get(data, {}).items():
            lines.append(f"| {data} | *{title} (published)* | {error} | – | – | – | – | – | – |")
    lines.append("")
    lines.append(
        "Mean absolute errors on unseen patients; in brackets the 95% bootstrap interval over "
        "patients, after ± the spread between seeds."
    )
    return "\n".join(lines)


def _cell(row: Mapping[str, Any], name: str) -> str:
    if row[name] is None:
        return "–"
    spread = "" if row[f"{name}_seeds"] is None else f" ± {row[f'{name}_seeds']:.2f}"
    return f"{row[name]:.2f}{spread} [{row[f'{name}_low']:.2f}, {row[f'{name}_high']:.2f}]"


def draw(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """EF errors with their intervals, a panel a data set."""
    names = list(dict.fromkeys(row["data"] for row in rows))
    height = 1.2 + 0.45 * max(sum(row["data"] == n for row in rows) for n in names)
    figure = Figure(figsize=(1.5 + 5 * len(names), height), layout="constrained")
    for ax, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        chosen = [row for row in rows if row["data"] == name]
        plotting.intervals(
            ax,
            [row["method"] for row in chosen],
            [Interval(row["EF"], row["EF_low"], row["EF_high"]) for row in chosen],
            label="EF error [points]",
            references=PUBLISHED.get(name, {}),
        )
        ax.set_title(f"{name}, {chosen[0]['patients']} unseen patients", fontsize="medium")
    return figure


def write_tables(run: Run, rows: Sequence[Mapping[str, Any]]) -> None:
    """CSV, Markdown and PNG."""
    write_table(run.folder / "table_ef.csv", {k: [row[k] for row in rows] for k in rows[0]})
    (run.folder / "table_ef.md").write_text(markdown(rows) + "\n")
    run.written += [run.folder / "table_ef.csv", run.folder / "table_ef.md"]
    run.figure("table_ef", draw(rows))


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
    cells: list[tuple[DataSet, MethodName, int]] = [
        (data, method, config.seed + seed)
        for data in sets
        for method in config.methods
        for seed in range(config.seeds)
    ]
    for i, (data, method, seed) in enumerate(cells):
        print(f"cell {i + 1} of {len(cells)}: {data.name}, {TITLES[method]}, seed {seed}")
        folder = run.folder / "cells" / data.name / f"{method}-{seed - config.seed}"
        fill_cell(folder, data, method, seed, emulator, config)
    rows = summarise(config, run, sets)
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
