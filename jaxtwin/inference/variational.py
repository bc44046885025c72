"""P-SSL with a posterior: a flow learns each patient's distribution from measurements alone.

The setting is that of P-SSL, no parameters are ever shown. Instead of one θ for each patient, a
flow gives a distribution, and is trained by the evidence lower bound through a forward model
(Kingma and Welling, "Auto-encoding variational Bayes", ICLR 2014, with the simulator as decoder).
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from jaxtwin.forward.base import AbstractForward
from jaxtwin.inference.coordinates import PriorCoordinates
from jaxtwin.inference.distribution import FlowDistribution, shown_row, shown_size, shown_table
from jaxtwin.inference.flow import PosteriorFlow
from jaxtwin.inference.settings import VARIATIONAL_TRAINING
from jaxtwin.methods.base import AbstractTrainedMethod, Learnt, Sees, Session, check_counts
from jaxtwin.methods.curves import learn_from_curves
from jaxtwin.methods.pssl_curves import check_forward
from jaxtwin.methods.saving import made_with, trained
from jaxtwin.methods.tasks import Curves, CurveTask
from jaxtwin.training.settings import TrainingConfig


class VariationalPSSL(AbstractTrainedMethod[CurveTask, Curves]):
    """A conditional flow that learns posteriors from unlabelled curves, through a forward model.

    Maximises the evidence lower bound: the expected log-likelihood of a patient's own measurement
    under draws of the flow, minus the divergence of the flow from the prior.

    Attributes:
        forward: Forward model from θ to curves; it is not trained. A simulator is exact; the error
            of an emulator widens nothing.
        config: Settings of the training.
        draws: Number of draws for each patient and step.
        width: Width of the network that summarises a measurement.
        depth: Number of its hidden layers.
        layers: Number of coupling layers.
    """

    sees: ClassVar = Sees(
        "curve",
        labels=False,
        cohort=True,
        physics=True,
        start=False,
        scale=False,
        gaps=True,
        beside=True,
    )
    forward: AbstractForward
    config: TrainingConfig = VARIATIONAL_TRAINING
    draws: int = 4
    width: int = 256
    depth: int = 3
    layers: int = 4

    def __check_init__(self) -> None:
        check_counts(self, "draws", "width", "layers")

    def prepare(
        self, task: CurveTask, training: Curves, validation: Curves, session: Session
    ) -> Learnt[CurveTask, Curves]:
        """Learn from the curves alone; see `AbstractMethod`."""
        check_forward(task, self.forward)
        coordinates = PriorCoordinates.of(task)
        key = jax.random.key(session.seed)

        def objective(
            flow: PosteriorFlow, seen: Curves, curves: Curves, key: PRNGKeyArray
        ) -> Float[Array, " patient"]:
            """Compute the negative evidence lower bound of each patient, up to a constant."""

            def one(known, values, noise, phases, key):
                shown = shown_row(task, known, values, phases)
                z, density = flow.sample(shown, key, self.draws)
                weight = 1 / jnp.maximum(noise, task.resolutions)

                def loss(z: Any) -> Any:
                    got = self.forward(coordinates.theta(z, known))
                    error = task.errors(got, values, weight, phases)
                    return 0.5 * jnp.sum(error**2) + 0.5 * jnp.sum(z**2)

                return jnp.mean(jax.vmap(loss)(z) + density)

            del seen
            keys = jax.random.split(key, len(curves.values))
            return jax.vmap(one)(curves.known, curves.values, curves.noise, curves.phases, keys)

        fitted = learn_from_curves(
            self._flow(task, shown_table(task, training), key),
            objective,
            task,
            training,
            validation,
            self.config,
            session,
            stage="variational",
            made_with=made_with(self),
            more_noise=0.0,
        )
        return trained(self, task, fitted.model, fitted)

    def untrained(self, task: CurveTask) -> PosteriorFlow:
        """Build the flow; see `AbstractTrainedMethod`."""
        blank = np.zeros((1, shown_size(task)), np.float32)
        with jax.ensure_compile_time_eval():
            return self._flow(task, blank, jax.random.key(0))

    def ready(self, task: CurveTask, knowledge: PosteriorFlow) -> FlowDistribution:
        """Return the distribution; see `AbstractTrainedMethod`."""
        check_forward(task, self.forward)
        return FlowDistribution(task, PriorCoordinates.of(task), knowledge)

    def _flow(self, task: CurveTask, shown: Any, key: PRNGKeyArray) -> PosteriorFlow:
        size = len(PriorCoordinates.of(task).unknown)
        return PosteriorFlow.create(
            shown, size, width=self.width, depth=self.depth, layers=self.layers, key=key
        )
