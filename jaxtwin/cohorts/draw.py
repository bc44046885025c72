"""Drawing of cohorts from a box, within limits on their readings."""

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import equinox as eqx
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Bool, Float

from jaxtwin.cohorts.batching import Progress, default_chunk, map_patients
from jaxtwin.cohorts.cohort import Cohort, Limits, check_limits, join, warn_of_failures
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
    limits = _checked(system, box, limits, n=n)

    def simulate(theta: np.ndarray) -> tuple[Cohort[Any], Bool[np.ndarray, " patient"]]:
        cohort = simulate_cohort(system, box, theta, phases=phases, progress=progress)
        return cohort, cohort.within(limits)

    parts = _until_enough(box, n, seed, 8 * n, simulate)
    cohorts = [cohort for cohort, _ in parts]
    if not any(cohort.success.any() for cohort in cohorts):
        raise ValueError(
            f"{join(cohorts).failures()}\nprint(check_system(system)) shows what is wrong"
        )
    warn_of_failures(*cohorts)
    accepted = _accepted(n, [inside for _, inside in parts], limits)
    found = join([cohort.take(inside) for cohort, inside in parts]).take(slice(n))
    return dataclasses.replace(found, accepted=accepted)


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
    limits = _checked(system, box, limits, n=n, block=block)
    function = eqx.Partial(_readings, system, box, tuple(limits))
    devices = 1 if mesh is None else mesh.size
    block = min(block, 2 * n)
    chunk = min(default_chunk(np.float32), -(-block // devices))
    failed = 0

    def simulate(theta: np.ndarray) -> tuple[np.ndarray, Bool[np.ndarray, " patient"]]:
        nonlocal failed
        values, success = map_patients(function, theta, chunk=chunk, mesh=mesh, progress=progress)
        inside = success
        for name, (low, high) in limits.items():
            inside = inside & (values[name] >= low) & (values[name] <= high)
        failed += int((~success).sum())
        return theta[inside], inside

    parts = _until_enough(box, n, seed, block, simulate)
    done = sum(len(inside) for _, inside in parts)
    if failed:
        warnings.warn(
            f"{failed} of {done} simulations ({failed / done:.1%}) failed and are left out, so "
            "that a part of the box is missing: simulate_cohort(...).failures() says why",
            stacklevel=2,
        )
    accepted = _accepted(n, [inside for _, inside in parts], limits)
    return np.concatenate([kept for kept, _ in parts])[:n], accepted


Part = TypeVar("Part")
"""What is kept of a block of simulated points."""


def _checked(system: Any, box: Any, limits: Limits | None, **numbers: int) -> Limits:
    """Check the arguments; return the limits, which are the system's own by default."""
    check_box(system, box)
    check_whole(**numbers)
    found: Limits = system.limits() if limits is None else limits
    check_limits(system, found)
    return found


def _until_enough(
    box: Box,
    n: int,
    seed: int,
    block: int,
    simulate: Callable[[np.ndarray], tuple[Part, Bool[np.ndarray, " patient"]]],
) -> list[tuple[Part, Bool[np.ndarray, " patient"]]]:
    """Simulate blocks of the sequence until n points are within the limits, or 8 n are simulated.

    Args:
        box: The free parameters.
        n: Number of points that are needed.
        seed: Seed for the sequence.
        block: Largest number of points simulated at once.
        simulate: Function from points to what is kept of them, and which are within the limits.
    """
    parts, done, held = [], 0, 0
    while held < n and done < 8 * n:
        points = box.sample(max(2 * n, 2 * done), seed=seed).astype(np.float32)
        while held < n and done < len(points):
            part, inside = simulate(points[done : done + block])
            parts.append((part, inside))
            done, held = done + len(inside), held + int(inside.sum())
    return parts


def _accepted(n: int, inside: Sequence[Bool[np.ndarray, " patient"]], limits: Limits) -> float:
    """Return the fraction of the points within the limits, of which n are needed."""
    done, held = sum(map(len, inside)), sum(int(each.sum()) for each in inside)
    if held < n:
        raise ValueError(
            f"only {held} of {done} points of the box are within {dict(limits)}: widen the limits "
            "or move the box"
        )
    return held / done


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
