"""Physics-informed self-supervised learning on clips.

Kuang, Dean, Jedlicki, Ouyang, Philippakis, Sontag and Alaa, "Med-Real2Sim: Non-Invasive Medical
Digital Twins using Physics-Informed Self-Supervised Learning", NeurIPS 2024. The encoder gives
the circuit's parameters of a patient; a forward model turns them into what was measured; only
that is compared. No parameter is ever shown to the encoder. With an `Emulator` as forward model
it is the paper's P-SSL; with a `Simulator` the same loss is differentiated through the periodic
state.
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
from jaxtwin.training.settings import TrainingConfig

# Volumes leave directions of θ open. There this pull towards the middle of the box decides,
# too weak to be seen where the volumes have a say.
PRIOR_WEIGHT = 1e-3


class PSSL(AbstractClipMethod):
    """P-SSL on clips: an encoder learns θ from volumes alone, through a forward model.

    Attributes:
        forward: θ → volumes and waveforms, on the task's box; never trained here.
        encoder: The default network, the paper's, or a function that makes one of your own, see
            `AbstractClipMethod`.
        config: How the encoder is trained.
        weights_seed: Seed of the encoder's first weights; by default that of `learn`.
    """

    # A clip's EDV and ESV are what its loss compares: no label of θ, but two numbers read off.
    sees: ClassVar = Sees("clip", labels=True, cohort=True, physics=True)
    forward: AbstractForward
    encoder: EncoderName | Callable[..., AbstractEncoder] = "tubelet"
    config: TrainingConfig = CLIP_TRAINING
    weights_seed: int | None = None

    def size(self, task: ClipTask) -> int:
        """One raw number for each free parameter."""
        forward = self.forward
        if forward.box != task.box or type(forward.system) is not type(task.system):
            raise ValueError(
                f"a forward model of {type(forward.system).__name__} on the box "
                f"{forward.box.describe()} for a task of {type(task.system).__name__} on "
                f"{task.box.describe()}: make both with the same system and box"
            )
        return len(task.box.names)

    def decode(
        self, task: ClipTask, knowledge: ClipKnowledge, raw: Float[Array, " raw"]
    ) -> Decoded:
        """Bound θ to the box, and give what the forward model says would be measured there."""
        theta = task.box.bound(raw)
        recording = self.forward(theta)
        found = read(self.forward.system, recording, task.measured)
        return Decoded(theta, recording, tuple(found[name] for name in task.measured))

    def penalty(self, raw: Float[Array, " raw"]) -> Float[Array, ""]:
        """A weak pull towards the middle of the box."""
        return PRIOR_WEIGHT * jnp.mean(raw**2)


def load_pssl(
    folder: str | Path,
    forward: AbstractForward,
    encoder: Callable[..., AbstractEncoder] | None = None,
) -> Learnt[ClipTask, Clips]:
    """Read what P-SSL learnt from clips; `save_learnt` writes it.

    Args:
        folder: Where it was saved.
        forward: What it was trained through.
        encoder: The function that made the encoder, where it is one of your own: only arrays are
            kept in files.

    Raises:
        CheckpointError: If it is broken, or was trained through a forward model of another box.
        ValueError: If the encoder is one of your own, and `encoder` is missing.
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
    # In this order: θ has no names.
    if list(told["box"].items()) != list(forward.box.describe().items()):
        raise checkpoint.CheckpointError(
            f"the encoder at {folder} was trained in the box {told['box']}, the forward model has "
            f"{forward.box.describe()}; use the one of the same run"
        )
    method = PSSL(forward=forward, encoder=name if encoder is None else encoder)
    return load_learnt(folder, method, task)
