"""Patients whom the left heart can and cannot describe."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from experiments.calibration.study import SAMPLES, Case
from jaxtwin.cohorts.simulate import simulate_cohort
from jaxtwin.methods.tasks import Curves
from jaxtwin.models.bjordalsbakke import SYSTEMIC, Bjordalsbakke
from jaxtwin.models.four_chambers import BOTH_SIDES, FourChambers
from jaxtwin.models.her import REGURGITANT, TIGHT, Her
from jaxtwin.models.left_heart import SEVEN, LeftHeart
from jaxtwin.parameters import Box
from jaxtwin.physics.base import AbstractRecordedSystem

LATE = 3
"""Number of samples by which a shifted curve begins too late, a twentieth of the beat."""
ADDED = 20.0
"""Volume that is added to a curve [mL]."""
USUAL = (0.005, 0.995)
"""Quantiles of EDV and ESV of the left heart's patients between which a patient is usual."""
READINGS = ("EF", "stroke_work", "P_lv_max")


class Source(NamedTuple):
    """One kind of patients and of errors of their measurement.

    Attributes:
        system: The model that makes the patients.
        box: Its free parameters.
        change: What happens to the curves before the noise is added.
        noise: Size of the noise, relative to what the task says.
    """

    system: AbstractRecordedSystem
    box: Box
    change: Callable[[np.ndarray], np.ndarray] = lambda volume: volume
    noise: float = 1.0


OWN = "left heart (false alarms)"
SOURCES = {
    OWN: Source(LeftHeart(), SEVEN),
    "four chambers": Source(FourChambers(), BOTH_SIDES),
    "Her": Source(Her(), TIGHT),
    "Her, leaking valves": Source(Her(), REGURGITANT),
    "Bjørdalsbakke": Source(Bjordalsbakke(), SYSTEMIC),
    "left heart, a twentieth of a beat late": Source(
        LeftHeart(), SEVEN, lambda volume: np.roll(volume, LATE, axis=1)
    ),
    "left heart, 20 mL too large": Source(LeftHeart(), SEVEN, lambda volume: volume + ADDED),
    "left heart, twice the noise": Source(LeftHeart(), SEVEN, noise=2.0),
}


class Patients(NamedTuple):
    """Measured patients of one source.

    Attributes:
        curves: Their measured volume curves.
        readings: True readings, by name.
        unusual: Share of the drawn patients whose volumes or period are unusual.
    """

    curves: Curves
    readings: dict[str, Float[np.ndarray, " patient"]]
    unusual: float


def usual_volumes(n: int = 16_384) -> dict[str, np.ndarray]:
    """Return the usual ranges of EDV and ESV among the left heart's patients."""
    cohort = simulate_cohort(LeftHeart(), SEVEN, SEVEN.sample(n, seed=5), phases=SAMPLES)
    values = cohort.take(np.flatnonzero(cohort.success)).read(["EDV", "ESV"])
    return {name: np.quantile(x, USUAL) for name, x in values.items()}


def measure(source: Source, case: Case, usual: Any, n: int, seed: int) -> Patients:
    """Draw patients, keep the usual ones, and measure their volume curves.

    Args:
        source: The kind of patients.
        case: The measurement.
        usual: What `usual_volumes` returned.
        n: Number of patients to measure.
        seed: Seed of patients and noise.

    Raises:
        ValueError: If more than half of the patients are unusual.
    """
    box, random = source.box, np.random.default_rng(seed)
    theta = random.permutation(box.sample(2 * n, seed=2**22 + seed))
    cohort = simulate_cohort(source.system, box, theta, phases=SAMPLES)
    names = ("EDV", "ESV", "period", *READINGS)
    found = {name: np.asarray(x) for name, x in cohort.read(names).items()}
    column = SEVEN.names.index("T_c")
    good = cohort.success & (found["period"] >= SEVEN.low[column])
    good &= found["period"] <= SEVEN.high[column]
    for name, (low, high) in usual.items():
        good &= (found[name] >= low) & (found[name] <= high)
    unusual, kept = 1 - float(good.mean()), np.flatnonzero(good)[:n]
    if len(kept) < n:
        raise ValueError(
            f"{unusual:.0%} of the patients of {type(source.system).__name__} have volumes or "
            "periods that are unusual for the left heart: choose a narrower box"
        )
    volume = source.change(np.asarray(cohort.recording.waveforms.V_lv)[kept])
    values = volume + source.noise * case.noise * random.normal(size=volume.shape)
    return Patients(
        Curves(values.astype(np.float32), found["period"][kept, None].astype(np.float32)),
        {name: found[name][kept] for name in READINGS},
        unusual,
    )
