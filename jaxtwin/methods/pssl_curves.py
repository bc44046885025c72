"""Physics-informed self-supervised learning on curves.

Kuang, Dean, Jedlicki, Ouyang, Philippakis, Sontag and Alaa, "Med-Real2Sim: Non-Invasive Medical
Digital Twins using Physics-Informed Self-Supervised Learning", NeurIPS 2024. A network estimates a
patient's parameters and a forward model maps them to a recording, which is compared with what was
measured. Parameters are never used as labels.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxtwin.forward.base import AbstractForward
from jaxtwin.methods.base import AbstractTrainedMethod, Estimate, Learnt, Session
from jaxtwin.methods.curves import CurveEncoder, blank_curves, learn_from_curves, shown_curves
from jaxtwin.methods.estimate import ANY_CURVE
from jaxtwin.methods.saving import made_with, trained
from jaxtwin.methods.settings import CURVE_TRAINING
from jaxtwin.methods.tasks import Curves, CurveTask
from jaxtwin.physics.channels import select
from jaxtwin.physics.compilation import compiled
from jaxtwin.training.settings import TrainingConfig


class CurvePSSL(AbstractTrainedMethod[CurveTask, Curves]):
    """P-SSL on curves: a network learns θ from unlabelled curves, through a forward model.

    With an emulator this is the paper's method; with a simulator the same loss is differentiated
    through the periodic state.

    Attributes:
        forward: Forward model from θ to curves; it is not trained. It has the task's box, at least
            the task's channels, and as many phases as the task has samples.
        config: Settings of the training.
        create: Function that makes the untrained encoder, a module (known, shown) → raw θ, from
            the training curves, the number of free parameters, and the keyword arguments width,
            depth and key. `CurveTask.seen` says what is shown of a patient; NaN where a whole
            channel is missing.
        width: Width of the encoder.
        depth: Number of hidden layers.
        slack: Expected error of the network itself, in units of the task's resolution. Added to
            the noise, it determines the weight of the curve relative to the prior.
    """

    sees: ClassVar = dataclasses.replace(ANY_CURVE, cohort=True)
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
        check_forward(task, self.forward)
        forward = self.forward
        shown = shown_curves(task, training)
        encoder = self._encoder(task, shown, jax.random.key(session.seed))
        slack = self.slack * task.resolutions

        def objective(encoder: Any, seen: Curves, curves: Curves, key: Any):
            """Compute the negative log-posterior of each patient, per sample."""
            del key

            def one(known, seen, values, noise, phases):
                raw = encoder(known, seen)
                got = forward(task.theta(raw, known))
                error = task.errors(got, values, 1 / jnp.hypot(noise, slack), phases)
                return (0.5 * jnp.sum(error**2) + task.surprise(raw, known)) / task.samples

            measured = curves.values, curves.noise, curves.phases
            return jax.vmap(one)(curves.known, seen.values, *measured)

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
        """Return the function from curves to an estimate."""
        check_forward(task, self.forward)

        @compiled
        def apply(known, values, phases):
            def one(known, values, phases):
                theta = task.theta(knowledge(known, task.seen(values, phases)), known)
                return theta, self.forward(theta)

            return jax.vmap(one)(known, values, phases)

        def answer(curves: Curves) -> Estimate:
            rows = task.rows(curves)
            theta, got = jax.tree.map(np.asarray, apply(rows.known, rows.values, rows.phases))
            recording = select(task.channels, got)
            finite = [
                np.isfinite(leaf).reshape(len(theta), -1).all(axis=1)
                for leaf in jax.tree.leaves(recording)
            ]
            return task.estimate_from(recording, theta, np.logical_and.reduce(finite))

        return answer

    def _encoder(self, task: CurveTask, training: Curves, key: jax.Array) -> Any:
        free = len(task.box.names)
        return self.create(training, free, width=self.width, depth=self.depth, key=key)


def check_forward(task: CurveTask, forward: AbstractForward) -> None:
    """Raise a ValueError if a forward model does not fit a task."""
    task.check_forward(forward)
    missing = [name for name in task.channels if name not in forward.channels]
    if missing or forward.phases != task.samples:
        raise ValueError(
            f"a forward model of {', '.join(forward.channels)} at {forward.phases} phases for "
            f"a task of {', '.join(task.channels)} at {task.samples}: make it with "
            "channels=task.channels and phases=task.samples"
        )
