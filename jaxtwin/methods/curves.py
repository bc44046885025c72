"""Networks with curves as input, and their training on a cohort."""

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
    """A multilayer perceptron from a curve and known parameters to a vector.

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
        """Make an untrained encoder with `size` outputs.

        Raises:
            ValueError: If the width is not positive, or the depth negative.
        """
        if width < 1 or depth < 0:
            raise ValueError(
                f"an encoder of width {width} and depth {depth}: expected a width of at least 1 "
                "and a depth of at least 0"
            )
        entries = np.concatenate([np.asarray(training.known), np.asarray(training.values)], axis=1)
        network = eqx.nn.MLP(
            entries.shape[1], size, width, depth, jax.nn.silu, dtype=jnp.float32, key=key
        )
        mean, spread = entries.mean(axis=0), entries.std(axis=0)
        # The spread is 0 for a single patient, or if all values are equal.
        spread = np.where(spread > 0, spread, np.maximum(np.abs(mean), 1.0))
        return cls(network, jnp.asarray(mean), jnp.asarray(spread))

    def __call__(
        self, known: Float[Array, " known"], values: Float[Array, " sample"]
    ) -> Float[Array, " size"]:
        """Apply the network to one curve."""
        entries = jnp.concatenate([known, values])
        mean, spread = jax.lax.stop_gradient((self.mean, self.spread))
        return self.network((entries - mean) / spread)


def blank_curves(task: CurveTask) -> Curves:
    """Return curves of one patient with the right shapes, from which to rebuild an encoder."""
    zeros, one = np.zeros((1, task.samples), np.float32), np.zeros(1, np.float32)
    return Curves(zeros, np.zeros((1, len(task.known)), np.float32), one, one)


Objective = Callable[[Any, Curves, Curves], Float[Array, " patient"]]
"""Function from the model, its noisy input curves and the measured curves to patients' losses."""


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
    """Train a model on a cohort's curves and select it on those of other patients.

    The input curves get additional noise of the same size as the measured noise, so that the
    network cannot copy the noise in its loss; a network that can produce any curve still
    reproduces about half of it. In validation, input and loss have the measured noise only.

    Args:
        model: The model, whose inexact arrays are trained.
        objective: Loss of the model.
        task: The task.
        training: Curves of the training patients.
        validation: Curves of the validation patients.
        config: Settings of the training.
        session: Seed for the order of patients and the noise, folder for checkpoints and log, and
            whether to resume.
        stage: Name of the checkpoint and of the log entries.
        made_with: Anything else on which the objective depends, such as its forward model.

    Raises:
        CheckpointError: If the checkpoint is from other patients or a different training.
        ValueError: If a curve or a label is not finite, since the loss would not be either.
    """
    for part in (training, validation):
        told = [np.asarray(leaf).reshape(len(part.values), -1) for leaf in part if leaf is not None]
        bad = np.flatnonzero(~np.isfinite(np.concatenate(told, axis=1)).all(axis=1))
        if bad.size:
            shown = ", ".join(map(str, bad[:5])) + ", ..." * (bad.size > 5)
            raise ValueError(
                f"{bad.size} of {len(part.values)} patients to learn from have values that are NaN "
                f"or infinite (patients {shown}): leave them out with curves.take(...)"
            )
    seed = session.seed

    def batches(step: int) -> Iterator[Curves]:
        for rows in epochs(len(training.values), config.batch_size, seed=seed, start_step=step):
            batch = training.take(rows)
            yield jax.tree.map(jnp.asarray, batch)

    def loss(model: Model, batch: Curves, key: PRNGKeyArray) -> Float[Array, ""]:
        values = jnp.asarray(batch.values)
        noise = task.noise * jax.random.normal(key, values.shape, values.dtype)
        noisy = jax.vmap(task.comparable)(values + noise)
        return jnp.mean(objective(model, batch._replace(values=noisy), batch))

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
