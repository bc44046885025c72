"""The no-U-turn sampler through the simulator: the reference for all other posteriors.

Hoffman and Gelman, "The No-U-Turn Sampler", Journal of Machine Learning Research 15, 2014, by
BlackJAX. All chains of many patients run at once.
"""

import dataclasses
from typing import Any, ClassVar, cast

import blackjax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from blackjax.diagnostics import effective_sample_size, potential_scale_reduction
from jax.sharding import Mesh
from jaxtyping import Array, Float

from jaxtwin.cohorts.batching import map_patients
from jaxtwin.inference.coordinates import PriorCoordinates
from jaxtwin.inference.density import curvature, log_density, modes
from jaxtwin.inference.distribution import estimate_at, flow_of, shown_row
from jaxtwin.inference.flow import PosteriorFlow
from jaxtwin.methods.base import (
    AbstractMethod,
    Estimate,
    Learnt,
    Session,
    check_counts,
)
from jaxtwin.methods.each_patient import Patient, each_patient, patient_of, patient_rows, share
from jaxtwin.methods.estimate import ANY_CURVE
from jaxtwin.methods.posterior import AbstractDistribution, Posterior
from jaxtwin.methods.tasks import Curves, CurveTask

SPREAD = 1.5
"""Spread of the chains' starts, in standard deviations of the approximate posterior."""
DOUBLINGS = 7
"""Largest number of times that NUTS doubles a trajectory."""
LARGEST_R_HAT = 1.1
"""Potential scale reduction above which the chains of a patient do not agree."""


class NUTS(AbstractMethod[CurveTask, Curves]):
    """Markov chains through the simulator for each patient.

    The chains move in coordinates in which an approximation of the posterior is standard normal.
    By default this is the normal distribution at the best of several fits. Posteriors of a
    circulation are curved, so trajectories are long. With the flow of a `NeuralPosterior` as the
    approximation (Hoffman et al., "NeuTra-lizing bad geometry in Hamiltonian Monte Carlo using
    neural transport", 2019) they are several times shorter. The chains converge to the same
    distribution: the flow only changes the coordinates.

    Attributes:
        flow: What a method learnt whose answer is a flow; None for the normal approximation.
        chains: Number of chains of each patient.
        warmup: Number of steps of each chain that adapt its step size and metric.
        iterations: Largest number of iterations of each fit, if there is no flow.
    """

    sees: ClassVar = ANY_CURVE
    flow: Learnt[CurveTask, Curves] | None = None
    chains: int = 16
    warmup: int = 150
    iterations: int = 20

    def __check_init__(self) -> None:
        check_counts(self, "chains", "warmup", "iterations")

    def prepare(
        self,
        task: CurveTask,
        training: Curves | None,
        validation: Curves | None,
        session: Session,
    ) -> Learnt[CurveTask, Curves]:
        """Learn nothing; see `AbstractMethod`."""
        del training, validation
        flow = None if self.flow is None else flow_of(self.flow, task).flow
        return Learnt(self, task, MarkovChains(self, task, session, flow))


class NormalApproximation(eqx.Module):
    """Map from a standard normal variable to a normal distribution of z.

    Attributes:
        middle: Its mean.
        root: Root of its covariance.
    """

    middle: Float[Array, " unknown"]
    root: Float[Array, "unknown unknown"]

    def __call__(self, w: Float[Array, " unknown"]) -> tuple[Any, Any]:
        """Return z at w, and the logarithm of |dz/dw| up to a constant."""
        return self.middle + self.root @ w, 0.0


class FlowApproximation(eqx.Module):
    """Map from a standard normal variable to the distribution of z by a flow.

    Attributes:
        flow: The flow.
        shown: What it is shown of the patient.
    """

    flow: PosteriorFlow
    shown: Float[Array, " input"]

    def __call__(self, w: Float[Array, " unknown"]) -> tuple[Any, Any]:
        """Return z at w, and the logarithm of |dz/dw|."""
        return self.flow.transform(self.shown, w)


@dataclasses.dataclass(frozen=True)
class MarkovChains(AbstractDistribution[Curves]):
    """Posterior of each patient by NUTS.

    Attributes:
        method: Settings.
        task: The task.
        session: Progress bars and the seed of estimates.
        flow: The flow in whose coordinates the chains move, if there is one.
    """

    method: NUTS
    task: CurveTask
    session: Session
    flow: PosteriorFlow | None

    def sample(self, measurements: Curves, draws: int, seed: int, mesh: Mesh | None) -> Posterior:
        """See `AbstractDistribution`."""
        method, task = self.method, self.task
        coordinates = PriorCoordinates.of(task)
        told, rows = patient_rows(task, measurements, seed=seed)
        n, size = len(rows), len(coordinates.unknown)
        flow = self.flow
        if flow is None:
            fit = eqx.Partial(fit_normal, task, coordinates, method.chains, method.iterations)
            normal = each_patient(fit, task, measurements, seed=seed)
            rows = np.concatenate([np.reshape(x, (n, -1)) for x in (*normal, rows)], axis=1)

        def run(row: Any) -> tuple[Any, Any, Any]:
            if flow is None:
                middle, root, row = jnp.split(row, [size, size + size**2])
                patient = patient_of(told, row)
                approximation = NormalApproximation(middle, root.reshape(size, size))
            else:
                patient = patient_of(told, row)
                shown = shown_row(task, patient.known, patient.values, patient.phases)
                approximation = FlowApproximation(flow, shown)
            each = -(-draws // method.chains)
            return run_chains(
                task, coordinates, approximation, method.chains, method.warmup, each, patient
            )

        theta, r_hat, effective = map_patients(
            run,
            rows.astype(np.float32),
            chunk=min(16, share(n, mesh)),
            mesh=mesh,
            progress=lambda chunks: self.session.progress(chunks, desc="NUTS", unit="chunk"),
        )
        success = np.isfinite(theta).all(axis=(1, 2)) & (r_hat < LARGEST_R_HAT).all(axis=1)

        def of_theta(values: np.ndarray) -> np.ndarray:
            found = np.full((n, len(task.box.names)), np.nan)
            found[:, list(coordinates.unknown)] = values
            return found

        return Posterior(
            task.system,
            task.box,
            theta[:, :draws],
            success,
            r_hat=of_theta(r_hat),
            effective=of_theta(effective),
        )

    def log_density(self, measurements: Curves, theta: Any) -> Any:
        """Raise a ValueError: chains give draws and no normalised density."""
        raise ValueError(
            "NUTS gives draws and no normalised density: use NeuralPosterior, VariationalPSSL or "
            "Laplace for log scores"
        )

    def __call__(self, measurements: Curves) -> Estimate:
        """Return the estimate at the mean of each patient's draws."""
        found = self.sample(measurements, 1_000, self.session.seed, None)
        estimate = estimate_at(self.task, found.theta.mean(axis=1))
        return estimate._replace(success=estimate.success & found.success)


def fit_normal(
    task: CurveTask, coordinates: PriorCoordinates, starts: int, iterations: int, patient: Patient
) -> tuple[Float[Array, " unknown"], Float[Array, "unknown unknown"]]:
    """Return the best of several fits, and a root of the inverse Gauss-Newton Hessian there."""
    first = jax.random.normal(patient.key, (starts, len(coordinates.unknown)), float)
    found, cost = modes(task, coordinates, iterations, first, patient)
    best = found[jnp.argmin(cost)]
    size, axes = jnp.linalg.eigh(curvature(task, coordinates, best, patient))
    return best, axes / jnp.sqrt(jnp.maximum(size, 1.0))[None]


def run_chains(
    task: CurveTask,
    coordinates: PriorCoordinates,
    approximation: NormalApproximation | FlowApproximation,
    chains: int,
    warmup: int,
    draws: int,
    patient: Patient,
) -> tuple[Any, Any, Any]:
    """Run the chains of one patient; return θ of their draws, R̂ and effective sample sizes."""
    size = len(coordinates.unknown)

    def density(w: Float[Array, " unknown"]) -> Float[Array, ""]:
        z, volume = approximation(w)
        return log_density(task, coordinates, patient, z) + volume

    key, other = jax.random.split(jax.random.fold_in(patient.key, 1))
    first = SPREAD * jax.random.normal(key, (chains, size), float)
    adaptation = blackjax.window_adaptation(
        blackjax.nuts, density, initial_step_size=0.5, max_num_doublings=DOUBLINGS
    )

    def run(key: Any, w: Any) -> Any:
        first, second = jax.random.split(key)
        (state, settings), _ = cast(Any, adaptation).run(first, w, num_steps=warmup)
        step = blackjax.nuts(density, **settings).step

        def one(state: Any, key: Any) -> Any:
            state, _ = step(key, state)
            return state, state.position

        _, found = jax.lax.scan(one, state, jax.random.split(second, draws))
        return found

    w = jax.vmap(run)(jax.random.split(other, chains), first)
    z, _ = jax.vmap(jax.vmap(approximation))(w)  # [chain, draw, unknown]
    # One draw of each chain after the other, so that the first ones are of all chains.
    flat = jnp.swapaxes(z, 0, 1).reshape(-1, size)
    theta = jax.vmap(coordinates.theta, (0, None))(flat, patient.known)
    return theta, potential_scale_reduction(z), effective_sample_size(z)
