"""The equations of a fixed point of the beat map, linearised."""

from typing import Any, NamedTuple

import jax
import jax.flatten_util
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxtwin.physics.beat import BeatMap

DISTANCE = 1 / 30
"""Relative distance from the periodic state that a search may leave, as a share of what the
accuracy allows the discretisation: 1e-3 for `ACCURACY`."""
NEUTRAL = 5e3
"""Amplification beyond which a direction counts as neutral. It is below 15 at 256 points of each
model's box. If a conserved quantity is not declared, only rounding limits it, and it is at least
4e4 in float32 and 3e13 in float64."""


class FixedPoint(NamedTuple):
    """The matrix I − ∂Φ/∂y of a beat map, made regular.

    It is singular if c(y) is conserved, because the gradient g = ∂c/∂y is then a left null vector.
    With w = g/|g|², adding w gᵀ for each conserved quantity makes it regular, and the solution of
    (I − ∂Φ/∂y + w gᵀ) x = b + w (gᵀx) satisfies both equations.
    """

    matrix: Float[Array, "state state"]
    weights: Float[Array, "conserved state"]

    @classmethod
    def linearised(cls, beats: BeatMap, y, jacobian) -> "FixedPoint":
        """Build it for a beat map at y, from the Jacobian ∂Φ/∂y there."""
        flat, unravel = jax.flatten_util.ravel_pytree(y)
        gradients = jax.jacfwd(lambda v: beats.conserved(unravel(v)))(flat)
        weights = gradients / jnp.sum(gradients**2, axis=1, keepdims=True)
        return cls(jnp.eye(flat.size, dtype=flat.dtype) - jacobian + weights.T @ gradients, weights)


def inverse(matrix: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """Invert a small matrix by Gauss-Jordan elimination with partial pivoting.

    `jnp.linalg.inv` is not used because on CPU two threads that call LAPACK on large batches at
    the same time deadlock (jaxlib 0.10.2, batches of 2,048 and more), and `map_patients` has one
    thread per core.
    """
    n = len(matrix)
    numbers = jnp.arange(n)

    def eliminated(k, table):
        best = jnp.argmax(jnp.where(numbers >= k, jnp.abs(table[:, k]), -1))
        upper, lower = table[k], table[best]
        row = lower / lower[k]
        table = jnp.where((numbers == best)[:, None], upper[None], table)
        less = table - table[:, k, None] * row[None]
        return jnp.where((numbers == k)[:, None], row[None], less)

    table = jnp.concatenate([matrix, jnp.eye(n, dtype=matrix.dtype)], axis=1)
    return jax.lax.fori_loop(0, n, eliminated, table)[:, n:]


class CoarseOrbit(NamedTuple):
    """The periodic orbit on a coarser grid.

    Attributes:
        start: The state at its start.
        later: The state after each of its steps, [step] on every leaf.
        newton: The inverse of I − ∂Φ/∂y there, see `FixedPoint`.
        amplification: Largest entry of that inverse, with each state in units of its largest size:
            how much a change in a beat is amplified until it repeats itself, about 1/(1 − rate) of
            the slowest mode. Infinite where a direction is neutral.
        unstable: Whether a deviation grows from period to period.
        distance: Relative distance from the periodic state that a search may leave.
    """

    start: Any
    later: Any
    newton: Float[Array, "state state"]
    amplification: Float[Array, ""]
    unstable: Bool[Array, ""]
    distance: float | Float[Array, ""]

    def tightened(self, tolerance: Any) -> Float[Array, ""]:
        """Tighten a tolerance on the change over a beat so that it leaves at most `distance`.

        A change r leaves r · amplification. Rounding sets a lower limit. The tolerance stays
        as it is where a direction is neutral or the amplification unknown (NaN).
        """
        rounding = 20 * jnp.finfo(self.newton.dtype).eps
        needed = jnp.maximum(self.distance / self.amplification, rounding)
        return jnp.where(self.amplification <= NEUTRAL, jnp.minimum(tolerance, needed), tolerance)

    def usable(self) -> Bool[Array, ""]:
        """Whether Newton's method can start from it."""
        start = jnp.stack(jax.tree.leaves(self.start))
        return jnp.all(jnp.isfinite(start)) & jnp.all(jnp.isfinite(self.newton))
