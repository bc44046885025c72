"""Methods that see clips: what they have in common, and how they are trained."""

import abc
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt8

from jaxtwin.analysis.familiarity import Familiarity
from jaxtwin.data.base import ClipFormat
from jaxtwin.data.cache import ClipCache
from jaxtwin.data.loading import Batch, batches, ordered_batches
from jaxtwin.encoder import AbstractEncoder, Clip, EncoderName
from jaxtwin.methods.base import Sees
from jaxtwin.parameters import Theta
from jaxtwin.training import Fitted, TrainingConfig, fit

if TYPE_CHECKING:
    from typing import ClassVar as AbstractClassVar
else:
    from equinox import AbstractClassVar

# Training clips are moved by up to so many pixels, as a probe is.
LARGEST_SHIFT = 6


Values: TypeAlias = Float[Array | np.ndarray, "*batch"]


class Measured(NamedTuple):
    """What clinicians read off a clip, or the spread of it over many."""

    EDV: Values
    """End-diastolic volume [mL]."""
    ESV: Values
    """End-systolic volume [mL]."""
    EF: Values
    """Ejection fraction [%]."""


def measured(EDV: Values, ESV: Values) -> Measured:
    """The measurement from its two volumes [mL]."""
    return Measured(EDV, ESV, 100 * (EDV - ESV) / EDV)


class Predictions(NamedTuple):
    """What a trained model says of some clips, in their order; θ is None where it has none."""

    theta: Float[np.ndarray, "clip free"] | None
    EDV: Float[np.ndarray, " clip"]
    ESV: Float[np.ndarray, " clip"]
    EF: Float[np.ndarray, " clip"]
    features: Float[np.ndarray, "clip feature"]


class AbstractClipModel(eqx.Module):
    """A network on clips, and what is made of the numbers it gives.

    Attributes:
        encoder: Clip → raw numbers; the part that is trained.
        format: The clips that the encoder takes.
        name: Which encoder it is.
        familiarity: Of clips; None before training is over.
    """

    sees: AbstractClassVar[Sees]
    encoder: eqx.AbstractVar[AbstractEncoder]
    format: eqx.AbstractVar[ClipFormat]
    name: eqx.AbstractVar[EncoderName]
    familiarity: eqx.AbstractVar[Familiarity | None]

    @abc.abstractmethod
    def answer(self, raw: Float[Array, " raw"]) -> tuple[Theta | None, Measured]:
        """θ, if the method has one, and the measurement it expects, from the encoder's numbers."""

    @abc.abstractmethod
    def penalty(self, raw: Float[Array, " raw"]) -> Float[Array, ""]:
        """What is added to the loss of one clip."""

    @abc.abstractmethod
    def description(self) -> dict[str, Any]:
        """What it was made with, as JSON allows it; training of another is not resumed."""


Model = TypeVar("Model", bound=AbstractClipModel)


def discrepancy(got: Measured, true: Measured, spread: Measured) -> Float[Array, ""]:
    """Huber loss between two measurements of each clip, every number over its spread.

    Args:
        got: Emulated.
        true: Measured.
        spread: Standard deviation of each number over the training clips.
    """
    errors = [(a - b) / s for a, b, s in zip(got, true, spread, strict=True)]
    # Quadratic within a quarter of the spread, the error aimed at; beyond, outliers count less.
    size = jnp.abs(jnp.stack([jnp.asarray(error) for error in errors]))
    knee = 0.25
    return jnp.mean(jnp.where(size < knee, size**2 / (2 * knee), size - knee / 2))


def shift(clip: Clip, key: PRNGKeyArray) -> Clip:
    """Move a clip by a random number of pixels; black comes in from the border."""
    margin = ((0, 0), (LARGEST_SHIFT, LARGEST_SHIFT), (LARGEST_SHIFT, LARGEST_SHIFT))
    rows, columns = jax.random.randint(key, (2,), 0, 2 * LARGEST_SHIFT + 1)
    return jax.lax.dynamic_slice(jnp.pad(clip, margin), (0, rows, columns), clip.shape)


@eqx.filter_jit
def _predict(model: AbstractClipModel, clips: Array):
    features = jax.vmap(model.encoder.features)(clips)
    theta, numbers = jax.vmap(model.answer)(jax.vmap(model.encoder.head)(features))
    return theta, *numbers, features


def predict(
    model: AbstractClipModel, clips: UInt8[np.ndarray, "clip frames size size"]
) -> Predictions:
    """Apply a model to clips in memory."""
    return Predictions(*jax.tree.map(np.asarray, _predict(model, jnp.asarray(clips))))


def predict_cached(
    model: AbstractClipModel,
    cache: ClipCache,
    indices: Int[np.ndarray, " clip"],
    batch_size: int = 32,
) -> Predictions:
    """Apply a model to clips of a cache, in the order of `indices`."""
    parts = [predict(model, b.clip) for b in ordered_batches(cache, indices, batch_size)]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def cached_measurements(cache: ClipCache, indices: Int[np.ndarray, " clip"]) -> Measured:
    """What was measured on clips of a cache, in the order of `indices`."""
    records = [cache.records[i] for i in indices]
    EDV = np.array([record.edv for record in records], np.float32)
    ESV = np.array([record.esv for record in records], np.float32)
    return measured(EDV, ESV)


def train_on_clips(
    model: Model,
    cache: ClipCache,
    config: TrainingConfig,
    *,
    folder: Path,
    description: Mapping[str, Any],
    seed: int,
    resume: bool,
) -> Fitted[Model]:
    """Train a model's encoder on the cache's TRAIN clips, selected on its VAL clips.

    See `training.fit` for the other arguments.

    Raises:
        ValueError: If a split has too few clips, or all volumes are the same.
    """
    training, validation = cache.split("TRAIN"), cache.split("VAL")
    if len(training) < 4 or not len(validation):
        raise ValueError(
            f"{len(training)} TRAIN and {len(validation)} VAL clips: expected at least 4 and 1; "
            "check the Split column, or make a larger cohort"
        )
    spread = Measured(*(jnp.std(x) for x in cached_measurements(cache, training)))
    if not all(s > 0 for s in spread):
        raise ValueError(
            "all TRAIN clips have the same volumes: there is nothing to learn; check the EDV and "
            "ESV columns"
        )
    true = cached_measurements(cache, validation)

    def objective(encoder: AbstractEncoder, batch: Batch, key: PRNGKeyArray):
        keys = jax.random.split(key, len(batch.clip))
        clips = jax.vmap(shift)(jnp.asarray(batch.clip), keys)
        raw = jax.vmap(encoder)(clips)
        _, got = jax.vmap(model.answer)(raw)
        true = measured(jnp.asarray(batch.edv), jnp.asarray(batch.esv))
        return discrepancy(got, true, spread) + jnp.mean(jax.vmap(model.penalty)(raw))

    def validate(encoder: AbstractEncoder) -> dict[str, float]:
        got = predict_cached(dataclasses.replace(model, encoder=encoder), cache, validation)
        return {
            "loss": float(discrepancy(Measured(got.EDV, got.ESV, got.EF), true, spread)),
            "EDV_error": float(np.abs(got.EDV - true.EDV).mean()),
            "ESV_error": float(np.abs(got.ESV - true.ESV).mean()),
            "EF_error": float(np.abs(got.EF - true.EF).mean()),
        }

    fitted = fit(
        model.encoder,
        objective,
        lambda step: batches(cache, training, config.batch_size, seed, step),
        validate,
        config,
        stage="encoder",
        folder=folder,
        description={**description, **model.description(), "clips": len(cache.records)},
        seed=seed,
        resume=resume,
    )
    trained = dataclasses.replace(model, encoder=fitted.model)
    familiarity = Familiarity.fit(
        predict_cached(trained, cache, training).features,
        predict_cached(trained, cache, validation).features,
    )
    trained = dataclasses.replace(trained, familiarity=familiarity)
    return fitted.of(trained)
