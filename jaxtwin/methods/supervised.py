"""Supervised regression of EDV, ESV and EF: what is done where labels are all that is wanted."""

from pathlib import Path
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxtwin.analysis.familiarity import Familiarity
from jaxtwin.data.base import ClipFormat
from jaxtwin.data.cache import ClipCache
from jaxtwin.data.vitals import VitalName
from jaxtwin.encoders.base import AbstractEncoder
from jaxtwin.methods.base import (
    AbstractCurveMethod,
    Curves,
    CurveTask,
    Estimate,
    Learnt,
    Sees,
    estimate,
)
from jaxtwin.methods.clips import AbstractClipModel, Measured, cached_measurements
from jaxtwin.methods.curves import CURVE_TRAINING, CurveEncoder, learn_from_curves
from jaxtwin.training.loop import TrainingConfig


class SupervisedClips(AbstractClipModel):
    """A network from the clip to EDV, ESV and EF; no physics, no parameters.

    The three numbers are regressed each on its own: EF is not made from the volumes, so that none
    of its error is theirs.

    Attributes:
        encoder: Clip → the three numbers, standardised.
        centre: Mean of each number over the training clips.
        spread: Standard deviation likewise.
        format: The clips that the encoder takes.
        name: Which encoder it is.
        familiarity: Of clips; None before training is over.
    """

    sees: ClassVar = Sees("clip", labels=True, cohort=True, physics=False)
    encoder: AbstractEncoder
    centre: Float[Array, "3"]
    spread: Float[Array, "3"]
    format: ClipFormat = eqx.field(static=True)
    name: str = eqx.field(static=True)
    vitals: tuple[VitalName, ...] = eqx.field(static=True, default=(), init=False)
    familiarity: Familiarity | None = None

    @classmethod
    def create(cls, encoder: AbstractEncoder, cache: ClipCache, name: str) -> "SupervisedClips":
        """Untrained, for the TRAIN clips of a cache; the encoder gives three numbers."""
        EDV, ESV, EF, _ = cached_measurements(cache, cache.split("TRAIN"))
        true = np.stack([EDV, ESV, EF])
        centre, spread = jnp.asarray(true.mean(axis=1)), jnp.asarray(true.std(axis=1))
        return cls(encoder=encoder, centre=centre, spread=spread, format=cache.format, name=name)

    def answer(self, raw: Float[Array, "3"]) -> tuple[None, Measured]:
        """No θ, and the three numbers in their units."""
        return None, Measured(*(self.centre + self.spread * raw))

    def penalty(self, raw: Float[Array, "3"]) -> Float[Array, ""]:
        """None."""
        return jnp.zeros((), raw.dtype)

    def description(self) -> dict[str, Any]:
        """See `AbstractClipModel`."""
        return {"kind": "supervised", "encoder": self.name}


class SupervisedCurves(AbstractCurveMethod):
    """A network from the curve to its extremes, learnt from labels; no physics, no parameters.

    Attributes:
        config: How it is trained.
        width: Of the network.
        depth: Hidden layers.
    """

    sees: ClassVar = Sees("curve", labels=True, cohort=True, physics=False)
    config: TrainingConfig = CURVE_TRAINING
    width: int = 256
    depth: int = 3

    def learn(
        self, task: CurveTask, training: Curves, validation: Curves, *, folder: Path, seed: int
    ) -> Learnt:
        """Learn from the labels; see `AbstractCurveMethod`."""
        labels = np.stack([training.maximum, training.minimum], axis=1)
        mean = jnp.asarray(labels.mean(axis=0))
        spread = jnp.asarray(np.maximum(labels.std(axis=0), 1e-3 * np.abs(labels).max()))
        key = jax.random.key(seed)
        encoder = CurveEncoder.create(training, 2, width=self.width, depth=self.depth, key=key)

        def objective(encoder: CurveEncoder, seen: Curves, curves: Curves) -> Float[Array, " n"]:
            got = jax.vmap(encoder)(jnp.asarray(seen.known), jnp.asarray(seen.values))
            true = (jnp.stack([curves.maximum, curves.minimum], axis=1) - mean[None]) / spread[None]
            return jnp.mean((got - true) ** 2, axis=1)

        fitted = learn_from_curves(
            encoder,
            objective,
            task,
            training,
            validation,
            self.config,
            stage="supervised",
            folder=folder,
            seed=seed,
        )

        @eqx.filter_jit
        def apply(known: Any, values: Any) -> Float[Array, "patient 2"]:
            return jax.vmap(fitted.model)(known, values) * spread[None] + mean[None]

        def answer(curves: Curves) -> Estimate:
            maximum, minimum = np.asarray(apply(curves.known, curves.values)).T
            return estimate(task, {}, maximum=maximum, minimum=minimum)

        return Learnt(answer, fitted.steps, fitted.seconds, fitted.step_seconds)
