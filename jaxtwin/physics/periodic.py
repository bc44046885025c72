"""The periodic orbit of a driven system: the beat that repeats itself, and its gradient."""

import abc
from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax as dfx
import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxtwin.parameters import AbstractParameters
from jaxtwin.physics.base import AbstractPeriodicSystem
from jaxtwin.physics.hoist import hoist
from jaxtwin.physics.implicit import SDIRK2
from jaxtwin.physics.solve import ode_term


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


class Beat(NamedTuple):
    """One period from some state.

    Attributes:
        end: The state after it.
        change: By how much it changed each entry, relative to the entry's largest size in it.
        states: The state at each time, [time] on every leaf.
    """

    end: Any
    change: Any
    states: Any

    def residual(self) -> Float[Array, ""]:
        """The largest change of an entry."""
        return jnp.max(jnp.abs(jnp.stack(jax.tree.leaves(self.change))))


class BeatMap(eqx.Module):
    """The map from a state at the start of a period to the one at its end.

    Attributes:
        system: The model.
        p: All its parameters.
        solver: Whose steps are taken, with no error control.
        steps: How many of them make a period.
    """

    system: AbstractPeriodicSystem
    p: Any
    solver: dfx.AbstractSolver
    steps: int = eqx.field(static=True)

    def coarser(self, factor: int) -> "BeatMap":
        """The same map with so many times fewer steps."""
        return BeatMap(self.system, self.p, self.solver, max(1, self.steps // factor))

    def initial_state(self) -> Any:
        """The system's initial state as floats, though it may give Python's integers."""
        return jax.tree.map(
            lambda leaf: jnp.asarray(leaf, jnp.result_type(leaf, float)),
            self.system.initial_state(self.p),
        )

    def times(self) -> Float[Array, " time"]:
        """The grid of one period: equidistant, but with a time at each of the discontinuities.

        The node nearest to a discontinuity moves onto it, and the others stay equidistant in
        between. The drive's last value is its limit from the left: systems may jump where one
        period ends and the next begins.
        """
        period = jnp.asarray(self.system.period(self.p))
        fractions = jnp.arange(self.steps + 1, dtype=period.dtype) / self.steps
        discontinuities = self.system.discontinuities(self.p)
        if discontinuities:
            jumps = jnp.stack([jnp.asarray(t, period.dtype) for t in discontinuities]) / period
            jumps = jnp.concatenate(
                [jnp.zeros(1), jnp.sort(jumps), jnp.ones(1)], dtype=period.dtype
            )
            fractions = jnp.interp(fractions, jnp.round(jumps * self.steps) / self.steps, jumps)
        return period * (1 - 8 * jnp.finfo(period.dtype).eps) * fractions

    def stepper(self) -> tuple[Callable[[Any, Any, Any], Any], Any, Any]:
        """A function (constants, y, x) → y that takes a step, the constants, and all x, stacked."""
        times = self.times()
        t0, t1 = times[:-1], times[1:]
        if isinstance(self.solver, SDIRK2):
            return self._hoisted_stepper(self.solver, t0, t1)

        def step(beats, y, x):
            t0, t1 = x
            term = ode_term(beats.system)
            # Solvers that carry something from step to step start afresh with each.
            carried = beats.solver.init(term, t0, t1, y, beats.p)
            y, *_ = beats.solver.step(term, t0, t1, y, beats.p, carried, made_jump=False)
            return y

        return step, self, (t0, t1)

    def _hoisted_stepper(self, solver: SDIRK2, t0, t1):
        """The steps of our own solver, with all that the state does not enter computed before."""
        leaves, structure = jax.tree.flatten(self.initial_state())

        def f(t, y):
            state = jax.tree.unflatten(structure, y)
            return jax.tree.leaves(self.system.vector_field(t, state, self.p))

        constants, drive, rates = hoist(f, leaves)
        # Arrays of its own for each stage: one for both would be read with a stride.
        stages = [jax.vmap(drive)(t) for t in jax.vmap(solver.stage_times)(t0, t1)]

        def step(constants, y, x):
            h, stages = x
            stages = [(constants, driven) for driven in stages]
            y1, _ = solver.advance(rates, stages, h, jax.tree.leaves(y))
            return jax.tree.unflatten(structure, y1)

        return step, constants, (t1 - t0, stages)

    def states(self, y0) -> Any:
        """The state at each time of the beat from y0, [time] on every leaf."""
        step, constants, xs = self.stepper()

        def body(y, x):
            y = step(constants, y, x)
            return y, y

        return _prepend(y0, jax.lax.scan(body, y0, xs)[1])

    def __call__(self, y0, *, record: bool = False) -> Beat:
        """The beat from y0; its states are None unless they are recorded."""
        step, constants, xs = self.stepper()

        def body(carry, x):
            y, size = carry
            y = step(constants, y, x)
            size = jax.tree.map(lambda s, v: jnp.maximum(s, jnp.abs(v)), size, y)
            return (y, size), y if record else None

        (y1, size), later = jax.lax.scan(body, (y0, jax.tree.map(jnp.abs, y0)), xs)
        # 0/0 counts as no change.
        tiny = jnp.finfo(jax.tree.leaves(y0)[0].dtype).tiny
        change = jax.tree.map(lambda a, b, s: (b - a) / (s + tiny), y0, y1, size)
        return Beat(y1, change, _prepend(y0, later) if record else None)

    def sensitivities(self, y0, *, record: bool) -> tuple[Float[Array, "state state"], list[Any]]:
        """The Jacobian of the beat from y0, and its columns along the beat if they are recorded.

        The columns are carried as scalars like the state. As an axis of their own (`jax.jacfwd`)
        it would be the inner one under vmap, and every operation five times slower.
        """
        step, constants, xs = self.stepper()
        leaves, structure = jax.tree.flatten(y0)
        n = len(leaves)
        units = [
            jax.tree.unflatten(
                structure, [jnp.full_like(leaf, i == j) for i, leaf in enumerate(leaves)]
            )
            for j in range(n)
        ]

        def body(carry, x):
            y, columns = carry
            y, push = jax.linearize(lambda y: step(constants, y, x), y)
            columns = [push(column) for column in columns]
            return (y, columns), columns if record else []

        (_, last), later = jax.lax.scan(body, (y0, units), xs)
        jacobian = jnp.stack([jnp.stack(jax.tree.leaves(column)) for column in last], axis=1)
        return jacobian, [_prepend(a, b) for a, b in zip(units, later, strict=False)]

    def conserved(self, y) -> Float[Array, " conserved"]:
        """The system's conserved quantities as a vector."""
        values = self.system.conserved(y, self.p)
        return jnp.asarray(values, jax.tree.leaves(y)[0].dtype)


class _FixedPoint(NamedTuple):
    """I − ∂Φ/∂y of a beat map, made regular.

    It is singular where c(y) is conserved: the gradient g = ∂c/∂y is a left null vector. With
    w = g/|g|², adding w gᵀ for each conserved quantity makes it regular, and the solution of
    (I − ∂Φ/∂y + w gᵀ) x = b + w (gᵀx) satisfies both equations.
    """

    matrix: Float[Array, "state state"]
    weights: Float[Array, "conserved state"]

    @classmethod
    def of(cls, beats: BeatMap, y, jacobian) -> "_FixedPoint":
        flat, unravel = jax.flatten_util.ravel_pytree(y)
        gradients = jax.jacfwd(lambda v: beats.conserved(unravel(v)))(flat)
        weights = gradients / jnp.sum(gradients**2, axis=1, keepdims=True)
        return cls(jnp.eye(flat.size, dtype=flat.dtype) - jacobian + weights.T @ gradients, weights)


def _inverse(matrix: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """The inverse of a small matrix: Gauss-Jordan elimination with partial pivoting.

    Not `jnp.linalg.inv`: on CPU, two threads that call LAPACK on large batches at the same
    time wait for each other forever (jaxlib 0.10.2, batches of 2,048 on), and
    `simulate_cohort` runs two.
    """
    n = len(matrix)
    table = jnp.concatenate([matrix, jnp.eye(n, dtype=matrix.dtype)], axis=1)
    for k in range(n):
        best = k + jnp.argmax(jnp.abs(table[k:, k]))
        upper, lower = table[k], table[best]
        row = lower / lower[k]
        table = table.at[best].set(upper)
        table = (table - jnp.outer(table[:, k], row)).at[k].set(row)
    return table[:, n:]


class AbstractIteration(eqx.Module):
    """How to get from beat to beat to the one that repeats itself.

    Attributes:
        tolerance: On `PeriodicOrbit.residual`. Rounding alone gives about 1e-6 in float32.
        max_beats: Give up after so many beats.
    """

    tolerance: eqx.AbstractVar[float]
    max_beats: eqx.AbstractVar[int]

    @abc.abstractmethod
    def init(self, beats: BeatMap, y0: Any) -> tuple[Any, Any]:
        """Where to start the first beat, and what to carry from beat to beat.

        Args:
            beats: The beat map, to be used on a coarser grid.
            y0: The initial state, which says what the conserved quantities are.
        """

    @abc.abstractmethod
    def next_start(self, start: Any, beat: Beat, carried: Any) -> tuple[Any, Any]:
        """Where to start the next beat after `beat` from `start`, and what to carry."""

    def settle(self, beats: BeatMap, y0: Any, *, record: bool) -> "Settled":
        """Run beats until one repeats itself."""

        def cond(loop):
            return (loop.residual > self.tolerance) & (loop.number < self.max_beats)

        def body(loop):
            beat = beats(loop.next_start, record=record)
            following, carried = self.next_start(loop.next_start, beat, loop.carried)
            return Settled(following, carried, beat, beat.residual(), loop.number + 1)

        start, carried = self.init(beats, y0)
        beat = jax.eval_shape(lambda y: beats(y, record=record), y0)
        beat = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), beat)
        residual = jnp.full_like(jax.tree.leaves(y0)[0], jnp.inf)
        return jax.lax.while_loop(cond, body, Settled(start, carried, beat, residual, jnp.array(0)))


class Settled(NamedTuple):
    """Where an iteration has come to.

    Attributes:
        next_start: Where it would start the next beat.
        carried: What it carries from beat to beat.
        beat: The last beat.
        residual: That of the last beat; infinite before the first.
        number: How many beats were run.
    """

    next_start: Any
    carried: Any
    beat: Beat
    residual: Float[Array, ""]
    number: Int[Array, ""]


class BeatIteration(AbstractIteration):
    """Start every beat where the last one ended, as a heart does."""

    tolerance: float = 3e-5
    max_beats: int = 40

    def init(self, beats: BeatMap, y0: Any) -> tuple[Any, Any]:
        """The initial state."""
        return y0, None

    def next_start(self, start: Any, beat: Beat, carried: Any) -> tuple[Any, Any]:
        """The end of the last beat."""
        return beat.end, None


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

    def init(self, beats: BeatMap, y0: Any) -> tuple[Any, Any]:
        """The initial state."""
        return y0, (jnp.array(True), y0, y0)

    def next_start(self, start: Any, beat: Beat, carried: Any) -> tuple[Any, Any]:
        """The combination of both ends whose change is least, if the map were affine."""
        is_first, last_end, last_change = carried
        f, last_f = (jnp.stack(jax.tree.leaves(tree)) for tree in (beat.change, last_change))
        difference = f - last_f
        square = jnp.maximum(jnp.sum(difference**2), jnp.finfo(f.dtype).tiny)
        # A rate of 0.83 a beat gives -5; anything beyond is noise, or not yet that one mode.
        weight = jnp.clip(jnp.sum(f * difference) / square, -5.0, 0.5)
        weight = jnp.where(is_first, 0.0, weight)
        following = jax.tree.map(lambda a, b: a - weight * (a - b), beat.end, last_end)
        return following, (jnp.array(False), beat.end, beat.change)


class NewtonIteration(AbstractIteration):
    """Newton's method for the beat that repeats itself, with the Jacobian of a coarser grid.

    On a grid with a few times fewer steps, where beats are as many times cheaper,
    `AndersonIteration` comes as near as that grid's own error allows, and the Jacobian of the
    beat map is computed there. Then two beats on the full grid suffice all over the left
    heart's box: one to correct, one to confirm. Conserved quantities stay what they are if
    they are linear in the state; otherwise use `BeatIteration`. An orbit that no heart would
    settle in, because it is unstable, is found too.

    Attributes:
        tolerance: See `AbstractIteration`.
        max_beats: On either grid.
        coarsening: How many times fewer steps the coarser grid has.
        coarse_tolerance: On the residual there.
    """

    tolerance: float = 3e-5
    max_beats: int = 40
    coarsening: int = 6
    coarse_tolerance: float = 1e-3

    def init(self, beats: BeatMap, y0: Any) -> tuple[Any, Any]:
        """The periodic state of the coarser grid, and the inverse of I − ∂Φ/∂y there."""
        coarse = beats.coarser(self.coarsening)
        anderson = AndersonIteration(self.coarse_tolerance, self.max_beats)
        start = anderson.settle(coarse, y0, record=False).next_start
        flat, _ = jax.flatten_util.ravel_pytree(start)
        jacobian, _ = coarse.sensitivities(start, record=False)
        inverse = _inverse(_FixedPoint.of(coarse, start, jacobian).matrix)
        # Whom the coarse grid drives astray starts anew, and goes from beat to beat.
        usable = jnp.all(jnp.isfinite(flat)) & jnp.all(jnp.isfinite(inverse))
        start = jax.tree.map(lambda a, b: jnp.where(usable, a, b), start, y0)
        return start, jnp.where(usable, inverse, jnp.eye(flat.size, dtype=flat.dtype))

    def next_start(self, start: Any, beat: Beat, carried: Any) -> tuple[Any, Any]:
        """The zero of the linearised change."""
        flat, unravel = jax.flatten_util.ravel_pytree(start)
        end, _ = jax.flatten_util.ravel_pytree(beat.end)
        return unravel(flat + carried @ (end - flat)), carried


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


def _prepend(y0, later):
    return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), y0, later)


@eqx.filter_custom_jvp
def _periodic_states(system, p, solver, steps, method):
    """The states of the beat that repeats itself, its residual, and the number of beats run."""
    beats = BeatMap(system, p, solver, steps)
    settled = method.settle(beats, beats.initial_state(), record=True)
    return settled.beat.states, settled.residual, settled.number


@_periodic_states.def_jvp
def _periodic_states_jvp(primals, tangents):
    """Tangent of the fixed point y = Φ(y, p) on the surface c(y, p) = c(y_0(p), p).

    That is (I − ∂Φ/∂y) dy = ∂Φ/∂p dp with gᵀ dy = dc_0 − ∂c/∂p dp, see `_FixedPoint`. The
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

    def prepare(system, p):
        return BeatMap(system, p, solver, steps).stepper()[1:]

    step, _, _ = beats.stepper()
    d_system_p = (d_system, d_p)
    (constants, xs), (d_constants, d_xs) = eqx.filter_jvp(prepare, (system, p), d_system_p)
    _, d_conserved = eqx.filter_jvp(departure, (system, p), d_system_p)

    # Reverse mode keeps the states, and computes each step anew: what it would have to read
    # otherwise is sixty times as much.
    @eqx.filter_checkpoint
    def body(d_y, x):
        _, d_y = eqx.filter_jvp(step, (constants, *x[0]), (d_constants, d_y, x[1]))
        return d_y, d_y

    before = jax.tree.map(lambda leaf: leaf[:-1], states)
    still = jax.tree.map(jnp.zeros_like, y)
    direct = _prepend(still, jax.lax.scan(body, still, ((before, xs), d_xs))[1])
    jacobian, columns = beats.sensitivities(y, record=True)
    matrix, weights = _FixedPoint.of(beats, y, jacobian)
    # None: what is differentiated does not touch it.
    right = end(direct) if d_conserved is None else end(direct) + weights.T @ d_conserved
    d_y = _inverse(matrix) @ right
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
        steps: Solver steps a period. With 240 the left heart's volumes are within 0.02 mL over its
            box, and its pressures within 0.05 mmHg (median) and 0.3 mmHg (worst); with 400
            within 0.01 mL, 0.02 and 0.15 mmHg.
        solver: A Diffrax solver; `SDIRK2` by default. Its steps are taken as they come, with no
            error control, so it must be one that stays stable at this step size; one with a
            root finder needs that root finder's tolerances set.
        method: How to get there, and when to stop; `NewtonIteration()` by default.
        adjoint: How to differentiate; `ImplicitAdjoint()` by default.
        throw: Whether to raise where the orbit did not converge. With a batch that is for
            any of its patients; `throw=False` reports each in `result` instead. Mask
            those that did not in a loss over the batch: their gradients are NaN.

    Raises:
        ValueError: If `steps` is not positive.
        RuntimeError: With `throw`, if the orbit did not converge; outside of `jax.jit` and
            `jax.vmap` the message has the parameters.
    """
    if steps < 1:
        raise ValueError(f"steps={steps}: a period needs at least one step, a heart about 240")
    orbit = _periodic_orbit(
        system,
        jax.tree.map(jnp.asarray, p),
        steps,
        SDIRK2() if solver is None else solver,
        NewtonIteration() if method is None else method,
        ImplicitAdjoint() if adjoint is None else adjoint,
    )
    if not throw:
        return orbit
    advice = (
        "Either a parameter is far from what the model was made for, or more beats "
        "(method=NewtonIteration(max_beats=...)) or more steps are needed; throw=False "
        "returns the orbit as it is."
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
        y0, _ = jax.lax.scan(
            lambda y, _: (beats(y).end, None), beats.initial_state(), length=adjoint.beats
        )
        last = beats(y0, record=True)
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
