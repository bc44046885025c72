"""Is the heart shown upright? A small network that recognises turned and mirrored pictures.

It is trained without labels: pictures of upright hearts are turned and mirrored at random, and the
network says how (Gidaris, Singh and Komodakis, "Unsupervised representation learning by predicting
image rotations", ICLR 2018).
"""

import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, PRNGKeyArray, UInt8

from jaxtwin.encoders.base import convolve2d, he_kernel, layer_norm
from jaxtwin.imaging.augmentation import augment
from jaxtwin.physics.compilation import compiled
from jaxtwin.training.loop import Fitted, TrainingConfig, epochs, fit
from jaxtwin.training.muon import muon_optimiser
from jaxtwin.training.precision import check_precision, computing_in
from jaxtwin.training.settings import Precision

MIRRORED = 4
WAYS = 8  # four quarter turns, each mirrored or not; 0 is upright
# The way in which the mirrored picture of each is shown: turned the other way round.
EXCHANGED = np.array([4, 7, 6, 5, 0, 3, 2, 1])
PICTURES = 3  # darkest, mean and brightest picture of a clip
# How often each is shown in training: mirrored hearts are the hardest to tell from upright ones.
SHOWN = np.array([6, 1, 1, 1, 6, 1, 1, 1]) / 18
SIDE = 56  # [pixels]
WIDTHS = (24, 32, 48, 64)


class OrientationNetwork(eqx.Module):
    """The network: a clip's darkest, mean and brightest picture to the logits of `WAYS`.

    It looks at them and at their mirror images, and the mirrored picture of a clip gets the same
    logits in another order, so left and right need not be learnt one by one.
    """

    kernels: tuple[Float[Array, "3 3 channel out"], ...]
    scales: tuple[Float[Array, " out"], ...]
    head: eqx.nn.Linear

    def __init__(self, *, key: PRNGKeyArray):
        *keys, last = jax.random.split(key, len(WIDTHS) + 1)
        channels = (PICTURES, *WIDTHS[:-1])
        self.kernels = tuple(
            he_kernel((3, 3, a, b), key) for a, b, key in zip(channels, WIDTHS, keys, strict=True)
        )
        self.scales = tuple(jnp.ones(b, jnp.float32) for b in WIDTHS)
        # Where things are matters, so the last map is not averaged.
        self.head = eqx.nn.Linear(16 * WIDTHS[-1], WAYS, dtype=jnp.float32, key=last)

    def __call__(self, pictures: Float[Array, "picture height width"]) -> Float[Array, " way"]:
        """Return the logits of the ways in which the pictures, `SIDE` × `SIDE`, may be shown."""
        x = pictures - jnp.mean(pictures)
        x = x * jax.lax.rsqrt(jnp.mean(x**2) + 1e-6)
        return (self._logits(x) + self._logits(x[:, :, ::-1])[EXCHANGED]) / 2

    def _logits(self, x: Float[Array, "picture height width"]) -> Float[Array, " way"]:
        x = jnp.moveaxis(x, 0, -1).astype(self.kernels[0].dtype)
        for kernel, scale in zip(self.kernels, self.scales, strict=True):
            x = jax.nn.gelu(layer_norm(convolve2d(x[None], kernel, 2)[0], scale))
        return self.head(x.ravel())


def _shown(
    pictures: Float[Array, "picture height width"], way: Array
) -> Float[Array, "picture height width"]:
    """Return the pictures turned by `way` modulo 4 quarters, and mirrored if `way` is over 3."""
    x = jnp.where(way >= 4, pictures[:, :, ::-1], pictures)
    turns = [jnp.rot90(x, k, axes=(1, 2)) for k in range(4)]
    return jnp.select([way % 4 == k for k in range(4)], turns)


def train_orientation(
    network: OrientationNetwork,
    training: UInt8[np.ndarray, "clip picture rows columns"],
    validation: UInt8[np.ndarray, "other picture rows columns"],
    config: TrainingConfig,
    *,
    folder: Path | None,
    seed: int,
    resume: bool,
    mesh: Mesh | None = None,
    precision: Precision = "float32",
) -> Fitted[OrientationNetwork]:
    """Train the network on turned and mirrored pictures; see `training.fit` for the arguments.

    Args:
        network: The untrained network.
        training: Darkest, mean and brightest picture of each clip, most of them upright.
        validation: The same of other clips.
        config: Settings of the training.
        folder: Folder for checkpoints and log.
        seed: Seed for order, augmentation and orientations.
        resume: Whether to continue from a saved state.
        mesh: Devices over which batches are spread.
        precision: In what the convolutions compute.
    """
    check_precision(precision)
    training, validation = _small(training), _small(validation)

    def loss(network: OrientationNetwork, batch: Array, key: PRNGKeyArray) -> Float[Array, ""]:
        network = computing_in(precision, network, lambda network: network.head)

        def one(pictures: Array, key: PRNGKeyArray) -> Float[Array, ""]:
            first, second = jax.random.split(key)
            blank = jnp.zeros(pictures.shape[1:], jnp.uint8)
            grey, _ = augment(pictures, blank, key=first, mirrored=0.0)
            way = jax.random.choice(second, WAYS, (), p=jnp.asarray(SHOWN))
            return -jax.nn.log_softmax(network(_shown(grey, way)))[way]

        return jnp.mean(jax.vmap(one)(batch, jax.random.split(key, len(batch))))

    def batches(step: int) -> Iterator[Array]:
        for rows in epochs(len(training), config.batch_size, seed=seed, start_step=step):
            yield jnp.asarray(training[rows])

    validation = np.repeat(validation, 2, axis=0)
    ways = np.where(np.arange(len(validation)) % 2, MIRRORED, 0)

    @eqx.filter_jit
    def logits(network: OrientationNetwork) -> Float[Array, "clip way"]:
        shown = jax.vmap(_shown)(jnp.asarray(validation, jnp.float32) / 255, jnp.asarray(ways))
        return jax.nn.log_softmax(jax.vmap(network)(shown))

    def validate(network: OrientationNetwork) -> dict[str, float]:
        got = np.asarray(logits(network))
        right = np.mean(got.argmax(axis=1) == ways)
        return {
            "loss": float(-got[np.arange(len(ways)), ways].mean()),
            "accuracy": float(right),
        }

    digest = [hashlib.sha256(part.tobytes()).hexdigest()[:16] for part in (training, validation)]
    return fit(
        network,
        loss,
        batches,
        validate,
        config,
        stage="orientation",
        folder=folder,
        description={"pictures": digest, "precision": precision},
        seed=seed,
        resume=resume,
        mesh=mesh,
        optimiser=muon_optimiser,
    )


def _small(
    pictures: UInt8[np.ndarray, "*clip picture rows columns"],
) -> UInt8[np.ndarray, "*clip picture height width"]:
    """Return pictures of `SIDE` × `SIDE` pixels, the means of squares."""
    *before, rows, columns = pictures.shape
    split = pictures.reshape(*before, SIDE, rows // SIDE, SIDE, columns // SIDE)
    return np.rint(split.mean(axis=(-3, -1))).astype(np.uint8)


def ways_shown(
    network: OrientationNetwork, pictures: UInt8[np.ndarray, "picture rows columns"]
) -> Float[np.ndarray, " way"]:
    """Return the logarithm of the probability of each way in which pictures may be shown.

    The first is upright, the next three turned by quarters, the last four the same mirrored.
    """
    return np.asarray(_ways(network, _small(pictures)), float)


@functools.partial(compiled, size=lambda network, pictures: pictures.size)
def _ways(
    network: OrientationNetwork, pictures: UInt8[Array, "picture height width"]
) -> Float[Array, " way"]:
    return jax.nn.log_softmax(network(pictures.astype(jnp.float32) / 255))
