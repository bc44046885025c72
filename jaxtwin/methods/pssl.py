"""Physics-informed self-supervised learning: an encoder learnt through a frozen forward model.

Kuang, Dean, Jedlicki, Ouyang, Philippakis, Sontag and Alaa, "Med-Real2Sim: Non-Invasive Medical
Digital Twins using Physics-Informed Self-Supervised Learning", NeurIPS 2024. The encoder gives
the circuit's parameters of a patient; a forward model turns them into what was measured; only
that is compared. No parameter is ever shown to the encoder. With an `Emulator` as forward model
it is the paper's P-SSL; with a `Simulator` the same loss is differentiated through the periodic
state.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, cast, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxtwin.analysis.familiarity import Familiarity
from jaxtwin.data.base import ClipFormat
from jaxtwin.data.vitals import VitalName
from jaxtwin.encoders.base import AbstractEncoder
from jaxtwin.encoders.create import EncoderName, create_encoder
from jaxtwin.forward.base import AbstractForward
from jaxtwin.forward.emulator import Emulator
from jaxtwin.methods.base import (
    AbstractCurveMethod,
    Curves,
    CurveTask,
    Estimate,
    Learnt,
    Sees,
    estimate,
)
from jaxtwin.methods.clips import AbstractClipModel, Measured, measured
from jaxtwin.methods.curves import CURVE_TRAINING, CurveEncoder, learn_from_curves
from jaxtwin.parameters import Box, Theta
from jaxtwin.training import checkpoint
from jaxtwin.training.loop import TrainingConfig

# Volumes leave directions of θ open. There this pull towards the middle of the box decides,
# too weak to be seen where the volumes have a say.
PRIOR_WEIGHT = 1e-3


class PSSL(AbstractClipModel):
    """An encoder of clips with the forward model that it is trained through.

    Attributes:
        encoder: Clip → raw θ.
        forward: θ → volumes and waveforms; its box bounds θ. Never trained here.
        format: The clips that the encoder takes.
        name: Which encoder it is; for one of your own any other name.
        vitals: Measured beside each clip: the encoder is given them, and the loss compares them
            with the forward model's.
        familiarity: Of clips; None before training is over.
    """

    # A clip's EDV and ESV are what its loss compares: no label of θ, but two numbers read off.
    sees: ClassVar = Sees("clip", labels=True, cohort=True, physics=True)
    encoder: AbstractEncoder
    forward: AbstractForward
    format: ClipFormat = eqx.field(static=True)
    name: str = eqx.field(static=True)
    vitals: tuple[VitalName, ...] = eqx.field(static=True, default=())
    familiarity: Familiarity | None = None

    @property
    def box(self) -> Box:
        """Where θ is sought."""
        return self.forward.box

    def answer(self, raw: Float[Array, " free"]) -> tuple[Theta, Measured]:
        """θ in the box, and what the forward model says would be measured there."""
        theta = self.box.bound(raw)
        EDV, ESV, *vitals = self.forward.read(theta, ("EDV", "ESV", *self.vitals))
        return theta, measured(EDV, ESV, vitals)

    def penalty(self, raw: Float[Array, " free"]) -> Float[Array, ""]:
        """A weak pull towards the middle of the box."""
        return PRIOR_WEIGHT * jnp.mean(raw**2)

    def description(self) -> dict[str, Any]:
        """See `AbstractClipModel`."""
        return _description(self) | {"forward": _name(self.forward)}


def _name(forward: AbstractForward) -> str:
    """Which forward model it is; of an emulator, with the error that was measured of it."""
    error = forward.error if isinstance(forward, Emulator) else None
    return type(forward).__name__ + (f" {error}" if error is not None else "")


def _description(model: PSSL) -> dict[str, Any]:
    return {
        "kind": "pssl",
        "encoder": model.name,
        "format": dataclasses.asdict(model.format),
        "box": model.box.describe(),
        "vitals": list(model.vitals),
    }


def save_pssl(folder: Path, model: PSSL, validation: Mapping[str, float]) -> None:
    """Write a trained encoder and its validation errors; its forward model is saved elsewhere."""
    if model.familiarity is None:
        raise ValueError("this model is not trained: its familiarity is unknown")
    axes, features = model.familiarity.axes.shape
    checkpoint.save(
        folder,
        (model.encoder, model.familiarity),
        _description(model) | {"validation": dict(validation), "axes": axes, "features": features},
    )


def load_pssl(
    folder: Path, forward: AbstractForward, encoder: AbstractEncoder | None = None
) -> tuple[PSSL, dict[str, float]]:
    """Read a trained encoder.

    Args:
        folder: Where it was saved.
        forward: What it was trained through.
        encoder: One of the same class and sizes, trained or not, where it is an encoder of your
            own: only its arrays are kept.

    Returns:
        The model, and its errors on the validation clips.

    Raises:
        CheckpointError: If it is broken, or was trained through a forward model of another box.
    """
    kept = checkpoint.config(folder, kind="pssl")
    if list(kept["box"].items()) != list(forward.box.describe().items()):  # in this order
        raise checkpoint.CheckpointError(
            f"the encoder at {folder} was trained in the box {kept['box']}, the forward model has "
            f"{forward.box.describe()}; use the one of the same run"
        )
    format = ClipFormat(**kept["format"])
    vitals = tuple(kept["vitals"])
    if encoder is None:
        if kept["encoder"] not in get_args(EncoderName):
            raise ValueError(
                f"the encoder at {folder} is {kept['encoder']!r}, none of jaxtwin's: pass one of "
                "the same class and sizes as `encoder`"
            )
        make = functools.partial(
            create_encoder, kept["encoder"], format, len(forward.box.names), beside=len(vitals)
        )
        # Its shapes alone: drawing weights that are replaced at once takes seconds.
        encoder = eqx.filter_eval_shape(make, key=jax.random.key(0))
    axes, features = kept["axes"], kept["features"]
    blank = Familiarity(
        jnp.zeros(features),
        jnp.zeros((axes, features)),
        jnp.zeros(axes),
        jnp.zeros(()),
        jnp.zeros(()),
    )
    blank = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), blank)
    restored, familiarity = checkpoint.load(folder, (encoder, blank))
    model = PSSL(
        encoder=cast(AbstractEncoder, restored),
        forward=forward,
        format=format,
        name=kept["encoder"],
        vitals=vitals,
        familiarity=familiarity,
    )
    return model, kept["validation"]


class CurvePSSL(AbstractCurveMethod):
    """P-SSL on curves: a network learns θ from unlabelled curves, through a forward model.

    Through an emulator this is the paper's method; through the simulator it is the same loss,
    differentiated through the periodic state.

    Attributes:
        forward: θ → curves; never trained here. Its channels must be the task's, its phases the
            task's samples.
        config: How the encoder is trained.
        create: Makes the untrained encoder, a module (known, samples) → raw θ, from the training
            curves, the number of free parameters, and width, depth and key by their names.
        width: Of the encoder.
        depth: Its hidden layers.
        slack: What the network itself is expected to miss, in units of the task's resolution.
            Added to the noise, it decides how much the curve counts beside the prior.
    """

    sees: ClassVar = Sees("curve", labels=False, cohort=True, physics=True)
    forward: AbstractForward
    config: TrainingConfig = CURVE_TRAINING
    create: Callable[..., Any] = CurveEncoder.create
    width: int = 256
    depth: int = 3
    slack: float = 5.0

    def learn(
        self, task: CurveTask, training: Curves, validation: Curves, *, folder: Path, seed: int
    ) -> Learnt:
        """Learn from the curves alone; see `AbstractCurveMethod`."""
        forward = self.forward
        if forward.channels != task.channels or forward.phases != task.samples:
            raise ValueError(
                f"a forward model of {forward.channels} at {forward.phases} phases for a task of "
                f"{task.channels} at {task.samples}: make it with the task's own"
            )
        encoder = self.create(
            training,
            len(task.box.names),
            width=self.width,
            depth=self.depth,
            key=jax.random.key(seed),
        )

        def objective(encoder: Any, seen: Curves, curves: Curves):
            """Minus the logarithm of the posterior of each patient, a sample."""

            def one(known, seen, values):
                raw = encoder(known, seen)
                error = forward(task.theta(raw, known)).waveforms[task.channel] - values
                error = error / np.hypot(task.noise, self.slack * task.resolution)
                return (0.5 * jnp.sum(error**2) + task.surprise(raw)) / task.samples

            return jax.vmap(one)(curves.known, seen.values, curves.values)

        fitted = learn_from_curves(
            encoder,
            objective,
            task,
            training,
            validation,
            self.config,
            stage="pssl",
            folder=folder,
            seed=seed,
            made_with=_name(forward),
        )

        @eqx.filter_jit
        def apply(known, values):
            def one(known, values):
                theta = task.theta(fitted.model(known, values), known)
                return theta, forward(theta)

            return jax.vmap(one)(known, values)

        def answer(curves: Curves) -> Estimate:
            theta, got = jax.tree.map(np.asarray, apply(curves.known, curves.values))
            # The forward model's own extremes: a grid of phases misses a waveform's peak.
            return estimate(
                task,
                {channel: got.waveforms[channel] for channel in task.channels},
                maximum=got.maximum[task.channel],
                minimum=got.minimum[task.channel],
                theta=theta,
            )

        return Learnt(answer, fitted.steps, fitted.seconds, fitted.step_seconds)
