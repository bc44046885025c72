"""Does a clip look like the clips that an encoder was trained on?"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float


class Familiarity(eqx.Module):
    """The training clips' features as a Gaussian, and how far is too far from it.

    The Gaussian has the features' own variances along their leading principal axes and one
    common variance along all others (probabilistic principal components: Tipping and Bishop,
    Journal of the Royal Statistical Society B 61(3), 1999). The distance of a clip is the
    Mahalanobis distance, squared and divided by the number of features, so that it is about 1
    for a training clip.

    Attributes:
        mean: Of the training clips' features.
        axes: The leading principal axes, one per row; rows of zeros where there were too few
            clips for as many.
        variances: Along those axes.
        rest: The mean variance along all others.
        threshold: Distances above this are unfamiliar.
    """

    mean: Float[Array, " feature"]
    axes: Float[Array, "axis feature"]
    variances: Float[Array, " axis"]
    rest: Float[Array, ""]
    threshold: Float[Array, ""]

    @classmethod
    def fit(
        cls,
        training: Float[np.ndarray, "clip feature"],
        held_out: Float[np.ndarray, "other feature"],
        *,
        axes: int = 16,
        quantile: float = 0.99,
    ) -> "Familiarity":
        """Learn the Gaussian from training clips and the threshold from others.

        Args:
            training: Features of the clips that the encoder was trained on.
            held_out: Features of clips like them that it was not trained on.
            axes: Number of principal axes, at most; no more than half of the clips are used.
            quantile: This share of the held-out clips is familiar by definition.

        Raises:
            ValueError: If there are fewer than four training clips, or no others.
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
        # Divided by the number of directions left out, seen in the training clips or not.
        rest = variances[axes:].sum() / (training.shape[1] - axes)
        floor = 1e-6 * variances.sum() / training.shape[1]
        # As many rows whatever the number of clips, so that it can be saved and loaded.
        empty = ((0, rows - axes), (0, 0))
        gaussian = cls(
            jnp.asarray(mean),
            jnp.asarray(np.pad(directions[:axes], empty)),
            jnp.asarray(np.pad(np.maximum(variances[:axes], floor), empty[0], constant_values=1.0)),
            jnp.asarray(np.maximum(rest, floor)),
            jnp.asarray(jnp.inf, training.dtype),
        )
        distances = np.asarray(gaussian.distance(jnp.asarray(held_out)))
        threshold = jnp.asarray(np.quantile(distances, quantile))
        return eqx.tree_at(lambda g: g.threshold, gaussian, threshold)

    @classmethod
    def blank(cls, features: int, *, axes: int = 16) -> "Familiarity":
        """Zeros of the shapes that `fit` gives: what a saved one is read into."""
        rows = min(axes, features - 1)
        shapes = ((features,), (rows, features), (rows,), (), ())
        return cls(*(jnp.zeros(shape, jnp.float32) for shape in shapes))

    def distance(self, features: Float[Array, "*batch feature"]) -> Float[Array, "*batch"]:
        """Squared Mahalanobis distance a feature."""
        centred = features - self.mean.reshape((1,) * (features.ndim - 1) + (-1,))
        along = centred @ self.axes.T
        outside = jnp.sum(centred**2, axis=-1) - jnp.sum(along**2, axis=-1)
        scaled = along**2 / self.variances.reshape((1,) * (features.ndim - 1) + (-1,))
        total = jnp.sum(scaled, axis=-1) + jnp.maximum(outside, 0) / self.rest
        return total / features.shape[-1]

    def recognises(self, features: Float[Array, "*batch feature"]) -> Bool[Array, "*batch"]:
        """Whether clips with these features are like the training clips."""
        return self.distance(features) <= self.threshold
