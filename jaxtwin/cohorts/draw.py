"""Draw cohorts from a box, within limits on their readings."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxtwin.cohorts.batching import Progress
from jaxtwin.cohorts.cohort import Cohort, Limits
from jaxtwin.cohorts.simulate import simulate_cohort
from jaxtwin.parameters import Box
from jaxtwin.physics.base import AbstractRecordedSystem


def draw_cohort(
    system: AbstractRecordedSystem,
    box: Box,
    n: int,
    *,
    seed: int,
    limits: Limits | None = None,
    phases: int = 80,
    progress: Progress = iter,
) -> Cohort[Any]:
    """The first n patients of a Sobol sequence over the box whose readings are within limits.

    Args:
        system: The model.
        box: Says which parameters θ holds.
        n: How many.
        seed: Of the sequence.
        limits: By name of a reading, the lowest and highest value; the system's own by default.
        phases: Number of grid points a period, see `simulate_cohort`.
        progress: Wraps the chunks, see `map_patients`.

    Returns:
        The patients, with the share of the points drawn that was within the limits in `accepted`.

    Raises:
        ValueError: If fewer than one point in eight is within the limits.
    """
    limits = system.limits() if limits is None else limits
    drawn = 2 * n
    while True:
        theta = box.sample(drawn, seed=seed)
        cohort = simulate_cohort(system, box, theta, phases=phases, progress=progress)
        held = cohort.within(limits)
        if held.sum() >= n:
            found = cohort.take(np.flatnonzero(held)[:n])
            return dataclasses.replace(found, accepted=float(held.mean()))
        if drawn >= 8 * n:
            if not cohort.success.any():
                raise ValueError(
                    f"{cohort.failures()}\nprint(check_system(system)) says what is wrong"
                )
            raise ValueError(
                f"only {held.sum()} of {drawn} points of the box are within {dict(limits)}: "
                "widen the limits or move the box"
            )
        drawn *= 2


def draw_splits(
    system: AbstractRecordedSystem,
    box: Box,
    sizes: Sequence[int],
    *,
    seed: int,
    limits: Limits | None = None,
    phases: int = 80,
    progress: Progress = iter,
) -> list[Cohort[Any]]:
    """Cohorts of such sizes, such as training, validation and test, with no patient in two.

    Drawn together by `draw_cohort`, and dealt in random order.
    """
    patients = draw_cohort(
        system, box, sum(sizes), seed=seed, limits=limits, phases=phases, progress=progress
    )
    patients = patients.take(np.random.default_rng(seed).permutation(sum(sizes)))
    ends = np.cumsum(sizes)
    return [patients.take(slice(end - n, end)) for n, end in zip(sizes, ends, strict=True)]
