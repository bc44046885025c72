"""Supervised regression of EDV, ESV and EF: what is done where labels are all that is wanted."""

from collections.abc import Callable
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxtwin.encoders.base import AbstractEncoder
from jaxtwin.encoders.names import EncoderName
from jaxtwin.methods.base import Sees
from jaxtwin.methods.clip_training import AbstractClipMethod, ClipKnowledge, Decoded
from jaxtwin.methods.clips import ClipTask
from jaxtwin.methods.settings import CLIP_TRAINING
from jaxtwin.training.settings import TrainingConfig


class SupervisedClips(AbstractClipMethod):
    """A network from the clip to EDV, ESV and EF; no physics, no parameters.

    The three numbers are regressed each on its own: EF is not made from the volumes, so that none
    of its error is theirs.

    Attributes:
        encoder: The default network, the paper's, or a function that makes one of your own, see
            `AbstractClipMethod`.
        config: How the encoder is trained.
        weights_seed: Seed of the encoder's first weights; by default that of `learn`.
    """

    sees: ClassVar = Sees("clip", labels=True, cohort=True, physics=False)
    encoder: EncoderName | Callable[..., AbstractEncoder] = "tubelet"
    config: TrainingConfig = CLIP_TRAINING
    weights_seed: int | None = None

    def size(self, task: ClipTask) -> int:
        """One raw number for each that was measured on the clip."""
        if task.vitals:
            raise ValueError(
                f"SupervisedClips regresses what is seen in the clip, and the task has the vitals "
                f"{', '.join(task.vitals)}: make a task without vitals"
            )
        return len(task.measured)

    def decode(
        self, task: ClipTask, knowledge: ClipKnowledge, raw: Float[Array, " raw"]
    ) -> Decoded:
        """Give the numbers in their units."""
        return Decoded(None, None, tuple(knowledge.mean + knowledge.spread * raw))

    def penalty(self, raw: Float[Array, " raw"]) -> Float[Array, ""]:
        """Zero."""
        return jnp.zeros((), raw.dtype)
