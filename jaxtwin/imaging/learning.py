"""Training of the segmentation network on frames with label maps."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, PRNGKeyArray, UInt8

from jaxtwin.data.simpson import CAVITY, NOT_CAVITY, UNKNOWN
from jaxtwin.imaging.augmentation import augment
from jaxtwin.imaging.network import LABELS, SegmentationNetwork
from jaxtwin.training.loop import Fitted, TrainingConfig, epochs, fit
from jaxtwin.training.muon import muon_optimiser
from jaxtwin.training.precision import check_precision, computing_in
from jaxtwin.training.settings import Precision

_TOGETHER = 16
"""Number of frames that are labelled together outside training."""


class Examples(NamedTuple):
    """Frames to learn from.

    Attributes:
        frames: Each frame with its context, see `segmenter.with_context`.
        labels: Label map of the frame, as in `data.phantom.masks`. Where only the cavity was
            traced, a pixel may be `NOT_CAVITY` or `UNKNOWN`, see `data.simpson`.
    """

    frames: UInt8[np.ndarray, "example channel height width"]
    labels: UInt8[np.ndarray, "example height width"]


def joined(*parts: Examples) -> Examples:
    """Return the frames of several data sets as one."""
    return Examples(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def dice(
    found: UInt8[np.ndarray, "*batch height width"],
    true: UInt8[np.ndarray, "*batch height width"],
    label: int = CAVITY,
) -> Float[np.ndarray, "*batch"]:
    """Return the Dice coefficient of one label in each map; 1 where neither map has it.

    Pixels of which the true map does not say whether they have the label are left out.

    Dice, "Measures of the amount of ecologic association between species", Ecology 26(3), 1945.
    """
    known = (true != UNKNOWN) & ((true != NOT_CAVITY) | (label == CAVITY))
    a, b = (found == label) & known, true == label
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
    mesh: Mesh | None = None,
    precision: Precision = "float32",
) -> Fitted[SegmentationNetwork]:
    """Train the network on augmented frames; see `training.fit` for the arguments.

    All but the last layer computes in the given precision.
    """
    check_precision(precision)

    def loss(
        network: SegmentationNetwork,
        batch: tuple[
            UInt8[Array, "batch channel height width"], UInt8[Array, "batch height width"]
        ],
        key: PRNGKeyArray,
    ) -> Float[Array, ""]:
        network = computing_in(precision, network, lambda network: (network.head, network.offset))
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
            "precision": precision,
            "examples": [
                hashlib.sha256(part.labels.tobytes()).hexdigest()[:16]
                for part in (training, validation)
            ],
        },
        seed=seed,
        resume=resume,
        mesh=mesh,
        optimiser=muon_optimiser,
    )


def segmentation_loss(
    logits: Float[Array, "height width label"], labels: UInt8[Array, "height width"]
) -> Float[Array, ""]:
    """Return the cross-entropy of all labels plus the soft Dice loss of each chamber.

    Half of the Dice loss is the cavity's, whose volume is what is wanted: a small cavity has few
    pixels in the cross-entropy.

    A pixel that is `NOT_CAVITY` has the probability of all other labels together: −log(1 − p) with
    the probability p of the cavity. It counts in the Dice loss of the cavity alone. A pixel that is
    `UNKNOWN` does not count.
    """
    named, known = labels < LABELS, labels != UNKNOWN
    logs = jax.nn.log_softmax(logits)
    of_label = jnp.take_along_axis(logs, jnp.where(named, labels, 0)[..., None], axis=-1)[..., 0]
    of_others = jax.nn.logsumexp(jnp.delete(logs, CAVITY, axis=-1), axis=-1)
    log_likelihood = jnp.where(named, of_label, jnp.where(known, of_others, 0.0))
    entropy = -jnp.sum(log_likelihood) / jnp.maximum(jnp.sum(known), 1)
    counts = jnp.stack([known if k == CAVITY else named for k in range(1, LABELS)], axis=-1)
    share = jax.nn.softmax(logits)[..., 1:] * counts
    truth = jax.nn.one_hot(labels, LABELS)[..., 1:]
    both = jnp.sum(share * truth, axis=(0, 1))
    total = jnp.sum(share + truth, axis=(0, 1))
    # A chamber that is not in the picture has no Dice coefficient; a few pixels settle it.
    missed = 1 - (2 * both + 10) / (total + 10)
    return entropy + 0.5 * missed[CAVITY - 1] + 0.25 * jnp.sum(missed[CAVITY:])


@eqx.filter_jit
def _probabilities(
    network: SegmentationNetwork, frames: UInt8[Array | np.ndarray, "batch channel height width"]
) -> Float[Array, "batch height width label"]:
    return jax.nn.softmax(jax.vmap(network)(jnp.asarray(frames, jnp.float32) / 255))


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
        found.append(np.asarray(_probabilities(network, padded))[: len(some)])
    return np.concatenate(found)
