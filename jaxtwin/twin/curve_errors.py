"""Errors of the volume curves that clips show, to learn posteriors of twins from."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from jaxtwin.imaging.calibration import EDV_RANGE, CurveCalibration, Ridge, fit_ridge, turned
from jaxtwin.inference.observing import AbstractLikelihood, AbstractObservation, observe
from jaxtwin.methods.interpolation import comparable
from jaxtwin.methods.tasks import CurveTask

SIZES = 16
"""Number of sizes of a clip's errors of which the likelihood is the mean."""
SMALLEST_VOLUME = 1e-3
"""Smallest volume [mL], and smallest one relative to EDV, whose logarithm is taken."""
SMALLEST_AXIS = 0.02
"""Smallest principal axis of the errors that counts, relative to the largest."""


class ClipObservation(AbstractObservation, AbstractLikelihood):
    """Simulated patients of a cohort, measured as clips are: with the segmentation's errors.

    A calibrated curve, its shape and its EDV, is regressed on the true ones. So what a calibration
    does to rare patients, which it draws towards the usual ones, is part of the errors. What is
    left is normal, correlated over the beat as in the phantoms, and larger in some clips than in
    others, as there. A normal distribution instead of the phantoms' own residuals, because a
    network would recognise a few hundred curves.

    Attributes:
        regression: From true shape, logarithm of EDV and of the period to the calibrated ones.
        root: Root of the covariance of what it leaves.
        sizes: How large the residuals of each clip are, relative to the root mean square.
        period: Relative errors of the period of each clip.
        theta: Parameters of the patients, one row per patient.
    """

    regression: Ridge
    root: Float[Array | np.ndarray, "clip output"]
    sizes: Float[Array | np.ndarray, " clip"]
    period: Float[Array | np.ndarray, " clip"]
    theta: Float[Array | np.ndarray, "patient free"]

    @classmethod
    def fit(
        cls,
        calibration: CurveCalibration,
        volumes: Float[np.ndarray, "clip phase"],
        T_c: Float[np.ndarray, " clip"],
        period: Float[np.ndarray, " clip"],
        theta: Float[np.ndarray, "patient free"],
    ) -> "ClipObservation":
        """Learn the errors from the clips that the calibration was learnt from.

        Args:
            calibration: The calibration, with its residuals in each clip left out.
            volumes: True volumes over a beat [mL].
            T_c: True periods [s].
            period: Measured periods [s].
            theta: Parameters of the patients to learn posteriors from.
        """
        EDV = volumes.max(axis=1)
        true = np.concatenate(
            [np.log(turned(volumes) / EDV[:, None]), np.log(EDV)[:, None]], axis=1
        )
        left = np.concatenate(
            [np.asarray(calibration.residuals), np.asarray(calibration.size_residuals)[:, None]], 1
        )
        features = np.concatenate([true, np.log(T_c)[:, None]], axis=1)
        regression, residuals = fit_ridge(features, true - left, np.ones(len(EDV)))
        residuals = residuals - residuals.mean(axis=0)
        spread = residuals.std(axis=0)
        sizes = np.sqrt(np.mean((residuals / np.where(spread > 0, spread, 1.0)) ** 2, axis=1))
        parts = (residuals / np.sqrt(len(EDV)), sizes / np.sqrt(np.mean(sizes**2)))
        found = (*parts, period / T_c - 1, theta)
        return cls(regression, *(np.asarray(part, np.float32) for part in found))

    def patients(self, task: CurveTask, n: int, *, seed: int) -> Float[np.ndarray, "patient free"]:
        """Return the cohort's patients; there are no others."""
        del task, n, seed
        return np.asarray(self.theta)

    def __call__(
        self, task: CurveTask, exact: Any, known: Any, key: PRNGKeyArray
    ) -> tuple[Any, Any]:
        """Return a calibrated curve, what is measured beside it, and the measured period."""
        first, second, third, fourth = jax.random.split(key, 4)
        row = observe(task, exact, first)
        n, T_c = task.samples, known[0]
        normal = jax.random.normal(second, self.root.shape[:1], row.dtype)
        size = jax.random.choice(third, jnp.asarray(self.sizes))
        found = self._expected(exact[:n], T_c) + size * normal @ jnp.asarray(self.root)
        # A volume that no ventricle has is not measured: such a clip gets no twin. Of a few clips,
        # the regression would also say volumes that overflow.
        shape, EDV = found[:-1], jnp.exp(found[-1].clip(*np.log(EDV_RANGE)))
        volume = EDV * jnp.exp(shape - jnp.max(shape))
        low, high = task.box.low, task.box.high
        column = task.box.names.index(task.known[0])
        off = jax.random.choice(fourth, jnp.asarray(self.period))
        T_c = (T_c * (1 + off)).clip(low[column], high[column])
        return jnp.concatenate([volume, row[n:]]), known.at[0].set(T_c)

    def log_likelihood(
        self,
        task: CurveTask,
        recording: Any,
        known: Any,
        values: Any,
        noise: Any,
        phases: Any = None,
    ) -> Float[Array, ""]:
        """Return that of the errors of clips; the period is as measured.

        Only differences of volume curves in the directions in which the errors of clips vary count.
        """
        n = task.samples
        weight = jnp.where(jnp.arange(len(noise)) < n, 0, 1 / jnp.maximum(noise, task.resolutions))
        beside = -0.5 * jnp.sum(task.errors(recording, values, weight, phases) ** 2)
        got = self._expected(getattr(recording.waveforms, task.channel), known[0])
        volume = jnp.log(jnp.maximum(values[:n], SMALLEST_VOLUME))
        off = _unscaled(jnp.concatenate([volume, jnp.max(volume)[None]]))
        directions, spread = self._axes
        distance = jnp.sum((directions @ (off - _unscaled(got)) / spread) ** 2)
        sizes = np.quantile(self.sizes, (np.arange(SIZES) + 0.5) / SIZES)
        each = -0.5 * distance / sizes**2 - len(spread) * np.log(sizes)
        return beside + jax.nn.logsumexp(each) - np.log(SIZES)

    def _expected(self, curve: Float[Array, " sample"], T_c: Any) -> Float[Array, " output"]:
        """Return the calibrated shape and logarithm of EDV that a true curve has on average."""
        curve = jnp.maximum(curve, SMALLEST_VOLUME)
        EDV = jnp.max(curve)
        shape = jnp.log(jnp.maximum(comparable(curve) / EDV, SMALLEST_VOLUME))
        features = jnp.concatenate([shape, jnp.log(EDV)[None], jnp.log(T_c)[None]])
        fit = jax.tree.map(jnp.asarray, self.regression)
        return (features - fit.mean) / fit.spread @ fit.weights + fit.level

    @property
    def _axes(self) -> tuple[Float[np.ndarray, "axis output"], Float[np.ndarray, " axis"]]:
        """Principal axes of the errors, and their standard deviations."""
        root = np.asarray(self.root, float)
        root[:, :-1] -= root[:, :-1].mean(axis=1, keepdims=True)
        _, spread, directions = np.linalg.svd(root, full_matrices=False)
        kept = spread > SMALLEST_AXIS * spread[0]
        return directions[kept].astype(np.float32), spread[kept].astype(np.float32)


def _unscaled(found: Float[Array, " output"]) -> Float[Array, " output"]:
    """Return a shape, up to a factor, and the logarithm of EDV; the mean of the former is 0."""
    return found.at[:-1].add(-jnp.mean(found[:-1]))
