"""One period of a driven system, or a whole transient, as a map from initial to final state."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxtwin.physics.base import AbstractPeriodicSystem, AbstractRecordedSystem, check_rates
from jaxtwin.physics.hoist import hoist
from jaxtwin.physics.sdirk import SDIRK2
from jaxtwin.physics.solution import ACCURACY, RESULTS, Solution, Stats

FEWEST = 8
"""Smallest number of steps between two discontinuities, if there are enough steps."""


class Beat(NamedTuple):
    """One period from a given state.

    Attributes:
        end: The state after it.
        change: By how much it changed each entry, relative to the entry's largest size in it.
        start: The state before it.
        later: The state after each step, [step] on every leaf; None where they are not recorded.
        left: Largest defect left in the equations of a step, 0 where that is not known.
    """

    end: Any
    change: Any
    start: Any
    later: Any
    left: Float[Array, ""]

    @property
    def states(self) -> Any:
        """The state at each time, [time] on every leaf."""
        return prepend(self.start, self.later)

    def residual(self) -> Float[Array, ""]:
        """Largest change of a state."""
        return jnp.max(jnp.abs(jnp.stack(jax.tree.leaves(self.change))))


class Steps(NamedTuple):
    """The steps of one beat, with everything that does not depend on the state precomputed.

    Attributes:
        step: Function (constants, y, x) → (y, left) that takes one step; see `Beat.left`.
        again: Function (constants, y, x, end) → y that takes a step whose end is known, for its
            derivative.
        constants: Input shared by all steps.
        xs: Inputs of the individual steps, stacked.
    """

    step: Callable[[Any, Any, Any], Any]
    again: Callable[[Any, Any, Any, Any], Any]
    constants: Any
    xs: Any

    def __call__(self, y0, *, record: bool = False) -> Beat:
        """The beat from y0; its states are there only if they are recorded."""

        def body(carry, x):
            y, size, left = carry
            y, more = self.step(self.constants, y, x)
            size = jax.tree.map(lambda s, v: jnp.maximum(s, jnp.abs(v)), size, y)
            return (y, size, jnp.maximum(left, more)), y if record else None

        start = (y0, jax.tree.map(jnp.abs, y0), jnp.zeros_like(jax.tree.leaves(y0)[0]))
        (y1, size, left), later = jax.lax.scan(body, start, self.xs)
        return Beat(y1, _change(y0, y1, size), y0, later, left)

    def jacobian(self, y0) -> tuple[Any, Float[Array, "state state"]]:
        """The states after each step from y0, and the Jacobian of the last one.

        The columns are carried as scalars like the state. As a separate axis (`jax.jacfwd`), they
        would be the innermost axis under vmap, which makes every operation five times slower.
        """

        def body(carry, x):
            y, columns = carry
            y, push = jax.linearize(lambda y: self.step(self.constants, y, x)[0], y)
            return (y, [push(column) for column in columns]), y

        (_, columns), states = jax.lax.scan(body, (y0, _units(y0)), self.xs)
        return states, _matrix(columns)

    def jacobian_again(self, states) -> Float[Array, "state state"]:
        """The Jacobian of the end by the start of a beat of known states, [time] on every leaf."""

        def body(columns, x):
            before, after, x = x
            _, push = jax.linearize(lambda y: self.again(self.constants, y, x, after), before)
            return [push(column) for column in columns], None

        before = jax.tree.map(lambda leaf: leaf[:-1], states)
        after = jax.tree.map(lambda leaf: leaf[1:], states)
        start = _units(jax.tree.map(lambda leaf: leaf[0], states))
        return _matrix(jax.lax.scan(body, start, (before, after, self.xs))[0])

    def linearised(self, y0, first, last) -> tuple[Beat, Float[Array, "state state"]]:
        """The beat of the steps from `first` to before `last`, recorded, and its Jacobian.

        Its states after other steps are 0. One program runs beats of any number of steps.
        """

        def body(k, carry):
            beat, columns, size = carry
            x = jax.tree.map(lambda leaf: jax.lax.dynamic_index_in_dim(leaf, k, 0, False), self.xs)
            y, push, left = jax.linearize(
                lambda y: self.step(self.constants, y, x), beat.end, has_aux=True
            )
            later = jax.tree.map(
                lambda leaf, v: jax.lax.dynamic_update_index_in_dim(leaf, v, k, 0), beat.later, y
            )
            size = jax.tree.map(lambda s, v: jnp.maximum(s, jnp.abs(v)), size, y)
            beat = beat._replace(end=y, later=later, left=jnp.maximum(beat.left, left))
            return beat, [push(column) for column in columns], size

        total = len(jax.tree.leaves(self.xs)[0])
        none = jax.tree.map(lambda v: jnp.zeros(total, v.dtype), y0)
        beat = Beat(y0, None, y0, none, jnp.zeros_like(jax.tree.leaves(y0)[0]))
        start = (beat, _units(y0), jax.tree.map(jnp.abs, y0))
        beat, columns, size = jax.lax.fori_loop(first, last, body, start)
        return beat._replace(change=_change(y0, beat.end, size)), _matrix(columns)


def _change(y0, y1, size):
    """By how much a beat changed each entry, relative to the entry's largest size in it."""
    # A state that is 0 throughout has changed by 0, not by 0/0.
    tiny = jnp.finfo(jax.tree.leaves(y0)[0].dtype).tiny
    return jax.tree.map(lambda a, b, s: (b - a) / (s + tiny), y0, y1, size)


def _units(y) -> list[Any]:
    """The columns of the unit matrix, each as a state."""
    leaves, structure = jax.tree.flatten(y)
    return [
        jax.tree.unflatten(structure, [jnp.full_like(v, i == j) for i, v in enumerate(leaves)])
        for j in range(len(leaves))
    ]


def _matrix(columns: list[Any]) -> Float[Array, "state state"]:
    """The matrix of columns that are states."""
    return jnp.stack([jnp.stack(jax.tree.leaves(c)) for c in columns], axis=1)


class BeatMap(eqx.Module):
    """The map from the state at the start of a period to the state at its end.

    Attributes:
        system: The model.
        p: All parameters of the model.
        solver: `SDIRK2` or a Diffrax solver, which takes the steps, without error control.
        number: Number of steps per period.
        accuracy: Largest discretisation error that is to count as success; how near to a periodic
            state a search must come follows from it.
    """

    system: AbstractRecordedSystem
    p: Any
    solver: Any
    number: int = eqx.field(static=True)
    accuracy: float = eqx.field(static=True, default=ACCURACY)

    def coarser(self, factor: int) -> "BeatMap":
        """Return the same map with the number of steps divided by a factor."""
        fewest = 1 + len(self.system.discontinuities(self.p))
        number = max(fewest, self.number // factor)
        return BeatMap(self.system, self.p, self.solver, number, self.accuracy)

    def allowed(self) -> float:
        """Return the accuracy, or that by default where any is enough."""
        return min(self.accuracy, ACCURACY)

    def initial_state(self) -> Any:
        """Return the system's initial state, with the same dtype for all entries."""
        state = self.system.initial_state(self.p)
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, self._dtype(state)), state)

    def _dtype(self, state) -> Any:
        """Return the dtype of the computation; Python numbers take that of the arrays."""
        dtype = jnp.result_type(*jax.tree.leaves(self.p), *jax.tree.leaves(state))
        return dtype if jnp.issubdtype(dtype, jnp.floating) else jnp.result_type(float)

    def times(self) -> Float[Array, " time"]:
        """Return the grid of one period, equidistant between the discontinuities.

        The node nearest to each discontinuity is moved onto it, and the others are equidistant in
        between. Where two discontinuities are close to each other or to an end, nodes are moved
        there from elsewhere, so that at least `FEWEST` steps lie in between. The last value of the
        drive is its limit from the left, because systems may jump at the end of a period.
        """
        dtype = self._dtype(self.system.initial_state(self.p))
        period = jnp.asarray(self.system.duration(self.p), dtype)
        fractions = jnp.arange(self.number + 1, dtype=period.dtype) / self.number
        discontinuities = self.system.discontinuities(self.p)
        n = len(discontinuities)
        if n >= self.number:
            raise ValueError(
                f"{self.number} steps a period, and {n} discontinuities inside it: expected more "
                "steps than discontinuities"
            )
        if n:
            jumps = jnp.stack([jnp.asarray(t, period.dtype) for t in discontinuities]) / period
            # A free parameter may move a discontinuity out of the period, where it has no effect.
            jumps = jnp.sort(jnp.clip(jumps, 0.0, 1.0))
            # The minimum keeps a short pulse from being covered by a single step.
            fewest = max(1, min(FEWEST, self.number // (4 * (n + 1))))
            taken = fewest * jnp.arange(1, n + 1)
            free = jnp.round(jumps * self.number) - taken
            free = jnp.clip(free, 0, self.number - fewest * (n + 1))
            nodes = (jax.lax.cummax(free) + taken) / self.number
            ends = jnp.array([0.0, 1.0], period.dtype)
            nodes, jumps = (jnp.concatenate([ends[:1], v, ends[1:]]) for v in (nodes, jumps))
            fractions = jnp.interp(fractions, nodes, jumps)
        return period * (1 - 8 * jnp.finfo(period.dtype).eps) * fractions

    def steps(self, *, at_once: bool = False, after: Float[Array, " time"] | None = None) -> Steps:
        """The steps of one beat.

        Args:
            after: Times of another grid, whose steps come before those of this one.
            at_once: Whether what depends on time alone is computed for all steps together, which
                is quicker to differentiate. Step by step it lies in the order in which every beat
                reads it, and a batch of hearts that are not differentiated takes 5% less time.

        Raises:
            ValueError: If the vector field does not return one rate per state.
        """
        check_rates(self.system, self.p)
        times = self.times()
        t0, t1 = times[:-1], times[1:]
        if after is not None:
            t0, t1 = jnp.concatenate([after[:-1], t0]), jnp.concatenate([after[1:], t1])
        if isinstance(self.solver, SDIRK2):
            return self._hoisted_steps(self.solver, t0, t1, at_once)

        from jaxtwin.physics.solve import ode_term  # It imports Diffrax, which SDIRK2 needs not.

        def step(beats, y, x):
            t0, t1 = x
            term = ode_term(beats.system)
            # Solvers with an internal state are initialised at every step.
            carried = beats.solver.init(term, t0, t1, y, beats.p)
            y, *_ = beats.solver.step(term, t0, t1, y, beats.p, carried, made_jump=False)
            return y, jnp.zeros_like(jax.tree.leaves(y)[0])

        def again(beats, y, x, end):
            return step(beats, y, x)[0]

        return Steps(step, again, self, (t0, t1))

    def _hoisted_steps(self, solver: SDIRK2, t0, t1, at_once: bool) -> Steps:
        """The steps of our own solver, with all that the state does not enter computed before."""
        leaves, structure = jax.tree.flatten(self.initial_state())

        def f(t, y):
            state = jax.tree.unflatten(structure, y)
            return jax.tree.leaves(self.system.vector_field(t, state, self.p))

        constants, drive, rates = hoist(f, leaves)
        # Arrays of its own for each stage: one for both would be read with a stride.
        over_steps = jax.vmap(drive) if at_once else functools.partial(jax.lax.map, drive)
        stages = [over_steps(t) for t in jax.vmap(solver.stage_times)(t0, t1)]

        def step(constants, y, x):
            h, stages = x
            stages = [(constants, driven) for driven in stages]
            y1, _, left = solver.advance(rates, stages, h, jax.tree.leaves(y))
            return jax.tree.unflatten(structure, y1), left

        def again(constants, y, x, end):
            h, stages = x
            stages = [(constants, driven) for driven in stages]
            flat = jax.tree.leaves(y), jax.tree.leaves(end)
            return jax.tree.unflatten(structure, solver.advance_again(rates, stages, h, *flat))

        return Steps(step, again, constants, (t1 - t0, stages))

    def solution(self, states, result: RESULTS, stats: Stats) -> Solution:
        """Return the states at `times` as a `Solution`."""
        times = self.times()
        outputs = jax.vmap(self.system.outputs, in_axes=(0, 0, None))(times, states, self.p)
        duration = jnp.asarray(self.system.duration(self.p))
        return Solution(times, states, outputs, duration, result, stats, self.equidistant())

    def equidistant(self) -> bool:
        """Whether the times are equidistant."""
        return not self.system.discontinuities(self.p)

    def conserved(self, y) -> Float[Array, " conserved"]:
        """Return the system's conserved quantities as a vector."""
        system = cast(AbstractPeriodicSystem, self.system)
        values = system.conserved(y, self.p)
        return jnp.asarray(values, jax.tree.leaves(y)[0].dtype)


def prepend(y0, later):
    """Prepend the state y0 to later ones, [time] on every leaf."""
    return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), y0, later)
