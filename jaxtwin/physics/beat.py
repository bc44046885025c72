"""One period of a driven system, or all of a transient, as a map from initial to final state."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxtwin.physics.base import AbstractPeriodicSystem, AbstractRecordedSystem, check_rates
from jaxtwin.physics.hoist import hoist
from jaxtwin.physics.sdirk import SDIRK2
from jaxtwin.physics.solution import RESULTS, Solution, Stats
from jaxtwin.physics.solve import ode_term

FEWEST = 8
"""Steps between two discontinuities, at least, where there are steps enough."""


class Beat(NamedTuple):
    """One period from some state.

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
        """The largest change of an entry."""
        return jnp.max(jnp.abs(jnp.stack(jax.tree.leaves(self.change))))


class Steps(NamedTuple):
    """The steps of one beat, with all that the state does not enter computed before.

    Attributes:
        step: A function (constants, y, x) → (y, left) that takes one step; see `Beat.left`.
        constants: What it needs in every step.
        xs: What it needs in each, stacked.
    """

    step: Callable[[Any, Any, Any], Any]
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
        # 0/0 counts as no change.
        tiny = jnp.finfo(jax.tree.leaves(y0)[0].dtype).tiny
        change = jax.tree.map(lambda a, b, s: (b - a) / (s + tiny), y0, y1, size)
        return Beat(y1, change, y0, later, left)

    def sensitivities(
        self, y0, *, record: bool
    ) -> tuple[Any, Float[Array, "state state"], list[Any]]:
        """The states after each step from y0, the Jacobian, and its columns if they are recorded.

        The columns are carried as scalars like the state. As an axis of their own (`jax.jacfwd`)
        it would be the inner one under vmap, and every operation five times slower.
        """
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
            y, push = jax.linearize(lambda y: self.step(self.constants, y, x)[0], y)
            columns = [push(column) for column in columns]
            return (y, columns), (y, columns if record else [])

        (_, last), (states, later) = jax.lax.scan(body, (y0, units), self.xs)
        jacobian = jnp.stack([jnp.stack(jax.tree.leaves(column)) for column in last], axis=1)
        columns = [prepend(a, b) for a, b in zip(units, later, strict=False)]
        return states, jacobian, columns


class BeatMap(eqx.Module):
    """The map from a state at the start of a period to the one at its end.

    Attributes:
        system: The model.
        p: All its parameters.
        solver: Whose steps are taken, with no error control.
        number: How many of them make a period.
    """

    system: AbstractRecordedSystem
    p: Any
    solver: dfx.AbstractSolver
    number: int = eqx.field(static=True)

    def coarser(self, factor: int) -> "BeatMap":
        """The same map with so many times fewer steps."""
        fewest = 1 + len(self.system.discontinuities(self.p))
        return BeatMap(self.system, self.p, self.solver, max(fewest, self.number // factor))

    def initial_state(self) -> Any:
        """The system's initial state, with one dtype for all its entries."""
        state = self.system.initial_state(self.p)
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, self._dtype(state)), state)

    def _dtype(self, state) -> Any:
        """What is computed in: Python's numbers take the dtype of the arrays beside them."""
        dtype = jnp.result_type(*jax.tree.leaves(self.p), *jax.tree.leaves(state))
        return dtype if jnp.issubdtype(dtype, jnp.floating) else jnp.result_type(float)

    def times(self) -> Float[Array, " time"]:
        """The grid of one period: equidistant, but with a time at each of the discontinuities.

        The node nearest to a discontinuity moves onto it, and the others stay equidistant in
        between; where two are close, or one is close to an end, nodes are drawn in from further
        off, so that `FEWEST` steps lie between. The drive's last value is its limit
        from the left: systems may jump where one period ends and the next begins.
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
            # Beyond an end there is nothing to stop at: a free parameter may lead there.
            jumps = jnp.sort(jnp.clip(jumps, 0.0, 1.0))
            # So many steps at least between two of them: a short pulse is not left to one step.
            fewest = max(1, min(FEWEST, self.number // (4 * (n + 1))))
            taken = fewest * jnp.arange(1, n + 1)
            free = jnp.round(jumps * self.number) - taken
            free = jnp.clip(free, 0, self.number - fewest * (n + 1))
            nodes = (jax.lax.cummax(free) + taken) / self.number
            ends = jnp.array([0.0, 1.0], period.dtype)
            nodes, jumps = (jnp.concatenate([ends[:1], v, ends[1:]]) for v in (nodes, jumps))
            fractions = jnp.interp(fractions, nodes, jumps)
        return period * (1 - 8 * jnp.finfo(period.dtype).eps) * fractions

    def steps(self, *, at_once: bool = False) -> Steps:
        """The steps of one beat.

        Args:
            at_once: Whether what depends on time alone is computed for all steps together, which
                is quicker to differentiate. Step by step it lies in the order in which every beat
                reads it, and a batch of hearts that are not differentiated takes 5% less time.

        Raises:
            ValueError: If the system does not give a rate for each of its states.
        """
        check_rates(self.system, self.p)
        times = self.times()
        t0, t1 = times[:-1], times[1:]
        if isinstance(self.solver, SDIRK2):
            return self._hoisted_steps(self.solver, t0, t1, at_once)

        def step(beats, y, x):
            t0, t1 = x
            term = ode_term(beats.system)
            # Solvers that carry something from step to step start afresh with each.
            carried = beats.solver.init(term, t0, t1, y, beats.p)
            y, *_ = beats.solver.step(term, t0, t1, y, beats.p, carried, made_jump=False)
            return y, jnp.zeros_like(jax.tree.leaves(y)[0])

        return Steps(step, self, (t0, t1))

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

        return Steps(step, constants, (t1 - t0, stages))

    def solution(self, states, result: RESULTS, stats: Stats) -> Solution:
        """The states at `times` as a `Solution`."""
        times = self.times()
        outputs = jax.vmap(self.system.outputs, in_axes=(0, 0, None))(times, states, self.p)
        duration = jnp.asarray(self.system.duration(self.p))
        return Solution(times, states, outputs, duration, result, stats, self.equidistant())

    def equidistant(self) -> bool:
        """Whether the times are."""
        return not self.system.discontinuities(self.p)

    def conserved(self, y) -> Float[Array, " conserved"]:
        """The system's conserved quantities as a vector."""
        system = cast(AbstractPeriodicSystem, self.system)
        values = system.conserved(y, self.p)
        return jnp.asarray(values, jax.tree.leaves(y)[0].dtype)


def prepend(y0, later):
    """The state y0 before later ones, [time] on every leaf."""
    return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), y0, later)
