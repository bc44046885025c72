"""Supervised regression of EDV, ESV and EF: the baseline without physics."""

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
from jaxtwin.training.settings import Precision, TrainingConfig


class SupervisedClips(AbstractClipMethod):
    """A network from the clip to EDV, ESV and EF, without physics or parameters.

    The three numbers are regressed separately: EF is not computed from the volumes, so it does not
    inherit their errors.

    Attributes:
        encoder: Name of the network, or a function that makes one, see `AbstractClipMethod`.
        config: Settings of the training.
        weights_seed: Seed for the encoder's initial weights; by default that of `learn`.
        precision: In what the encoder is trained, see `AbstractClipMethod`.
    """

    sees: ClassVar = Sees("clip", labels=True, cohort=True, physics=False)
    encoder: EncoderName | Callable[..., AbstractEncoder] = "tubelet"
    config: TrainingConfig = CLIP_TRAINING
    weights_seed: int | None = None
    precision: Precision = "float32"

    def size(self, task: ClipTask) -> int:
        """Return the number of readings measured on the clip; see `AbstractClipMethod`."""
        if task.vitals:
            raise ValueError(
                f"SupervisedClips regresses only readings of the clip, but the task has the vitals "
                f"{', '.join(task.vitals)}: make a task without vitals"
            )
        return len(task.measured)

    def decode(
        self, task: ClipTask, knowledge: ClipKnowledge, raw: Float[Array, " raw"]
    ) -> Decoded:
        """Convert the raw numbers to readings in their units."""
        return Decoded(None, None, tuple(knowledge.mean + knowledge.spread * raw))

    def penalty(self, raw: Float[Array, " raw"]) -> Float[Array, ""]:
        """Return zero."""
        return jnp.zeros((), raw.dtype)
