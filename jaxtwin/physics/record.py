"""The recording of a system: its periodic orbit, or its transient."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from jaxtwin.parameters import AbstractParameters
from jaxtwin.physics.adjoint import differentiated_once, held
from jaxtwin.physics.base import (
    AbstractPeriodicSystem,
    AbstractRecordedSystem,
    check_patient,
    check_recorded,
)
from jaxtwin.physics.beat import Beat, BeatMap
from jaxtwin.physics.coarse import COARSENING, comparison
from jaxtwin.physics.kernel import as_one_function
from jaxtwin.physics.periodic import periodic_orbit
from jaxtwin.physics.refine import solve_accurately
from jaxtwin.physics.sdirk import SDIRK2
from jaxtwin.physics.solution import ACCURACY, RESULTS, Outputs, Solution, State, Stats, first_of
from jaxtwin.physics.stage import stop_gradient, unsolved


def record(
    system: AbstractRecordedSystem[State, Any, Outputs],
    p: AbstractParameters,
    *,
    steps: int | None = None,
    accuracy: float = ACCURACY,
) -> Solution[State, Outputs]:
    """Solve for the orbit of a periodic system, or the transient of any other system.

    A transient starts at the initial state. `record` works under `jax.vmap` and is differentiable
    in both modes. A failure is reported in `result` and does not affect other patients.

    Args:
        system: The model.
        p: All parameters of the model.
        steps: Number of `SDIRK2` steps over the duration. By default `system.steps`, and as many
            times more as the accuracy needs, see `solve_accurately`.
        accuracy: Largest discretisation error that counts as success, as `Stats.error` estimates it
            from a coarser grid, relative to the range of a state.

    Raises:
        ValueError: If the system has no duration, p are not its parameters, or the accuracy is
            below the rounding of the parameters' type.
    """
    check_recorded(system)
    if isinstance(system, AbstractPeriodicSystem):
        return periodic_orbit(system, p, steps=steps, accuracy=accuracy, throw=False)
    check_patient(system, p)
    p = jax.tree.map(jnp.asarray, p)
    return solve_accurately(
        lambda steps: _transient(BeatMap(system, p, SDIRK2(), steps, accuracy)),
        system,
        steps,
        accuracy,
    )


def _transient(course: BeatMap) -> Solution:
    run = _run(course)
    coarse = course.coarser(COARSENING)
    rough = _alone(stop_gradient(coarse), stop_gradient(coarse.initial_state()))
    error = comparison(course, rough.start, rough.later)(run)
    finite = jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(run.states)]).all()
    residual = jnp.where(finite, 0.0, jnp.nan).astype(course.times().dtype)
    stats = Stats(residual, jnp.array(0), run.left, jax.lax.stop_gradient(error))
    result = first_of(
        (~finite, RESULTS.diverged),
        (run.left > unsolved(run.left.dtype), RESULTS.step_not_solved),
        (~(stats.error <= course.accuracy), RESULTS.inaccurate),
    )
    return held(finite, held(finite, course).solution(run.states, result, stats))


@eqx.filter_custom_jvp
def _run(course: BeatMap) -> Beat:
    return _alone(course, course.initial_state())


def _alone(course: BeatMap, start: Any) -> Beat:
    return as_one_function(lambda steps, y: steps(y, record=True), course.steps(), start)


@_run.def_jvp
def _run_jvp(primals, tangents):
    """The ordinary tangent, but 0 if the solution diverged; see `adjoint.held`."""
    (course,), (d_course,) = primals, tangents
    course = jax.tree.map(
        lambda x: differentiated_once(x) if eqx.is_inexact_array(x) else x, course
    )

    def run(course):
        return course.steps(at_once=True)(course.initial_state(), record=True)

    leaves = jax.tree.leaves(run(course).states)
    finite = jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves]).all()

    def masked(tree):
        return jax.tree.map(lambda d: jnp.where(finite, d, jnp.zeros_like(d)), tree)

    found, d_found = eqx.filter_jvp(run, (course,), (masked(d_course),))
    return found, masked(d_found)
