"""Check whether a clip resembles the clips that an encoder was trained on."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxtwin.physics.compilation import compiled


class Familiarity(eqx.Module):
    """Gaussian model of the training clips' features, with a threshold for unfamiliar clips.

    The Gaussian has the variances of the features along their leading principal axes, and one
    common variance along all others (probabilistic principal components: Tipping and Bishop,
    Journal of the Royal Statistical Society B 61(3), 1999). The distance of a clip is the squared
    Mahalanobis distance divided by the number of features, about 1 for a training clip.

    Attributes:
        mean: Mean of the training clips' features.
        axes: Leading principal axes, one per row; rows of zeros if there were too few clips.
        variances: Variances along the leading axes.
        rest: Mean variance along all other axes.
        threshold: Largest distance of a familiar clip.
    """

    mean: Float[Array | np.ndarray, " feature"]
    axes: Float[Array | np.ndarray, "axis feature"]
    variances: Float[Array | np.ndarray, " axis"]
    rest: Float[Array | np.ndarray, ""]
    threshold: Float[Array | np.ndarray, ""]

    @classmethod
    def fit(
        cls,
        training: Float[np.ndarray, "clip feature"],
        held_out: Float[np.ndarray, "other feature"],
        *,
        axes: int = 16,
        quantile: float = 0.99,
    ) -> "Familiarity":
        """Fit the Gaussian to training clips and the threshold to held-out clips.

        Args:
            training: Features of the clips that the encoder was trained on.
            held_out: Features of similar clips that it was not trained on.
            axes: Largest number of principal axes; also limited to half the number of clips.
            quantile: Share of the held-out clips that is familiar by definition.

        Raises:
            ValueError: If there are fewer than four training clips, or no held-out clips.
        """
        if len(training) < 4 or not len(held_out):
            raise ValueError(
                f"{len(training)} training and {len(held_out)} held-out clips: familiarity "
                "needs at least 4 and 1"
            )
        mean = training.mean(axis=0)
        _, sizes, directions = np.linalg.svd(training - mean, full_matrices=False)
        variances = sizes**2 / (len(training) - 1)
        rows = min(axes, training.shape[1] - 1)
        axes = min(rows, len(training) // 2)
        # Divided by the number of remaining directions, including those without any variance.
        rest = variances[axes:].sum() / (training.shape[1] - axes)
        floor = 1e-6 * variances.sum() / training.shape[1]
        # The number of rows does not depend on the number of clips, for saving and loading.
        empty = ((0, rows - axes), (0, 0))
        gaussian = cls(
            jnp.asarray(mean),
            jnp.asarray(np.pad(directions[:axes], empty)),
            jnp.asarray(np.pad(np.maximum(variances[:axes], floor), empty[0], constant_values=1.0)),
            jnp.asarray(np.maximum(rest, floor)),
            jnp.asarray(jnp.inf, training.dtype),
        )
        distances = np.asarray(gaussian.distance(held_out))
        threshold = jnp.asarray(np.quantile(distances, quantile))
        return eqx.tree_at(lambda g: g.threshold, gaussian, threshold)

    @classmethod
    def blank(cls, features: int, *, axes: int = 16) -> "Familiarity":
        """Return zeros in the shapes that `fit` gives, into which a saved model is loaded."""
        rows = min(axes, features - 1)
        shapes = ((features,), (rows, features), (rows,), (), ())
        return cls(*(np.zeros(shape, np.float32) for shape in shapes))

    @compiled
    def distance(
        self, features: Float[Array | np.ndarray, "*batch feature"]
    ) -> Float[Array, "*batch"]:
        """Return the squared Mahalanobis distance divided by the number of features."""
        centred = features - self.mean.reshape((1,) * (features.ndim - 1) + (-1,))
        along = centred @ self.axes.T
        # Not the difference of two sums of squares, of which little but rounding may be left.
        outside = jnp.sum((centred - along @ self.axes) ** 2, axis=-1)
        scaled = along**2 / self.variances.reshape((1,) * (features.ndim - 1) + (-1,))
        return (jnp.sum(scaled, axis=-1) + outside / self.rest) / features.shape[-1]

    def recognises(
        self, features: Float[Array | np.ndarray, "*batch feature"]
    ) -> Bool[Array, "*batch"]:
        """Return whether clips with these features resemble the training clips."""
        return self.distance(features) <= self.threshold
