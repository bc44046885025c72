"""Initial-value problems, through Diffrax."""

from typing import Any, NamedTuple

import diffrax as dfx
import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxtwin.parameters import AbstractParameters
from jaxtwin.physics.base import AbstractPeriodicSystem, AbstractSystem, check_rates


class Trajectory(NamedTuple):
    """A solution at chosen times.

    Attributes:
        times: When [s], as given.
        states: The state at each time, [time] on every leaf.
        outputs: What can be observed at each time, [time] on every leaf.
        succeeded: Whether the solver reached the last time; where not, entries it did not
            reach are infinite.
    """

    times: Float[Array, " time"]
    states: Any
    outputs: Any
    succeeded: Bool[Array, ""]


def ode_term(system: AbstractSystem) -> dfx.ODETerm:
    """The system as Diffrax takes it, with its parameters as `args`."""
    # Bound methods of equal modules are equal, so Diffrax does not compile anew at every call.
    vector_field: Any = system.vector_field
    return dfx.ODETerm(vector_field)


def _jumps(system: AbstractSystem, p: AbstractParameters, end: float | None) -> list[Any]:
    """When the vector field jumps after 0, of a periodic system up to the end, if that is known."""
    within = list(system.discontinuities(p))
    if not isinstance(system, AbstractPeriodicSystem):
        return within
    period = system.period(p)
    if end is None or isinstance(period, jax.core.Tracer):
        return []
    starts = np.arange(np.ceil(end / float(period))) * float(period)
    return [start + jump for start in starts for jump in (0.0, *within)][1:]


def simulate(
    system: AbstractSystem,
    p: AbstractParameters,
    times: Float[Array, " time"],
    *,
    state: Any = None,
    solver: dfx.AbstractSolver | None = None,
    stepsize_controller: dfx.AbstractStepSizeController | None = None,
    adjoint: dfx.AbstractAdjoint | None = None,
    max_steps: int = 100_000,
    throw: bool = True,
) -> Trajectory:
    """Solve a system from t = 0 with an adaptive stiff solver.

    Args:
        system: The model.
        p: All its parameters.
        times: When the solution is wanted [s], increasing, from 0 on.
        state: The state at t = 0; by default `system.initial_state(p)`.
        solver: Kvaerno5 by default.
        stepsize_controller: By default a PID controller with rtol and atol 1e-6 in float64,
            1e-4 in float32, that ends a step at each of the system's discontinuities, in every
            period, and where one period ends and the next begins. (How many periods there are
            must be known: with a traced period or traced times it finds all of them by rejected
            steps.)
        adjoint: How to differentiate; Diffrax's recursive checkpointing by default.
        max_steps: After so many steps the solution has failed.
        throw: Whether a failure raises; otherwise it is reported in `succeeded`.
    """
    end = None if isinstance(times, jax.core.Tracer) else float(np.asarray(times)[-1])
    times = jnp.asarray(times, float)
    check_rates(system, p)
    y0 = system.initial_state(p) if state is None else state
    y0 = jax.tree.map(lambda leaf: jnp.asarray(leaf, times.dtype), y0)
    if stepsize_controller is None:
        tolerance = 1e-6 if times.dtype == jnp.float64 else 1e-4
        stepsize_controller = dfx.PIDController(rtol=tolerance, atol=tolerance)
        jumps = _jumps(system, p, end)
        if jumps:
            stepsize_controller = dfx.ClipStepSizeController(
                stepsize_controller,
                jump_ts=jnp.stack([jnp.asarray(jump, times.dtype) for jump in jumps]),
            )
    solution = dfx.diffeqsolve(
        ode_term(system),
        dfx.Kvaerno5() if solver is None else solver,
        t0=0.0,
        t1=times[-1],
        dt0=None,
        y0=y0,
        args=p,
        saveat=dfx.SaveAt(ts=times),
        stepsize_controller=stepsize_controller,
        adjoint=dfx.RecursiveCheckpointAdjoint() if adjoint is None else adjoint,
        max_steps=max_steps,
        throw=throw,
    )
    outputs = jax.vmap(system.outputs, in_axes=(0, 0, None))(times, solution.ys, p)
    return Trajectory(times, solution.ys, outputs, solution.result == dfx.RESULTS.successful)
