"""The periodic orbit of a driven system, and its gradient."""

from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp

from jaxtwin.parameters import AbstractParameters
from jaxtwin.physics.adjoint import AbstractAdjoint, ImplicitAdjoint, Settled, held
from jaxtwin.physics.base import AbstractPeriodicSystem, check_patient
from jaxtwin.physics.beat import BeatMap
from jaxtwin.physics.compilation import compiled, differentiable
from jaxtwin.physics.fixed_point import NEUTRAL
from jaxtwin.physics.iteration import AbstractIteration, NewtonIteration
from jaxtwin.physics.refine import solve_accurately
from jaxtwin.physics.sdirk import SDIRK2
from jaxtwin.physics.solution import ACCURACY, RESULTS, Outputs, Solution, State, Stats, first_of
from jaxtwin.physics.stage import unsolved

if TYPE_CHECKING:
    from diffrax import AbstractSolver
else:
    AbstractSolver = Any  # Importing Diffrax takes a third of a second, and orbits do not need it.


def periodic_orbit(
    system: AbstractPeriodicSystem[State, Any, Outputs],
    p: AbstractParameters,
    *,
    steps: int | None = None,
    solver: SDIRK2 | AbstractSolver = SDIRK2(),
    method: AbstractIteration = NewtonIteration(),
    adjoint: AbstractAdjoint = ImplicitAdjoint(),
    accuracy: float = ACCURACY,
    throw: bool = True,
) -> Solution[State, Outputs]:
    """Find the periodic orbit of one patient, starting from the system's initial state.

    Works under `jax.vmap` and is differentiable with respect to p in both modes. Second derivatives
    raise a NotImplementedError.

    Args:
        system: The model.
        p: All parameters of the model.
        steps: Number of solver steps per period. By default `system.steps`, and as many times more
            as the accuracy needs, see `solve_accurately`. With 240 steps, the left heart's volumes
            are within 0.03 mL on 256 points of its box, and its pressures within 0.05 mmHg
            (median) and 0.3 mmHg (worst).
        solver: `SDIRK2`, or a Diffrax solver. It takes steps of fixed size without error control,
            so it must be stable at this step size. A solver with a root finder needs the tolerances
            of the root finder set.
        method: Iteration that finds the orbit, with its tolerance.
        adjoint: How to differentiate.
        accuracy: Largest discretisation error that counts as success, as `Stats.error` estimates it
            from a coarser grid, relative to the range of a state.
        throw: Whether to raise an error if the search failed, in a batch for any patient. With
            `throw=False`, `result` reports the outcome of each patient. Derivatives are 0 in both
            modes if the orbit was not found (it diverged or still changed), so a loss that leaves
            such patients out, `jnp.where(orbit.success, loss, 0.0)`, has the gradient of the
            others.

    Raises:
        ValueError: If the system is not periodic, p are not its parameters, `steps` is not positive
            or does not exceed the number of discontinuities, the accuracy is below the rounding of
            the parameters' type, or the method allows no beats.
        RuntimeError: If `throw` is set and the search failed. Outside `jax.jit` and `jax.vmap`, the
            message includes the parameters.
    """
    check_patient(system, p)
    if not isinstance(system, AbstractPeriodicSystem):
        raise ValueError(
            f"{type(system).__name__} is not periodic: use `record` or `simulate`, or make it an "
            "AbstractPeriodicSystem"
        )
    if not isinstance(solver, SDIRK2):
        from jaxtwin.physics.solve import fixed_steps

        solver = fixed_steps(solver)
    if method.max_beats < 1:
        raise ValueError(f"max_beats={method.max_beats}: expected at least one beat")
    p = jax.tree.map(jnp.asarray, p)

    def solve(steps: int) -> Solution:
        beats = BeatMap(system, p, solver, steps, accuracy)
        return _solution(beats, adjoint.settle(beats, method))

    orbit = solve_accurately(solve, system, steps, accuracy)
    if not throw:
        return orbit
    advice = (
        "Either a parameter is far outside the range for which the model was made, or it needs "
        "more beats (`max_beats` of the method, `beats` of DirectAdjoint) or more steps; "
        "throw=False returns the orbit as it is."
    )
    if not orbit.result.is_traced():
        if not orbit.success:
            values = ", ".join(f"{name}={value:.6g}" for name, value in vars(p).items())
            raise RuntimeError(
                f"periodic_orbit did not converge: {RESULTS[orbit.result]} (relative change over "
                f"the last beat {orbit.stats.residual:.1e}) at {values}. {advice}"
            )
        return orbit
    message = f"periodic_orbit did not converge for some {type(p).__name__}. {advice}"
    return eqx.error_if(orbit, ~orbit.success, message)


@differentiable
@compiled
def _solution(beats: BeatMap, found: Settled) -> Solution:
    """Judge a periodic beat, and return it with the outputs."""
    stats = Stats(found.residual, found.beats, found.left, found.errors)
    result = first_of(
        (~jnp.isfinite(found.residual), RESULTS.diverged),
        (found.left > unsolved(found.left.dtype), RESULTS.step_not_solved),
        (found.coarse.amplification > NEUTRAL, RESULTS.undetermined),
        (~found.repeats, RESULTS.max_beats_reached),
        (found.coarse.unstable, RESULTS.unstable),
        (~(stats.error <= beats.accuracy), RESULTS.inaccurate),
    )
    beats = held(found.repeats, beats)
    return held(found.repeats, beats.solution(found.states, result, stats))
