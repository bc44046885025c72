"""The same system on a coarser grid: where to begin, and how far off the finer one still is."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxtwin.physics.beat import BeatMap
from jaxtwin.physics.fixed_point import CoarseOrbit, FixedPoint, inverse
from jaxtwin.physics.iteration import AndersonIteration

COARSENING = 6
"""How many times fewer steps the coarser grid has."""
TOLERANCE = 1e-3
"""On the relative change over its beat: it need not settle better than its own error allows."""
ORDER = 1.5
"""Order of the discretisation error, see `errors`."""
NEUTRAL = 5e3
"""Amplification beyond which a direction counts as neutral. At 256 points of each model's box it is
below 15; where a conserved quantity is not declared rounding alone limits it, to no less than 4e4
in float32 and 3e13 in float64."""


def coarse_orbit(beats: BeatMap, y0: Any, max_beats: int) -> CoarseOrbit:
    """The periodic orbit of a grid with fewer steps, from y0, by `AndersonIteration`."""
    coarse = beats.coarser(COARSENING)
    steps = coarse.steps()
    settled = AndersonIteration(TOLERANCE, max_beats).settle(steps, y0, None, record=False)
    start = settled.next_start
    states, jacobian, _ = steps.sensitivities(start, record=False)
    newton = inverse(FixedPoint.of(coarse, start, jacobian).matrix)
    tiny = jnp.finfo(newton.dtype).tiny
    sizes = jnp.stack([jnp.max(jnp.abs(leaf)) for leaf in jax.tree.leaves(states)]) + tiny
    amplification = jnp.max(jnp.abs(newton) * sizes[None, :] / sizes[:, None])
    # A Jacobian that is finite, of a matrix that has no inverse.
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
    """An estimate of each state's discretisation error, the largest over time.

    Richardson's: of the difference between two grids whose steps differ by a factor r,
    1/(r^p − 1) is the finer one's error, for a method of order p. Valves that switch within a step
    take half an order off `SDIRK2`: over the boxes of all circuits here, with p = 1.5 the median
    estimate is 1 to 2.4 times the error. It is relative to the state's range over the time, or to
    a tenth of its size where that is larger. NaN where the coarser grid fails.

    Args:
        times: The finer grid [s].
        states: The state at each of its times, [time] on every leaf.
        coarse_times: The coarser grid [s].
        coarse_states: The state at each of its times, [time] on every leaf.
        equidistant: Whether both grids are.
    """
    ratio = (len(times) - 1) / (len(coarse_times) - 1)
    shared = equidistant and ratio == int(ratio)
    share = 1 / (ratio**ORDER - 1) if ratio > 1 else jnp.nan

    def error(fine, coarse):
        # Every so many of the finer times are the coarser ones.
        there = fine[:: int(ratio)] if shared else jnp.interp(coarse_times, times, fine)
        difference = jnp.max(jnp.abs(there - coarse))
        # Read off the coarser grid: reading all of the finer one costs a tenth of a cohort's time.
        most, least = jnp.max(coarse), jnp.min(coarse)
        size = jnp.maximum(jnp.abs(most), jnp.abs(least))
        scale = jnp.maximum(most - least, size / 10)
        return share * difference / (scale + jnp.finfo(fine.dtype).tiny)

    return jax.tree.map(error, states, coarse_states)
