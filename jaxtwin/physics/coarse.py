"""The periodic orbit on a coarser grid, used as a starting point and for error estimates."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxtwin.physics.beat import Beat, BeatMap
from jaxtwin.physics.fixed_point import DISTANCE, NEUTRAL, CoarseOrbit, FixedPoint, inverse
from jaxtwin.physics.iteration import AndersonIteration
from jaxtwin.physics.kernel import as_one_function
from jaxtwin.physics.refine import ORDER

COARSENING = 6
"""Factor by which the coarser grid has fewer steps."""
TOLERANCE = 1e-3
"""Tolerance on the relative change over the coarse beat; a smaller one would be below its error."""
REMAINING = 1 / 3
"""Relative distance from the coarse orbit that may remain, as a share of the accuracy. Of it,
`comparison` takes a fourteenth for an error of the finer grid."""
GROWN = 3.0
"""Growth of a deviation from 32 to 64 periods, beyond which an orbit is unstable: 3.5% per period.
One of a conserved quantity neither grows nor decays: at 256 points of each model's box, the growth
is at most 1%."""


def coarse_orbit(beats: BeatMap, y0: Any, max_beats: int) -> CoarseOrbit:
    """Find the periodic orbit on a grid with fewer steps, from y0.

    `AndersonIteration` ends when a beat changes little. Where the model takes tens of beats to
    settle, that is still far from the orbit, and Newton's method goes on from there.
    """
    coarse = beats.coarser(COARSENING)
    steps = coarse.steps()
    settled = AndersonIteration(TOLERANCE, max_beats).settle(steps, y0, None)
    y = settled.next_start

    def linearised(y) -> Linearised:
        later, jacobian = as_one_function(lambda steps, y: steps.jacobian(y), steps, y)
        return linearised_orbit(coarse, y, later, jacobian)

    def cond(search):
        found, number = search
        return found.far & (number < max_beats)

    def body(search):
        found, number = search
        return linearised(found.start), number + 1

    return jax.lax.while_loop(cond, body, (no_orbit(coarse, y), jnp.array(0)))[0].orbit


class Linearised(NamedTuple):
    """A beat on the coarser grid as an orbit, and where Newton's method goes on.

    Attributes:
        orbit: The beat.
        start: Newton's next start of a beat.
        far: Whether that is far from the start of this one.
    """

    orbit: CoarseOrbit
    start: Any
    far: Bool[Array, ""]


def linearised_orbit(coarse: BeatMap, y: Any, later: Any, jacobian: Any) -> Linearised:
    """Linearise a beat on the coarser grid.

    Args:
        coarse: The map of that grid.
        y: Where the beat starts.
        later: The state after each of its steps, [step] on every leaf.
        jacobian: The Jacobian of its end.
    """
    newton = inverse(FixedPoint.linearised(coarse, y, jacobian).matrix)
    tiny = jnp.finfo(newton.dtype).tiny
    sizes = jnp.stack([jnp.max(jnp.abs(leaf)) for leaf in jax.tree.leaves(later)]) + tiny
    amplification = jnp.max(jnp.abs(newton) * sizes[None, :] / sizes[:, None])
    # The Jacobian is finite, but I − ∂Φ/∂y has no inverse.
    singular = jnp.all(jnp.isfinite(jacobian)) & ~jnp.all(jnp.isfinite(newton))
    amplification = jnp.where(singular, jnp.inf, amplification)
    grown = jacobian * sizes[None, :] / sizes[:, None]
    after: list[Float[Array, ""]] = []
    for _ in range(6):  # 64 periods, by squaring.
        grown = jnp.sum(grown[:, :, None] * grown[None, :, :], axis=1)
        after.append(jnp.max(jnp.abs(grown)))
    stable = jnp.isfinite(after[-1]) & (after[-1] <= GROWN * after[-2])
    unstable = jnp.all(jnp.isfinite(jacobian)) & ~stable
    start = jnp.stack(jax.tree.leaves(y))
    end = jnp.stack([leaf[-1] for leaf in jax.tree.leaves(later)])
    correction = newton @ (end - start)
    allowed = jnp.maximum(REMAINING * coarse.allowed(), 20 * jnp.finfo(newton.dtype).eps)
    far = (jnp.max(jnp.abs(correction) / sizes) > allowed) & (amplification <= NEUTRAL)
    distance = DISTANCE * coarse.allowed()
    orbit = CoarseOrbit(y, later, newton, amplification, unstable, distance)
    leaves = [v + d for v, d in zip(jax.tree.leaves(y), correction, strict=True)]
    return Linearised(orbit, jax.tree.unflatten(jax.tree.structure(y), leaves), far)


def no_orbit(coarse: BeatMap, y: Any) -> Linearised:
    """What `linearised_orbit` returns, before the first beat from y."""
    leaves = jax.tree.leaves(y)
    zero = jnp.zeros_like(leaves[0])
    later = jax.tree.map(lambda _: jnp.full(coarse.number, zero), y)
    newton = jnp.full((len(leaves),) * 2, zero)
    orbit = CoarseOrbit(y, later, newton, zero, jnp.array(False), DISTANCE * coarse.allowed())
    return Linearised(orbit, y, jnp.array(True))


def comparison(beats: BeatMap, start: Any, later: Any) -> Callable[[Beat], Any]:
    """How to estimate each state's discretisation error in a beat, the largest over time.

    This is Richardson's estimate: for a method of order p, the error of the finer of two grids
    whose steps differ by a factor r is 1/(r^p − 1) of the difference between them. Valves that
    switch within a step lower the order of `SDIRK2` by one half: over the boxes of all circuits
    here, the median estimate with p = 1.5 is 1 to 2.4 times the error. It is relative to the range
    of the state, or to a tenth of its size if that is larger. It is NaN if the coarser grid fails.

    Args:
        beats: The finer grid's beat map.
        start: The state before the beat on the coarser grid, `beats.coarser(COARSENING)`.
        later: The state after each of its steps, [step] on every leaf.

    Returns:
        From a beat with its states to the errors. Inside the loop over beats, where the states lie
        as they were computed, that takes less time than after it.
    """
    number = len(jax.tree.leaves(later)[0])
    ratio = beats.number / number
    shared = beats.equidistant() and ratio == int(ratio)
    share = 1 / (ratio**ORDER - 1) if ratio > 1 else jnp.nan

    def scale(first, coarse):
        # Read off the coarser grid, which has fewer values.
        most, least = jnp.maximum(jnp.max(coarse), first), jnp.minimum(jnp.min(coarse), first)
        size = jnp.maximum(jnp.abs(most), jnp.abs(least))
        return jnp.maximum(most - least, size / 10) + jnp.finfo(coarse.dtype).tiny

    scales = jax.tree.map(scale, start, later)

    def compared(beat: Beat) -> Any:
        if shared:
            # Every so many of the finer times are the coarser ones.
            there = jax.tree.map(lambda leaf: leaf[int(ratio) - 1 :: int(ratio)], beat.later)
        else:
            times, at = beats.times(), beats.coarser(COARSENING).times()[1:]
            there = jax.tree.map(lambda leaf: jnp.interp(at, times, leaf), beat.states)

        def error(fine, coarse, scale):
            return share * jnp.max(jnp.abs(fine - coarse)) / scale

        return jax.tree.map(error, there, later, scales)

    return compared
