"""Twins learnt from volume curves: the exact ones, and those that a segmenter finds in clips."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from experiments.detection.scores import Answers
from experiments.detection.settings import Config
from jaxtwin.cohorts.simulate import simulate_cohort
from jaxtwin.commands.emulator import CHANNELS, PHASES
from jaxtwin.commands.measure import measure_phantoms
from jaxtwin.commands.run import Run, origin
from jaxtwin.data.echonet import Record
from jaxtwin.forward.emulator import Emulator
from jaxtwin.methods.clips import VOLUMES
from jaxtwin.methods.pssl_curves import CurvePSSL
from jaxtwin.methods.saving import save_learnt
from jaxtwin.methods.tasks import Curves, CurveTask
from jaxtwin.models.left_heart import EIGHT, LeftHeart
from jaxtwin.twin.echo import TwinBuilder

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


def segmented_curves(
    run: Run, records: Sequence[Record], config: Config
) -> tuple[Curves, TwinBuilder]:
    """Measure the volume curve and the period of every clip, NaN where none is found.

    What is measured is kept in the run's folder. Returns the networks that measured it, too.
    """
    assert config.run is not None
    builder, measured = measure_phantoms(config.run, run, records)
    values = np.full((len(records), PHASES), np.nan, np.float32)
    found = measured.found(True, (0.0, np.inf))
    curves = measured.take(found).curves(builder.calibrations[0], True)
    values[found] = [curve.volume for curve in curves]
    return Curves(values, measured.period.astype(np.float32)[:, None]), builder


def usable_curves(task: CurveTask, curves: Curves) -> Bool[np.ndarray, " clip"]:
    """Return which clips have a curve of a plausible period."""
    column, period = task.box.names.index("T_c"), np.asarray(curves.known)[:, 0]
    inside = (period >= task.box.low[column]) & (period <= task.box.high[column])
    return np.isfinite(np.asarray(curves.values)).all(axis=1) & inside


def everyone(
    table: Float[np.ndarray, "found value"], usable: Bool[np.ndarray, " clip"]
) -> Float[np.ndarray, "clip value"]:
    """Return values of all clips from those of usable ones.

    The others get the median, with which they are neither ill nor healthy.
    """
    filled = np.tile(np.median(table, axis=0), (len(usable), 1))
    filled[usable] = table
    return filled


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

    See `everyone` for a clip without a curve of a plausible period.
    """
    task = curve_task(variant, config.noise)
    usable = usable_curves(task, curves)
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
        everyone(np.asarray(got.theta), usable),
        np.zeros((n, 0)),
        everyone(volumes, usable),
        np.zeros((n, 0)),
    )
