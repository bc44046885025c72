"""The periodic orbit on a coarser grid, used as a starting point and for error estimates."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxtwin.physics.beat import BeatMap
from jaxtwin.physics.fixed_point import CoarseOrbit, FixedPoint, inverse
from jaxtwin.physics.iteration import AndersonIteration

COARSENING = 6
"""Factor by which the coarser grid has fewer steps."""
TOLERANCE = 1e-3
"""Tolerance on the relative change over the coarse beat; a smaller one would be below its error."""
ORDER = 1.5
"""Order of the discretisation error assumed by `errors`."""
NEUTRAL = 5e3
"""Amplification beyond which a direction counts as neutral. It is below 15 at 256 points of each
model's box. If a conserved quantity is not declared, only rounding limits it, and it is at least
4e4 in float32 and 3e13 in float64."""


def coarse_orbit(beats: BeatMap, y0: Any, max_beats: int) -> CoarseOrbit:
    """Find the periodic orbit on a grid with fewer steps, from y0, by `AndersonIteration`."""
    coarse = beats.coarser(COARSENING)
    steps = coarse.steps()
    settled = AndersonIteration(TOLERANCE, max_beats).settle(steps, y0, None, record=False)
    start = settled.next_start
    states, jacobian, _ = steps.sensitivities(start, record=False)
    newton = inverse(FixedPoint.of(coarse, start, jacobian).matrix)
    tiny = jnp.finfo(newton.dtype).tiny
    sizes = jnp.stack([jnp.max(jnp.abs(leaf)) for leaf in jax.tree.leaves(states)]) + tiny
    amplification = jnp.max(jnp.abs(newton) * sizes[None, :] / sizes[:, None])
    # The Jacobian is finite, but I − ∂Φ/∂y has no inverse.
    singular = jnp.all(jnp.isfinite(jacobian)) & ~jnp.all(jnp.isfinite(newton))
    amplification = jnp.where(singular, jnp.inf, amplification)
    return CoarseOrbit(coarse.times(), states, newton, amplification)


def errors(
    times: Float[Array, " time"],
    states: Any,
    coarse_times: Float[Array, " coarse"],
    coarse_states: Any,
    *,
    equidistant: bool,
) -> Any:
    """Estimate the discretisation error of each state, the largest over time.

    This is Richardson's estimate: for a method of order p, the error of the finer of two grids
    whose steps differ by a factor r is 1/(r^p − 1) of the difference between them. Valves that
    switch within a step lower the order of `SDIRK2` by one half: over the boxes of all circuits
    here, the median estimate with p = 1.5 is 1 to 2.4 times the error. It is relative to the range
    of the state, or to a tenth of its size if that is larger. It is NaN if the coarser grid fails.

    Args:
        times: Times of the finer grid [s].
        states: The state at each time of the finer grid, [time] on every leaf.
        coarse_times: Times of the coarser grid [s].
        coarse_states: The state at each time of the coarser grid, [time] on every leaf.
        equidistant: Whether both grids are equidistant.
    """
    ratio = (len(times) - 1) / (len(coarse_times) - 1)
    shared = equidistant and ratio == int(ratio)
    share = 1 / (ratio**ORDER - 1) if ratio > 1 else jnp.nan

    def error(fine, coarse):
        # On equidistant grids, the coarser times are a subset of the finer ones.
        there = fine[:: int(ratio)] if shared else jnp.interp(coarse_times, times, fine)
        difference = jnp.max(jnp.abs(there - coarse))
        # From the coarser grid, because reading all of the finer one takes a tenth of the time of
        # a cohort's simulation.
        most, least = jnp.max(coarse), jnp.min(coarse)
        size = jnp.maximum(jnp.abs(most), jnp.abs(least))
        scale = jnp.maximum(most - least, size / 10)
        return share * difference / (scale + jnp.finfo(fine.dtype).tiny)

    return jax.tree.map(error, states, coarse_states)
