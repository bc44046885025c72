"""Cohorts with diseases, each defined as a documented change of the parameters.

Valve resistances are the guidelines' mean pressure gradients divided by the mean flow at a stroke
volume of 70 mL: 140 mL/s through the mitral valve (filling takes 0.5 s), 230 mL/s through the
aortic valve (ejection takes 0.3 s). Parameters that a disease does not change are drawn from the
healthy ranges.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from jaxtwin.cohorts.cohort import Cohort, Limits, check_limits, join, warn_of_failures
from jaxtwin.cohorts.simulate import check_box, check_whole, simulate_cohort
from jaxtwin.parameters import Box
from jaxtwin.physics.base import AbstractRecordedSystem


class Disease(NamedTuple):
    """A disease (or health), as ranges of parameters.

    Attributes:
        name: Name of the disease.
        share: Fraction of the cohort that has it.
        ranges: Ranges of the parameters that differ from health; values are drawn uniformly.
        source: Reference for the ranges.
        marker: The parameter that defines the disease, and whether it rises (1) or falls (-1).
    """

    name: str
    share: float
    ranges: Mapping[str, tuple[float, float]]
    source: str
    marker: tuple[str, int] | None = None


HEALTHY = Disease(
    "healthy",
    0.6,
    {
        "T_c": (0.7, 1.1),
        "V_0": (90.0, 150.0),
        "E_max": (1.8, 3.2),
        "E_min": (0.04, 0.08),
        "R_m": (0.005, 0.012),
        "R_a": (0.0005, 0.01),
        "V_d": (5.0, 20.0),
        "R_s": (0.85, 1.15),
    },
    "Around the defaults of Simaan et al. 2009; 55 to 85 beats a minute.",
)
DISEASES = (
    HEALTHY,
    Disease(
        "mitral stenosis",
        0.1,
        {"R_m": (0.036, 0.1)},
        "Moderate to severe, mean gradient of 5 to 14 mmHg: Baumgartner et al., European Journal "
        "of Echocardiography 10(1), 2009.",
        ("R_m", 1),
    ),
    Disease(
        "aortic stenosis",
        0.1,
        {"R_a": (0.11, 0.25)},
        "Moderate to severe, mean gradient of 25 to 58 mmHg: Bonow et al., ACC/AHA guidelines for "
        "valvular heart disease, Journal of the American College of Cardiology 48(3), 2006.",
        ("R_a", 1),
    ),
    Disease(
        "reduced contractility",
        0.1,
        {"E_max": (0.5, 1.0), "V_0": (110.0, 220.0)},
        "End-systolic elastance of at most half the arterial one (about 1 to 2 mmHg/mL) in severe "
        "failure, with a dilated ventricle: Asanoi, Sasayama and Kameyama, Circulation Research "
        "65(2), 1989.",
        ("E_max", -1),
    ),
    Disease(
        "hypertension",
        0.1,
        {"R_s": (1.4, 1.9), "V_0": (130.0, 200.0), "E_max": (2.4, 3.5)},
        "Mean pressure of about 107 mmHg (140/90) or more: Williams et al., European Heart "
        "Journal 39(33), 2018; the ventricle's elastance rises with the arteries': Chantler et "
        "al., Journal of Applied Physiology 105(4), 2008.",
        ("R_s", 1),
    ),
)
"""Groups of the default cohort: 60% healthy and 10% for each of four diseases."""


def beyond_health(
    disease: Disease,
    box: Box,
    theta: Float[np.ndarray, "*patients free"],
    *,
    health: Disease = HEALTHY,
) -> Bool[np.ndarray, "*patients"]:
    """Return where the parameter that defines a disease lies beyond its healthy range.

    Args:
        disease: The disease, with a marker.
        box: The free parameters.
        theta: Their values.
        health: Health, with the range of the marker.

    Raises:
        ValueError: If the disease has no marker, or the marker is not free in the box.
    """
    if disease.marker is None or disease.marker[0] not in box.names:
        raise ValueError(
            f"{disease.name} with the marker {disease.marker}: expected a parameter of the box, "
            f"{', '.join(box.names)}, and 1 if it rises or -1 if it falls"
        )
    name, sign = disease.marker
    low, high = health.ranges[name]
    values = theta[..., box.names.index(name)]
    return values > high if sign > 0 else values < low


class Patients(NamedTuple):
    """A cohort with diagnoses.

    Attributes:
        cohort: The simulated patients.
        diagnosis: Name of each patient's disease.
        drawn: Number of patients drawn per disease, including those outside the limits.
    """

    cohort: Cohort
    diagnosis: tuple[str, ...]
    drawn: dict[str, int]


def draw_diseased(
    system: AbstractRecordedSystem,
    box: Box,
    n: int,
    *,
    seed: int,
    diseases: Sequence[Disease] = DISEASES,
    limits: Limits | None = None,
    phases: int = 80,
) -> Patients:
    """Draw a cohort with diseases, in random order, with readings within limits.

    Patients whose simulation fails are left out, with a warning.

    Args:
        system: The model.
        box: The free parameters; exactly those that have ranges.
        n: Number of patients; each disease has its share of them, rounded to the nearest integer.
        seed: Seed for all draws.
        diseases: Groups of the cohort. The first is health, from which the others differ.
        limits: Limits of the patients' readings; the system's own by default.
        phases: Number of phases of the waveforms.

    Raises:
        ValueError: If the shares do not add up to 1, the ranges are not those of the box, fewer
            than one draw in sixteen of a disease is within the limits, or another argument is
            invalid.
    """
    check_box(system, box)
    check_whole(n=n)
    shares = np.array([disease.share for disease in diseases])
    if not math.isclose(shares.sum(), 1, rel_tol=1e-6) or (shares <= 0).any():
        raise ValueError(f"shares {shares.tolist()}: expected positive numbers that add up to 1")
    ends = np.rint(np.cumsum(shares) * n).astype(int)
    sizes = np.diff(ends, prepend=0)
    if not sizes.all():
        raise ValueError(
            f"{n} patients: expected at least {math.ceil(1 / shares.min())}, so that every disease "
            "has one"
        )
    limits = system.limits() if limits is None else limits
    check_limits(system, limits)
    parts: list[Cohort] = []
    drawings: list[Cohort] = []
    drawn = {}
    for i, (disease, size) in enumerate(zip(diseases, sizes, strict=True)):
        random = np.random.default_rng((seed, i))
        ranges = {**diseases[0].ranges, **disease.ranges}
        if set(ranges) != set(box.names):
            raise ValueError(
                f"{disease.name} has ranges of {', '.join(ranges)}: expected those of the box's "
                f"{', '.join(box.names)}"
            )
        low, high = np.array([ranges[name] for name in box.names]).T
        # All are drawn at once, so that the first ones do not depend on the number needed.
        theta = random.uniform(low, high, (16 * size, len(low)))
        found: list[Cohort] = []
        count = held = 0
        while held < size and count < len(theta):
            batch = simulate_cohort(system, box, theta[count : count + 2 * size], phases=phases)
            inside = batch.within(limits)
            drawings.append(batch)
            found.append(batch.take(np.flatnonzero(inside)))
            held += int(inside.sum())
            count += len(inside)
        if held < size:
            raise ValueError(
                f"{disease.name}: only {held} of {count} draws are within {dict(limits)}; "
                "widen the limits or change its ranges"
            )
        parts.append(join(found).take(slice(0, size)))
        drawn[disease.name] = count
    warn_of_failures(*drawings)
    names = [d.name for d, size in zip(diseases, sizes, strict=True) for _ in range(size)]
    order = np.random.default_rng((seed, len(diseases))).permutation(n)
    return Patients(join(parts).take(order), tuple(names[k] for k in order), drawn)
