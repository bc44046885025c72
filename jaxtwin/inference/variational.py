"""P-SSL with a posterior: a flow learns each patient's distribution from measurements alone.

The setting is that of P-SSL, no parameters are ever shown. Instead of one θ for each patient, a
flow gives a distribution, and is trained by the evidence lower bound through a forward model
(Kingma and Welling, "Auto-encoding variational Bayes", ICLR 2014, with the simulator as decoder),
weighted by importance, which is tighter (Burda, Grosse and Salakhutdinov, "Importance weighted
autoencoders", ICLR 2016).
"""

import dataclasses
import hashlib
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from jaxtwin.forward.base import AbstractForward
from jaxtwin.inference.coordinates import PriorCoordinates
from jaxtwin.inference.distribution import FlowDistribution, shown_row, shown_size, shown_table
from jaxtwin.inference.flow import PosteriorFlow
from jaxtwin.inference.observing import AbstractLikelihood, TaskObservation
from jaxtwin.inference.settings import VARIATIONAL_TRAINING
from jaxtwin.methods.base import AbstractTrainedMethod, Learnt, Session, check_counts
from jaxtwin.methods.curves import learn_from_curves
from jaxtwin.methods.estimate import ANY_CURVE
from jaxtwin.methods.pssl_curves import check_forward
from jaxtwin.methods.saving import made_with, trained
from jaxtwin.methods.tasks import Curves, CurveTask
from jaxtwin.training.settings import TrainingConfig


class VariationalPSSL(AbstractTrainedMethod[CurveTask, Curves]):
    """A conditional flow that learns posteriors from unlabelled curves, through a forward model.

    Maximises a lower bound of the evidence: the logarithm of the mean weight of a few draws of the
    flow, expected over draws. A weight is the likelihood of the patient's own measurement times
    prior density over the flow's density. With one draw it is the expected log-likelihood minus the
    divergence of the flow from the prior.

    A network that is not sure where a patient's posterior is does not widen it. So where errors are
    small, its intervals are too narrow: hold them against the simulator with `ImportanceSampling`.

    Attributes:
        forward: Forward model from θ to curves; it is not trained. A simulator is exact; the error
            of an emulator widens nothing.
        likelihood: Density of a measurement, given a patient's recording; by default normal and
            independent errors of the task's noise. Of curves that a segmentation finds in clips it
            is `jaxtwin.twin.curve_errors.ClipObservation`, because they err as a whole.
        config: Settings of the training.
        draws: Number of draws for each patient and step.
        width: Width of the network that summarises a measurement.
        depth: Number of its hidden layers.
        layers: Number of coupling layers.
    """

    sees: ClassVar = dataclasses.replace(ANY_CURVE, cohort=True)
    forward: AbstractForward
    likelihood: AbstractLikelihood = TaskObservation()
    config: TrainingConfig = VARIATIONAL_TRAINING
    draws: int = 4
    width: int = 256
    depth: int = 3
    layers: int = 4

    def __check_init__(self) -> None:
        check_counts(self, "draws", "width", "layers")
        if not isinstance(self.likelihood, AbstractLikelihood):
            raise ValueError(
                f"likelihood={self.likelihood!r}: expected an AbstractLikelihood, such as "
                "TaskObservation()"
            )

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
            """Compute the negative lower bound of each patient's evidence, up to a constant."""

            def one(known, values, noise, phases, key):
                shown = shown_row(task, known, values, phases)
                z, density = flow.sample(shown, key, self.draws)

                def joint(z: Any) -> Any:
                    got = self.forward(coordinates.theta(z, known))
                    told = (known, values, noise, phases)
                    found = self.likelihood.log_likelihood(task, got, *told)
                    return found - 0.5 * jnp.sum(z**2)

                weight = jax.vmap(joint)(z) - density
                return -jax.nn.logsumexp(weight) + np.log(self.draws)

            del seen
            keys = jax.random.split(key, len(curves.values))
            return jax.vmap(one)(curves.known, curves.values, curves.noise, curves.phases, keys)

        digest = hashlib.sha256()
        for leaf in jax.tree.leaves(eqx.filter(self.likelihood, eqx.is_array_like)):
            digest.update(np.asarray(leaf).tobytes())
        likelihood = f"{type(self.likelihood).__name__} {digest.hexdigest()[:16]}"
        fitted = learn_from_curves(
            self._flow(task, shown_table(task, training), key),
            objective,
            task,
            training,
            validation,
            self.config,
            session,
            stage="variational",
            made_with=f"{made_with(self)}, {likelihood}",
            more_noise=0.0,
        )
        return trained(self, task, fitted.model, fitted)

    def untrained(self, task: CurveTask) -> PosteriorFlow:
        """Build the flow; see `AbstractTrainedMethod`."""
        blank = np.zeros((1, shown_size(task)), np.float32)
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
