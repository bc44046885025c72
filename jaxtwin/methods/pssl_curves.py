"""Physics-informed self-supervised learning on curves.

Kuang, Dean, Jedlicki, Ouyang, Philippakis, Sontag and Alaa, "Med-Real2Sim: Non-Invasive Medical
Digital Twins using Physics-Informed Self-Supervised Learning", NeurIPS 2024. A network gives the
circuit's parameters of a patient; a forward model turns them into the curve that was measured;
only that is compared. No parameter is ever shown to the network.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from jaxtwin.forward.base import AbstractForward
from jaxtwin.methods.base import AbstractTrainedMethod, Estimate, Learnt, Sees, Session
from jaxtwin.methods.curves import CurveEncoder, blank_curves, learn_from_curves
from jaxtwin.methods.saving import made_with, trained
from jaxtwin.methods.settings import CURVE_TRAINING
from jaxtwin.methods.tasks import Curves, CurveTask
from jaxtwin.training.settings import TrainingConfig


class CurvePSSL(AbstractTrainedMethod[CurveTask, Curves]):
    """P-SSL on curves: a network learns θ from unlabelled curves, through a forward model.

    Through an emulator this is the paper's method; through the simulator it is the same loss,
    differentiated through the periodic state.

    Attributes:
        forward: θ → curves; never trained here. It has the task's box, among its channels the
            task's, and as many phases as the task has samples.
        config: How the encoder is trained.
        create: Makes the untrained encoder, a module (known, samples) → raw θ, from the training
            curves, the number of free parameters, and width, depth and key by their names.
        width: Width of the encoder.
        depth: Number of its hidden layers.
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

    def prepare(
        self, task: CurveTask, training: Curves, validation: Curves, session: Session
    ) -> Learnt[CurveTask, Curves]:
        """Learn from the curves alone; see `AbstractMethod`."""
        self._check(task)
        forward = self.forward
        encoder = self._encoder(task, training, jax.random.key(session.seed))

        def objective(encoder: Any, seen: Curves, curves: Curves):
            """Minus the logarithm of the posterior of each patient, per sample."""

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
            session,
            stage="pssl",
            made_with=made_with(self),
        )
        return trained(self, task, fitted.model, fitted)

    def untrained(self, task: CurveTask) -> Any:
        """Build the encoder; see `AbstractTrainedMethod`."""
        return self._encoder(task, blank_curves(task), jax.random.key(0))

    def ready(self, task: CurveTask, knowledge: Any) -> Callable[[Curves], Estimate]:
        """Give the function from curves to an estimate."""
        self._check(task)

        @eqx.filter_jit
        def apply(known, values):
            def one(known, values):
                theta = task.theta(knowledge(known, values), known)
                return theta, self.forward(theta)

            return jax.vmap(one)(known, values)

        def answer(curves: Curves) -> Estimate:
            theta, got = jax.tree.map(np.asarray, apply(curves.known, curves.values))
            # The forward model's own extremes: a grid of phases misses a waveform's peak.
            return task.estimate(
                {channel: got.waveforms[channel] for channel in task.channels},
                maximum=got.maximum[task.channel],
                minimum=got.minimum[task.channel],
                theta=theta,
            )

        return answer

    def _encoder(self, task: CurveTask, training: Curves, key: jax.Array) -> Any:
        free = len(task.box.names)
        return self.create(training, free, width=self.width, depth=self.depth, key=key)

    def _check(self, task: CurveTask) -> None:
        """Raise a ValueError if the forward model is one for another task."""
        forward = self.forward
        missing = [name for name in task.channels if name not in forward.channels]
        if missing or forward.phases != task.samples:
            raise ValueError(
                f"a forward model of {', '.join(forward.channels)} at {forward.phases} phases for "
                f"a task of {', '.join(task.channels)} at {task.samples}: make it with "
                "channels=task.channels and phases=task.samples"
            )
        if forward.box != task.box or type(forward.system) is not type(task.system):
            raise ValueError(
                f"a forward model of {type(forward.system).__name__} on the box "
                f"{forward.box.describe()} for a task of {type(task.system).__name__} on "
                f"{task.box.describe()}: make both with the same system and box"
            )
