"""Supervised regression of a curve's extremes: the baseline without physics."""

from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxtwin.methods.base import AbstractTrainedMethod, Estimate, Learnt, Sees, Session
from jaxtwin.methods.curves import CurveEncoder, blank_curves, learn_from_curves, shown_curves
from jaxtwin.methods.saving import trained
from jaxtwin.methods.settings import CURVE_TRAINING
from jaxtwin.methods.tasks import Curves, CurveTask
from jaxtwin.training.settings import TrainingConfig


class ExtremesKnowledge(eqx.Module):
    """Knowledge of `SupervisedCurves`: a network, and the scale of the labels.

    Attributes:
        encoder: Network from a curve to its standardised extremes.
        mean: Mean of each extreme over the training patients.
        spread: Standard deviation of each extreme over the training patients.
    """

    encoder: CurveEncoder
    mean: Float[Array, "2"]
    spread: Float[Array, "2"]


class SupervisedCurves(AbstractTrainedMethod[CurveTask, Curves]):
    """A network from the curve to its extremes, trained on labels, without physics or parameters.

    Attributes:
        config: Settings of the training.
        width: Width of the network.
        depth: Number of hidden layers.
    """

    sees: ClassVar = Sees(
        "curve",
        labels=True,
        cohort=True,
        physics=False,
        scale=False,
        gaps=True,
        beside=True,
    )
    config: TrainingConfig = CURVE_TRAINING
    width: int = 256
    depth: int = 3

    def prepare(
        self, task: CurveTask, training: Curves, validation: Curves, session: Session
    ) -> Learnt[CurveTask, Curves]:
        """Learn from the labels; see `AbstractMethod`."""
        first = self._create(shown_curves(task, training), jax.random.key(session.seed))
        mean, spread = first.mean, first.spread

        def objective(
            encoder: CurveEncoder, seen: Curves, curves: Curves, key: Any
        ) -> Float[Array, " n"]:
            del key
            got = jax.vmap(encoder)(jnp.asarray(seen.known), jnp.asarray(seen.values))
            labels = [jnp.asarray(curves.maximum), jnp.asarray(curves.minimum)]
            true = (jnp.stack(labels, axis=1) - mean[None]) / spread[None]
            return jnp.mean((got - true) ** 2, axis=1)

        fitted = learn_from_curves(
            first.encoder,
            objective,
            task,
            training,
            validation,
            self.config,
            session,
            stage="supervised",
        )
        knowledge = ExtremesKnowledge(fitted.model, mean, spread)
        return trained(self, task, knowledge, fitted)

    def untrained(self, task: CurveTask) -> ExtremesKnowledge:
        """Build the network; see `AbstractTrainedMethod`."""
        return self._create(blank_curves(task), jax.random.key(0))

    def ready(self, task: CurveTask, knowledge: ExtremesKnowledge) -> Callable[[Curves], Estimate]:
        """Return the function from curves to an estimate."""

        @eqx.filter_jit
        def apply(known: Any, values: Any) -> Float[Array, "patient 2"]:
            got = jax.vmap(knowledge.encoder)(known, values)
            return got * knowledge.spread[None] + knowledge.mean[None]

        def answer(curves: Curves) -> Estimate:
            shown = shown_curves(task, curves)
            maximum, minimum = np.asarray(apply(shown.known, shown.values)).T
            return task.estimate({}, maximum=maximum, minimum=minimum)

        return answer

    def _create(self, training: Curves, key: jax.Array) -> ExtremesKnowledge:
        labels = np.stack([np.asarray(training.maximum), np.asarray(training.minimum)], axis=1)
        spread = np.maximum(labels.std(axis=0), 1e-3 * np.abs(labels).max())
        encoder = CurveEncoder.create(training, 2, width=self.width, depth=self.depth, key=key)
        return ExtremesKnowledge(encoder, jnp.asarray(labels.mean(axis=0)), jnp.asarray(spread))
