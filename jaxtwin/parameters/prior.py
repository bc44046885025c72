"""A normal prior of the free parameters, in the raw coordinates of their box."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxtwin.parameters.box import Box

LARGEST_RAW = 8.0
"""Raw coordinate beyond which a parameter counts as on the face of the box, at infinity."""
_SMALLEST = 0.1
"""Smallest standard deviation of a raw coordinate along any direction: what a finite sample shows
of narrower directions is an accident, or a rounding error."""


@dataclasses.dataclass(frozen=True)
class NormalPrior:
    """Normal distribution of the raw coordinates of θ, as `Box.unbound` gives them.

    Attributes:
        mean: Mean of each raw coordinate.
        root: Lower triangular factor L of the covariance L Lᵀ, row by row.
    """

    mean: tuple[float, ...]
    root: tuple[tuple[float, ...], ...]

    @classmethod
    def of(cls, box: Box, theta: Float[np.ndarray, "patient free"]) -> "NormalPrior":
        """Return the normal distribution with the mean and covariance of some patients.

        Args:
            box: Their box.
            theta: Parameters of at least as many patients as the box has free ones, plus one.

        Raises:
            ValueError: If there are too few patients, or one is outside the box.
        """
        theta, free = np.asarray(theta, float), len(box.names)
        box.check(theta)
        if len(theta) <= free:
            raise ValueError(
                f"{len(theta)} patients for a prior of {free} parameters: expected at least "
                f"{free + 1}"
            )
        raw = np.asarray(box.unbound(jnp.asarray(theta)), float).clip(-LARGEST_RAW, LARGEST_RAW)
        size, axes = np.linalg.eigh(np.atleast_2d(np.cov(raw.T)))
        root = np.linalg.cholesky(axes * np.maximum(size, _SMALLEST**2) @ axes.T)
        return cls(tuple(raw.mean(0).tolist()), tuple(map(tuple, root.tolist())))

    def whiten(self, raw: Float[Array, " free"]) -> Float[Array, " free"]:
        """Return the deviation from the mean in units in which the prior is standard normal."""
        inverse = np.linalg.inv(np.array(self.root))
        return jnp.asarray(inverse, raw.dtype) @ (raw - jnp.asarray(self.mean, raw.dtype))

    def density(self, box: Box, theta: Float[np.ndarray, "n free"]) -> Float[np.ndarray, " n"]:
        """Return the density at each θ, relative to the uniform one on the box."""
        raw = np.asarray(box.unbound(jnp.asarray(theta)), float)
        away = np.linalg.solve(np.array(self.root), (raw - np.array(self.mean)).T)
        log = -0.5 * (away**2).sum(0) - np.log(np.sqrt(2 * np.pi) * np.diag(self.root)).sum()
        # Uniform in the box is logistic in raw coordinates.
        with np.errstate(invalid="ignore"):  # On a face of the box, ∞ − ∞: the density is 0.
            log += (np.logaddexp(0, raw) + np.logaddexp(0, -raw)).sum(1)
        return np.exp(np.where(np.isfinite(log), log, -np.inf))

    def sample(self, box: Box, n: int, *, seed: int) -> Float[np.ndarray, "n free"]:
        """Return n points θ of a scrambled Sobol sequence, distributed as the prior."""
        from scipy.stats import norm  # Imported here because it takes half a second.

        u = np.asarray(box.to_unit(jnp.asarray(box.sample(n, seed=seed))), float)
        # Rounding may put a point on a face of the box.
        normal = norm.ppf(u.clip(1e-6, 1 - 1e-6))
        raw = np.array(self.mean) + normal @ np.array(self.root).T
        return np.asarray(box.bound(jnp.asarray(raw)))

    def describe(self) -> dict[str, Any]:
        """Return mean and root as a JSON value; `NormalPrior.described` reads it."""
        return {"mean": list(self.mean), "root": [list(row) for row in self.root]}

    @classmethod
    def described(cls, told: dict[str, Any]) -> "NormalPrior":
        """Return the prior with this description."""
        return cls(tuple(told["mean"]), tuple(map(tuple, told["root"])))
