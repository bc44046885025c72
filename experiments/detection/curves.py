"""Twins learnt from volume curves: the exact ones, and those that a segmenter finds in clips."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from experiments.detection.scores import Answers
from experiments.detection.settings import Config
from jaxtwin.cohorts.simulate import simulate_cohort
from jaxtwin.commands.emulator import CHANNELS, PHASES
from jaxtwin.commands.run import Run, origin
from jaxtwin.data.echonet import Record
from jaxtwin.data.recording import read_recording
from jaxtwin.forward.emulator import Emulator
from jaxtwin.imaging.beats import find_beats
from jaxtwin.imaging.examples import read_labels
from jaxtwin.imaging.segmenter import load_segmenter
from jaxtwin.methods.clips import VOLUMES
from jaxtwin.methods.pssl_curves import CurvePSSL
from jaxtwin.methods.saving import save_learnt
from jaxtwin.methods.tasks import Curves, CurveTask
from jaxtwin.models.left_heart import EIGHT, LeftHeart
from jaxtwin.training.progress import progress_bar

CurveVariant = Literal["exact curve", "exact curve, turned", "segmented curve"]

EXACT: tuple[CurveVariant, ...] = ("exact curve", "exact curve, turned")


def curve_task(variant: CurveVariant, noise: float) -> CurveTask:
    """Return the task: θ from a volume curve of known period.

    The exact curve begins at the system's t = 0; the others begin anywhere in the beat.
    """
    channel, *hidden = CHANNELS
    return CurveTask(
        *(LeftHeart(), EIGHT, channel, 0.2, tuple(hidden), PHASES),
        known=("T_c",),
        noise=noise,
        unknown_start=variant != "exact curve",
    )


def exact_curves(task: CurveTask, truth: np.ndarray, *, seed: int) -> Curves:
    """Simulate the patients and measure their curves with noise."""
    return task.measure(simulate_cohort(task.system, task.box, truth, phases=PHASES), seed)


def segmented_curves(run: Run, records: Sequence[Record], config: Config) -> Curves:
    """Measure the mean beat and the period of every clip, NaN where none is found.

    They are kept in the run's folder.
    """
    assert config.segmenter is not None
    kept = run.folder / "segmented.npz"
    names = [record.name for record in records]
    if not kept.exists():
        segmenter = load_segmenter(config.segmenter)
        values = np.full((len(records), PHASES), np.nan, np.float32)
        period = np.full((len(records), 1), np.nan, np.float32)
        for k, record in enumerate(progress_bar(records, desc="segmenting", unit="clip")):
            found = segmenter.measure(read_recording(record.path), read_labels(record).pixel)
            beats = find_beats(found.times, found.shape.volume, phases=PHASES)
            if np.isfinite(beats.period):
                values[k], period[k] = beats.volume, beats.period
        partial = kept.with_suffix(".partial.npz")
        np.savez(partial, allow_pickle=False, names=names, values=values, period=period)
        partial.replace(kept)
    with np.load(kept, allow_pickle=False) as file:
        if file["names"].tolist() != names:
            raise ValueError(f"{kept} was made from other clips: choose another --out")
        return Curves(file["values"], file["period"])


def fill_curve_cell(
    run: Run,
    records: Sequence[Record],
    curves: Curves,
    emulator: Emulator,
    variant: CurveVariant,
    seed: int,
    config: Config,
) -> Answers:
    """Train one encoder of curves and return its estimates of every clip.

    A clip without a curve of a plausible period gets the median of the others' parameters, with
    which it is neither ill nor healthy.
    """
    task, known = curve_task(variant, config.noise), np.asarray(curves.known)
    column = task.box.names.index("T_c")
    period = known[:, 0]
    usable = np.isfinite(np.asarray(curves.values)).all(axis=1)
    usable &= (period >= task.box.low[column]) & (period <= task.box.high[column])
    if lost := int((~usable).sum()):
        print(
            f"{variant}, seed {seed}: {lost} of {len(records)} clips have no curve of a plausible "
            "period and get the median of the others' parameters"
        )
    split = np.array([record.split for record in records])
    name = variant.replace(",", "").replace(" ", "-")
    folder = run.folder / "cells" / f"{name}-{seed - config.seed}"
    learnt = CurvePSSL(forward=emulator, config=config.curve_training).learn(
        task,
        curves.take(usable & (split == "TRAIN")),
        curves.take(usable & (split == "VAL")),
        seed=seed,
        folder=folder,
        resume=True,
    )
    save_learnt(folder / "encoder", learnt)
    got = learnt.estimate(curves.take(usable))
    assert got.theta is not None

    def all_clips(table: np.ndarray) -> np.ndarray:
        filled = np.tile(np.median(table, axis=0), (len(records), 1))
        filled[usable] = table
        return filled

    Run(folder).json(
        "result",
        {
            "validation": dict(learnt.validation),
            "best_step": learnt.best_step,
            "training_seconds": learnt.seconds,
            "clips_without_curve": int((~usable).sum()),
            **origin(),
        },
    )
    volumes = np.stack([got.readings[name] for name in VOLUMES], axis=1)
    n = len(records)
    return Answers(
        all_clips(np.asarray(got.theta)), np.zeros((n, 0)), all_clips(volumes), np.zeros((n, 0))
    )
