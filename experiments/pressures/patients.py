"""Patients of `experiments.pressures`, and what is measured in them."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from jaxtwin.cohorts.clinic import ECHO_LABORATORY
from jaxtwin.cohorts.cohort import Cohort
from jaxtwin.cohorts.population import draw_population
from jaxtwin.cohorts.simulate import simulate_cohort
from jaxtwin.commands.emulator import CHANNELS
from jaxtwin.data.vitals import CUFF_ERROR
from jaxtwin.methods.measured import Channel, Curves
from jaxtwin.methods.tasks import CurveTask
from jaxtwin.models.bjordalsbakke import SYSTEMIC, Bjordalsbakke
from jaxtwin.models.four_chambers import BOTH_SIDES, FourChambers
from jaxtwin.models.her import TIGHT, Her
from jaxtwin.models.left_heart import NINE, LeftHeart
from jaxtwin.parameters import Box, NormalPrior
from jaxtwin.physics.base import AbstractRecordedSystem

SAMPLES = 60
NOISE = 3.0
"""Standard deviation of the noise of the volume curve [mL]."""
RESOLUTION = 0.5
CUFF = tuple(Channel(name, 1.0, noise=CUFF_ERROR) for name in ("systolic", "diastolic"))
STRONGEST = 2.5
"""Largest factor of E_max under dobutamine."""
FASTER = 0.5
"""How much more often the heart beats where E_max is doubled: by half."""
TRIED = 16
"""Number of points of another circuit's box that are simulated for each patient wanted."""


class Other(NamedTuple):
    """Another circuit.

    Attributes:
        system: The circuit.
        box: Its free parameters.
        elastance: Whether its E_max is the peak of P_lv/(V_lv − V_d), as in the left heart.
    """

    system: AbstractRecordedSystem
    box: Box
    elastance: bool


OTHERS = {
    "bjordalsbakke": Other(Bjordalsbakke(), SYSTEMIC, True),
    "her": Other(Her(), TIGHT, True),
    # The septum adds to the elastance of the free wall.
    "four_chambers": Other(FourChambers(), BOTH_SIDES, False),
}


class Laboratory(NamedTuple):
    """A laboratory's patients: the same ones at rest and under dobutamine."""

    rest: Cohort[Any]
    stress: Cohort[Any]

    def take(self, index: Any) -> "Laboratory":
        """Select patients by an index array, a slice or a mask."""
        return Laboratory(self.rest.take(index), self.stress.take(index))


def draw_laboratory(n: int, points: int, seed: int) -> Laboratory:
    """Draw a laboratory's patients, and give them dobutamine.

    Contractility E_max is multiplied by a factor drawn between 1 and 2.5, or less where the box
    ends, and the period shortened by the factor 1 + 0.5 (factor − 1).
    """
    rest = draw_population(
        LeftHeart(), NINE, ECHO_LABORATORY, n, seed=seed, points=points, phases=SAMPLES
    )
    theta = np.array(rest.theta, float)
    E_max, T_c = (NINE.names.index(name) for name in ("E_max", "T_c"))
    largest = np.minimum(STRONGEST, 0.999 * NINE.high[E_max] / theta[:, E_max]).clip(min=1)
    factor = 1 + (largest - 1) * np.random.default_rng(seed).random(n)
    theta[:, E_max] *= factor
    faster = theta[:, T_c] / (1 + FASTER * (factor - 1))
    theta[:, T_c] = np.maximum(faster, 1.001 * NINE.low[T_c])
    stress = simulate_cohort(LeftHeart(), NINE, theta, phases=SAMPLES)
    good = stress.success & np.asarray(LeftHeart().feasible(stress.recording))
    return Laboratory(rest, stress).take(np.flatnonzero(good))


def draw_other(other: Other, n: int, seed: int) -> tuple[Cohort[Any], dict[str, int]]:
    """Draw patients of another circuit, evenly over its box, who could be a laboratory's.

    Returns:
        The patients, and how many of those tried were left out by which reading (some by several),
        with `tried` and `kept`.

    Raises:
        ValueError: If there are too few of them.
    """
    theta = other.box.sample(TRIED * n, seed=seed)
    cohort = simulate_cohort(other.system, other.box, theta, phases=SAMPLES)
    good = cohort.success & np.asarray(other.system.feasible(cohort.recording))
    told = {"tried": len(good), "no possible beat": int(np.sum(~good))}
    limits = ECHO_LABORATORY.limits
    values, kept = cohort.read(limits), good
    for name, (low, high) in limits.items():
        within: Bool[np.ndarray, " patient"] = (values[name] >= low) & (values[name] <= high)
        told[name] = int(np.sum(good & ~within))
        kept = kept & within
    # The period is given, and has to be in the box of the twin.
    T_c = NINE.names.index("T_c")
    kept &= (values["period"] > NINE.low[T_c]) & (values["period"] < NINE.high[T_c])
    told["kept"] = int(kept.sum())
    if kept.sum() < n:
        raise ValueError(
            f"{kept.sum()} of {len(kept)} patients of {type(other.system).__name__} could be a "
            f"laboratory's: expected {n}; choose fewer with --others"
        )
    return cohort.take(np.flatnonzero(kept)[:n]), told


def curve_task(prior: NormalPrior, cuff: bool) -> CurveTask:
    """Return the task: θ from a volume curve of known period, with or without a cuff."""
    return CurveTask(
        *(LeftHeart(), NINE, CHANNELS[0], RESOLUTION, CHANNELS[1:], SAMPLES),
        known="T_c",
        noise=NOISE,
        beside=CUFF if cuff else (),
        prior=prior,
    )


def prior_of(patients: Laboratory) -> NormalPrior:
    """Return the prior of patients at rest and under dobutamine."""
    return NormalPrior.of(NINE, np.concatenate([patients.rest.theta, patients.stress.theta]))


def measure(task: CurveTask, patients: Cohort[Any], seed: int) -> Curves:
    """Measure patients of any circuit with a left ventricle, as the task says.

    The same seed gives the same errors with and without a cuff.
    """
    random = np.random.default_rng(seed)
    volume = np.asarray(patients.recording.waveforms.V_lv)
    values = volume + task.noise * random.normal(size=volume.shape)
    beside = {}
    for channel in (*CUFF, EJECTION):
        exact = np.asarray(patients.read([channel.name])[channel.name])[:, None]
        noisy = exact + channel.noise * random.normal(size=exact.shape)
        beside[channel.name] = Curves(noisy.astype(np.float32))
    wanted = {channel.name: beside[channel.name] for channel in task.beside}
    period = np.asarray(patients.read(["period"])["period"], np.float32)[:, None]
    return Curves(values.astype(np.float32), period, beside=wanted or None)


def true_numbers(
    patients: Cohort[Any], elastance: bool = True
) -> dict[str, Float[np.ndarray, " patient"]]:
    """Return the numbers to be estimated, by name; E_max is NaN where it means something else."""
    E_max = patients.theta[:, patients.box.names.index("E_max")]
    found = patients.read(["stroke_work", "P_lv_max", "output"])
    found["E_max"] = np.asarray(E_max if elastance else np.full(len(E_max), np.nan))
    return {name: np.asarray(x, float) for name, x in found.items()}


EJECTION = Channel("EF", 1.0, noise=4.0, missing=0.5)
"""An ejection fraction [%]. Two volumes that err by 3 mL give one that errs by 4 points in a heart
of 82 mL."""


def without_curve(task: CurveTask) -> CurveTask:
    """Return the task in which EF may be measured beside the cuff."""
    # Any share says that a curve with gaps, here without a sample, has been learnt from.
    return dataclasses.replace(task, beside=(*CUFF, EJECTION), missing=0.5)
