"""Drawing of cohorts from a box, within limits on their readings."""

import dataclasses
import warnings
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float

from jaxtwin.cohorts.batching import Progress, default_chunk, map_patients
from jaxtwin.cohorts.cohort import Cohort, Limits, check_limits, warn_of_failures
from jaxtwin.cohorts.simulate import check_box, check_whole, simulate_cohort, simulate_patient
from jaxtwin.parameters import Box, Theta
from jaxtwin.physics.base import AbstractRecordedSystem, read


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


def draw_theta(
    system: AbstractRecordedSystem,
    box: Box,
    n: int,
    *,
    seed: int,
    limits: Limits | None = None,
    block: int = 65_536,
    mesh: Mesh | None = None,
    progress: Progress = iter,
) -> tuple[Float[np.ndarray, "patient free"], float]:
    """Draw the patients of `draw_cohort` without their recordings, which are not kept.

    Args:
        system: The model.
        box: The free parameters.
        n: Number of patients.
        seed: Seed for the sequence.
        limits: Lowest and highest value of readings, by name; the system's own by default.
        block: Number of points simulated between two looks at whether there are enough.
        mesh: Devices to use, see `map_patients`.
        progress: Wrapper for the iterable of chunks of each block, see `map_patients`.

    Returns:
        The free parameters of each patient in float32, and the fraction of the simulated points
        that was within the limits.

    Raises:
        ValueError: As in `draw_cohort`.
    """
    check_box(system, box)
    check_whole(n=n, block=block)
    limits = system.limits() if limits is None else limits
    check_limits(system, limits)
    function = eqx.Partial(_readings, system, box, tuple(limits))
    devices = 1 if mesh is None else mesh.size
    block = min(block, 2 * n)
    chunk = min(default_chunk(np.float32), -(-block // devices))
    found, done, held, failed = [], 0, 0, 0
    while held < n and done < 8 * n:
        points = box.sample(max(2 * n, 2 * done), seed=seed).astype(np.float32)
        while held < n and done < len(points):
            theta = points[done : done + block]
            values, success = map_patients(
                function, theta, chunk=chunk, mesh=mesh, progress=progress
            )
            inside = success
            for name, (low, high) in limits.items():
                inside = inside & (values[name] >= low) & (values[name] <= high)
            found.append(theta[inside])
            done, held = done + len(theta), held + int(inside.sum())
            failed += int((~success).sum())
    if failed:
        warnings.warn(
            f"{failed} of {done} simulations ({failed / done:.1%}) failed and are left out, so "
            "that a part of the box is missing: simulate_cohort(...).failures() says why",
            stacklevel=2,
        )
    if held < n:
        raise ValueError(
            f"only {held} of {done} points of the box are within {dict(limits)}: widen the limits "
            "or move the box"
        )
    return np.concatenate(found)[:n], held / done


def _readings(
    system: AbstractRecordedSystem, box: Box, names: tuple[str, ...], theta: Theta
) -> tuple[dict[str, Any], Any]:
    simulation = simulate_patient(system, box, 80, system.steps, theta)
    return dict(read(system, simulation.recording, names)), simulation.success


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
