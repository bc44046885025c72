"""The periodic orbit of a driven system: the beat that repeats itself, and its gradient."""

from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..parameters import AbstractParameters, Scalar
from .base import AbstractPeriodicSystem
from .implicit import SDIRK2
from .solve import ode_term


class PeriodicOrbit(eqx.Module):
    """One period of a system that has settled, and how well it has.

    Attributes:
        times: From 0 to the period [s].
        states: The state at each time, [time] on every leaf.
        outputs: What can be observed at each time, [time] on every leaf.
        residual: Largest change of a state variable over the period shown, relative to the
            largest size it has in that time; NaN where the solution diverged.
        converged: Whether the residual is within the method's tolerance.
        beats: How many beats were run before the one shown.
    """

    times: Float[Array, " time"]
    states: Any
    outputs: Any
    residual: Float[Array, ""]
    converged: Bool[Array, ""]
    beats: Int[Array, ""]


class BeatIteration(eqx.Module):
    """Run beat after beat until one changes the state by no more than a tolerance.

    Attributes:
        tolerance: On `PeriodicOrbit.residual`. Rounding alone gives about 1e-6 in float32.
        max_beats: Give up after so many beats.
    """

    tolerance: float = 3e-5
    max_beats: int = 40


class ImplicitAdjoint(eqx.Module):
    """Differentiate the periodic state by the implicit-function theorem.

    The cost is that of one beat with its Jacobian, whatever the number of beats it took.
    """


class DirectAdjoint(eqx.Module):
    """Differentiate through a fixed number of beats, started from the initial state.

    The plain, costly alternative that `ImplicitAdjoint` is checked against.

    Attributes:
        beats: How many beats to run, without looking at convergence.
    """

    beats: int = 15


def _times(period: Scalar, steps: int) -> Float[Array, " time"]:
    """Equidistant times from 0 to just before the period.

    The drive's last value is so its limit from the left: systems may jump where one period
    ends and the next begins.
    """
    period = jnp.asarray(period)
    end = period * (1 - 8 * jnp.finfo(period.dtype).eps)
    return end * jnp.arange(steps + 1, dtype=period.dtype) / steps


def _step(system: AbstractPeriodicSystem, solver: dfx.AbstractSolver, steps: int, p):
    """The solver's step number k of the period, as y, k → y."""
    term = ode_term(system)
    times = _times(system.period(p), steps)

    def step(y, k):
        y, *_ = solver.step(term, times[k], times[k + 1], y, p, None, made_jump=False)
        return y

    return step


def _beat(system: AbstractPeriodicSystem, solver: dfx.AbstractSolver, steps: int, y0, p):
    """The state one period after y0, and the largest size of each entry until then."""
    step = _step(system, solver, steps, p)

    def body(carry, k):
        y, size = carry
        y = step(y, k)
        return (y, jax.tree.map(lambda s, v: jnp.maximum(s, jnp.abs(v)), size, y)), None

    return jax.lax.scan(body, (y0, jax.tree.map(jnp.abs, y0)), jnp.arange(steps))[0]


def _residual(y0, y1, size) -> Float[Array, ""]:
    """Largest |y1 − y0| relative to each entry's size; 0/0 counts as no change."""
    tiny = jnp.finfo(jax.tree.leaves(y0)[0].dtype).tiny
    changes = jax.tree.map(lambda a, b, s: jnp.abs(b - a) / (s + tiny), y0, y1, size)
    return jnp.max(jnp.stack(jax.tree.leaves(changes)))


@eqx.filter_custom_jvp
def _periodic_state(system, p, solver, steps, method):
    """Run beats until they repeat; the state at the start of the last, and their number."""

    def cond(carry):
        _, residual, beats = carry
        return (residual > method.tolerance) & (beats < method.max_beats)

    def body(carry):
        y, _, beats = carry
        y1, size = _beat(system, solver, steps, y, p)
        return y1, _residual(y, y1, size), beats + 1

    y0 = system.initial_state(p)
    residual = jnp.full_like(jax.tree.leaves(y0)[0], jnp.inf)
    y, _, beats = jax.lax.while_loop(cond, body, (y0, residual, jnp.array(0)))
    return y, beats


@_periodic_state.def_jvp
def _periodic_state_jvp(primals, tangents):
    """Tangent of the fixed point y = Φ(y, p) on the surface c(y, p) = c(y_0(p), p).

    (I − ∂Φ/∂y) dy = ∂Φ/∂p dp is singular where c is conserved: the gradient g = ∂c/∂y is a
    left null vector. It is made regular by adding, for each conserved quantity, w gᵀ dy =
    w (dc_0 − ∂c/∂p dp) with w = g/|g|²; the solution satisfies both.
    """
    system, p, solver, steps, method = primals
    d_system, d_p, *_ = tangents
    y, beats = _periodic_state(system, p, solver, steps, method)
    flat, unravel = jax.flatten_util.ravel_pytree(y)

    def beat(v, system, p):
        y1, _ = _beat(system, solver, steps, unravel(v), p)
        return jax.flatten_util.ravel_pytree(y1)[0]

    def departure(system, p):
        """c(y_0(p), p) − c(y, p) at fixed y, one entry a conserved quantity."""
        start, now = system.conserved(system.initial_state(p), p), system.conserved(y, p)
        return jnp.asarray([a - b for a, b in zip(start, now, strict=True)], flat.dtype)

    jacobian = jax.jacfwd(lambda v: beat(v, system, p))(flat)
    gradients = jax.jacfwd(lambda v: jnp.asarray(system.conserved(unravel(v), p), flat.dtype))(flat)
    weights = gradients / jnp.sum(gradients**2, axis=1, keepdims=True)
    matrix = jnp.eye(flat.size, dtype=flat.dtype) - jacobian + weights.T @ gradients

    def right_side(system, p):
        return beat(flat, system, p) + weights.T @ departure(system, p)

    _, right = eqx.filter_jvp(right_side, (system, p), (d_system, d_p))
    if right is None:  # What is differentiated touches neither the beat nor the conserved.
        right = jnp.zeros_like(flat)
    d_y = jnp.linalg.solve(matrix, right)
    return (y, beats), (unravel(d_y), None)


def periodic_orbit(
    system: AbstractPeriodicSystem,
    p: AbstractParameters,
    *,
    steps: int = 400,
    solver: dfx.AbstractSolver | None = None,
    method: BeatIteration | None = None,
    adjoint: ImplicitAdjoint | DirectAdjoint | None = None,
    throw: bool = True,
) -> PeriodicOrbit:
    """Find the periodic orbit of one patient, starting from the system's initial state.

    Differentiable in both modes with respect to p, and made for `jax.vmap`.

    Arguments:
        system: The model.
        p: All its parameters.
        steps: Solver steps a period. With 400 the left heart's volumes are within 0.01 mL over its
            box, and its pressures within 0.02 mmHg (median) and 0.15 mmHg (worst).
        solver: Any Diffrax solver that needs no state of its own; `SDIRK2` by default.
        method: When to stop; `BeatIteration()` by default.
        adjoint: How to differentiate; `ImplicitAdjoint()` by default.
        throw: Whether to raise where the orbit did not converge. With a batch that is for
            any of its patients; `throw=False` reports each in `converged` instead.
    """
    solver = SDIRK2() if solver is None else solver
    method = BeatIteration() if method is None else method
    p = jax.tree.map(jnp.asarray, p)
    if isinstance(adjoint, DirectAdjoint):
        y0 = system.initial_state(p)
        beats = jnp.array(adjoint.beats)
        y0, _ = jax.lax.scan(
            lambda y, _: (_beat(system, solver, steps, y, p)[0], None), y0, length=adjoint.beats
        )
    else:
        y0, beats = _periodic_state(system, p, solver, steps, method)

    step = _step(system, solver, steps, p)

    def record(y, k):
        y1 = step(y, k)
        return y1, y1

    y1, later = jax.lax.scan(record, y0, jnp.arange(steps))
    states = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), y0, later)
    times = _times(system.period(p), steps)
    outputs = jax.vmap(system.outputs, in_axes=(0, 0, None))(times, states, p)
    size = jax.tree.map(lambda leaf: jnp.max(jnp.abs(leaf)), states)
    residual = _residual(y0, y1, size)
    converged = residual <= method.tolerance
    if throw:
        states, outputs = eqx.error_if(
            (states, outputs),
            ~converged,
            "periodic_orbit did not converge: look at `residual` with throw=False. Either a "
            "parameter is far from what the model was made for, or more beats "
            "(method=BeatIteration(max_beats=...)) or more steps are needed.",
        )
    return PeriodicOrbit(times, states, outputs, residual, converged, beats)
