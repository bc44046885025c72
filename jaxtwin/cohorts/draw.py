"""Drawing of cohorts from a box, within limits on their readings."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxtwin.cohorts.batching import Progress
from jaxtwin.cohorts.cohort import Cohort, Limits, check_limits, warn_of_failures
from jaxtwin.cohorts.simulate import check_box, check_whole, simulate_cohort
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
    """Draw the first n patients of a Sobol sequence over the box with readings within limits.

    Points whose simulation fails are left out, with a warning.

    Args:
        system: The model.
        box: The free parameters.
        n: Number of patients.
        seed: Seed for the sequence.
        limits: Lowest and highest value of readings, by name; the system's own by default.
        phases: Number of phases of the recordings, see `simulate_cohort`.
        progress: Wrapper for the iterable of chunks, see `map_patients`.

    Returns:
        The patients. `accepted` is the fraction of drawn points that was within the limits.

    Raises:
        ValueError: If fewer than one point in eight is within the limits, or an argument is
            invalid.
    """
    check_box(system, box)
    check_whole(n=n)
    limits = system.limits() if limits is None else limits
    check_limits(system, limits)
    drawn = 2 * n
    while True:
        theta = box.sample(drawn, seed=seed)
        cohort = simulate_cohort(system, box, theta, phases=phases, progress=progress)
        held = cohort.within(limits)
        if held.sum() >= n:
            warn_of_failures(cohort)
            found = cohort.take(np.flatnonzero(held)[:n])
            return dataclasses.replace(found, accepted=float(held.mean()))
        if drawn >= 8 * n:
            if not cohort.success.any():
                raise ValueError(
                    f"{cohort.failures()}\nprint(check_system(system)) shows what is wrong"
                )
            warn_of_failures(cohort)
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
    """Draw disjoint cohorts of given sizes, such as training, validation and test.

    All patients are drawn together by `draw_cohort` and assigned in random order.
    """
    for size in sizes:
        check_whole(size=size)
    patients = draw_cohort(
        system, box, sum(sizes), seed=seed, limits=limits, phases=phases, progress=progress
    )
    patients = patients.take(np.random.default_rng(seed).permutation(sum(sizes)))
    ends = np.cumsum(sizes)
    return [patients.take(slice(end - n, end)) for n, end in zip(sizes, ends, strict=True)]
