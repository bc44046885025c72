"""Training of twins for every variant and seed, and detection of disease from them."""

import time
from typing import Any, Literal

import numpy as np

from experiments.detection.cohort import describe_cohort, make_diseased_phantoms, read_diagnoses
from experiments.detection.curves import (
    EXACT,
    CurveVariant,
    curve_task,
    exact_curves,
    fill_curve_cell,
    segmented_curves,
)
from experiments.detection.figures import draw_figures
from experiments.detection.posteriors import ask, fill_posterior_cell
from experiments.detection.scores import Answers, recovery, score
from experiments.detection.settings import Config
from experiments.detection.table import write_scores
from jaxtwin.commands.clips import check_splits, decode
from jaxtwin.commands.emulator import obtain_emulator
from jaxtwin.commands.run import Run, origin
from jaxtwin.commands.tables import write_table
from jaxtwin.data.cache import ClipCache
from jaxtwin.data.echonet import read_echonet, read_theta
from jaxtwin.data.vitals import VitalName, pick_vitals
from jaxtwin.forward.emulator import Emulator
from jaxtwin.methods.clips import VOLUMES, Clips, ClipTask
from jaxtwin.methods.pssl_clips import PSSL
from jaxtwin.methods.saving import save_learnt
from jaxtwin.methods.tasks import Curves
from jaxtwin.models.left_heart import EIGHT, LeftHeart
from jaxtwin.twin.echo import measured_beside

Variant = Literal["volumes", "vitals"]
VARIANTS: dict[Variant, tuple[VitalName, ...]] = {
    "volumes": (),
    "vitals": ("period", "systolic", "diastolic"),
}


def fill_cell(
    run: Run, cache: ClipCache, emulator: Emulator, variant: Variant, seed: int, config: Config
) -> Answers:
    """Train one encoder and save its predictions for every clip."""
    folder = run.folder / "cells" / f"{variant}-{seed - config.seed}"
    kept = folder / "predictions.npz"
    if not kept.exists():
        vitals = VARIANTS[variant]
        learnt = PSSL(forward=emulator, encoder=config.encoder, config=config.training).learn(
            ClipTask(LeftHeart(), EIGHT, config.clips.format, vitals),
            Clips.from_split(cache, "TRAIN"),
            Clips.from_split(cache, "VAL"),
            seed=seed,
            folder=folder,
            resume=True,
        )
        save_learnt(folder / "encoder", learnt)
        got = learnt.estimate(Clips(cache, np.arange(len(cache.records))))
        assert got.theta is not None and got.features is not None
        Run(folder).json(
            "result",
            {
                "validation": dict(learnt.validation),
                "best_step": learnt.best_step,
                "training_seconds": learnt.seconds,
                **origin(),
            },
        )
        partial = folder / "predictions.partial.npz"
        volumes = np.stack([got.readings[name] for name in VOLUMES], axis=1)
        beside = [got.readings[name] for name in vitals]
        np.savez(
            partial,
            allow_pickle=False,
            names=[record.name for record in cache.records],
            theta=got.theta,
            features=got.features,
            volumes=volumes,
            vitals=np.stack(beside, axis=1) if vitals else np.zeros((len(volumes), 0)),
        )
        partial.replace(kept)
    with np.load(kept, allow_pickle=False) as file:
        if file["names"].tolist() != [record.name for record in cache.records]:
            raise ValueError(
                f"{kept} was made from other clips than {config.data or 'the phantoms'}: choose "
                "another --out"
            )
        return Answers(file["theta"], file["features"], file["volumes"], file["vitals"])


def experiment(config: Config, run: Run) -> dict[str, Any]:
    """Read the clips, learn the twins, score detection, and draw the figures."""
    began = time.monotonic()
    diagnoses: dict[str, str] = {}
    if config.data is not None and config.labels is not None:
        diagnoses = read_diagnoses(config.labels)
        dataset = read_echonet(config.data)
        check_splits(dataset)
        if dataset.skipped:
            first = dataset.skipped[0]
            print(
                f"{len(dataset.skipped)} clips of {config.data} are skipped, the first: "
                f"{first.name}: {first.reason}"
            )
        records = dataset.records
        describe_cohort(records, diagnoses, config.healthy)
        if unmatched := sorted(set(diagnoses) - {record.name for record in records}):
            print(
                f"{len(unmatched)} patients of {config.labels} have no usable clip, the first: "
                f"{unmatched[0]}"
            )
    emulator, emulator_errors = obtain_emulator(
        run.folder, EIGHT, config.emulator, seed=config.seed
    )
    data = config.data or run.folder / "phantom"
    if config.data is None:
        make_diseased_phantoms(data, config.clips.counts, seed=config.seed)
        diagnoses = read_diagnoses(data / "Diagnosis.csv")
    dataset = read_echonet(data)
    check_splits(dataset)
    cache = decode(dataset.records, config.clips.format, run.folder / "clips")
    seen = describe_cohort(cache.records, diagnoses, config.healthy)
    variants: list[Variant] = [name for name in VARIANTS if name in config.learn_from]
    needed = pick_vitals(seen.vitals, VARIANTS["vitals"])
    known = np.isfinite(np.stack(needed))
    missing = [name for name, row in zip(VARIANTS["vitals"], known, strict=True) if not row.all()]
    if missing and "vitals" in variants:
        if config.learn_from == ("vitals",):
            raise ValueError(f"--learn-from vitals: not every clip has {', '.join(missing)}")
        without = np.flatnonzero(~known.all(axis=0))
        print(
            f"not every clip has {', '.join(missing)} in FileList.csv ({len(without)} of "
            f"{len(cache.records)} lack one, the first: {cache.records[without[0]].name}): twins "
            "are learnt from volumes alone; remove the rows of those clips to use vital signs"
        )
        variants.remove("vitals")
    learnt: dict[str, list[Answers]] = {}
    for variant in variants:
        for seed in range(config.seed, config.seed + config.seeds):
            print(f"twins from {variant}, seed {seed}")
            one = fill_cell(run, cache, emulator, variant, seed, config)
            learnt.setdefault(variant, []).append(one)
            # Can be given as --twins to experiments.trial and experiments.lvad.
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
    if truth is not None and "curves" in config.learn_from:
        curves: dict[CurveVariant, Curves] = {
            variant: exact_curves(curve_task(variant, config.noise), truth, seed=config.seed)
            for variant in EXACT
        }
        builder = None
        if config.run is not None:
            curves["segmented curve"], builder = segmented_curves(run, cache.records, config)
        for variant, measured in curves.items():
            learnt[variant] = [
                fill_curve_cell(run, cache.records, measured, emulator, variant, seed, config)
                for seed in range(config.seed, config.seed + config.seeds)
            ]
        for variant in EXACT:
            learnt[f"{variant}, posterior"] = [
                fill_posterior_cell(run, cache.records, curves[variant], variant, seed, config)
                for seed in range(config.seed, config.seed + config.seeds)
            ]
        # Posteriors of a run with the paper's seven parameters know nothing of hypertension.
        if builder is not None and set(EIGHT.names) <= set(builder.learnt.task.box.names):
            learnt["segmented curve, posterior"] = [
                ask(
                    builder.posteriors[0],
                    curves["segmented curve"]._replace(
                        beside=measured_beside(builder.learnt.task, {}, len(cache.records))
                    ),
                    len(cache.records),
                    config.seed,
                )
            ]
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
