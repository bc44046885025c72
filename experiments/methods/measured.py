"""What is measured in the patients of each cell: the task, and the curves of each split."""

import dataclasses

import numpy as np
from jaxtyping import Bool

from experiments.methods.compared import MEASURED, SAMPLES
from jaxtwin.cohorts.cohort import Cohort
from jaxtwin.commands.emulator import CHANNELS
from jaxtwin.data.vitals import CUFF_ERROR
from jaxtwin.methods.measured import Channel, Curves
from jaxtwin.methods.tasks import CurveTask
from jaxtwin.models.left_heart import SEVEN, LeftHeart

CUFF = tuple(Channel(name, 1.0, noise=CUFF_ERROR) for name in ("systolic", "diastolic"))
LACKING = (
    1 / 3
)  # Share of the cohort without a curve, and without a cuff, where one may be missing.


def measure(
    patients: tuple[Cohort, Cohort, Cohort],
    noise: float,
    known: bool,
    seed: int,
    measured: str = "complete",
) -> tuple[CurveTask, Curves, Curves, Curves]:
    """Return the task and the measurements of each split.

    Args:
        patients: Patients for training, validation and test.
        noise: Standard deviation of the curves' noise [mL].
        known: Whether the heart period is known.
        seed: Seed of the noise.
        measured: Key of `MEASURED`.
    """
    what = MEASURED[measured]
    task = CurveTask(
        *(LeftHeart(), SEVEN, CHANNELS[0], 0.2, CHANNELS[1:], SAMPLES),
        known=("T_c",) if known else (),
        noise=noise,
        missing=what.missing,
        beside=CUFF if what.cuff else (),
    )
    random = np.random.default_rng((seed, 1))
    training, validation, test = (task.measure(part, random) for part in patients)
    if what.lost is None:
        return task, training, validation, test
    expecting = tuple(dataclasses.replace(channel, missing=LACKING) for channel in task.beside)
    task = dataclasses.replace(task, missing=LACKING, beside=expecting)
    training, validation = (
        _without(curves, curve=place % 3 == 0, cuff=place % 3 == 1)
        for curves in (training, validation)
        for place in (np.arange(len(curves.values)),)
    )
    everyone = np.ones(len(test.values), bool)
    gone = {"curve": what.lost == "curve", "cuff": what.lost == "cuff"}
    return task, training, validation, _without(test, **{k: v & everyone for k, v in gone.items()})


def _without(
    curves: Curves, *, curve: Bool[np.ndarray, " patient"], cuff: Bool[np.ndarray, " patient"]
) -> Curves:
    """Return measurements in which some patients lack the curve, or the cuff."""
    nothing = np.float32(np.nan)
    values = np.where(curve[:, None], nothing, curves.values)
    beside = {
        name: Curves(np.where(cuff[:, None], nothing, part.values))
        for name, part in (curves.beside or {}).items()
    }
    return curves._replace(values=values, beside=beside)
