"""Shared parts of the methods for clips: the encoder, its training and its predictions."""

import abc
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias, cast, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from jaxtwin.analysis.familiarity import Familiarity
from jaxtwin.data.loading import Batch
from jaxtwin.data.vitals import USUAL, VITAL_COLUMNS, pick_vitals
from jaxtwin.encoders.base import AbstractEncoder, Clip
from jaxtwin.encoders.create import create_encoder
from jaxtwin.encoders.names import EncoderName
from jaxtwin.methods.base import AbstractTrainedMethod, Estimate, Learnt, Session
from jaxtwin.methods.clips import Clips, ClipTask
from jaxtwin.methods.saving import identity, trained
from jaxtwin.models.ejection import ejection_fraction
from jaxtwin.parameters import Theta
from jaxtwin.physics.channels import Channels
from jaxtwin.physics.solution import Recording
from jaxtwin.training.loop import fit
from jaxtwin.training.precision import check_precision, computing_in
from jaxtwin.training.settings import Precision, TrainingConfig

# Largest random shift of training clips [pixels], which imitates movement of the probe.
LARGEST_SHIFT = 6
Numbers: TypeAlias = Sequence[Float[Array | np.ndarray, "*batch"]]
"""Measured numbers, one array for each name in `ClipTask.measured`."""


class Decoded(NamedTuple):
    """Quantities decoded from the encoder's raw numbers for one clip."""

    theta: Theta | None
    recording: Recording[Channels] | None
    numbers: tuple[Float[Array, ""], ...]


class ClipKnowledge(eqx.Module):
    """Knowledge learnt by a method for clips.

    Attributes:
        encoder: Network from a clip to raw numbers.
        mean: Mean of each measured number over the training clips.
        spread: Standard deviation of each measured number over the training clips.
        familiarity: Model of the training clips' features; None while the encoder is trained.
    """

    encoder: AbstractEncoder
    mean: Float[Array, " number"]
    spread: Float[Array, " number"]
    familiarity: Familiarity | None = None


class AbstractClipMethod(AbstractTrainedMethod[ClipTask, Clips]):
    """A method that trains an encoder of clips.

    Attributes:
        encoder: Name of the network, or a function that makes one from the clips' format, the
            number of raw numbers, and the keyword arguments `beside` and `key`.
        config: Settings of the training.
        weights_seed: Seed for the encoder's initial weights; by default that of `learn`.
        precision: In what the encoder computes the features while it is trained; its head, the
            forward model and the loss compute in float32. What was learnt computes in float32.
    """

    encoder: eqx.AbstractVar[EncoderName | Callable[..., AbstractEncoder]]
    config: eqx.AbstractVar[TrainingConfig]
    weights_seed: eqx.AbstractVar[int | None]
    precision: eqx.AbstractVar[Precision]

    @abc.abstractmethod
    def size(self, task: ClipTask) -> int:
        """Return the number of raw numbers of the encoder, or raise if the task is unsuitable."""

    @abc.abstractmethod
    def decode(
        self, task: ClipTask, knowledge: ClipKnowledge, raw: Float[Array, " raw"]
    ) -> Decoded:
        """Convert the raw numbers of one clip to the measured quantities."""

    @abc.abstractmethod
    def penalty(self, raw: Float[Array, " raw"]) -> Float[Array, ""]:
        """Return a term that is added to the loss of one clip."""

    def prepare(
        self, task: ClipTask, training: Clips, validation: Clips, session: Session
    ) -> Learnt[ClipTask, Clips]:
        """Train the encoder and select it on the validation clips; see `AbstractMethod`."""
        check_precision(self.precision)
        weights = session.seed if self.weights_seed is None else self.weights_seed
        start = self._create(task, jax.random.key(weights))
        knowledge = _with_scales(start, task, training, validation)
        true = [validation.measured()[name] for name in task.measured]

        def objective(encoder: AbstractEncoder, batch: Batch, key: PRNGKeyArray):
            encoder = computing_in(self.precision, encoder, lambda encoder: encoder.head)
            keys = jax.random.split(key, len(batch.clip))
            clips = jax.vmap(shift)(jnp.asarray(batch.clip), keys)
            vitals = jnp.asarray(batch.vitals)
            raw = jax.vmap(lambda c, v: head(encoder, task, encoder.features(c), v))(clips, vitals)
            got = jax.vmap(lambda r: self.decode(task, knowledge, r).numbers)(raw)
            EDV, ESV = jnp.asarray(batch.edv), jnp.asarray(batch.esv)
            beside = pick_vitals(vitals, task.vital_names)
            numbers = (EDV, ESV, ejection_fraction(EDV, ESV), *beside)
            lost = discrepancy(got, numbers, tuple(knowledge.spread))
            return lost + jnp.mean(jax.vmap(self.penalty)(raw))

        def validate(encoder: AbstractEncoder) -> dict[str, float]:
            now = eqx.tree_at(lambda k: k.encoder, knowledge, encoder)
            readings = predict(self, task, now, validation).readings
            got = [readings[name] for name in task.measured]
            errors = {
                f"{name}_error": float(np.abs(a - b).mean())
                for name, a, b in zip(task.measured, got, true, strict=True)
            }
            return {"loss": float(discrepancy(got, true, tuple(knowledge.spread))), **errors}

        fitted = fit(
            knowledge.encoder,
            objective,
            lambda step: training.shuffled(
                self.config.batch_size, session.seed, step, session.mesh
            ),
            validate,
            self.config,
            stage="encoder",
            folder=session.folder,
            description={
                **identity(self, task),
                "clips": [training.digest(), validation.digest()],
            },
            seed=session.seed,
            resume=session.resume,
            mesh=session.mesh,
            progress_bar=session.progress,
        )
        knowledge = eqx.tree_at(lambda k: k.encoder, knowledge, fitted.model)
        features = [predict(self, task, knowledge, c).features for c in (training, validation)]
        familiarity = Familiarity.fit(*(np.asarray(f) for f in features))
        knowledge = ClipKnowledge(knowledge.encoder, knowledge.mean, knowledge.spread, familiarity)
        return trained(self, task, knowledge, fitted)

    def untrained(self, task: ClipTask) -> ClipKnowledge:
        """Build the encoder; see `AbstractTrainedMethod`."""
        start = self._create(task, jax.random.key(0))
        clip = jnp.zeros((task.format.frames, task.format.size, task.format.size), jnp.uint8)
        features = start.encoder.features(clip)
        familiarity = Familiarity.blank(features.shape[0])
        return ClipKnowledge(start.encoder, start.mean, start.spread, familiarity)

    def ready(self, task: ClipTask, knowledge: ClipKnowledge) -> Callable[[Clips], Estimate]:
        """Return the function from clips to an estimate."""
        self.size(task)
        return lambda clips: predict(self, task, knowledge, clips)

    def _create(self, task: ClipTask, key: PRNGKeyArray) -> ClipKnowledge:
        size, beside = self.size(task), len(task.vitals)
        if isinstance(self.encoder, str):
            if self.encoder not in get_args(EncoderName):
                raise ValueError(
                    f"no encoder {self.encoder!r}: choose {' or '.join(get_args(EncoderName))}, or "
                    "pass a function that makes an encoder"
                )
            known = cast(EncoderName, self.encoder)
            encoder = create_encoder(known, task.format, size, beside=beside, key=key)
        else:
            encoder = self.encoder(task.format, size, beside=beside, key=key)
        ones = jnp.ones(len(task.measured), jnp.float32)
        return ClipKnowledge(encoder, 0 * ones, ones)


def _with_scales(
    start: ClipKnowledge, task: ClipTask, training: Clips, validation: Clips
) -> ClipKnowledge:
    """Add the scales of the training clips to the knowledge.

    Raises:
        ValueError: If there are too few clips, or a measured number is the same for all.
    """
    if len(training) < 4 or not len(validation):
        raise ValueError(
            f"{len(training)} TRAIN and {len(validation)} VAL clips: expected at least 4 and 1; "
            "check the Split column, or make a larger cohort"
        )
    numbers = np.stack([training.measured()[name] for name in task.measured])
    spread = numbers.std(axis=1)
    if not (spread > 0).all():
        columns = [*("EDV", "ESV"), *(VITAL_COLUMNS[name] for name in task.vital_names)]
        raise ValueError(
            "all TRAIN clips have the same volumes or vitals: there is nothing to learn; check the "
            f"columns {', '.join(columns)}"
        )
    return ClipKnowledge(start.encoder, jnp.asarray(numbers.mean(axis=1)), jnp.asarray(spread))


def head(
    encoder: AbstractEncoder,
    task: ClipTask,
    features: Float[Array, " feature"],
    vitals: Float[Array, " vital"],
) -> Float[Array, " raw"]:
    """Apply an encoder's head to its features and the task's vitals, scaled by usual values."""
    if not task.vitals:
        return encoder.head(features)
    picked = pick_vitals(vitals, task.vital_names)
    usual = [USUAL[name] for name in task.vital_names]
    beside = [(v - mean) / spread for v, (mean, spread) in zip(picked, usual, strict=True)]
    return encoder.head(jnp.concatenate([features, jnp.stack(beside)]))


def discrepancy(
    got: Numbers, true: Numbers, spread: Sequence[Float[Array, ""]]
) -> Float[Array, ""]:
    """Compute the Huber loss between estimated and measured numbers, divided by their spread.

    Args:
        got: Estimated numbers, [clip] each.
        true: Measured numbers, [clip] each.
        spread: Standard deviation of each number over the training clips.
    """
    errors = [(a - b) / s for a, b, s in zip(got, true, spread, strict=True)]
    # Quadratic within a quarter of the spread, the target error; linear for outliers beyond it.
    size = jnp.abs(jnp.stack([jnp.asarray(error) for error in errors]))
    knee = 0.25
    return jnp.mean(jnp.where(size < knee, size**2 / (2 * knee), size - knee / 2))


def shift(clip: Clip, key: PRNGKeyArray) -> Clip:
    """Shift a clip by a random number of pixels and fill the border with black."""
    margin = ((0, 0), (LARGEST_SHIFT, LARGEST_SHIFT), (LARGEST_SHIFT, LARGEST_SHIFT))
    rows, columns = jax.random.randint(key, (2,), 0, 2 * LARGEST_SHIFT + 1)
    return jax.lax.dynamic_slice(jnp.pad(clip, margin), (0, rows, columns), clip.shape)


def predict(
    method: AbstractClipMethod, task: ClipTask, knowledge: ClipKnowledge, clips: Clips
) -> Estimate:
    """Estimate clips from the learnt knowledge, in batches."""
    parts = [_predict(method, task, knowledge, b.clip, b.vitals) for b in clips.ordered()]
    decoded, features = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
    success = np.asarray(np.isfinite(np.stack(decoded.numbers)).all(axis=0))
    readings = dict(zip(task.measured, decoded.numbers, strict=True))
    return Estimate(decoded.recording, decoded.theta, success, readings, features=features)


@eqx.filter_jit
def _predict(
    method: AbstractClipMethod, task: ClipTask, knowledge: ClipKnowledge, clips: Any, vitals: Any
) -> tuple[Decoded, Float[Array, "clip feature"]]:
    def one(clip, vitals):
        features = knowledge.encoder.features(clip)
        raw = head(knowledge.encoder, task, features, vitals)
        return method.decode(task, knowledge, raw), features

    return jax.vmap(one)(clips, vitals)
