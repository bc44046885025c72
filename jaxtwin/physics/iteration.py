"""Iterations that find the periodic beat."""

import abc
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxtwin.physics.beat import Beat, Steps
from jaxtwin.physics.fixed_point import CoarseOrbit
from jaxtwin.physics.kernel import as_one_function


class AbstractIteration(eqx.Module):
    """Base class for iterations that find the periodic beat.

    Attributes:
        tolerance: Tolerance on `Stats.residual`. Rounding alone gives about 1e-6 in float32. Where
            the model settles slowly, a smaller one is used, see `CoarseOrbit.tightened`.
        max_beats: Largest number of beats.
    """

    tolerance: eqx.AbstractVar[float]
    max_beats: eqx.AbstractVar[int]

    @abc.abstractmethod
    def init(self, y0: Any, coarse: CoarseOrbit | None) -> tuple[Any, Any]:
        """Return the start of the first beat, and what to carry from beat to beat.

        Args:
            y0: The initial state, which determines the values of conserved quantities.
            coarse: The periodic orbit on a coarser grid, or None if it was not computed.
        """

    @abc.abstractmethod
    def next_start(self, start: Any, beat: Beat, carried: Any) -> tuple[Any, Any]:
        """Return the start of the beat that follows `beat` from `start`, and what to carry."""

    def settle(
        self,
        steps: Steps,
        y0: Any,
        coarse: CoarseOrbit | None,
        compare: Callable[[Beat], Any] | None = None,
    ) -> "Settled":
        """Run beats until one repeats itself.

        Args:
            steps: The steps of each.
            y0: The initial state.
            coarse: The periodic orbit of a coarser grid, where one was computed.
            compare: What to compute from each beat, see `comparison`. With it the beats' states are
                recorded.
        """
        record = compare is not None
        start, carried = self.init(y0, coarse)
        tolerance = jnp.asarray(self.tolerance, jax.tree.leaves(y0)[0].dtype)
        if coarse is not None:
            tolerance = coarse.tightened(tolerance)

        def cond(loop):
            return (loop.residual > tolerance) & (loop.number < self.max_beats)

        def body(loop):
            beat, compared = run(loop.next_start)
            following, carried = self.next_start(loop.next_start, beat, loop.carried)
            return Settled(
                following, carried, beat, compared, beat.residual(), tolerance, loop.number + 1
            )

        # Traced once for its shapes and for the loop.
        @functools.partial(jax.jit, inline=True)
        def run(start):
            beat = as_one_function(lambda steps, y: steps(y, record=record), steps, start)
            return beat, None if compare is None else compare(beat)

        shapes = jax.eval_shape(run, y0)
        beat, compared = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        residual = jnp.full_like(jax.tree.leaves(y0)[0], jnp.inf)
        first = Settled(start, carried, beat, compared, residual, tolerance, jnp.array(0))
        return jax.lax.while_loop(cond, body, first)


class Settled(NamedTuple):
    """State of an iteration.

    Attributes:
        next_start: Start of the next beat.
        carried: Data carried from beat to beat.
        beat: The last beat.
        compared: What was computed from it.
        residual: That of the last beat; infinite before the first.
        tolerance: Tolerance on it.
        number: How many beats were run.
    """

    next_start: Any
    carried: Any
    beat: Beat
    compared: Any
    residual: Float[Array, ""]
    tolerance: Float[Array, ""]
    number: Int[Array, ""]


class BeatIteration(AbstractIteration):
    """Start every beat where the previous one ended, as a heart does."""

    tolerance: float = 3e-5
    max_beats: int = 40

    def init(self, y0: Any, coarse: CoarseOrbit | None) -> tuple[Any, Any]:
        """Return the initial state."""
        return y0, None

    def next_start(self, start: Any, beat: Beat, carried: Any) -> tuple[Any, Any]:
        """Return the end of the last beat."""
        return beat.end, None


class AndersonIteration(AbstractIteration):
    """Extrapolate from the last two beats: Anderson's method of depth one.

    Anderson, "Iterative procedures for nonlinear integral equations", Journal of the ACM
    12(4), 1965. A heart settles along one slow direction, the shift of blood between arteries and
    veins, whose rate can be determined from two beats: over the left heart's box, the slowest
    patient needs 8 beats instead of 14. The weights add up to one, so conserved quantities do not
    change if they are linear in the state; otherwise use `BeatIteration`.
    """

    tolerance: float = 3e-5
    max_beats: int = 40

    def init(self, y0: Any, coarse: CoarseOrbit | None) -> tuple[Any, Any]:
        """Return the initial state."""
        return y0, (jnp.array(True), y0, y0)

    def next_start(self, start: Any, beat: Beat, carried: Any) -> tuple[Any, Any]:
        """Return the combination of both ends that would change least if the map were affine."""
        is_first, last_end, last_change = carried
        f, last_f = (jnp.stack(jax.tree.leaves(tree)) for tree in (beat.change, last_change))
        difference = f - last_f
        square = jnp.maximum(jnp.sum(difference**2), jnp.finfo(f.dtype).tiny)
        # A rate of 0.83 per beat gives -5. Beyond that is noise, or other modes are still present.
        weight = jnp.clip(jnp.sum(f * difference) / square, -5.0, 0.5)
        weight = jnp.where(is_first, 0.0, weight)
        following = jax.tree.map(lambda a, b: a - weight * (a - b), beat.end, last_end)
        return following, (jnp.array(False), beat.end, beat.change)


class NewtonIteration(AbstractIteration):
    """Newton's method for the periodic beat, with the Jacobian of a coarser grid.

    It starts from the periodic orbit on that grid. Two beats on the full grid then suffice
    everywhere in the left heart's box, one to correct and one to confirm. Conserved quantities do
    not change if they are linear in the state; otherwise use `BeatIteration`. Newton's method also
    finds unstable orbits, in which no heart would settle.
    """

    tolerance: float = 3e-5
    max_beats: int = 40

    def init(self, y0: Any, coarse: CoarseOrbit | None) -> tuple[Any, Any]:
        """Return the periodic state on the coarser grid, and the inverse of I − ∂Φ/∂y there."""
        unit = jnp.eye(len(jax.tree.leaves(y0)), dtype=jax.tree.leaves(y0)[0].dtype)
        if coarse is None:
            return y0, unit
        # If the coarse orbit is unusable, start from the initial state and go from beat to beat.
        usable = coarse.usable()
        start = jax.tree.map(lambda a, b: jnp.where(usable, a, b), coarse.start, y0)
        return start, jnp.where(usable, coarse.newton, unit)

    def next_start(self, start: Any, beat: Beat, carried: Any) -> tuple[Any, Any]:
        """Return the zero of the linearised change."""
        flat, unravel = jax.flatten_util.ravel_pytree(start)
        end, _ = jax.flatten_util.ravel_pytree(beat.end)
        return unravel(flat + carried @ (end - flat)), carried
