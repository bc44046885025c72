"""Training of the segmentation network on frames with label maps."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray, UInt8

from jaxtwin.data.simpson import CAVITY
from jaxtwin.imaging.augmentation import augment
from jaxtwin.imaging.network import LABELS, SegmentationNetwork
from jaxtwin.training.loop import Fitted, TrainingConfig, epochs, fit

_TOGETHER = 32
"""Number of frames that are labelled together outside training."""


class Examples(NamedTuple):
    """Frames to learn from.

    Attributes:
        frames: Each frame with its context, see `segmenter.with_context`.
        labels: Label map of the frame, as in `data.phantom.masks`.
    """

    frames: UInt8[np.ndarray, "example channel height width"]
    labels: UInt8[np.ndarray, "example height width"]


def dice(
    found: UInt8[np.ndarray, "*batch height width"],
    true: UInt8[np.ndarray, "*batch height width"],
    label: int = CAVITY,
) -> Float[np.ndarray, "*batch"]:
    """Return the Dice coefficient of one label in each map; 1 where neither map has it.

    Dice, "Measures of the amount of ecologic association between species", Ecology 26(3), 1945.
    """
    a, b = found == label, true == label
    both = np.sum(a & b, axis=(-2, -1))
    total = np.sum(a, axis=(-2, -1)) + np.sum(b, axis=(-2, -1))
    return np.where(total > 0, 2 * both / np.maximum(total, 1), 1.0)


def train_segmentation(
    network: SegmentationNetwork,
    training: Examples,
    validation: Examples,
    config: TrainingConfig,
    *,
    folder: Path | None,
    seed: int,
    resume: bool,
) -> Fitted[SegmentationNetwork]:
    """Train the network on augmented frames; see `training.fit` for the arguments."""

    def loss(
        network: SegmentationNetwork,
        batch: tuple[
            UInt8[Array, "batch channel height width"], UInt8[Array, "batch height width"]
        ],
        key: PRNGKeyArray,
    ) -> Float[Array, ""]:
        keys = jax.random.split(key, len(batch[0]))
        frames, labels = jax.vmap(lambda x, y, key: augment(x, y, key=key))(*batch, keys)
        return jnp.mean(jax.vmap(segmentation_loss)(jax.vmap(network)(frames), labels))

    def batches(step: int) -> Iterator[tuple[Array, Array]]:
        for rows in epochs(len(training.labels), config.batch_size, seed=seed, start_step=step):
            yield jnp.asarray(training.frames[rows]), jnp.asarray(training.labels[rows])

    def validate(network: SegmentationNetwork) -> dict[str, float]:
        found = label(network, validation.frames)
        scores = dice(found, validation.labels)
        return {"loss": float(1 - scores.mean()), "dice": float(scores.mean())}

    return fit(
        network,
        loss,
        batches,
        validate,
        config,
        stage="segmentation",
        folder=folder,
        description={
            "widths": network.widths,
            "examples": [
                hashlib.sha256(part.labels.tobytes()).hexdigest()[:16]
                for part in (training, validation)
            ],
        },
        seed=seed,
        resume=resume,
    )


def segmentation_loss(
    logits: Float[Array, "height width label"], labels: UInt8[Array, "height width"]
) -> Float[Array, ""]:
    """Return the cross-entropy of all labels plus the soft Dice loss of each chamber."""
    entropy = jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))
    share = jax.nn.softmax(logits)[..., 1:]
    truth = jax.nn.one_hot(labels, LABELS)[..., 1:]
    both = jnp.sum(share * truth, axis=(0, 1))
    total = jnp.sum(share + truth, axis=(0, 1))
    # A chamber that is not in the picture has no Dice coefficient; a few pixels settle it.
    return entropy + 0.5 * jnp.mean(1 - (2 * both + 10) / (total + 10))


@eqx.filter_jit
def _logits(
    network: SegmentationNetwork, frames: UInt8[Array, "batch channel height width"]
) -> Float[Array, "batch height width label"]:
    return jax.vmap(network)(frames.astype(jnp.float32) / 255)


def label(
    network: SegmentationNetwork, frames: UInt8[np.ndarray, "example channel height width"]
) -> UInt8[np.ndarray, "example height width"]:
    """Return the most probable label of every pixel."""
    return np.argmax(probabilities(network, frames), axis=-1).astype(np.uint8)


def probabilities(
    network: SegmentationNetwork, frames: UInt8[np.ndarray, "example channel height width"]
) -> Float[np.ndarray, "example height width label"]:
    """Return the probability of every label in every pixel."""
    found = []
    for start in range(0, len(frames), _TOGETHER):
        some = frames[start : start + _TOGETHER]
        # Padded, so that one compilation serves any number of frames.
        padded = np.resize(some, (_TOGETHER, *some.shape[1:]))
        logits = _logits(network, jnp.asarray(padded))[: len(some)]
        found.append(np.asarray(jax.nn.softmax(logits)))
    return np.concatenate(found)
