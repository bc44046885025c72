"""The periodic orbit of a driven system: the beat that repeats itself, and its gradient."""

from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxtwin.parameters import AbstractParameters
from jaxtwin.physics.base import AbstractPeriodicSystem
from jaxtwin.physics.beat import BeatMap, prepend
from jaxtwin.physics.implicit import SDIRK2
from jaxtwin.physics.iteration import AbstractIteration, FixedPoint, NewtonIteration, inverse


class RESULTS(eqx.Enumeration):
    """How the search for a periodic orbit ended."""

    successful = ""
    max_beats_reached = "the beat still changed after `max_beats` beats"
    diverged = "the solution became infinite or not a number"


class PeriodicOrbit(eqx.Module):
    """One period of a system that has settled, and how well it has.

    Attributes:
        times: From 0 to the period [s].
        states: The state at each time, [time] on every leaf.
        outputs: What can be observed at each time, [time] on every leaf.
        residual: Largest change of a state variable over the period shown, relative to the
            largest size it has in that time; NaN where the solution diverged.
        result: How the search ended, one of `RESULTS`.
        beats: How many beats were run on the full grid, with the one shown.
    """

    times: Float[Array, " time"]
    states: Any
    outputs: Any
    residual: Float[Array, ""]
    result: RESULTS
    beats: Int[Array, ""]

    @property
    def converged(self) -> Bool[Array, "*batch"]:
        """Whether the residual is within the method's tolerance."""
        return self.result == RESULTS.successful


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


@eqx.filter_custom_jvp
def _periodic_states(system, p, solver, steps, method):
    """The states of the beat that repeats itself, its residual, and the number of beats run."""
    beats = BeatMap(system, p, solver, steps)
    settled = method.settle(beats, beats.steps(), beats.initial_state(), record=True)
    return settled.beat.states, settled.residual, settled.number


@_periodic_states.def_jvp
def _periodic_states_jvp(primals, tangents):
    """Tangent of the fixed point y = Φ(y, p) on the surface c(y, p) = c(y_0(p), p).

    That is (I − ∂Φ/∂y) dy = ∂Φ/∂p dp with gᵀ dy = dc_0 − ∂c/∂p dp, see `FixedPoint`. The
    tangent of the whole beat is then what dp does to it and what each entry of dy does.
    """
    system, p, solver, steps, method = primals
    d_system, d_p, *_ = tangents
    states, residual, number = _periodic_states(system, p, solver, steps, method)
    beats = BeatMap(system, p, solver, steps)
    y = jax.tree.map(lambda leaf: leaf[0], states)

    def end(tree):
        """The last state, as a vector."""
        return jnp.stack([leaf[-1] for leaf in jax.tree.leaves(tree)])

    def departure(system, p):
        """How far the initial state's conserved quantities are from those of y."""
        beats = BeatMap(system, p, solver, steps)
        return beats.conserved(beats.initial_state()) - beats.conserved(y)

    def inputs(system, p):
        """What the steps need."""
        _, constants, xs = BeatMap(system, p, solver, steps).steps()
        return constants, xs

    step, constants, xs = beat_steps = beats.steps()
    _, (d_constants, d_xs) = eqx.filter_jvp(inputs, (system, p), (d_system, d_p))
    _, d_conserved = eqx.filter_jvp(departure, (system, p), (d_system, d_p))

    # Reverse mode keeps the states, and computes each step anew: what it would have to read
    # otherwise is sixty times as much.
    @eqx.filter_checkpoint
    def body(d_y, x):
        _, d_y = eqx.filter_jvp(step, (constants, *x[0]), (d_constants, d_y, x[1]))
        return d_y, d_y

    before = jax.tree.map(lambda leaf: leaf[:-1], states)
    still = jax.tree.map(jnp.zeros_like, y)
    direct = prepend(still, jax.lax.scan(body, still, ((before, xs), d_xs))[1])
    jacobian, columns = beat_steps.sensitivities(y, record=True)
    matrix, weights = FixedPoint.of(beats, y, jacobian)
    # None: what is differentiated does not touch it.
    right = end(direct) if d_conserved is None else end(direct) + weights.T @ d_conserved
    d_y = inverse(matrix) @ right
    d_states = jax.tree.map(
        lambda d, *column: d + sum(w * c for w, c in zip(d_y, column, strict=True)),
        direct,
        *columns,
    )
    return (states, residual, number), (d_states, None, None)


def periodic_orbit(
    system: AbstractPeriodicSystem,
    p: AbstractParameters,
    *,
    steps: int = 240,
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
        steps: Solver steps a period. With 240 the left heart's volumes are within 0.03 mL on 256
            points of its box, and its pressures within 0.05 mmHg (median) and 0.3 mmHg (worst).
        solver: A Diffrax solver; `SDIRK2` by default. Its steps are taken as they come, with no
            error control, so it must be one that stays stable at this step size; one with a
            root finder needs that root finder's tolerances set.
        method: How to get there, and when to stop; `NewtonIteration()` by default.
        adjoint: How to differentiate; `ImplicitAdjoint()` by default.
        throw: Whether to raise where the orbit did not converge. With a batch that is for
            any of its patients; `throw=False` reports each in `result` instead. The gradients
            of those that did not mean nothing, and are NaN where the solution diverged: give
            such patients other parameters before the call, as 0 · NaN is not masked by a
            loss that leaves them out. Second derivatives are not right.

    Raises:
        ValueError: If the system is not periodic; if `steps` is not positive, or no more than the
            system's discontinuities; if the method allows no beat.
        RuntimeError: With `throw`, if the orbit did not converge; outside of `jax.jit` and
            `jax.vmap` the message has the parameters.
    """
    if not isinstance(system, AbstractPeriodicSystem):
        raise ValueError(
            f"{type(system).__name__} does not repeat itself: use `record` or `simulate`, or make "
            "it an AbstractPeriodicSystem"
        )
    if steps < 1:
        raise ValueError(f"steps={steps}: a period needs at least one step, a heart about 240")
    solver = SDIRK2() if solver is None else solver
    if isinstance(solver, dfx.AbstractRungeKutta) and solver.scan_kind is None:
        # The loop over stages that both modes can differentiate, as `dfx.DirectAdjoint` has it.
        solver = eqx.tree_at(lambda s: s.scan_kind, solver, "bounded", is_leaf=lambda x: x is None)
    method = NewtonIteration() if method is None else method
    if method.max_beats < 1:
        raise ValueError(f"max_beats={method.max_beats}: expected at least one beat")
    orbit = _periodic_orbit(
        system,
        jax.tree.map(jnp.asarray, p),
        steps,
        solver,
        method,
        ImplicitAdjoint() if adjoint is None else adjoint,
    )
    if not throw:
        return orbit
    advice = (
        "Either a parameter is far from what the model was made for, or more beats "
        "(`max_beats` of the method, `beats` of DirectAdjoint) or more steps are needed; "
        "throw=False returns the orbit as it is."
    )
    if not orbit.result.is_traced():
        if not orbit.converged:
            values = ", ".join(f"{name}={value:.6g}" for name, value in vars(p).items())
            raise RuntimeError(
                f"periodic_orbit did not converge: {RESULTS[orbit.result]} (relative change over "
                f"the last beat {orbit.residual:.1e}) at {values}. {advice}"
            )
        return orbit
    message = f"periodic_orbit did not converge for some {type(p).__name__}. {advice}"
    return eqx.error_if(orbit, ~orbit.converged, message)


@eqx.filter_jit
def _periodic_orbit(system, p, steps, solver, method, adjoint) -> PeriodicOrbit:
    """The work of `periodic_orbit`, compiled once for each kind of arguments."""
    beats = BeatMap(system, p, solver, steps)
    if isinstance(adjoint, DirectAdjoint):
        beat = beats.steps()
        y0, _ = jax.lax.scan(
            lambda y, _: (beat(y).end, None), beats.initial_state(), length=adjoint.beats
        )
        last = beat(y0, record=True)
        states, residual, number = last.states, last.residual(), jnp.array(adjoint.beats + 1)
    else:
        states, residual, number = _periodic_states(system, p, solver, steps, method)
    times = beats.times()
    outputs = jax.vmap(system.outputs, in_axes=(0, 0, None))(times, states, p)
    result = RESULTS.where(
        residual <= method.tolerance,
        RESULTS.successful,
        RESULTS.where(jnp.isfinite(residual), RESULTS.max_beats_reached, RESULTS.diverged),
    )
    return PeriodicOrbit(times, states, outputs, residual, result, number)
