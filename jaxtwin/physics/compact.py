"""The search for one patient's periodic orbit as a small program, which is compiled quickly.

`adjoint` runs three loops: beats on the coarser grid, Newton's method there, beats on the full
grid. Each compiles the steps of a beat again. For many patients that is best; for one, the result
takes a millisecond to compute and a thousand times as long to compile. Here one loop does the same,
and its steps, with their Jacobian, are in the program once.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxtwin.physics.beat import Beat, BeatMap, Steps
from jaxtwin.physics.coarse import COARSENING, TOLERANCE, Linearised, linearised_orbit, no_orbit
from jaxtwin.physics.fixed_point import CoarseOrbit
from jaxtwin.physics.iteration import AbstractIteration, AndersonIteration
from jaxtwin.physics.kernel import as_one_function

SETTLING, CORRECTING, REPEATING, FOUND = range(4)
"""Phases: beats on the coarser grid, Newton's method there, beats on the full grid, and the end."""


class Search(NamedTuple):
    """State of the search.

    Attributes:
        phase: One of the phases.
        number: How many beats were run in it.
        start: Start of the next beat.
        extrapolated: What Anderson's iteration carries on the coarser grid.
        found: The beat of Newton's method there.
        carried: What the method carries on the full grid.
        beat: The last beat.
        jacobian: That of its end by its start.
        residual: Its residual.
    """

    phase: Int[Array, ""]
    number: Int[Array, ""]
    start: Any
    extrapolated: Any
    found: Linearised
    carried: Any
    beat: Beat
    jacobian: Float[Array, "state state"]
    residual: Float[Array, ""]

    @property
    def coarse(self) -> CoarseOrbit:
        """The orbit on the coarser grid."""
        return self.found.orbit


def search(beats: BeatMap, method: AbstractIteration) -> Search:
    """Find the periodic beat, as `coarse_orbit` and then the method's `settle` do."""
    y0 = beats.initial_state()
    coarse = beats.coarser(COARSENING)
    settling = AndersonIteration(TOLERANCE, method.max_beats)
    steps = beats.steps(at_once=True, after=coarse.times())
    total = coarse.number + beats.number
    dtype = jax.tree.leaves(y0)[0].dtype

    def body(s: Search) -> Search:
        on_full = s.phase == REPEATING
        first, last = jnp.where(on_full, coarse.number, 0), jnp.where(on_full, total, coarse.number)
        beat, jacobian = as_one_function(Steps.linearised, steps, s.start, first, last)
        residual, number = beat.residual(), s.number + 1
        after_settling, extrapolated = settling.next_start(s.start, beat, s.extrapolated)
        later = jax.tree.map(lambda leaf: leaf[: coarse.number], beat.later)
        found = linearised_orbit(coarse, s.start, later, jacobian)
        corrected, carried = method.init(y0, found.orbit)
        following, still_carried = method.next_start(s.start, beat, s.carried)

        changed = residual > jnp.where(on_full, s.coarse.tightened(method.tolerance), TOLERANCE)
        goes_on = jnp.where(s.phase == CORRECTING, found.far, changed)
        goes_on &= number < method.max_beats
        phase = s.phase + jnp.where(goes_on, 0, 1)

        def of_phase(settling, correcting, repeating):
            def chosen(a, b, c):
                return jnp.where(s.phase == SETTLING, a, jnp.where(s.phase == CORRECTING, b, c))

            return jax.tree.map(chosen, settling, correcting, repeating)

        def either(where, a, b):
            return jax.tree.map(lambda x, y: jnp.where(where, x, y), a, b)

        return Search(
            phase,
            jnp.where(goes_on | (phase == FOUND), number, 0),
            of_phase(after_settling, either(goes_on, found.start, corrected), following),
            extrapolated,
            of_phase(s.found, found, s.found),
            of_phase(s.carried, carried, still_carried),
            beat,
            jacobian,
            residual,
        )

    found = no_orbit(coarse, y0)
    still = jax.tree.map(jnp.zeros_like, y0)
    later = jax.tree.map(lambda leaf: jnp.zeros(total, leaf.dtype), y0)
    start = Search(
        jnp.array(SETTLING),
        jnp.array(0),
        y0,
        settling.init(y0, None)[1],
        found,
        method.init(y0, found.orbit)[1],
        Beat(y0, still, y0, later, jnp.zeros((), dtype)),
        found.orbit.newton,
        jnp.array(jnp.inf, dtype),
    )
    found = jax.lax.while_loop(lambda s: s.phase < FOUND, body, start)
    later = jax.tree.map(lambda leaf: leaf[coarse.number :], found.beat.later)
    return found._replace(beat=found.beat._replace(later=later))
