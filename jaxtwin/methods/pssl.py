"""Physics-informed self-supervised learning: an encoder learnt through a frozen emulator.

Kuang, Dean, Jedlicki, Ouyang, Philippakis, Sontag and Alaa, "Med-Real2Sim: Non-Invasive Medical
Digital Twins using Physics-Informed Self-Supervised Learning", NeurIPS 2024. The encoder gives
the circuit's parameters of a clip's patient; the emulator turns them into volumes; only those
are compared with what was measured. No parameter is ever shown to the encoder.
"""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt8

from jaxtwin import checkpoint
from jaxtwin.analysis.familiarity import Familiarity
from jaxtwin.data.base import ClipFormat
from jaxtwin.data.cache import ClipCache
from jaxtwin.data.loading import Batch, batches, ordered_batches
from jaxtwin.emulator import Emulator
from jaxtwin.encoder import AbstractEncoder, Clip, EncoderName, create_encoder
from jaxtwin.parameters import Box, Theta
from jaxtwin.training import Fitted, TrainingConfig, fit

# Volumes leave directions of θ open. There this pull towards the middle of the box decides,
# too weak to be seen where the volumes have a say.
PRIOR_WEIGHT = 1e-3
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
    """What a trained encoder says of some clips, in their order."""

    theta: Float[np.ndarray, "clip free"]
    EDV: Float[np.ndarray, " clip"]
    ESV: Float[np.ndarray, " clip"]
    EF: Float[np.ndarray, " clip"]
    features: Float[np.ndarray, "clip feature"]


class PSSL(eqx.Module):
    """An encoder with the emulator that it is trained through.

    Attributes:
        encoder: Clip → raw θ.
        emulator: θ → volumes and waveforms; its box bounds θ. Never trained here.
        format: The clips that the encoder takes.
        name: Which encoder it is.
        familiarity: Of clips; None before training is over.
    """

    encoder: AbstractEncoder
    emulator: Emulator
    format: ClipFormat = eqx.field(static=True)
    name: EncoderName = eqx.field(static=True)
    familiarity: Familiarity | None = None

    @property
    def box(self) -> Box:
        """Where θ is sought."""
        return self.emulator.box

    def theta(self, clip: Clip) -> Theta:
        """The free parameters of one clip's patient."""
        return self.box.bound(self.encoder(clip))


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
def _predict(model: PSSL, clips: Array):
    features = jax.vmap(model.encoder.features)(clips)
    theta = model.box.bound(jax.vmap(model.encoder.head)(features))
    EDV, ESV = jax.vmap(model.emulator.volumes)(theta)
    return theta, *measured(EDV, ESV), features


def predict(model: PSSL, clips: UInt8[np.ndarray, "clip frames size size"]) -> Predictions:
    """Apply a model to clips in memory."""
    return Predictions(*(np.asarray(values) for values in _predict(model, jnp.asarray(clips))))


def predict_cached(
    model: PSSL, cache: ClipCache, indices: Int[np.ndarray, " clip"], batch_size: int = 32
) -> Predictions:
    """Apply a model to clips of a cache, in the order of `indices`."""
    parts = [predict(model, b.clip) for b in ordered_batches(cache, indices, batch_size)]
    return Predictions(*(np.concatenate(leaves) for leaves in zip(*parts, strict=True)))


def cached_measurements(cache: ClipCache, indices: Int[np.ndarray, " clip"]) -> Measured:
    """What was measured on clips of a cache, in the order of `indices`."""
    records = [cache.records[i] for i in indices]
    EDV = np.array([record.edv for record in records], np.float32)
    ESV = np.array([record.esv for record in records], np.float32)
    return measured(EDV, ESV)


def train_pssl(
    model: PSSL,
    cache: ClipCache,
    config: TrainingConfig,
    *,
    folder: Path,
    description: Mapping[str, Any],
    seed: int,
    resume: bool,
) -> Fitted[PSSL]:
    """Train the encoder on the cache's TRAIN clips, selected on its VAL clips.

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
    emulator = model.emulator

    def objective(encoder: AbstractEncoder, batch: Batch, key: PRNGKeyArray):
        keys = jax.random.split(key, len(batch.clip))
        clips = jax.vmap(shift)(jnp.asarray(batch.clip), keys)
        raw = jax.vmap(encoder)(clips)
        volumes = jax.vmap(emulator.volumes)(emulator.box.bound(raw))
        true = measured(jnp.asarray(batch.edv), jnp.asarray(batch.esv))
        return discrepancy(measured(*volumes), true, spread) + PRIOR_WEIGHT * jnp.mean(raw**2)

    def validate(encoder: AbstractEncoder) -> dict[str, float]:
        got = predict_cached(dataclasses.replace(model, encoder=encoder), cache, validation)
        return {
            "loss": float(discrepancy(measured(got.EDV, got.ESV), true, spread)),
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
        description={
            **description,
            **_description(model),
            "emulator": None if emulator.error is None else emulator.error._asdict(),
            "clips": len(cache.records),
        },
        seed=seed,
        resume=resume,
    )
    trained = dataclasses.replace(model, encoder=fitted.model)
    familiarity = Familiarity.fit(
        predict_cached(trained, cache, training).features,
        predict_cached(trained, cache, validation).features,
    )
    trained = dataclasses.replace(trained, familiarity=familiarity)
    return Fitted(trained, fitted.best_step, fitted.steps, fitted.validation, fitted.seconds)


def _description(model: PSSL) -> dict[str, Any]:
    return {
        "kind": "pssl",
        "encoder": model.name,
        "format": dataclasses.asdict(model.format),
        "box": model.box.describe(),
    }


def save_pssl(folder: Path, model: PSSL, validation: Mapping[str, float]) -> None:
    """Write a trained encoder beside its validation errors; the emulator is saved on its own."""
    if model.familiarity is None:
        raise ValueError("this model is not trained: its familiarity is unknown")
    axes, features = model.familiarity.axes.shape
    checkpoint.save(
        folder,
        (model.encoder, model.familiarity),
        _description(model) | {"validation": dict(validation), "axes": axes, "features": features},
    )


def load_pssl(folder: Path, emulator: Emulator) -> tuple[PSSL, dict[str, float]]:
    """Read a trained encoder.

    Returns:
        The model, and its errors on the validation clips.

    Raises:
        CheckpointError: If it is broken, or was trained through an emulator of another box.
    """
    kept = checkpoint.config(folder, kind="pssl")
    if list(kept["box"].items()) != list(emulator.box.describe().items()):  # in this order
        raise checkpoint.CheckpointError(
            f"the encoder at {folder} was trained in the box {kept['box']}, the emulator has "
            f"{emulator.box.describe()}; use the emulator of the same run"
        )
    format = ClipFormat(**kept["format"])
    make = functools.partial(create_encoder, kept["encoder"], format, len(emulator.box.names))
    # Its shapes alone: drawing weights that are replaced at once takes seconds.
    encoder = eqx.filter_eval_shape(make, key=jax.random.key(0))
    axes, features = kept["axes"], kept["features"]
    blank = Familiarity(
        jnp.zeros(features),
        jnp.zeros((axes, features)),
        jnp.zeros(axes),
        jnp.zeros(()),
        jnp.zeros(()),
    )
    blank = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), blank)
    encoder, familiarity = checkpoint.load(folder, (encoder, blank))
    return PSSL(encoder, emulator, format, kept["encoder"], familiarity), kept["validation"]
