"""Initial-value problems, solved with Diffrax."""

from typing import Any, ClassVar

import diffrax as dfx
import equinox as eqx
import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxtwin.parameters import AbstractParameters
from jaxtwin.physics.base import AbstractPeriodicSystem, AbstractSystem, check_patient, check_rates
from jaxtwin.physics.sdirk import SDIRK2
from jaxtwin.physics.solution import RESULTS, Outputs, Solution, State, Stats
from jaxtwin.physics.stage import unsolved


class DiffraxSDIRK2(dfx.AbstractAdaptiveSolver):
    """`SDIRK2` as a solver of Diffrax, with an embedded solution for error control.

    Attributes:
        method: The method.
    """

    method: SDIRK2 = SDIRK2()

    term_structure: ClassVar = dfx.ODETerm
    interpolation_cls: ClassVar = dfx.ThirdOrderHermitePolynomialInterpolation

    def order(self, terms):
        """Return the order of the solution."""
        return 2

    def error_order(self, terms):
        """Return the order of the local error estimate, from the embedded solution of order 1."""
        return 2

    def init(self, terms, t0, t1, y0, args):
        """Return None: the solver has no internal state."""
        return None

    def func(self, terms, t0, y0, args):
        """Evaluate the vector field."""
        return terms.vf(t0, y0, args)

    def step(self, terms, t0, t1, y0, args, solver_state, made_jump):
        """Take one step; see the class and `diffrax.AbstractSolver.step`."""
        del solver_state, made_jump
        y, structure = jax.tree.flatten(y0)
        t0, t1 = jnp.asarray(t0), jnp.asarray(t1)
        h = t1 - t0

        def f(t_args, y):
            t, args = t_args
            return jax.tree.leaves(terms.vf(t, jax.tree.unflatten(structure, y), args))

        stages = [(t, args) for t in self.method.stage_times(t0, t1)]
        second, rate_h, left = self.method.advance(f, stages, h, y)
        # The embedded solution of order 1 takes the whole step at the rate of the first stage.
        error = [v - v0 - r for v, v0, r in zip(second, y, rate_h, strict=True)]

        def tree(leaves):
            return jax.tree.unflatten(structure, leaves)

        k0, k1 = (tree([h * r for r in f((t, args), v)]) for t, v in ((t0, y), (t1, second)))
        dense_info = {"y0": y0, "y1": tree(second), "k0": k0, "k1": k1}
        solved = ~(left > unsolved(left.dtype))
        failure: Any = dfx.RESULTS.nonlinear_max_steps_reached
        result = dfx.RESULTS.where(solved, dfx.RESULTS.successful, failure)
        return tree(second), tree(error), dense_info, None, result


def fixed_steps(solver: Any) -> Any:
    """Return the solver so that a loop of its steps is differentiable in both modes.

    Raises:
        ValueError: If it is neither `SDIRK2` nor a Diffrax solver.
    """
    if not isinstance(solver, dfx.AbstractSolver):
        raise ValueError(
            f"solver is of type {type(solver).__name__}: expected SDIRK2() or a Diffrax solver, "
            "such as diffrax.Kvaerno3()"
        )
    if isinstance(solver, dfx.AbstractRungeKutta) and solver.scan_kind is None:
        # As in `dfx.DirectAdjoint`.
        return eqx.tree_at(lambda s: s.scan_kind, solver, "bounded", is_leaf=lambda x: x is None)
    return solver


def ode_term(system: AbstractSystem) -> dfx.ODETerm:
    """Return the system as a Diffrax term, with its parameters as `args`."""
    # Bound methods of equal modules are equal, so Diffrax does not recompile at every call.
    vector_field: Any = system.vector_field
    return dfx.ODETerm(vector_field)


def _jumps(system: AbstractSystem, p: AbstractParameters, end: float | None) -> list[Any]:
    """Return the jump times after 0; for a periodic system, in all periods up to a known end."""
    within = list(system.discontinuities(p))
    if not isinstance(system, AbstractPeriodicSystem):
        return within
    period = system.period(p)
    if end is None or isinstance(period, jax.core.Tracer):
        return []
    starts = np.arange(np.ceil(end / float(period))) * float(period)
    return [start + jump for start in starts for jump in (0.0, *within)][1:]


def _end(times: Any) -> float:
    """Return the last of the times, after checking them."""
    given = np.asarray(times, float)
    if given.ndim != 1 or not len(given) or not given[0] >= 0 or not np.all(np.diff(given) >= 0):
        raise ValueError(
            f"times {np.array2string(given, threshold=6)}: expected increasing times from 0 on [s],"
            " such as jnp.linspace(0, 2, 201)"
        )
    return float(given[-1])


def simulate(
    system: AbstractSystem[State, Any, Outputs],
    p: AbstractParameters,
    times: Float[Array, " time"],
    *,
    state: Any = None,
    solver: SDIRK2 | dfx.AbstractSolver = SDIRK2(),
    stepsize_controller: dfx.AbstractStepSizeController | None = None,
    adjoint: dfx.AbstractAdjoint = dfx.RecursiveCheckpointAdjoint(),
    max_steps: int = 100_000,
    throw: bool = True,
) -> Solution[State, Outputs]:
    """Solve a system from t = 0 with an adaptive stiff solver.

    Args:
        system: The model.
        p: All parameters of the model.
        times: Times at which to return the solution [s], increasing, from 0 on.
        state: The state at t = 0; by default `system.initial_state(p)`.
        solver: `SDIRK2`, or a Diffrax solver. The default also works in float32, where Diffrax's
            implicit solvers stall at valves of small resistance: the rounding errors of their
            stages are larger than the tolerance of these stages.
        stepsize_controller: By default a PID controller with rtol and atol 1e-6 in float64,
            1e-4 in float32, that ends a step at each of the system's discontinuities, in every
            period, and at the end of every period. (This requires a known number of periods: with
            a traced period or traced times, the controller finds the jumps by rejecting steps.)
        adjoint: How to differentiate.
        max_steps: Largest number of steps, beyond which the solution has failed.
        throw: Whether to raise an error on failure. Otherwise `result` reports it, and entries at
            times that were not reached are infinite.

    Raises:
        ValueError: If the times do not increase from 0 on, the state is not one of the system, or p
            are not its parameters.
        RuntimeError: If the last time was not reached, and `throw`.
    """
    check_patient(system, p)
    check_rates(system, p)
    stepper = DiffraxSDIRK2(solver) if isinstance(solver, SDIRK2) else solver
    end = None if isinstance(times, jax.core.Tracer) else _end(times)
    times = jnp.asarray(times, float)
    y0 = system.initial_state(p)
    if state is not None and jax.tree.structure(state) != jax.tree.structure(y0):
        raise ValueError(f"state is {state}: expected a state such as {y0}")
    y0 = y0 if state is None else state
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
        stepper,
        t0=0.0,
        t1=times[-1],
        dt0=None,
        y0=y0,
        args=p,
        saveat=dfx.SaveAt(subs=(dfx.SubSaveAt(ts=times), dfx.SubSaveAt(t1=True))),
        stepsize_controller=stepsize_controller,
        adjoint=adjoint,
        max_steps=max_steps,
        throw=False,
    )
    ended: Any = (solution.ts, solution.ys)
    states: Any = ended[1][0]
    reached = solution.result == dfx.RESULTS.successful
    if throw and isinstance(reached, jax.core.Tracer):
        message = f"{type(system).__name__} was not solved up to the last time. {_ADVICE}"
        states = eqx.error_if(states, ~reached, message)
    elif throw and not reached:
        where = (ended[0][1][0], jax.tree.map(lambda leaf: leaf[0], ended[1][1]))
        raise RuntimeError(_stalled(system, p, *where, times[-1], dfx.RESULTS[solution.result]))
    outputs = jax.vmap(system.outputs, in_axes=(0, 0, None))(times, states, p)
    result = RESULTS.where(reached, RESULTS.successful, RESULTS.last_time_not_reached)
    residual = jnp.where(reached, 0.0, jnp.nan).astype(times.dtype)
    unknown = jax.tree.map(lambda _: jnp.full_like(residual, jnp.nan), y0)
    stats = Stats(residual, jnp.array(0), 0 * residual, unknown)
    return Solution(times, states, outputs, times[-1], result, stats)


_ADVICE = (
    "A flow proportional to √Δp has an infinite slope where the valve switches: regularise the "
    "root, as in Δp/(Δp² + ε²)^(1/4), or use SDIRK2, the default solver; `record` and "
    "`periodic_orbit` take steps of fixed size. Or allow more steps (max_steps), or throw=False."
)


def _stalled(system: AbstractSystem, p: Any, t: Any, state: Any, end: Any, reason: str) -> str:
    """Describe why the solution ended early, and which state's rate is steepest there."""
    slopes = jax.jacfwd(lambda state: system.vector_field(t, state, p))(state)
    names = getattr(state, "_fields", range(len(jax.tree.leaves(state))))
    sizes = np.abs(np.asarray(jax.tree.leaves(state))) + 1e-6
    rows = jax.tree.leaves(slopes, is_leaf=lambda x: jax.tree.structure(x) == jax.tree.structure(0))
    table = np.abs(np.asarray(rows)).reshape(len(sizes), len(sizes)) * sizes / sizes[:, None]
    steepest = np.nan_to_num(table, nan=np.inf, posinf=np.inf).max(axis=1)
    worst = int(np.argmax(steepest))
    return (
        f"{type(system).__name__} was solved up to t = {float(t):.6g} s of {float(end):.6g} s: "
        f"{reason.strip()} There the rate of {names[worst]!r} depends most steeply on the state "
        f"({steepest[worst]:.1e} per s, relative). {_ADVICE}"
    )
