"""Coordinates of the unknown parameters in which the prior is standard normal."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm
from jaxtyping import Array, Float

from jaxtwin.methods.tasks import CurveTask
from jaxtwin.parameters import Box, NormalPrior, Theta
from jaxtwin.parameters.prior import LARGEST_RAW

LARGEST = 5.0
"""Coordinate beyond which the normal distribution function is 1 in float32."""


class PriorCoordinates(eqx.Module):
    """Map between θ and coordinates z of the unknown parameters, for use in jit and vmap.

    Before anything is measured, z is standard normal, given the parameters that are known. So a
    distribution of z has no mass outside the box. Without a prior of the task, θ is uniform in the
    box, along logarithmic sides in the logarithm, and z is the normal quantile of each side. With a
    `NormalPrior`, z is the deviation from the mean, conditional on the known parameters, divided
    by the Cholesky factor of the conditional covariance.

    Attributes:
        box: The free parameters and their bounds.
        prior: The task's prior.
        known: Places of the known parameters in θ.
        unknown: Places of the others, in the order of z.
    """

    box: Box = eqx.field(static=True)
    prior: NormalPrior | None = eqx.field(static=True)
    known: tuple[int, ...] = eqx.field(static=True)
    unknown: tuple[int, ...] = eqx.field(static=True)

    @classmethod
    def of(cls, task: CurveTask) -> "PriorCoordinates":
        """Return the coordinates of a task."""
        names = task.box.names
        unknown = [i for i, name in enumerate(names) if name not in task.known]
        return cls(task.box, task.prior, tuple(names.index(n) for n in task.known), tuple(unknown))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the unknown parameters."""
        return tuple(self.box.names[i] for i in self.unknown)

    def theta(self, z: Float[Array, " unknown"], known: Float[Array, " known"]) -> Theta:
        """Return θ at z, given the values of the known parameters."""
        place = self._places
        if self.prior is None:
            u = jnp.zeros(len(self.box.names), z.dtype).at[place[1]].set(norm.cdf(z))
            theta = self.box.from_unit(u)
        else:
            mean, root = self._conditional(known, z.dtype)
            raw = jnp.zeros(len(self.box.names), z.dtype).at[place[1]].set(mean + root @ z)
            theta = self.box.bound(raw)
        return theta.at[place[0]].set(known)

    def coordinates(self, theta: Theta) -> Float[Array, " unknown"]:
        """Return z of θ; within ±5 for a uniform prior."""
        place = self._places
        if self.prior is None:
            z = norm.ppf(self.box.to_unit(theta)[place[1]])
            return z.clip(-LARGEST, LARGEST)
        mean, root = self._conditional(theta[place[0]], theta.dtype)
        raw = self.box.unbound(theta)[place[1]].clip(-LARGEST_RAW, LARGEST_RAW)
        return jnp.asarray(np.linalg.inv(root), theta.dtype) @ (raw - mean)

    @property
    def _places(self) -> tuple[np.ndarray, np.ndarray]:
        return np.array(self.known, int), np.array(self.unknown, int)

    def _conditional(
        self, known: Float[Array, " known"], dtype: jnp.dtype
    ) -> tuple[Float[Array, " unknown"], Float[np.ndarray, "unknown unknown"]]:
        """Return mean and Cholesky factor of the unknown raw coordinates, given the known ones."""
        assert self.prior is not None
        first, second = self._places
        mean, root = np.array(self.prior.mean), np.array(self.prior.root)
        # With the known ones first, the Cholesky factor of the covariance is block triangular, and
        # its lower right block is that of the conditional covariance.
        order = np.concatenate([first, second])
        whole = np.linalg.cholesky((root @ root.T)[np.ix_(order, order)])
        n = len(first)
        a, b, c = whole[:n, :n], whole[n:, :n], whole[n:, n:]
        full = jnp.zeros(len(self.box.names), dtype).at[first].set(known)
        low = jnp.asarray(self.box.low, dtype)
        full = jnp.where(np.isin(np.arange(len(low)), first), full, low)
        raw = self.box.unbound(full)[first].clip(-LARGEST_RAW, LARGEST_RAW)
        slope = b @ np.linalg.inv(a) if n else np.zeros((len(second), 0))
        shift = jnp.asarray(slope, dtype) @ (raw - jnp.asarray(mean[first], dtype))
        return jnp.asarray(mean[second], dtype) + shift, c.astype(dtype)
