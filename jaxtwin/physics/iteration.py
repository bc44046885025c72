"""How to get from beat to beat to the one that repeats itself."""

import abc
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxtwin.physics.beat import Beat, BeatMap, Steps


class FixedPoint(NamedTuple):
    """I − ∂Φ/∂y of a beat map, made regular.

    It is singular where c(y) is conserved: the gradient g = ∂c/∂y is a left null vector. With
    w = g/|g|², adding w gᵀ for each conserved quantity makes it regular, and the solution of
    (I − ∂Φ/∂y + w gᵀ) x = b + w (gᵀx) satisfies both equations.
    """

    matrix: Float[Array, "state state"]
    weights: Float[Array, "conserved state"]

    @classmethod
    def of(cls, beats: BeatMap, y, jacobian) -> "FixedPoint":
        """That of a beat map at y, from its Jacobian ∂Φ/∂y there."""
        flat, unravel = jax.flatten_util.ravel_pytree(y)
        gradients = jax.jacfwd(lambda v: beats.conserved(unravel(v)))(flat)
        weights = gradients / jnp.sum(gradients**2, axis=1, keepdims=True)
        return cls(jnp.eye(flat.size, dtype=flat.dtype) - jacobian + weights.T @ gradients, weights)


def inverse(matrix: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """The inverse of a small matrix: Gauss-Jordan elimination with partial pivoting.

    Not `jnp.linalg.inv`: on CPU, two threads that call LAPACK on large batches at the same
    time wait for each other forever (jaxlib 0.10.2, batches of 2,048 on), and
    `map_patients` has one for each core.
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
        tolerance: On `Stats.residual`. Rounding alone gives about 1e-6 in float32.
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

    def settle(self, beats: BeatMap, steps: Steps, y0: Any, *, record: bool) -> "Settled":
        """Run beats until one repeats itself; the steps are those of the beat map."""
        start, carried = self.init(beats, y0)

        def cond(loop):
            return (loop.residual > self.tolerance) & (loop.number < self.max_beats)

        def body(loop):
            beat = steps(loop.next_start, record=record)
            following, carried = self.next_start(loop.next_start, beat, loop.carried)
            return Settled(following, carried, beat, beat.residual(), loop.number + 1)

        beat = jax.eval_shape(lambda y: steps(y, record=record), y0)
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
        steps = coarse.steps()
        start = anderson.settle(coarse, steps, y0, record=False).next_start
        flat, _ = jax.flatten_util.ravel_pytree(start)
        jacobian, _ = steps.sensitivities(start, record=False)
        newton = inverse(FixedPoint.of(coarse, start, jacobian).matrix)
        # Whom the coarse grid drives astray starts anew, and goes from beat to beat.
        usable = jnp.all(jnp.isfinite(flat)) & jnp.all(jnp.isfinite(newton))
        start = jax.tree.map(lambda a, b: jnp.where(usable, a, b), start, y0)
        return start, jnp.where(usable, newton, jnp.eye(flat.size, dtype=flat.dtype))

    def next_start(self, start: Any, beat: Beat, carried: Any) -> tuple[Any, Any]:
        """The zero of the linearised change."""
        flat, unravel = jax.flatten_util.ravel_pytree(start)
        end, _ = jax.flatten_util.ravel_pytree(beat.end)
        return unravel(flat + carried @ (end - flat)), carried
