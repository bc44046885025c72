"""Check of the number of steps, and of the gradients of recordings."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import integrate

from jaxtwin.physics.base import AbstractPeriodicSystem, AbstractRecordedSystem
from jaxtwin.physics.check.report import Report, compiled, names
from jaxtwin.physics.record import record
from jaxtwin.physics.solution import RESULTS, Solution, largest

# Largest root-mean-square error of an output over time, as a share of its range.
ACCURATE = 0.01
MOST_STEPS = 3_840
# Distance by which parameters are moved to either side, as a share of their bounds. For a parameter
# that is a time it is several solver steps, so that a moving jump is detected.
MOVED = 0.01
PLACES = 9
# Allowed errors of a gradient, as shares: of the largest slope by any parameter; of the output's
# range over 2 `MOVED`, because differences depend on how well the orbit closes; and of the
# gradient's variation between the places, because valves and extremes cause kinks.
RIGHT, CLOSED, KINKED = 3e-3, 5e-3, 0.25


class Moved(NamedTuple):
    """Recordings of a patient and their gradients, with each parameter moved to both sides.

    Attributes:
        p: Parameters of the patient.
        free: Names of the parameters that have bounds.
        functionals: Names of the differentiated functionals, such as "mean of P_ao".
        size: Range of the output of each functional, [functional].
        values: Functionals with one parameter at one of `PLACES` places, from `MOVED` below to
            `MOVED` above, [free, place, functional].
        slopes: Derivatives by that parameter as a share of its bounds, [free, place, functional].
        courses: Outputs of the patient at all times, [time] on every leaf.
        times: The times.
        result: Outcome of the patient.
        solved: Whether all neighbours along each parameter were solved, [free].
    """

    p: Any
    free: list[str]
    functionals: list[str]
    size: np.ndarray
    values: np.ndarray
    slopes: np.ndarray
    courses: Any
    times: np.ndarray
    result: RESULTS
    solved: np.ndarray


def solve_around(system: AbstractRecordedSystem, p: Any) -> Moved:
    """Record a patient and the neighbouring ones, with gradients by `jax.grad`."""
    specs = {name: s for name, s in system.parameters.specs().items() if s.bounds is not None}
    low, high = np.array([s.bounds for s in specs.values()], float).T
    width = np.where(high > low, high - low, 1.0)
    here = (np.array([float(getattr(p, name)) for name in specs]) - low) / width
    free, outputs = list(specs), names(jax.eval_shape(lambda: _outputs(system, p)))

    def complete(u: Any) -> Any:
        return dataclasses.replace(p, **dict(zip(free, low + width * u, strict=True)))

    def measure(u: Any) -> Any:
        # Whatever its error: it is reported by `check_steps`.
        solution = record(system, complete(u), accuracy=np.inf)
        measured = _functionals(solution.times, solution.outputs)
        return measured, (solution.outputs, solution.times, solution.result)

    def everything(u: Any) -> Any:
        measured, pull, (courses, times, result) = jax.vjp(measure, u, has_aux=True)
        (gradients,) = jax.vmap(pull)(jnp.eye(len(measured), dtype=measured.dtype))
        return measured, gradients, courses, times, result

    # Away from the bounds, so that both sides are inside them.
    here = np.where((here >= 0) & (here <= 1), np.clip(here, MOVED, 1 - MOVED), here)
    n, shift = len(free), np.linspace(-MOVED, MOVED, PLACES)
    lanes = here + shift[:, None] * np.eye(n)[:, None, :]
    lanes = jnp.asarray(np.concatenate([here[None], lanes.reshape(-1, n)]))
    values, gradients, courses, times, results = compiled(jax.vmap(everything), lanes)(lanes)
    values, gradients, settled = (
        np.asarray(leaf)[1:].reshape(n, PLACES, *leaf.shape[1:])
        for leaf in (values, gradients, results == RESULTS.successful)
    )
    slopes = np.stack([gradients[j, ..., j] for j in range(n)])
    first = jax.tree.map(lambda leaf: np.asarray(leaf[0]), courses)
    size = [max(np.ptp(leaf), 1e-6 * np.abs(leaf).max()) for leaf in jax.tree.leaves(first)]
    return Moved(
        complete(jnp.asarray(here)),
        free,
        [f"{what} of {output}" for output in outputs for what in _FUNCTIONALS],
        np.repeat(size, len(_FUNCTIONALS)),
        values,
        slopes,
        first,
        np.asarray(times[0]),
        jax.tree.map(lambda leaf: leaf[0], results),
        np.all(settled, axis=1),
    )


_FUNCTIONALS = ("the mean", "a moment", "the maximum", "the minimum")


def _functionals(times: Any, outputs: Any) -> Any:
    """Return the mean, a moment of the whole shape, and the extremes of each output."""
    phase = times / times[-1]
    weights = jnp.cos(2 * jnp.pi * phase + 1.0) + 0.5 * jnp.cos(6 * jnp.pi * phase + 2.0)
    share = jnp.diff(phase)

    def mean(x: Any) -> Any:
        return jnp.sum(share * (x[1:] + x[:-1]) / 2)

    return jnp.stack(
        [
            value
            for x in jax.tree.leaves(outputs)
            for value in (mean(x), mean(weights * x), largest(x), -largest(-x))
        ]
    )


def _noise(moved: Moved, finer: Solution) -> np.ndarray:
    """Return the dependence of each functional on the position of the grid, [functional].

    A jump of an output moves from one node to the next, and a cusp-like extreme lies between two
    nodes.
    """
    coarse = _functionals(moved.times, moved.courses)
    change = np.abs(np.asarray(_functionals(finer.times, finer.outputs) - coarse))
    cusps = []
    for course in jax.tree.leaves(moved.courses):
        jumps = np.abs(np.diff(course, prepend=course[:1], append=course[-1:]))
        around = np.maximum(jumps[1:], jumps[:-1])
        cusps += [0.0, 0.0, float(around[np.argmax(course)]), float(around[np.argmin(course)])]
    return np.maximum(change, cusps)


def _outputs(system: AbstractRecordedSystem, p: Any) -> Any:
    return system.outputs(jnp.zeros(()), system.initial_state(p), p)


def check_solved(moved: Moved, system: AbstractRecordedSystem, report: Report) -> None:
    """Check that the patient was solved, and otherwise look for a number of steps that does."""
    if moved.result == RESULTS.successful:
        return
    is_periodic, steps = isinstance(system, AbstractPeriodicSystem), len(moved.times) - 1
    what = (
        "no periodic orbit was found from the initial state" if is_periodic else "the record failed"
    )
    advice = "look at `simulate(system, p, times)`: what grows, or never settles?"
    if moved.result == RESULTS.undetermined:
        advice = (
            "check_system found nothing else that is conserved: compare the time constants in this "
            "report with the period, and check the units of the parameters"
        )
    if moved.result in (RESULTS.step_not_solved, RESULTS.inaccurate):
        advice = (
            f"{2 * steps} and {4 * steps} steps are too few as well: write a larger number of "
            "`steps` in the class, or regularise a root whose slope is infinite where a valve "
            "switches, as in dp / jnp.sqrt(jnp.abs(dp) + eps)"
        )
        for n in (2 * steps, 4 * steps):
            run = compiled(lambda p, n=n: record(system, p, steps=n, accuracy=np.inf), moved.p)
            if run(moved.p).success:
                advice = f"write `steps = {n}` in the class, which are enough"
                break
    report.problem(f"{what} with {steps} steps: {RESULTS[moved.result]}", advice)


def check_gradients(
    moved: Moved, finer: Solution, system: AbstractRecordedSystem, report: Report
) -> None:
    """Compare gradients with central differences along every parameter that has bounds."""
    differences = (moved.values[:, -1] - moved.values[:, 0]) / (2 * MOVED)
    # Integral of the gradients over the moved distance, by Simpson's rule.
    expected = np.asarray(integrate.simpson(moved.slopes, axis=1)) / (PLACES - 1)
    allowed = RIGHT * np.abs(differences).max(axis=0) + CLOSED * moved.size
    allowed = allowed + KINKED * np.ptp(moved.slopes, axis=1) + _noise(moved, finer) / (2 * MOVED)
    # Avoids reporting an error if both changes are 0.
    allowed = np.maximum(allowed, np.finfo(float).tiny)
    wrong = ~(np.abs(differences - expected) <= allowed) & moved.solved[:, None]
    if not wrong.any():
        report.facts["gradients"] = f"as finite differences, by {', '.join(moved.free)}"
        return
    what = "the periodic orbit" if isinstance(system, AbstractPeriodicSystem) else "the record"
    bad = np.any(~np.isfinite(expected), axis=1)
    broken = [name for name, is_bad in zip(moved.free, bad, strict=True) if is_bad]
    if broken:
        report.problem(
            f"the gradient of {what} by {', '.join(broken)} is NaN or infinite",
            "derivatives of the vector field are finite at the states that were tried: look for a "
            "state that leaves its usual range within a beat, and try more `steps`",
        )
        return
    off = np.where(wrong, np.abs(differences - expected) / np.maximum(moved.size, 1e-300), 0.0)
    order = [j for j in np.argsort(-off.max(axis=1)) if off[j].any()]
    j, k = order[0], int(np.argmax(off[order[0]]))
    others = ", ".join(moved.free[i] for i in order[1:])
    report.problem(
        f"the gradient of {what} by {moved.free[j]} is wrong: {moved.functionals[k]} changes "
        f"by {differences[j, k]:.3g} over the bounds of {moved.free[j]} (finite differences), "
        f"jax.grad says {expected[j, k]:.3g}" + (f"; also wrong: {others}" if others else ""),
        "if it decides when the drive switches, or moves the time at which it does, return that "
        "time from `discontinuities`; look for jnp.round, jnp.floor, integers and "
        "jax.lax.stop_gradient, which have no slope; or increase `steps`",
    )


def check_steps(moved: Moved, system: AbstractRecordedSystem, report: Report) -> Solution:
    """Compare with twice as many steps, find a sufficient number, and return the finer solution."""
    steps = len(moved.times) - 1
    times, outputs = moved.times, moved.courses
    errors, n, twice = {}, steps, None
    while True:
        finer = compiled(lambda p, n=n: record(system, p, steps=2 * n, accuracy=np.inf), moved.p)(
            moved.p
        )
        twice = finer if twice is None else twice
        errors[n] = _errors(times, outputs, np.asarray(finer.times), finer.outputs)
        if max(errors[n].values(), default=0.0) <= ACCURATE or 2 * n >= MOST_STEPS:
            break
        times, outputs, n = np.asarray(finer.times), finer.outputs, 2 * n
    report.facts[f"error of {steps} steps"] = ", ".join(
        f"{name} {100 * error:.2g}%" for name, error in errors[steps].items()
    )
    large = {name: error for name, error in errors[steps].items() if not error <= ACCURATE}
    if not large:
        return twice
    worst = ", ".join(
        f"{name} by {100 * error:.2g}% of its range"
        for name, error in sorted(large.items(), key=lambda item: -item[1])[:3]
    )
    enough = max(errors[n].values()) <= ACCURATE
    report.problem(
        f"{steps} steps are too few: the outputs change with {2 * steps}: {worst}",
        f"write `steps = {n}` in the class: {2 * n} change less than {100 * ACCURATE:.0f}%"
        if enough
        else f"even {n} steps are too few: look for time constants far below the duration that "
        "affect no output, or leave out the fastest compartment",
    )
    return twice


def _errors(times: Any, outputs: Any, finer_times: Any, finer: Any) -> dict[str, float]:
    """Return the root-mean-square difference of each output, as a share of its range."""
    found = {}
    for name, coarse, fine in zip(
        names(outputs), jax.tree.leaves(outputs), jax.tree.leaves(finer), strict=True
    ):
        fine = np.asarray(fine)
        size = np.ptp(fine)
        if size > 1e-9 * np.abs(fine).max():
            difference = np.interp(times, finer_times, fine) - np.asarray(coarse)
            found[name] = float(np.sqrt(np.mean(difference**2)) / size)
    return found
