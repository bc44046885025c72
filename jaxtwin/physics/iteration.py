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
from jaxtwin.physics.fixed_point import CoarseOrbit, inverse
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
            return Settled(following, carried, beat, compared, beat.residual(), loop.number + 1)

        # Traced once for its shapes and for the loop.
        @functools.partial(jax.jit, inline=True)
        def run(start):
            beat = as_one_function(lambda steps, y: steps(y, record=record), steps, start)
            return beat, None if compare is None else compare(beat)

        shapes = jax.eval_shape(run, y0)
        beat, compared = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        residual = jnp.full_like(jax.tree.leaves(y0)[0], jnp.inf)
        first = Settled(start, carried, beat, compared, residual, jnp.array(0))
        return jax.lax.while_loop(cond, body, first)


class Settled(NamedTuple):
    """State of an iteration.

    Attributes:
        next_start: Start of the next beat.
        carried: Data carried from beat to beat.
        beat: The last beat.
        compared: What was computed from it.
        residual: That of the last beat; infinite before the first.
        number: How many beats were run.
    """

    next_start: Any
    carried: Any
    beat: Beat
    compared: Any
    residual: Float[Array, ""]
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
    """Extrapolate from the last few beats: Anderson's method.

    Anderson, "Iterative procedures for nonlinear integral equations", Journal of the ACM
    12(4), 1965. A heart settles along a few slow directions, the shift of blood between the
    arteries and veins of each circulation, whose rates can be determined from the last beats. So
    its depth is one for up to four states, then (n − 1)/2 of n, at most four: a deeper one follows
    the kinks of valves. Over their boxes, the slowest patient needs 7 beats on the left heart's
    coarse grid and 15 on that of four chambers, where with depth one it needs 32. The weights add
    up to one, so conserved quantities do not change if they are linear in the state; otherwise use
    `BeatIteration`.
    """

    tolerance: float = 3e-5
    max_beats: int = 40

    def init(self, y0: Any, coarse: CoarseOrbit | None) -> tuple[Any, Any]:
        """Return the initial state, and no differences between beats."""
        n = len(jax.tree.leaves(y0))
        none = jnp.zeros((min(4, max(1, (n - 1) // 2)), n), jax.tree.leaves(y0)[0].dtype)
        return y0, (jnp.array(True), none[0], none[0], none, none)

    def next_start(self, start: Any, beat: Beat, carried: Any) -> tuple[Any, Any]:
        """Return the combination of the ends that would change least if the map were affine."""
        is_first, last_end, last_f, ends, changes = carried
        end, unravel = jax.flatten_util.ravel_pytree(beat.end)
        f = jnp.stack(jax.tree.leaves(beat.change))

        def following(table, row):
            moved = jnp.concatenate([row[None], table[:-1]])
            return jnp.where(is_first, table, moved)

        ends, changes = following(ends, end - last_end), following(changes, f - last_f)
        # As long as there are fewer differences, the others are 0, and so are their weights.
        tiny = jnp.finfo(f.dtype).tiny
        lengths = jnp.sqrt(jnp.sum(changes**2, axis=1)) + tiny**0.5
        units = changes / lengths[:, None]
        gram = jnp.sum(units[:, None, :] * units[None, :, :], axis=-1)
        n = len(gram)
        known = jnp.diagonal(gram) > 0.5
        gram = gram + jnp.diag(jnp.where(known, 1e-6, 1.0))
        weights = inverse(gram) @ (units @ f) / lengths
        # A rate of 0.83 per beat gives -5. Beyond that is noise, or other modes are still present.
        weights = jnp.clip(weights, -5.0, 0.5 if n == 1 else 5.0)
        return unravel(end - weights @ ends), (jnp.array(False), end, f, ends, changes)


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
