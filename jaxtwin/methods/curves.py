"""Networks that read curves, and how they are trained on a cohort."""

import hashlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from jaxtwin.methods.base import Session
from jaxtwin.methods.tasks import Curves, CurveTask
from jaxtwin.training.loop import Fitted, epochs, fit
from jaxtwin.training.settings import TrainingConfig

Model = TypeVar("Model", bound=eqx.Module)


class CurveEncoder(eqx.Module):
    """A multilayer perceptron from a curve, and what is known beside it, to any vector.

    Attributes:
        network: The trained part.
        mean: Mean of each input over the training patients.
        spread: Standard deviation of each input over the training patients.
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
        """Make an untrained encoder that gives `size` numbers."""
        entries = np.concatenate([np.asarray(training.known), np.asarray(training.values)], axis=1)
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


def blank_curves(task: CurveTask) -> Curves:
    """Curves of one patient that have the right shapes: enough to build an encoder again."""
    zeros, one = np.zeros((1, task.samples), np.float32), np.zeros(1, np.float32)
    return Curves(zeros, np.zeros((1, len(task.known)), np.float32), one, one)


Objective = Callable[[Any, Curves, Curves], Float[Array, " patient"]]
"""Loss of each patient: from the model, the curves as the network sees them, and as measured."""


def learn_from_curves(
    model: Model,
    objective: Objective,
    task: CurveTask,
    training: Curves,
    validation: Curves,
    config: TrainingConfig,
    session: Session,
    *,
    stage: str,
    made_with: str = "",
) -> Fitted[Model]:
    """Train a model on a cohort's curves, selected on other patients'.

    What the network sees carries fresh noise on top of the measured one, as much again, so that it
    cannot copy the noise that its loss has in it; a network that is free to draw any curve still
    keeps about half of it. Validation sees the measured noise alone, in input and loss alike.

    Args:
        model: Its inexact arrays are trained.
        objective: Its loss.
        task: The task.
        training: Patients to learn from.
        validation: Patients to select by.
        config: How to train.
        session: Seed of the order of patients and of the noise; where checkpoints and log are
            kept, and whether to go on from them.
        stage: Name of the checkpoint and of the lines of the log.
        made_with: What else the objective depends on, such as its forward model.

    Raises:
        CheckpointError: On resuming the training of other patients, or of something else.
    """
    seed = session.seed

    def batches(step: int) -> Iterator[Curves]:
        for rows in epochs(len(training.values), config.batch_size, seed=seed, start_step=step):
            batch = training.take(rows)
            yield jax.tree.map(jnp.asarray, batch)

    def loss(model: Model, batch: Curves, key: PRNGKeyArray) -> Float[Array, ""]:
        values = jnp.asarray(batch.values)
        noise = task.noise * jax.random.normal(key, values.shape, values.dtype)
        return jnp.mean(objective(model, batch._replace(values=values + noise), batch))

    digest = hashlib.sha256()
    for part in (*training, *validation):
        if part is not None:
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
        folder=session.folder,
        description={
            "kind": stage,
            "task": task.describe(),
            "made_with": made_with,
            "patients": digest.hexdigest()[:16],
        },
        seed=seed,
        resume=session.resume,
        progress_bar=session.progress,
    )
