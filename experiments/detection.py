"""Disease without labels: is it found in twins that were learnt from two volumes alone?

    python -m experiments.detection [--preset tiny|default|full] [--out DIR]
    python -m experiments.detection --data DIR --labels FILE

Renders phantom clips of a clinic's cohort (healthy, mitral stenosis, aortic stenosis, reduced
contractility, hypertension; `jaxtwin/cohorts/diseases.py`), learns twins of eight parameters from
them by P-SSL, once from EDV, ESV and EF alone and once with heart period and arm-cuff pressure
beside, and asks of the twins of unseen clips who is ill: by the parameter that the disease changes,
by being unlike the bulk, by groups found without labels, and by a classifier that was told other
patients' diagnoses. Beside them stand EF alone, the measured numbers themselves, the clip encoder's
features, the true volume curve, and the true parameters, which are the ceiling. No diagnosis is
seen before the scores. After Kuang et al., NeurIPS 2024, section on disease and figure 3b.

With --data and --labels (a CSV file with the columns patient, a clip's name, and diagnosis), the
same on real clips; period and pressures are used where FileList.csv has all three, in the columns
HeartPeriod, SystolicPressure and DiastolicPressure, for every clip. The default takes about 40
minutes on two CPU cores, tiny about one.
"""

import csv
import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from experiments.command import Run, RunConfig, main, origin
from experiments.detection_table import Learnt, Seen, draw_figures, recovery, score, write_scores
from experiments.pssl import check_clips, check_splits, decode, obtain_emulator, write_phantoms
from experiments.tables import write_table
from jaxtwin.analysis.detection import MOST_GROUPS
from jaxtwin.cohorts.diseases import draw_diseased
from jaxtwin.data.base import ClipFormat
from jaxtwin.data.cache import ClipCache
from jaxtwin.data.echonet import Record, read_echonet, read_theta
from jaxtwin.data.vitals import VitalName, pick_vitals, simulate_vitals
from jaxtwin.encoders.create import EncoderName, create_encoder
from jaxtwin.forward.emulator import Emulator
from jaxtwin.methods.clips import predict_cached, train_on_clips
from jaxtwin.methods.pssl import PSSL, save_pssl
from jaxtwin.models.left_heart import EIGHT, LeftHeart
from jaxtwin.training.loop import TrainingConfig

Variant = Literal["volumes", "vitals"]
VARIANTS: dict[Variant, tuple[VitalName, ...]] = {
    "volumes": (),
    "vitals": ("period", "systolic", "diastolic"),
}


# Of whom the bulk and the groups are sought.
LEAST_TRAINING = 4 * MOST_GROUPS
LEAST_TESTED = 40
LEAST_ILL = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(RunConfig):
    """Find disease in twins that never met a diagnosis.

    Attributes:
        data: A folder in EchoNet-Dynamic's layout; by default phantom clips are made.
        labels: Diagnoses of its patients: a CSV file with the columns patient and diagnosis. Only
            needed, and only allowed, with data.
        healthy: What the labels call those who are not ill.
        seeds: How many seeds each encoder is trained with.
        simulations: Simulated patients that the emulator learns from.
        unseen: Simulated patients that it is measured on.
        emulator: How the emulator is trained.
        clips: Phantom clips for training, validation and test.
        format: What every clip is brought to.
        encoder: The default network or the paper's.
        training: How the encoders are trained.
    """

    data: Path | None = None
    labels: Path | None = None
    healthy: str = "healthy"
    seeds: int = 3
    simulations: int = 16_384
    unseen: int = 4_096
    emulator: TrainingConfig = TrainingConfig(
        steps=3_500, batch_size=512, learning_rate=4e-3, evaluate_every=500
    )
    clips: tuple[int, int, int] = (2_000, 250, 750)
    format: ClipFormat = ClipFormat()
    encoder: EncoderName = "tubelet"
    training: TrainingConfig = TrainingConfig(
        steps=2_000, batch_size=16, weight_decay=1e-2, evaluate_every=200, patience=5
    )

    def __post_init__(self):
        super().__post_init__()
        if (self.data is None) != (self.labels is None):
            raise ValueError(
                f"--data {self.data} --labels {self.labels}: expected both or neither; phantom "
                "clips have diagnoses of their own"
            )
        if self.seeds < 1:
            raise ValueError(f"--seeds {self.seeds}: expected at least 1")
        check_clips(self.clips)
        if self.clips[0] < LEAST_TRAINING or self.clips[2] < LEAST_TESTED:
            raise ValueError(
                f"--clips {' '.join(map(str, self.clips))}: expected at least {LEAST_TRAINING} to "
                f"train on and {LEAST_TESTED} to test, of which one in ten has each disease"
            )


PRESETS = {
    "tiny": Config(
        preset="tiny",
        seeds=2,
        simulations=512,
        unseen=128,
        emulator=TrainingConfig(steps=100, batch_size=128, learning_rate=4e-3, evaluate_every=50),
        clips=(48, 8, 40),
        training=TrainingConfig(steps=8, batch_size=8, weight_decay=1e-2, evaluate_every=4),
    ),
    "default": Config(),
    "full": Config(
        preset="full",
        clips=(8_000, 1_000, 2_000),
        training=TrainingConfig(steps=10_000, batch_size=32, weight_decay=1e-2, evaluate_every=500),
    ),
}


def make_diseased_phantoms(folder: Path, clips: tuple[int, int, int], *, seed: int) -> None:
    """Draw a clinic's cohort, measure and render it, and write it with its diagnoses.

    Args:
        folder: Where, in EchoNet-Dynamic's layout; a complete cohort that is there is kept.
        clips: How many for training, validation and test.
        seed: Of patients, instruments, nuisances and noise.
    """
    if (folder / "FileList.csv").exists():
        return
    patients = draw_diseased(LeftHeart(), EIGHT, sum(clips), seed=seed)
    beats = patients.cohort
    period = np.asarray(beats.theta[:, EIGHT.names.index("T_c")])
    vitals = simulate_vitals(
        period, beats.recording.maximum.P_ao, beats.recording.minimum.P_ao, seed=seed
    )
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "Diagnosis.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["patient", "diagnosis"])
        table.writerows((f"PHANTOM{i:06d}", d) for i, d in enumerate(patients.diagnosis))
    write_phantoms(folder, beats, EIGHT, clips, seed=seed, vitals=vitals)


def read_diagnoses(path: Path) -> dict[str, str]:
    """Each patient's diagnosis, from a CSV file with the columns patient and diagnosis.

    Raises:
        ValueError: If there is no such file, it lacks a column, or a patient has two diagnoses.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file)
            columns = table.fieldnames or []
            rows = list(table)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"--labels {path}: {error}") from error
    if not {"patient", "diagnosis"} <= set(columns):
        raise ValueError(
            f"--labels {path} has the columns {', '.join(columns) or 'none'}: expected patient, "
            "the clip's name, and diagnosis"
        )
    found: dict[str, str] = {}
    for row in rows:
        name, diagnosis = (str(row[key] or "").strip() for key in ("patient", "diagnosis"))
        name = name[:-4] if name.lower().endswith(".avi") else name
        if found.get(name, diagnosis) != diagnosis:
            raise ValueError(
                f"--labels {path}: {name} is listed as {found[name]} and as {diagnosis}; keep the "
                "diagnosis that you want to find"
            )
        found[name] = diagnosis
    unknown = {"", "na", "nan", "none", "unknown"}
    return {name: d for name, d in found.items() if name and d.lower() not in unknown}


def describe_cohort(records: Sequence[Record], diagnoses: dict[str, str], healthy: str) -> Seen:
    """What is known of the clips' patients.

    Raises:
        ValueError: If there are too few training clips, or nobody of the test clips is healthy, or
            nobody is ill.
    """
    diagnosis = np.array([diagnoses.get(record.name, "") for record in records])
    split = np.array([record.split for record in records])
    if np.sum(split == "TRAIN") < LEAST_TRAINING:
        raise ValueError(
            f"{np.sum(split == 'TRAIN')} TRAIN clips: bulk and groups of patients need at least "
            f"{LEAST_TRAINING}"
        )
    tested = sorted(set(diagnosis[split == "TEST"]) - {""})
    few = {name for name in tested if np.sum(diagnosis[split == "TEST"] == name) < LEAST_ILL}
    for name in sorted(few):
        print(f"{name}: fewer than {LEAST_ILL} TEST clips, too few to say anything; left out")
    diagnosis[np.isin(diagnosis, list(few))] = ""
    tested = [name for name in tested if name not in few]
    if healthy not in tested or len(tested) < 2:
        raise ValueError(
            f"diagnoses of the TEST clips: {', '.join(tested) or 'none'}; expected {healthy!r} "
            "(--healthy says what yours are called) and at least one disease, each of at least "
            f"{LEAST_ILL} clips; a patient in the file is a clip's name in FileList.csv"
        )
    numbers = np.array([(r.edv, r.esv, 100 * (r.edv - r.esv) / r.edv) for r in records])
    return Seen(
        split=split,
        diagnosis=diagnosis,
        healthy=healthy,
        volumes=numbers,
        vitals=np.array([record.vitals for record in records], float),
    )


def fill_cell(
    run: Run, cache: ClipCache, emulator: Emulator, variant: Variant, seed: int, config: Config
) -> Learnt:
    """Train one encoder, and keep what it says of every clip."""
    folder = run.folder / "cells" / f"{variant}-{seed - config.seed}"
    kept = folder / "predictions.npz"
    if not kept.exists():
        vitals = VARIANTS[variant]
        encoder = create_encoder(
            config.encoder,
            config.format,
            len(EIGHT.names),
            beside=len(vitals),
            key=jax.random.key(seed),
        )
        model = PSSL(
            encoder=encoder,
            forward=emulator,
            format=config.format,
            name=config.encoder,
            vitals=vitals,
        )
        fitted = train_on_clips(
            model,
            cache,
            config.training,
            folder=folder,
            description={"data": str(config.data or "phantom"), "variant": variant},
            seed=seed,
            resume=True,
        )
        save_pssl(folder / "encoder", fitted.model, fitted.validation)
        got = predict_cached(fitted.model, cache, np.arange(len(cache.records)))
        assert got.theta is not None
        Run(folder).json(
            "result",
            {
                "validation": fitted.validation,
                "best_step": fitted.best_step,
                "training_seconds": fitted.seconds,
                **origin(),
            },
        )
        partial = folder / "predictions.partial.npz"
        volumes = np.stack([got.EDV, got.ESV, got.EF], axis=1)
        np.savez(
            partial,
            allow_pickle=False,
            names=[record.name for record in cache.records],
            theta=got.theta,
            features=got.features,
            volumes=volumes,
            vitals=np.stack(got.vitals, axis=1) if vitals else np.zeros((len(volumes), 0)),
        )
        partial.replace(kept)
    with np.load(kept, allow_pickle=False) as file:
        if file["names"].tolist() != [record.name for record in cache.records]:
            raise ValueError(
                f"{kept} is about other clips than {config.data or 'the phantoms'} has now: choose "
                "another --out"
            )
        return Learnt(file["theta"], file["features"], file["volumes"], file["vitals"])


def experiment(config: Config, run: Run) -> dict[str, Any]:
    """Clips, twins, scores, figures."""
    began = time.monotonic()
    diagnoses: dict[str, str] = {}
    if config.data is not None and config.labels is not None:
        diagnoses = read_diagnoses(config.labels)
        dataset = read_echonet(config.data)
        check_splits(dataset)
        if dataset.skipped:
            first = dataset.skipped[0]
            print(
                f"{len(dataset.skipped)} clips of {config.data} are refused, the first: "
                f"{first.name}: {first.reason}"
            )
        records = dataset.records
        describe_cohort(records, diagnoses, config.healthy)
        if unmatched := sorted(set(diagnoses) - {record.name for record in records}):
            print(
                f"{len(unmatched)} patients of {config.labels} have no usable clip, "
                f"{unmatched[0]} the first"
            )
    emulator, emulator_errors = obtain_emulator(
        run,
        EIGHT,
        simulations=config.simulations,
        unseen=config.unseen,
        training=config.emulator,
        seed=config.seed,
    )
    data = config.data or run.folder / "phantom"
    if config.data is None:
        make_diseased_phantoms(data, config.clips, seed=config.seed)
        diagnoses = read_diagnoses(data / "Diagnosis.csv")
    dataset = read_echonet(data)
    check_splits(dataset)
    cache = decode(dataset.records, config.format, run.folder / "clips")
    seen = describe_cohort(cache.records, diagnoses, config.healthy)
    variants = list(VARIANTS)
    needed = pick_vitals(seen.vitals, VARIANTS["vitals"])
    known = np.isfinite(np.stack(needed))
    missing = [name for name, row in zip(VARIANTS["vitals"], known, strict=True) if not row.all()]
    if missing:
        without = np.flatnonzero(~known.all(axis=0))
        print(
            f"not every clip has {', '.join(missing)} in FileList.csv ({len(without)} of "
            f"{len(cache.records)} lack one, the first: {cache.records[without[0]].name}): twins "
            "are learnt from volumes alone; remove those clips' rows to use the others' vitals"
        )
        variants.remove("vitals")
    learnt: dict[str, list[Learnt]] = {}
    for variant in variants:
        for seed in range(config.seed, config.seed + config.seeds):
            print(f"twins from {variant}, seed {seed}")
            one = fill_cell(run, cache, emulator, variant, seed, config)
            learnt.setdefault(variant, []).append(one)
            # What experiments.trial and experiments.lvad take as --twins.
            test = cache.split("TEST")
            write_table(
                run.folder / "cells" / f"{variant}-{seed - config.seed}" / "predictions.csv",
                {
                    "clip": [cache.records[i].name for i in test],
                    **dict(zip(EIGHT.names, one.theta[test].T, strict=True)),
                },
            )
    truth = None
    if (data / "Theta.csv").exists():
        theta = read_theta(data)
        if set(EIGHT.names) <= set(next(iter(theta.values()))):
            truth = np.array(
                [[theta[r.name][name] for name in EIGHT.names] for r in cache.records], np.float32
            )
    rows = score(seen, learnt, truth)
    table = write_scores(run, rows, seen)
    draw_figures(run, rows, seen, learnt, truth)
    print(f"\n{table}")
    if n := int(np.sum((seen.diagnosis == "") & (seen.split == "TEST"))):
        print(f"{n} TEST clips without a diagnosis were left out")
    skipped = [*dataset.skipped, *cache.skipped]
    return {
        "emulator": emulator_errors,
        "recovery": recovery(seen, learnt, truth),
        "clips_without_diagnosis": int(np.sum(seen.diagnosis == "")),
        "vitals_that_not_every_clip_has": missing,
        "skipped": [{"name": clip.name, "reason": clip.reason} for clip in skipped],
        "seconds_since_last_start": time.monotonic() - began,
    }


if __name__ == "__main__":
    main("detection", PRESETS, experiment, __doc__)
