"""Conditional normalising flows: the distribution of z given what a network is shown."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from flowjax.bijections import AbstractBijection, Invert, RationalQuadraticSpline, Vmap
from flowjax.utils import get_ravelled_pytree_constructor
from jaxtyping import Array, Float, PRNGKeyArray

KNOTS = 8
"""Number of knots of each spline."""
INTERVAL = 5.0
"""Splines transform coordinates between −INTERVAL and INTERVAL, and leave others as they are."""
SMALLEST = 1e-3
"""Smallest scale of the affine layer, as a share of the prior's standard deviation."""
ONE = 0.5413
"""Inverse softplus of 1."""


class Coupling(AbstractBijection):
    """Splines of the last coordinates, which a network of the first ones and the condition gives.

    Flowjax's own coupling layer draws weights while it is built, so that a flow could not be
    rebuilt from shapes alone.

    Attributes:
        shape: Shape of the vector.
        cond_shape: Shape of the condition.
        conditioner: The network.
        fixed: Number of the first coordinates, which stay as they are.
    """

    shape: tuple[int, ...]
    cond_shape: tuple[int, ...] | None
    conditioner: eqx.nn.MLP
    fixed: int = eqx.field(static=True)

    def __init__(self, size: int, condition: int, width: int, *, key: PRNGKeyArray):
        self.shape, self.cond_shape, self.fixed = (size,), (condition,), size // 2
        # Places of the knots along both axes, and the slopes there.
        outputs = (size - self.fixed) * (2 * (KNOTS + 1) + KNOTS + 2)
        self.conditioner = eqx.nn.MLP(
            self.fixed + condition, outputs, width, 2, jax.nn.silu, key=key
        )

    def transform_and_log_det(self, x: Any, condition: Any = None) -> tuple[Any, Any]:
        """Apply the splines."""
        first, last = jnp.split(x, [self.fixed])
        last, volume = self._splines(first, condition).transform_and_log_det(last)
        return jnp.concatenate([first, last]), volume

    def inverse_and_log_det(self, y: Any, condition: Any = None) -> tuple[Any, Any]:
        """Apply the inverse splines."""
        first, last = jnp.split(y, [self.fixed])
        last, volume = self._splines(first, condition).inverse_and_log_det(last)
        return jnp.concatenate([first, last]), volume

    def _splines(self, first: Any, condition: Any) -> Vmap:
        spline = RationalQuadraticSpline(knots=KNOTS, interval=INTERVAL)
        make, _ = get_ravelled_pytree_constructor(spline, eqx.is_inexact_array)
        found = self.conditioner(jnp.concatenate([first, condition]))
        found = found.reshape(self.shape[0] - self.fixed, -1)
        return Vmap(eqx.filter_vmap(make)(found), in_axes=eqx.if_array(0))


class Layers(AbstractBijection):
    """Coupling layers, each followed by a cyclic shift, so that the next transforms others.

    Attributes:
        shape: Shape of the vector.
        cond_shape: Shape of the condition.
        bijections: The layers, and None in place of the shifts, which have nothing to learn.
    """

    shape: tuple[int, ...]
    cond_shape: tuple[int, ...] | None
    bijections: tuple[Coupling | None, ...]

    def __init__(self, layers: Sequence[Coupling]):
        self.shape, self.cond_shape = layers[0].shape, layers[0].cond_shape
        # In the places that they have in saved flows.
        self.bijections = tuple(x for layer in layers for x in (layer, None))

    def transform_and_log_det(self, x: Any, condition: Any = None) -> tuple[Any, Any]:
        """Apply layer and shift, from the first to the last; unrolled, as most training is here."""
        total = jnp.zeros((), x.dtype)
        for layer, shift in zip(self._couplings, self._shifts, strict=True):
            x, volume = layer.transform_and_log_det(x, condition)
            x, total = jnp.roll(x, shift), total + volume
        return x, total

    def inverse_and_log_det(self, y: Any, condition: Any = None) -> tuple[Any, Any]:
        """Undo shift and layer, from the last to the first.

        This is a loop, which compiles in the time of one layer: most draws are made once.
        """
        parts = [eqx.partition(layer, eqx.is_array) for layer in self._couplings]
        stacked = jax.tree.map(lambda *x: jnp.stack(x), *(arrays for arrays, _ in parts))
        back = np.stack([np.roll(np.arange(len(y)), -shift) for shift in self._shifts])

        def undo(carry: Any, layer: Any) -> tuple[Any, None]:
            (y, total), (arrays, order) = carry, layer
            coupling = eqx.combine(arrays, parts[0][1])
            before, volume = coupling.inverse_and_log_det(y[order], condition)
            # In x64 mode the splines compute in float64.
            return (before.astype(y.dtype), (total + volume).astype(y.dtype)), None

        found, _ = jax.lax.scan(undo, (y, jnp.zeros((), y.dtype)), (stacked, back), reverse=True)
        return found

    @property
    def _couplings(self) -> list[Coupling]:
        return [layer for layer in self.bijections if layer is not None]

    @property
    def _shifts(self) -> list[int]:
        (size,) = self.shape
        return [max(size // 2 - i % 2, 1) for i in range(len(self._couplings))]


class PosteriorFlow(eqx.Module):
    """Distribution of z, conditional on what is shown of a patient.

    A network summarises what is shown. A conditional affine layer gives the distribution its place
    and its correlations, and a coupling flow with rational-quadratic splines (Durkan et al.,
    "Neural spline flows", NeurIPS 2019) its shape. Untrained, it is close to the standard normal
    distribution, the prior of z.

    Attributes:
        summary: Network from what is shown to a summary.
        affine: Linear map from the summary to mean and Cholesky factor of the affine layer.
        flow: The coupling flow, a bijection from w to the coordinates of the affine layer.
        mean: Mean of each input over the training patients.
        spread: Standard deviation of each input over the training patients.
    """

    summary: eqx.nn.MLP
    affine: eqx.nn.Linear
    flow: Any
    mean: Float[Array, " input"]
    spread: Float[Array, " input"]

    @classmethod
    def create(
        cls,
        shown: Float[np.ndarray, "patient input"],
        size: int,
        *,
        width: int = 256,
        depth: int = 3,
        summaries: int = 64,
        layers: int = 4,
        layer_width: int = 64,
        key: PRNGKeyArray,
    ) -> "PosteriorFlow":
        """Make an untrained flow.

        Args:
            shown: What is shown of the training patients; NaN where something is missing.
            size: Number of coordinates z.
            width: Width of the network that summarises.
            depth: Number of its hidden layers.
            summaries: Length of the summary.
            layers: Number of coupling layers.
            layer_width: Width of the network of each coupling layer.
            key: Key of the initial weights.
        """
        first, second, third = jax.random.split(key, 3)
        summary = eqx.nn.MLP(
            shown.shape[1], summaries, width, depth, jax.nn.silu, jax.nn.silu, key=first
        )
        affine = eqx.nn.Linear(summaries, size + size * (size + 1) // 2, key=second)
        affine = jax.tree.map(jnp.zeros_like, affine)
        keys = jax.random.split(third, layers)
        flow = Invert(Layers([Coupling(size, summaries, layer_width, key=key) for key in keys]))
        there = np.isfinite(shown).any(axis=0)
        shown = np.where(there, shown, np.float32(0))  # What nobody has.
        mean, spread = np.nanmean(shown, axis=0), np.nanstd(shown, axis=0)
        spread = np.where(spread > 0, spread, np.maximum(np.abs(mean), 1.0))
        made = cls(summary, affine, flow, jnp.asarray(mean), jnp.asarray(spread))
        return jax.tree.map(lambda x: x.astype(jnp.float32) if eqx.is_inexact_array(x) else x, made)

    def log_density(
        self, shown: Float[Array, " input"], z: Float[Array, " size"]
    ) -> Float[Array, ""]:
        """Return the logarithm of the density of z [nats]."""
        summary, middle, root = self._affine(shown)
        z = jax.scipy.linalg.solve_triangular(root, z - middle, lower=True)
        w, volume = self.flow.inverse_and_log_det(z, summary)
        return _log_normal(w) + volume - jnp.sum(jnp.log(jnp.diag(root)))

    def sample(
        self, shown: Float[Array, " input"], key: PRNGKeyArray, draws: int
    ) -> tuple[Float[Array, "draw size"], Float[Array, " draw"]]:
        """Draw z, and return the draws and the logarithms of their densities."""
        w = jax.random.normal(key, (draws, self.flow.shape[0]), self.mean.dtype)
        z, volume = jax.vmap(self._transform, (None, 0))(self._affine(shown), w)
        return z, _log_normal(w) - volume

    def transform(
        self, shown: Float[Array, " input"], w: Float[Array, " size"]
    ) -> tuple[Float[Array, " size"], Float[Array, ""]]:
        """Return z of a standard normal variable w, and the logarithm of |dz/dw|."""
        return self._transform(self._affine(shown), w)

    def summarise(self, shown: Float[Array, " input"]) -> Float[Array, " summary"]:
        """Return the summary of what is shown, all that the flow knows of a patient."""
        summary, _, _ = self._affine(shown)
        return summary

    def _transform(self, affine: tuple[Any, Any, Any], w: Any) -> tuple[Any, Any]:
        summary, middle, root = affine
        w, volume = self.flow.transform_and_log_det(w, summary)
        return middle + root @ w, volume + jnp.sum(jnp.log(jnp.diag(root)))

    def _affine(self, shown: Any) -> tuple[Any, Any, Any]:
        """Return the summary, and mean and Cholesky factor of the affine layer."""
        mean, spread = jax.lax.stop_gradient((self.mean, self.spread))
        shown = jnp.where(jnp.isfinite(shown), shown, mean)
        summary = self.summary((shown - mean) / spread)
        found, size = self.affine(summary), self.flow.shape[0]
        middle, diagonal, rest = jnp.split(found, [size, 2 * size])
        root = jnp.diag(jax.nn.softplus(diagonal + ONE) + SMALLEST)
        return summary, middle, root.at[np.tril_indices(size, -1)].set(rest)


def _log_normal(w: Float[Array, "*draw size"]) -> Float[Array, "*draw"]:
    """Return the logarithm of the density of the standard normal distribution."""
    return -0.5 * jnp.sum(w**2 + np.log(2 * np.pi), axis=-1)
