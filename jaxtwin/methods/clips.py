"""Methods that see clips: what they have in common, and how they are trained."""

import abc
import dataclasses
from collections.abc import Mapping, Sequence
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
from jaxtwin.data.vitals import (
    USUAL,
    VITAL_COLUMNS,
    VitalName,
    Vitals,
    check_vitals,
    pick_vitals,
)
from jaxtwin.encoders.base import AbstractEncoder, Clip
from jaxtwin.methods.base import Sees
from jaxtwin.parameters import Theta
from jaxtwin.training.loop import Fitted, TrainingConfig, fit

if TYPE_CHECKING:
    from typing import ClassVar as AbstractClassVar
else:
    from equinox import AbstractClassVar

# Training clips are moved by up to so many pixels, as a probe is.
LARGEST_SHIFT = 6


Values: TypeAlias = Float[Array | np.ndarray, "*batch"]


class Measured(NamedTuple):
    """What clinicians read off a clip and measure beside it, or the spread of it over many."""

    EDV: Values
    """End-diastolic volume [mL]."""
    ESV: Values
    """End-systolic volume [mL]."""
    EF: Values
    """Ejection fraction [%]."""
    vitals: tuple[Values, ...] = ()
    """Those of the model's `vitals`, in its order."""


def measured(EDV: Values, ESV: Values, vitals: Sequence[Values] = ()) -> Measured:
    """The measurement from its two volumes [mL] and vitals."""
    return Measured(EDV, ESV, 100 * (EDV - ESV) / EDV, tuple(vitals))


class Predictions(NamedTuple):
    """What a trained model says of some clips, in their order; θ is None where it has none."""

    theta: Float[np.ndarray, "clip free"] | None
    EDV: Float[np.ndarray, " clip"]
    ESV: Float[np.ndarray, " clip"]
    EF: Float[np.ndarray, " clip"]
    features: Float[np.ndarray, "clip feature"]
    vitals: tuple[Float[np.ndarray, " clip"], ...]


class AbstractClipModel(eqx.Module):
    """A network on clips, and what is made of the numbers it gives.

    Attributes:
        encoder: Clip → raw numbers; the part that is trained.
        format: The clips that the encoder takes.
        name: Which encoder it is.
        vitals: Measured beside each clip: the encoder is given them, and the loss compares them.
        familiarity: Of clips; None before training is over.
    """

    sees: AbstractClassVar[Sees]
    encoder: eqx.AbstractVar[AbstractEncoder]
    format: eqx.AbstractVar[ClipFormat]
    name: eqx.AbstractVar[str]
    vitals: eqx.AbstractVar[tuple[VitalName, ...]]
    familiarity: eqx.AbstractVar[Familiarity | None]

    def head(
        self, features: Float[Array, " feature"], vitals: Float[Array, " vital"]
    ) -> Float[Array, " raw"]:
        """The encoder's numbers from its features and the fields of `Vitals`."""
        if not self.vitals:
            return self.encoder.head(features)
        usual = [USUAL[name] for name in self.vitals]
        beside = [
            (value - mean) / spread
            for value, (mean, spread) in zip(pick_vitals(vitals, self.vitals), usual, strict=True)
        ]
        return self.encoder.head(jnp.concatenate([features, jnp.stack(beside)]))

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
    leaves = [jax.tree.leaves(numbers) for numbers in (got, true, spread)]
    errors = [(a - b) / s for a, b, s in zip(*leaves, strict=True)]
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
def _predict(model: AbstractClipModel, clips: Array, vitals: Array):
    features = jax.vmap(model.encoder.features)(clips)
    theta, numbers = jax.vmap(model.answer)(jax.vmap(model.head)(features, vitals))
    return theta, numbers.EDV, numbers.ESV, numbers.EF, features, numbers.vitals


def predict(
    model: AbstractClipModel,
    clips: UInt8[np.ndarray, "clip frames size size"],
    vitals: Float[np.ndarray, "clip vital"] | None = None,
) -> Predictions:
    """Apply a model to clips in memory.

    Args:
        model: Trained.
        clips: In its format.
        vitals: The fields of `Vitals` for each clip; only models with `vitals` need them.

    Raises:
        ValueError: If the model needs a vital that is not given.
    """
    if vitals is None:
        vitals = np.full((len(clips), len(Vitals._fields)), np.nan, np.float32)
    check_vitals(vitals, model.vitals)
    vitals = np.asarray(vitals, np.float32)
    got = _predict(model, jnp.asarray(clips), jnp.asarray(vitals))
    return Predictions(*jax.tree.map(np.asarray, got))


def predict_cached(
    model: AbstractClipModel,
    cache: ClipCache,
    indices: Int[np.ndarray, " clip"],
    batch_size: int = 32,
) -> Predictions:
    """Apply a model to clips of a cache, in the order of `indices`."""
    parts = [predict(model, b.clip, b.vitals) for b in ordered_batches(cache, indices, batch_size)]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def cached_measurements(
    cache: ClipCache, indices: Int[np.ndarray, " clip"], vitals: Sequence[VitalName] = ()
) -> Measured:
    """What was measured on clips of a cache, in the order of `indices`."""
    records = [cache.records[i] for i in indices]
    EDV = np.array([record.edv for record in records], np.float32)
    ESV = np.array([record.esv for record in records], np.float32)
    beside = np.array([record.vitals for record in records], np.float32)
    return measured(EDV, ESV, pick_vitals(beside, vitals))


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
        ValueError: If a split has too few clips, a clip has none of the vitals that the model
            needs, or all volumes are the same.
    """
    training, validation = cache.split("TRAIN"), cache.split("VAL")
    if len(training) < 4 or not len(validation):
        raise ValueError(
            f"{len(training)} TRAIN and {len(validation)} VAL clips: expected at least 4 and 1; "
            "check the Split column, or make a larger cohort"
        )
    for split in (training, validation):
        beside = [cache.records[i].vitals for i in split]
        check_vitals(np.array(beside, np.float32), model.vitals)
    spread = jax.tree.map(jnp.std, cached_measurements(cache, training, model.vitals))
    if not all(s > 0 for s in jax.tree.leaves(spread)):
        raise ValueError(
            "all TRAIN clips have the same volumes or vitals: there is nothing to learn; check the "
            f"columns {', '.join(['EDV', 'ESV', *(VITAL_COLUMNS[v] for v in model.vitals)])}"
        )
    true = cached_measurements(cache, validation, model.vitals)

    def objective(encoder: AbstractEncoder, batch: Batch, key: PRNGKeyArray):
        keys = jax.random.split(key, len(batch.clip))
        clips = jax.vmap(shift)(jnp.asarray(batch.clip), keys)
        vitals = jnp.asarray(batch.vitals)
        learner = dataclasses.replace(model, encoder=encoder)
        raw = jax.vmap(learner.head)(jax.vmap(encoder.features)(clips), vitals)
        _, got = jax.vmap(model.answer)(raw)
        edv, esv = jnp.asarray(batch.edv), jnp.asarray(batch.esv)
        true = measured(edv, esv, pick_vitals(vitals, model.vitals))
        return discrepancy(got, true, spread) + jnp.mean(jax.vmap(model.penalty)(raw))

    def validate(encoder: AbstractEncoder) -> dict[str, float]:
        got = predict_cached(dataclasses.replace(model, encoder=encoder), cache, validation)
        numbers = Measured(got.EDV, got.ESV, got.EF, got.vitals)
        names = ("EDV", "ESV", "EF", *model.vitals)
        pairs = zip(names, jax.tree.leaves(numbers), jax.tree.leaves(true), strict=True)
        errors = {f"{name}_error": float(np.abs(a - b).mean()) for name, a, b in pairs}
        return {"loss": float(discrepancy(numbers, true, spread)), **errors}

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
