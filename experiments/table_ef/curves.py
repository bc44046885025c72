"""P-SSL from the volume curve that the segmentation of a training run finds in phantom clips."""

from pathlib import Path

import numpy as np

from experiments.table_ef.compared import CURVE, TITLES
from experiments.table_ef.settings import Config
from experiments.table_ef.table import DataSet, write_cell
from jaxtwin.commands.curve_task import curve_task
from jaxtwin.commands.emulator import PHASES
from jaxtwin.commands.measure import measure_phantoms
from jaxtwin.commands.run import Run
from jaxtwin.data.echonet import read_theta
from jaxtwin.forward.emulator import Emulator
from jaxtwin.methods.clips import VOLUMES
from jaxtwin.methods.pssl_curves import CurvePSSL
from jaxtwin.models.left_heart import SEVEN, LeftHeart
from jaxtwin.twin.echo import as_curves, estimate, periods
from jaxtwin.twin.phantoms import with_truth


def fill_curve_cells(
    run: Run, data: DataSet, trained: Path, emulator: Emulator, config: Config
) -> list[str]:
    """Learn from the curves in the training clips, and write predictions for the test clips.

    How the measured curves differ from the true ones is learnt from the training clips. A test
    clip in which no beat is found gets the median prediction of the others.

    Args:
        run: The run.
        data: Phantom clips.
        trained: Folder of the training run whose networks look at the clips.
        emulator: Forward model.
        config: Settings.

    Returns:
        Names of the test clips in which a beat is found.

    Raises:
        ValueError: If the training run has no networks that find a curve.
    """
    records = data.cache.records
    _, measured = measure_phantoms(trained, run, records)
    task, truth = curve_task(SEVEN), read_theta(run.folder / "phantom")
    clips = with_truth(measured, records, truth, LeftHeart(), SEVEN, PHASES)
    found = measured.found(True, periods(task))
    split = np.array([record.split for record in records])
    calibration = clips.take(found & (split == "TRAIN")).calibration(True)
    training, validation, test = (
        measured.take(found & (split == name)).curves(calibration, True)
        for name in ("TRAIN", "VAL", "TEST")
    )
    lost = int((~found & (split == "TEST")).sum())
    print(f"{TITLES[CURVE]}: no beat is found in {lost} of {(split == 'TEST').sum()} test clips")
    method = CurvePSSL(forward=emulator)
    for seed in range(config.seeds):
        folder = run.folder / "cells" / data.name / f"{CURVE}-{seed}"
        if (folder / "result.json").exists():
            continue
        learnt = method.learn(
            task,
            as_curves(task, training),
            as_curves(task, validation),
            seed=config.seed + seed,
            folder=folder,
            resume=True,
        )
        got = estimate(learnt, test)
        assert got.theta is not None

        def all_clips(values: np.ndarray) -> np.ndarray:
            table = np.tile(np.median(values, axis=0), ((split == "TEST").sum(), 1))
            table[found[split == "TEST"]] = values
            return table

        volumes = all_clips(np.stack([got.readings[name] for name in VOLUMES], axis=1))
        facts = {
            "validation": dict(learnt.validation),
            "best_step": learnt.best_step,
            "clips_seen": learnt.steps * method.config.batch_size,
            "training_seconds": learnt.seconds,
            "clips_without_curve": lost,
        }
        readings = {str(name): x for name, x in zip(VOLUMES, volumes.T, strict=True)}
        write_cell(folder, data, readings, all_clips(np.asarray(got.theta)), facts)
    kept = found & (split == "TEST")
    return [record.name for record, k in zip(records, kept, strict=True) if k]
