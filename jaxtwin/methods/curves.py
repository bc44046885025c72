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
from jaxtwin.physics.compilation import compiled
from jaxtwin.training.loop import Fitted, epochs, fit
from jaxtwin.training.settings import TrainingConfig

Model = TypeVar("Model", bound=eqx.Module)


class CurveEncoder(eqx.Module):
    """A multilayer perceptron from known parameters and what was measured to a vector.

    A channel of which a patient has nothing (NaN) is replaced by its mean.

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

        Args:
            training: Patients to learn from; their `values` are what the encoder is shown.
            size: Number of outputs.
            width: Width of the network.
            depth: Number of hidden layers.
            key: Key of its initial weights.

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
        there = np.isfinite(entries).any(axis=0)
        entries = np.where(there, entries, np.float32(0))  # What nobody has.
        mean, spread = np.nanmean(entries, axis=0), np.nanstd(entries, axis=0)
        # The spread is 0 for a single patient, or if all values are equal.
        spread = np.where(spread > 0, spread, np.maximum(np.abs(mean), 1.0))
        return cls(network, jnp.asarray(mean), jnp.asarray(spread))

    def __call__(
        self, known: Float[Array, " known"], values: Float[Array, " input"]
    ) -> Float[Array, " size"]:
        """Apply the network to what is shown of one patient, see `CurveTask.seen`."""
        entries = jnp.concatenate([known, values])
        mean, spread = jax.lax.stop_gradient((self.mean, self.spread))
        entries = jnp.where(jnp.isfinite(entries), entries, mean)
        return self.network((entries - mean) / spread)


def blank_curves(task: CurveTask) -> Curves:
    """Return what is shown of one patient, with the right shapes, to rebuild an encoder from."""
    zeros, one = np.zeros((1, task.inputs), np.float32), np.zeros(1, np.float32)
    return Curves(zeros, np.zeros((1, len(task.known)), np.float32), one, one)


def shown_curves(task: CurveTask, curves: Curves) -> Curves:
    """Return checked curves whose values are what a network is shown, see `CurveTask.seen`."""
    rows = task.rows(curves)
    return rows._replace(values=np.asarray(_shown(task, rows.values, rows.phases)))


@compiled
def _shown(task: CurveTask, *row: Any) -> Float[Array, "patient input"]:
    return jax.vmap(task.seen)(*row)


Objective = Callable[[Any, Curves, Curves, PRNGKeyArray], Float[Array, " patient"]]
"""Function from the model, what it is shown, rows of measurements and a key to patients' losses.

The values of the first are of `CurveTask.seen`, those of the second of `CurveTask.rows`."""


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
    more_noise: float = 1.0,
) -> Fitted[Model]:
    """Train a model on a cohort's curves and select it on those of other patients.

    By default the inputs get additional noise of the same size as the measured noise, so that the
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
        more_noise: Standard deviation of the additional noise, relative to the measured noise.

    Raises:
        CheckpointError: If the checkpoint is from other patients or a different training.
        ValueError: If a patient has no measurement, or a label is not finite.
    """
    for part in (training, validation):
        good = task.usable(part)
        for label in (part.maximum, part.minimum):
            good &= True if label is None else np.isfinite(label)
        if (bad := np.flatnonzero(~good)).size:
            shown = ", ".join(map(str, bad[:5])) + ", ..." * (bad.size > 5)
            raise ValueError(
                f"{bad.size} of {len(part.values)} patients to learn from have no measurement, or "
                f"labels that are NaN or infinite (patients {shown}): leave them out with "
                "curves.take(...)"
            )
    seed, rows, held_out = session.seed, task.rows(training), task.rows(validation)

    def batches(step: int) -> Iterator[Curves]:
        for index in epochs(len(rows.values), config.batch_size, seed=seed, start_step=step):
            yield jax.tree.map(jnp.asarray, rows.take(index))

    def loss(model: Model, batch: Curves, key: PRNGKeyArray) -> Float[Array, ""]:
        values, size = jnp.asarray(batch.values), jnp.asarray(batch.noise)
        noise = more_noise * jnp.where(jnp.isfinite(size), size, 0.0)
        noise = noise * jax.random.normal(key, values.shape, values.dtype)
        phases = None if batch.phases is None else jnp.asarray(batch.phases)
        shown = jax.vmap(task.seen)(values + noise, phases)
        return jnp.mean(objective(model, batch._replace(values=shown), batch, key))

    digest = hashlib.sha256()
    for part in jax.tree.leaves((training, validation)):
        digest.update(np.asarray(part).tobytes())
    held_out, shown = (
        jax.tree.map(jnp.asarray, part) for part in (held_out, shown_curves(task, validation))
    )
    fixed = jax.random.key(seed)
    evaluate = eqx.filter_jit(lambda model: jnp.mean(objective(model, shown, held_out, fixed)))
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
        mesh=session.mesh,
        progress_bar=session.progress,
    )
