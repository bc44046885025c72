"""Importance sampling: draws of a flow, weighted by the likelihood of the simulator.

The weights make the draws those of the exact posterior, as far as enough of them count. What they
are worth tells how good the flow is for this patient, and their mean how well the model explains
the measurement.
"""

import dataclasses
import warnings
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from jaxtwin.cohorts.batching import map_patients
from jaxtwin.cohorts.simulate import simulate_patient
from jaxtwin.inference.distribution import FlowDistribution, estimate_at, flow_of
from jaxtwin.inference.observing import TaskObservation
from jaxtwin.methods.base import AbstractMethod, Estimate, Learnt, Session, check_counts
from jaxtwin.methods.estimate import ANY_CURVE
from jaxtwin.methods.posterior import AbstractDistribution, Posterior
from jaxtwin.methods.tasks import Curves, CurveTask

FEWEST = 50
"""Effective number of proposals below which a patient gets no posterior."""
TOGETHER = 20
"""Number of patients whose proposals are made together."""


class ImportanceSampling(AbstractMethod[CurveTask, Curves]):
    """Draws of a flow, resampled by the likelihood of the simulator.

    A patient of whose proposals fewer than 50 count gets no posterior: `success` is False. The
    largest weights are truncated (Ionides, "Truncated importance sampling", Journal of
    Computational and Graphical Statistics 17(2), 2008).

    Attributes:
        flow: What a method learnt whose answer is a flow, such as `NeuralPosterior`.
        proposals: Number of draws of the flow for each patient, more than are asked for.
    """

    sees: ClassVar = ANY_CURVE
    flow: Learnt[CurveTask, Curves]
    proposals: int = 8_000

    def __check_init__(self) -> None:
        check_counts(self, "proposals")

    def prepare(
        self,
        task: CurveTask,
        training: Curves | None,
        validation: Curves | None,
        session: Session,
    ) -> Learnt[CurveTask, Curves]:
        """Learn nothing; see `AbstractMethod`."""
        del training, validation
        flow = flow_of(self.flow, task)
        return Learnt(self, task, WeightedProposals(flow, task, self.proposals, session))


@dataclasses.dataclass(frozen=True)
class WeightedProposals(AbstractDistribution[Curves]):
    """Posterior of each patient by importance sampling.

    Attributes:
        flow: Distribution of the proposals.
        task: The task.
        proposals: Number of proposals per patient.
        session: The seed of estimates.
    """

    flow: FlowDistribution
    task: CurveTask
    proposals: int
    session: Session

    def weigh(
        self, measurements: Curves, seed: int, mesh: Mesh | None = None
    ) -> tuple[Float[np.ndarray, "patient proposal free"], Float[np.ndarray, "patient proposal"]]:
        """Return proposals, and the logarithms of their weights.

        A weight is likelihood times prior density over the proposal's density. So the mean weight
        of a patient is the evidence, the density of the measurement under the model.

        Args:
            measurements: Checked measurements.
            seed: Seed of the random numbers.
            mesh: Devices to use, see `map_patients`.
        """
        theta, ratio = self.flow.propose(measurements, self.proposals, seed, mesh)
        return theta, log_likelihoods(self.task, measurements, theta, mesh) + ratio

    def sample(self, measurements: Curves, draws: int, seed: int, mesh: Mesh | None) -> Posterior:
        """See `AbstractDistribution`."""
        if draws > self.proposals:
            warnings.warn(
                f"{draws} draws of {self.proposals} weighted proposals repeat each other: make the "
                f"method with proposals={8 * draws} or so, or take fewer draws",
                stacklevel=2,
            )
        found = []
        for start in range(0, self.task.count(measurements), TOGETHER):
            some = measurements.take(slice(start, start + TOGETHER))
            found.append(self._sample(some, draws, seed + start, mesh))
        theta, effective = (np.concatenate(part) for part in zip(*found, strict=True))
        return Posterior(
            self.task.system,
            self.task.box,
            theta,
            effective >= FEWEST,
            effective=np.repeat(effective[:, None], theta.shape[-1], axis=1),
        )

    def _sample(
        self, measurements: Curves, draws: int, seed: int, mesh: Mesh | None
    ) -> tuple[Any, Any]:
        theta, weight = self.weigh(measurements, seed, mesh)
        weight = np.exp(weight - np.max(weight, axis=1, keepdims=True, initial=-np.inf))
        weight = np.where(np.isfinite(weight), weight, 0.0)
        weight = np.minimum(weight, weight.mean(1, keepdims=True) * np.sqrt(weight.shape[1]))
        total = weight.sum(1, keepdims=True)
        effective = total[:, 0] ** 2 / np.maximum((weight**2).sum(1), 1e-30)
        random = np.random.default_rng(seed)
        # Systematic resampling, in random order.
        place = (np.arange(draws) + random.random((len(theta), 1))) / draws
        chosen = np.stack(
            [
                np.searchsorted(np.cumsum(w) / max(w.sum(), 1e-30), random.permutation(p))
                for w, p in zip(weight, place, strict=True)
            ]
        ).clip(max=weight.shape[1] - 1)
        return np.take_along_axis(theta, chosen[..., None], axis=1), effective

    def log_density(self, measurements: Curves, theta: Any) -> Float[np.ndarray, " patient"]:
        """Return likelihood over evidence; see `AbstractDistribution`."""
        found = []
        for start in range(0, self.task.count(measurements), TOGETHER):
            some = slice(start, start + TOGETHER)
            part = measurements.take(some)
            _, weight = self.weigh(part, self.session.seed + start)
            largest = weight.max(axis=1)
            evidence = largest + np.log(np.mean(np.exp(weight - largest[:, None]), axis=1))
            likelihood = log_likelihoods(self.task, part, theta[some, None])[:, 0]
            found.append(likelihood - evidence)
        return np.concatenate(found)

    def __call__(self, measurements: Curves) -> Estimate:
        """Return the estimate at the mean of each patient's draws."""
        found = self.sample(measurements, 1_000, self.session.seed, None)
        estimate = estimate_at(self.task, found.theta.mean(axis=1))
        return estimate._replace(success=estimate.success & found.success)


def log_likelihoods(
    task: CurveTask,
    measurements: Curves,
    theta: Float[np.ndarray, "patient draw free"],
    mesh: Mesh | None = None,
) -> Float[np.ndarray, "patient draw"]:
    """Return the log-likelihood of every draw, up to a constant; −∞ if its simulation fails.

    Args:
        task: The task.
        measurements: Checked measurements.
        theta: Draws of the free parameters for each patient.
        mesh: Devices to use, see `map_patients`.
    """
    rows = task.rows(measurements)
    phases = () if rows.phases is None else (np.asarray(rows.phases),)
    measured = np.concatenate([np.asarray(rows.values), np.asarray(rows.noise), *phases], 1)
    repeated = np.repeat(measured[:, None], theta.shape[1], axis=1)
    table = np.concatenate([theta, repeated], axis=-1).astype(np.float32)
    found = map_patients(
        eqx.Partial(log_likelihood, task), table.reshape(-1, table.shape[-1]), mesh=mesh
    )
    return found.reshape(theta.shape[:2])


def log_likelihood(task: CurveTask, row: Float[Array, " entry"]) -> Float[Array, ""]:
    """Return the log-likelihood of θ up to a constant; −∞ if its simulation fails.

    Args:
        task: The task.
        row: θ, then values, noise and, if there are any, phases of a row of `CurveTask.rows`.
    """
    free, entries = len(task.box.names), len(task.resolutions)
    theta, values, noise, *phases = jnp.split(
        row, [free + k * entries for k in range((len(row) - free) // entries)]
    )
    simulation = simulate_patient(task.system, task.box, task.samples, task.system.steps, theta)
    told = (jnp.zeros(0), values, noise, *phases)
    found = TaskObservation().log_likelihood(task, simulation.recording, *told)
    return jnp.where(simulation.success & jnp.isfinite(found), found, -jnp.inf)
