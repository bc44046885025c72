"""Physics-informed self-supervised learning on clips.

Kuang, Dean, Jedlicki, Ouyang, Philippakis, Sontag and Alaa, "Med-Real2Sim: Non-Invasive Medical
Digital Twins using Physics-Informed Self-Supervised Learning", NeurIPS 2024. The encoder estimates
a patient's parameters and a forward model maps them to the measured numbers, which are compared
with the data. Parameters are never used as labels. With an `Emulator` as forward model this is the
paper's P-SSL; with a `Simulator` the same loss is differentiated through the periodic state.
"""

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxtwin.data.format import ClipFormat
from jaxtwin.encoders.base import AbstractEncoder
from jaxtwin.encoders.names import EncoderName
from jaxtwin.forward.base import AbstractForward
from jaxtwin.methods.base import Learnt, Sees
from jaxtwin.methods.clip_training import AbstractClipMethod, ClipKnowledge, Decoded
from jaxtwin.methods.clips import Clips, ClipTask
from jaxtwin.methods.saving import load_learnt
from jaxtwin.methods.settings import CLIP_TRAINING
from jaxtwin.physics.base import read
from jaxtwin.training import checkpoint
from jaxtwin.training.settings import Precision, TrainingConfig

# Volumes do not determine all directions of θ. In the others this prior pulls θ towards the middle
# of the box; it is too weak to matter where the volumes are informative.
PRIOR_WEIGHT = 1e-3


class PSSL(AbstractClipMethod):
    """P-SSL on clips: an encoder learns θ from volumes alone, through a forward model.

    Attributes:
        forward: Forward model from θ to volumes and waveforms, on the task's box; it is not
            trained.
        encoder: Name of the network, or a function that makes one, see `AbstractClipMethod`.
        config: Settings of the training.
        weights_seed: Seed for the encoder's initial weights; by default that of `learn`.
        precision: In what the encoder is trained, see `AbstractClipMethod`.
    """

    # The loss compares EDV and ESV of a clip, which are labels, though not labels of θ.
    sees: ClassVar = Sees("clip", labels=True, cohort=True, physics=True)
    forward: AbstractForward
    encoder: EncoderName | Callable[..., AbstractEncoder] = "tubelet"
    config: TrainingConfig = CLIP_TRAINING
    weights_seed: int | None = None
    precision: Precision = "float32"

    def size(self, task: ClipTask) -> int:
        """Return the number of free parameters; see `AbstractClipMethod`."""
        task.check_forward(self.forward)
        return len(task.box.names)

    def decode(
        self, task: ClipTask, knowledge: ClipKnowledge, raw: Float[Array, " raw"]
    ) -> Decoded:
        """Map the raw numbers to θ in the box, and apply the forward model."""
        theta = task.box.bound(raw)
        recording = self.forward(theta)
        found = read(self.forward.system, recording, task.measured)
        return Decoded(theta, recording, tuple(found[name] for name in task.measured))

    def penalty(self, raw: Float[Array, " raw"]) -> Float[Array, ""]:
        """Return a weak penalty on the distance from the middle of the box."""
        return PRIOR_WEIGHT * jnp.mean(raw**2)


def load_pssl(
    folder: str | Path,
    forward: AbstractForward,
    encoder: Callable[..., AbstractEncoder] | None = None,
) -> Learnt[ClipTask, Clips]:
    """Load the result of P-SSL on clips saved by `save_learnt`.

    Args:
        folder: Folder in which it was saved.
        forward: Forward model with which it was trained.
        encoder: The function that made the encoder, if it is a custom one, because files contain
            arrays only.

    Raises:
        CheckpointError: If the files are damaged, or from a forward model on another box.
        ValueError: If the encoder is a custom one and `encoder` is missing.
    """
    folder = Path(folder)
    kept = checkpoint.config(folder, kind="learnt")
    name = kept["settings"]["encoder"]
    if encoder is None and name not in ("tubelet", "conv3d"):
        raise ValueError(
            f"the encoder at {folder} is {name!r}, none of jaxtwin's: pass the function that makes "
            "it as `encoder`"
        )
    told = kept["task"]
    task = ClipTask(
        forward.system, forward.box, ClipFormat(**told["format"]), tuple(told["vitals"])
    )
    # The order matters, because the entries of θ have no names.
    if list(told["box"].items()) != list(forward.box.describe().items()):
        raise checkpoint.CheckpointError(
            f"the encoder at {folder} was trained in the box {told['box']}, the forward model has "
            f"{forward.box.describe()}; use the one of the same run"
        )
    method = PSSL(forward=forward, encoder=name if encoder is None else encoder)
    return load_learnt(folder, method, task)
