"""Networks that read curves, and how they are trained on a cohort."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from jaxtwin.methods.base import Curves, CurveTask
from jaxtwin.training.loop import Fitted, TrainingConfig, epochs, fit

Model = TypeVar("Model", bound=eqx.Module)

# Enough for 1,000 patients on two cores in half a minute.
CURVE_TRAINING = TrainingConfig(
    steps=3_000,
    batch_size=128,
    learning_rate=5e-3,
    weight_decay=1e-2,
    evaluate_every=250,
    patience=4,
)


class CurveEncoder(eqx.Module):
    """A multilayer perceptron from a curve, and what is known beside it, to any vector.

    Attributes:
        network: The trained part.
        mean: Of each entry of its input, over the training patients.
        spread: Likewise.
    """

    network: eqx.nn.MLP
    mean: Float[Array, " entry"]
    spread: Float[Array, " entry"]

    @classmethod
    def create(
        cls,
        training: Curves,
        size: int,
        *,
        width: int = 256,
        depth: int = 3,
        key: PRNGKeyArray,
    ) -> "CurveEncoder":
        """An untrained encoder that gives `size` numbers."""
        entries = np.concatenate([training.known, training.values], axis=1)
        network = eqx.nn.MLP(
            entries.shape[1], size, width, depth, jax.nn.silu, dtype=jnp.float32, key=key
        )
        mean, spread = entries.mean(axis=0), entries.std(axis=0)
        # One patient alone, or one value for all, has no spread.
        spread = np.where(spread > 0, spread, np.maximum(np.abs(mean), 1.0))
        return cls(network, jnp.asarray(mean), jnp.asarray(spread))

    def __call__(
        self, known: Float[Array, " known"], values: Float[Array, " sample"]
    ) -> Float[Array, " size"]:
        """Read one curve."""
        entries = jnp.concatenate([known, values])
        mean, spread = jax.lax.stop_gradient((self.mean, self.spread))
        return self.network((entries - mean) / spread)


Objective = Callable[[Any, Curves, Curves], Float[Array, " patient"]]
"""Loss of each patient: from the model, the curves as the network sees them, and as measured."""


def learn_from_curves(
    model: Model,
    objective: Objective,
    task: CurveTask,
    training: Curves,
    validation: Curves,
    config: TrainingConfig,
    *,
    stage: str,
    folder: Path,
    seed: int,
    made_with: str = "",
) -> Fitted[Model]:
    """Train a model on a cohort's curves, selected on other patients'.

    What the network sees carries fresh noise on top of the measured one, as much again, so that it
    cannot copy the noise that its loss has in it; a network that is free to draw any curve still
    keeps about half of it. Validation sees the measured noise alone, in input and loss alike.
    Training that was cut short in this folder goes on.

    Args:
        model: Its inexact arrays are trained.
        objective: Its loss.
        task: What is asked.
        training: Patients to learn from.
        validation: Patients to select by.
        config: How to train.
        stage: Names the checkpoint and the lines of the log.
        folder: For both.
        seed: Of the order of the patients and of the noise.
        made_with: What else the objective holds, such as its forward model.

    Raises:
        CheckpointError: If the folder holds the training of other patients, or of something else.
    """

    def batches(step: int) -> Iterator[Curves]:
        for rows in epochs(len(training.values), config.batch_size, seed=seed, start_step=step):
            batch = training.take(rows)
            yield jax.tree.map(jnp.asarray, batch)

    def loss(model: Model, batch: Curves, key: PRNGKeyArray) -> Float[Array, ""]:
        noise = task.noise * jax.random.normal(key, batch.values.shape, batch.values.dtype)
        return jnp.mean(objective(model, batch._replace(values=batch.values + noise), batch))

    digest = hashlib.sha256()
    for part in (*training, *validation):
        digest.update(np.asarray(part).tobytes())
    held_out = jax.tree.map(jnp.asarray, validation)
    evaluate = eqx.filter_jit(lambda model: jnp.mean(objective(model, held_out, held_out)))
    return fit(
        model,
        loss,
        batches,
        lambda model: {"loss": float(evaluate(model))},
        config,
        stage=stage,
        folder=folder,
        description={
            "kind": stage,
            "known": list(task.known),
            "noise": task.noise,
            "made_with": made_with,
            "patients": digest.hexdigest()[:16],
        },
        seed=seed,
        resume=True,
    )
