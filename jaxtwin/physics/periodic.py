"""The periodic orbit of a driven system: the beat that repeats itself, and its gradient."""

import abc
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxtwin.parameters import AbstractParameters, Scalar
from jaxtwin.physics.base import AbstractPeriodicSystem
from jaxtwin.physics.implicit import SDIRK2
from jaxtwin.physics.solve import ode_term


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


class AbstractIteration(eqx.Module):
    """How to get from beat to beat to the one that repeats itself.

    Attributes:
        tolerance: On `PeriodicOrbit.residual`. Rounding alone gives about 1e-6 in float32.
        max_beats: Give up after so many beats.
    """

    tolerance: eqx.AbstractVar[float]
    max_beats: eqx.AbstractVar[int]

    @abc.abstractmethod
    def next_start(self, end: Any, change: Any, last_end: Any, last_change: Any) -> Any:
        """Where to start the next beat.

        Args:
            end: The state at the end of this beat.
            change: By how much the beat changed the state, each entry relative to its size.
            last_end: The same of the beat before; this beat's own after the first.
            last_change: Likewise.
        """


class BeatIteration(AbstractIteration):
    """Start every beat where the last one ended, as a heart does."""

    tolerance: float = 3e-5
    max_beats: int = 40

    def next_start(self, end: Any, change: Any, last_end: Any, last_change: Any) -> Any:
        """The end of the last beat."""
        return end


class AndersonIteration(AbstractIteration):
    """Extrapolate from the last two beats: Anderson's method of depth one.

    Anderson, "Iterative procedures for nonlinear integral equations", Journal of the ACM
    12(4), 1965. A heart settles along one slow direction, the shift of blood between
    arteries and veins, whose rate two beats reveal: over the left heart's box the slowest
    patient needs 8 beats instead of 14. The weights add up to one, so conserved quantities
    stay what they are if they are linear in the state; otherwise use `BeatIteration`.
    """

    tolerance: float = 3e-5
    max_beats: int = 40

    def next_start(self, end: Any, change: Any, last_end: Any, last_change: Any) -> Any:
        """The combination of both ends whose change is least, if the map were affine."""
        f, last_f = (jnp.stack(jax.tree.leaves(tree)) for tree in (change, last_change))
        difference = f - last_f
        square = jnp.maximum(jnp.sum(difference**2), jnp.finfo(f.dtype).tiny)
        # A rate of 0.83 a beat gives -5; anything beyond is noise, or not yet that one mode.
        weight = jnp.clip(jnp.sum(f * difference) / square, -5.0, 0.5)
        return jax.tree.map(lambda a, b: a - weight * (a - b), end, last_end)


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
        t0, t1 = times[k], times[k + 1]
        # Solvers that carry something from step to step start afresh with each.
        carried = solver.init(term, t0, t1, y, p)
        y, *_ = solver.step(term, t0, t1, y, p, carried, made_jump=False)
        return y

    return step


def _initial_state(system: AbstractPeriodicSystem, p):
    """The system's initial state as floats, though it may give Python's integers."""
    return jax.tree.map(
        lambda leaf: jnp.asarray(leaf, jnp.result_type(leaf, float)), system.initial_state(p)
    )


def _beat(system: AbstractPeriodicSystem, solver: dfx.AbstractSolver, steps: int, y0, p):
    """The state one period after y0, and the largest size of each entry until then."""
    step = _step(system, solver, steps, p)

    def body(carry, k):
        y, size = carry
        y = step(y, k)
        return (y, jax.tree.map(lambda s, v: jnp.maximum(s, jnp.abs(v)), size, y)), None

    return jax.lax.scan(body, (y0, jax.tree.map(jnp.abs, y0)), jnp.arange(steps))[0]


def _relative_change(y0, y1, size):
    """(y1 − y0) relative to each entry's size; 0/0 counts as no change."""
    tiny = jnp.finfo(jax.tree.leaves(y0)[0].dtype).tiny
    return jax.tree.map(lambda a, b, s: (b - a) / (s + tiny), y0, y1, size)


def _largest(change) -> Float[Array, ""]:
    return jnp.max(jnp.abs(jnp.stack(jax.tree.leaves(change))))


@eqx.filter_custom_jvp
def _periodic_state(system, p, solver, steps, method):
    """Run beats until they repeat; the state at the end of the last, and their number."""

    def cond(carry):
        *_, residual, beats = carry
        return (residual > method.tolerance) & (beats < method.max_beats)

    def body(carry):
        start, _, last_end, last_change, _, beats = carry
        end, size = _beat(system, solver, steps, start, p)
        change = _relative_change(start, end, size)
        last_end, last_change = jax.tree.map(
            lambda now, last: jnp.where(beats == 0, now, last),
            (end, change),
            (last_end, last_change),
        )
        following = method.next_start(end, change, last_end, last_change)
        return following, end, end, change, _largest(change), beats + 1

    y0 = _initial_state(system, p)
    residual = jnp.full_like(jax.tree.leaves(y0)[0], jnp.inf)
    _, end, *_, beats = jax.lax.while_loop(cond, body, (y0, y0, y0, y0, residual, jnp.array(0)))
    return end, beats


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
    method: AbstractIteration | None = None,
    adjoint: ImplicitAdjoint | DirectAdjoint | None = None,
    throw: bool = True,
) -> PeriodicOrbit:
    """Find the periodic orbit of one patient, starting from the system's initial state.

    Differentiable in both modes with respect to p, and made for `jax.vmap`.

    Args:
        system: The model.
        p: All its parameters.
        steps: Solver steps a period. With 400 the left heart's volumes are within 0.01 mL over its
            box, and its pressures within 0.02 mmHg (median) and 0.15 mmHg (worst).
        solver: A Diffrax solver; `SDIRK2` by default. Its steps are taken as they come, with no
            error control, so it must be one that stays stable at this step size; one with a
            root finder needs that root finder's tolerances set.
        method: How to get there, and when to stop; `AndersonIteration()` by default.
        adjoint: How to differentiate; `ImplicitAdjoint()` by default.
        throw: Whether to raise where the orbit did not converge. With a batch that is for
            any of its patients; `throw=False` reports each in `converged` instead. Mask
            those that did not in a loss over the batch: their gradients are NaN.

    Raises:
        ValueError: If `steps` is not positive.
    """
    if steps < 1:
        raise ValueError(f"steps={steps}: a period needs at least one step, a heart about 400")
    return _periodic_orbit(
        system,
        jax.tree.map(jnp.asarray, p),
        steps,
        SDIRK2() if solver is None else solver,
        AndersonIteration() if method is None else method,
        ImplicitAdjoint() if adjoint is None else adjoint,
        throw,
    )


@eqx.filter_jit
def _periodic_orbit(system, p, steps, solver, method, adjoint, throw) -> PeriodicOrbit:
    """The work of `periodic_orbit`, compiled once for each kind of arguments."""
    if isinstance(adjoint, DirectAdjoint):
        y0 = _initial_state(system, p)
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
    residual = _largest(_relative_change(y0, y1, size))
    converged = residual <= method.tolerance
    if throw:
        states, outputs = eqx.error_if(
            (states, outputs),
            ~converged,
            "periodic_orbit did not converge: look at `residual` with throw=False. Either a "
            "parameter is far from what the model was made for, or more beats "
            "(method=AndersonIteration(max_beats=...)) or more steps are needed.",
        )
    return PeriodicOrbit(times, states, outputs, residual, converged, beats)
