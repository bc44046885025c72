"""Neural posterior estimation: a flow learns p(θ | measurement) from simulated patients.

Papamakarios and Murray, "Fast ε-free inference of simulation models with Bayesian conditional
density estimation", NeurIPS 2016; with coupling flows as in Radev et al., "BayesFlow: learning
complex stochastic models with invertible neural networks", IEEE Transactions on Neural Networks and
Learning Systems 33(4), 2022. The patients are drawn from the task's prior and simulated; every step
of the training measures some of them again, with fresh noise.
"""

import hashlib
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from jaxtwin.cohorts.simulate import simulate_cohort
from jaxtwin.inference.coordinates import PriorCoordinates
from jaxtwin.inference.distribution import FlowDistribution, shown_row, shown_size
from jaxtwin.inference.flow import PosteriorFlow
from jaxtwin.inference.observing import AbstractObservation, TaskObservation, exact_rows
from jaxtwin.inference.settings import POSTERIOR_TRAINING
from jaxtwin.methods.base import AbstractTrainedMethod, Learnt, Session, check_counts
from jaxtwin.methods.estimate import ANY_CURVE
from jaxtwin.methods.saving import trained
from jaxtwin.methods.tasks import Curves, CurveTask
from jaxtwin.training.loop import epochs, fit
from jaxtwin.training.settings import TrainingConfig

VALIDATION = 2_048
"""Number of simulated patients by which the step is selected."""


class Bank(NamedTuple):
    """Simulated patients to learn from.

    Attributes:
        exact: What would be measured without noise.
        known: Known parameters.
        z: Coordinates of the unknown ones.
    """

    exact: Float[Array | np.ndarray, "patient entry"]
    known: Float[Array | np.ndarray, "patient known"]
    z: Float[Array | np.ndarray, "patient unknown"]


class NeuralPosterior(AbstractTrainedMethod[CurveTask, Curves]):
    """A conditional flow that learns the posterior from simulated patients, for all measurements.

    It needs no cohort. Its noise is the task's: a measurement with other noise gets an error.

    Attributes:
        config: Settings of the training.
        patients: Number of simulated patients.
        width: Width of the network that summarises a measurement.
        depth: Number of its hidden layers.
        layers: Number of coupling layers.
        observation: How simulated patients are drawn and measured; by default from the task's
            prior, with the task's noise and gaps.
    """

    sees: ClassVar = ANY_CURVE
    config: TrainingConfig = POSTERIOR_TRAINING
    patients: int = 65_536
    width: int = 256
    depth: int = 3
    layers: int = 4
    observation: AbstractObservation = TaskObservation()

    def __check_init__(self) -> None:
        check_counts(self, "patients", "width", "layers")
        if not isinstance(self.observation, AbstractObservation):
            raise ValueError(
                f"observation={self.observation!r}: expected an AbstractObservation, such as "
                "TaskObservation()"
            )

    def prepare(
        self,
        task: CurveTask,
        training: Curves | None,
        validation: Curves | None,
        session: Session,
    ) -> Learnt[CurveTask, Curves]:
        """Learn from simulated patients; see `AbstractMethod`."""
        del training, validation
        coordinates = PriorCoordinates.of(task)
        theta = self.observation.patients(task, self.patients + VALIDATION, seed=session.seed)
        bank = simulate_bank(task, coordinates, theta)
        if len(bank.z) < 1.25 * VALIDATION:
            raise ValueError(
                f"{len(bank.z)} simulated patients: expected at least {int(1.25 * VALIDATION)}, of "
                f"whom {VALIDATION} select the step"
            )
        # What patients are measured with is learnt, too: another run's state is not this one's.
        digest = hashlib.sha256()
        for leaf in jax.tree.leaves((bank, eqx.filter(self.observation, eqx.is_array_like))):
            digest.update(np.asarray(leaf).tobytes())
        learning, others = (
            jax.tree.map(lambda x, part=part: x[part], bank)
            for part in (slice(VALIDATION, None), slice(VALIDATION))
        )
        key = jax.random.key(session.seed)

        @eqx.filter_jit
        def measured(bank: Bank, key: PRNGKeyArray) -> Float[Array, "patient input"]:
            def one(exact, known, key):
                row, known = self.observation(task, exact, known, key)
                return shown_row(task, known, row)

            return jax.vmap(one)(bank.exact, bank.known, jax.random.split(key, len(bank.known)))

        def loss(flow: PosteriorFlow, batch: Bank, key: PRNGKeyArray) -> Float[Array, ""]:
            return -jnp.mean(jax.vmap(flow.log_density)(measured(batch, key), jnp.asarray(batch.z)))

        def batches(step: int) -> Iterator[Bank]:
            for index in epochs(
                len(learning.z), self.config.batch_size, seed=session.seed, start_step=step
            ):
                yield jax.tree.map(lambda x, index=index: jnp.asarray(x[index]), learning)

        held_out = jax.tree.map(jnp.asarray, others)
        evaluate = eqx.filter_jit(lambda flow: loss(flow, held_out, key))
        some = jax.tree.map(lambda x: jnp.asarray(x[:4096]), learning)
        fitted = fit(
            self._flow(task, np.asarray(measured(some, key)), key),
            loss,
            batches,
            lambda flow: {"loss": float(evaluate(flow))},
            self.config,
            stage="posterior",
            folder=session.folder,
            description={
                "kind": "posterior",
                "task": task.describe(),
                "observation": type(self.observation).__name__,
                "patients": digest.hexdigest()[:16],
            },
            seed=session.seed,
            resume=session.resume,
            mesh=session.mesh,
            progress_bar=session.progress,
        )
        return trained(self, task, fitted.model, fitted)

    def untrained(self, task: CurveTask) -> PosteriorFlow:
        """Build the flow; see `AbstractTrainedMethod`."""
        blank = np.zeros((1, shown_size(task)), np.float32)
        return self._flow(task, blank, jax.random.key(0))

    def ready(self, task: CurveTask, knowledge: PosteriorFlow) -> FlowDistribution:
        """Return the distribution; see `AbstractTrainedMethod`."""
        return FlowDistribution(task, PriorCoordinates.of(task), knowledge)

    def _flow(self, task: CurveTask, shown: Any, key: PRNGKeyArray) -> PosteriorFlow:
        size = len(PriorCoordinates.of(task).unknown)
        return PosteriorFlow.create(
            shown, size, width=self.width, depth=self.depth, layers=self.layers, key=key
        )


def simulate_bank(
    task: CurveTask, coordinates: PriorCoordinates, theta: Float[np.ndarray, "patient free"]
) -> Bank:
    """Simulate patients to learn from, and leave out those that fail.

    Raises:
        ValueError: If more than half of them fail.
    """
    cohort = simulate_cohort(task.system, task.box, theta, phases=task.samples)
    good = cohort.success
    if good.mean() < 0.5:
        raise ValueError(
            f"{cohort.failures()}\nmore than half of the patients of the prior cannot be simulated"
        )
    cohort = cohort.take(np.flatnonzero(good))
    z = np.asarray(jax.vmap(coordinates.coordinates)(jnp.asarray(cohort.theta)))
    known = np.asarray(cohort.theta)[:, list(coordinates.known)]
    return Bank(exact_rows(task, cohort), known, z.astype(np.float32))
