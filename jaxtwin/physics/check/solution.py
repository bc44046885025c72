"""Are enough steps taken, and are gradients of what is recorded right?"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxtwin.physics.base import AbstractPeriodicSystem, AbstractRecordedSystem
from jaxtwin.physics.check.report import Report, compiled, names
from jaxtwin.physics.record import record
from jaxtwin.physics.solution import Recording

# The largest error of an output, as a share of its range.
ACCURATE = 0.01
MOST_STEPS = 3_840
# How far parameters are moved to either side, as a share of their bounds: several solver steps
# where a parameter is a time, so that a jump that it moves is seen.
MOVED = 0.01
# Errors of a gradient, as a share of the output's largest slope; and of its range, for rounding
# and for how well an orbit closes.
RIGHT, ROUNDING = 5e-3, 1e-4


class Moved(NamedTuple):
    """What is recorded of a patient, and its gradient, with each parameter moved to both sides.

    Attributes:
        p: The patient's parameters.
        free: The parameters that have bounds.
        functionals: What is differentiated, such as "mean of P_ao".
        size: Range of the output that each functional is of, [functional].
        values: [lane, functional]; the first lane is the patient, then come all parameters moved
            up, then all moved down, by `MOVED`.
        gradients: By the parameters as shares of their bounds, [lane, functional, free].
        courses: Outputs of the first lane at all times, [time] on every leaf.
        times: The times.
        settled: Whether each lane was solved.
    """

    p: Any
    free: list[str]
    functionals: list[str]
    size: np.ndarray
    values: np.ndarray
    gradients: np.ndarray
    courses: Any
    times: np.ndarray
    settled: np.ndarray


def solve_around(system: AbstractRecordedSystem, p: Any) -> Moved:
    """Record a patient and his neighbours, with gradients in reverse mode."""
    specs = {name: s for name, s in system.parameters.specs().items() if s.bounds is not None}
    low, high = (np.array([s.bounds[i] for s in specs.values()]) for i in (0, 1))
    width = np.where(high > low, high - low, 1.0)
    here = (np.array([float(getattr(p, name)) for name in specs]) - low) / width
    free, outputs = list(specs), names(jax.eval_shape(lambda: _outputs(system, p)))

    def complete(u: Any) -> Any:
        return dataclasses.replace(p, **dict(zip(free, low + width * u, strict=True)))

    def measure(u: Any) -> Any:
        solution = record(system, complete(u))
        measured = jnp.stack(
            [
                value
                for leaf in jax.tree.leaves(solution.outputs)
                for value in _functionals(solution.times, leaf)
            ]
        )
        return measured, (solution.outputs, solution.times, solution.success)

    def everything(u: Any) -> Any:
        measured, pull, (courses, times, settled) = jax.vjp(measure, u, has_aux=True)
        (gradients,) = jax.vmap(pull)(jnp.eye(len(measured), dtype=measured.dtype))
        return measured, gradients, courses, times, settled

    # Inside the bounds on both sides.
    here = np.where((here >= 0) & (here <= 1), np.clip(here, MOVED, 1 - MOVED), here)
    step = MOVED * np.eye(len(free))
    lanes = jnp.asarray(np.concatenate([here[None], here + step, here - step]))
    values, gradients, courses, times, settled = compiled(jax.vmap(everything), lanes)(lanes)
    first = jax.tree.map(lambda leaf: np.asarray(leaf[0]), courses)
    size = np.repeat([np.ptp(leaf) for leaf in jax.tree.leaves(first)], len(_FUNCTIONALS))
    return Moved(
        complete(jnp.asarray(here)),
        free,
        [f"{what} of {output}" for output in outputs for what in _FUNCTIONALS],
        size,
        np.asarray(values),
        np.asarray(gradients),
        first,
        np.asarray(times[0]),
        np.asarray(settled),
    )


_FUNCTIONALS = ("the mean", "a moment", "the maximum", "the minimum")


def _functionals(times: Any, course: Any) -> tuple[Any, Any, Any, Any]:
    """Numbers of one output: its mean, a moment that sees its whole shape, and its extremes."""
    phase = times / times[-1]
    weights = jnp.cos(2 * jnp.pi * phase + 1.0) + 0.5 * jnp.cos(6 * jnp.pi * phase + 2.0)
    share = jnp.diff(phase)
    middle = (course[1:] + course[:-1]) / 2
    moment = jnp.sum(share * middle * (weights[1:] + weights[:-1]) / 2)
    return jnp.sum(share * middle), moment, jnp.max(course), jnp.min(course)


def _outputs(system: AbstractRecordedSystem, p: Any) -> Any:
    return system.outputs(jnp.zeros(()), system.initial_state(p), p)


def check_gradients(moved: Moved, system: AbstractRecordedSystem, report: Report) -> None:
    """Compare gradients with central differences along every parameter that has bounds."""
    n = len(moved.free)
    up, down = slice(1, n + 1), slice(n + 1, None)
    values, gradients = moved.values, moved.gradients
    solved = moved.settled[up] & moved.settled[down]
    here = gradients[0].T
    above = np.stack([gradients[up][j, :, j] for j in range(n)])
    below = np.stack([gradients[down][j, :, j] for j in range(n)])
    differences = (values[up] - values[down]) / (2 * MOVED)
    # Simpson's rule: what the gradients along the way add up to.
    expected = (above + 4 * here + below) / 6
    # A kink or a curve between the two, such as an extreme that passes from one time to another.
    bent = np.abs(above - here) + np.abs(here - below)
    largest = np.abs(differences).max(axis=0, keepdims=True)
    allowed = RIGHT * largest + ROUNDING * moved.size / MOVED * 0.01 + bent
    wrong = (np.abs(differences - expected) > allowed) | ~np.isfinite(expected)
    wrong &= solved[:, None]
    if not wrong.any():
        report.facts["gradients"] = f"as finite differences, by {', '.join(moved.free)}"
        return
    what = "the periodic orbit" if isinstance(system, AbstractPeriodicSystem) else "the record"
    for j in np.flatnonzero(wrong.any(axis=1)):
        off = np.abs(differences - expected)[j] / np.maximum(moved.size, 1e-300)
        k = int(np.argmax(np.where(wrong[j], np.nan_to_num(off, nan=np.inf), -1.0)))
        report.problem(
            f"the gradient of {what} by {moved.free[j]} is wrong: {moved.functionals[k]} changes "
            f"by {differences[j, k]:.3g} over the bounds of {moved.free[j]} (finite differences), "
            f"jax.grad says {expected[j, k]:.3g}",
            f"if {moved.free[j]} decides when the drive switches, return that time from "
            "`discontinuities`; look for jnp.round, jnp.floor, integers and "
            "jax.lax.stop_gradient, which have no slope; or take more `steps`",
        )


def check_steps(moved: Moved, system: AbstractRecordedSystem, report: Report) -> None:
    """Compare with twice as many steps; where that is not enough, find how many are."""
    steps = len(moved.times) - 1
    times, outputs = moved.times, moved.courses
    errors, n = {}, steps
    while True:
        finer = compiled(lambda p, n=n: record(system, p, steps=2 * n), moved.p)(moved.p)
        errors[n] = _errors(times, outputs, np.asarray(finer.times), finer.outputs)
        if max(errors[n].values(), default=0.0) <= ACCURATE or 2 * n >= MOST_STEPS:
            break
        times, outputs, n = np.asarray(finer.times), finer.outputs, 2 * n
    report.facts[f"error of {steps} steps"] = ", ".join(
        f"{name} {100 * error:.2g}%" for name, error in errors[steps].items()
    )
    large = {name: error for name, error in errors[steps].items() if not error <= ACCURATE}
    if not large:
        return
    worst = ", ".join(
        f"{name} by {100 * error:.2g}% of its range"
        for name, error in sorted(large.items(), key=lambda item: -item[1])[:3]
    )
    enough = max(errors[n].values()) <= ACCURATE
    report.problem(
        f"{steps} steps are too few: with {2 * steps} there change {worst}",
        f"write `steps = {n}` in the class: {2 * n} change less than {100 * ACCURATE:.0f}%"
        if enough
        else f"even {n} steps are too few: look for time constants far below the duration that "
        "matter for no output, or leave the fastest compartment out",
    )


def _errors(times: Any, outputs: Any, finer_times: Any, finer: Any) -> dict[str, float]:
    """The largest difference of each output, as a share of its range."""
    found = {}
    for name, coarse, fine in zip(
        names(outputs), jax.tree.leaves(outputs), jax.tree.leaves(finer), strict=True
    ):
        fine = np.asarray(fine)
        size = np.ptp(fine)
        if size > 1e-9 * np.abs(fine).max():
            difference = np.interp(times, finer_times, fine) - np.asarray(coarse)
            found[name] = float(np.abs(difference).max() / size)
    return found


def two_patients(moved: Moved, phases: int = 60) -> Recording:
    """A recording of two patients, to try readings on."""
    at = moved.times[-1] * np.arange(phases) / phases
    waveforms = jax.tree.map(
        lambda leaf: jnp.asarray(np.tile(np.interp(at, moved.times, leaf), (2, 1))), moved.courses
    )
    maximum = jax.tree.map(lambda leaf: jnp.full(2, leaf.max()), moved.courses)
    minimum = jax.tree.map(lambda leaf: jnp.full(2, leaf.min()), moved.courses)
    return Recording(maximum, minimum, waveforms, jnp.full(2, moved.times[-1]))
