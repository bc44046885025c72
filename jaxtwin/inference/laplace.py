"""The Laplace approximation: a normal distribution at each patient's fit."""

import dataclasses
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from jaxtwin.inference.coordinates import PriorCoordinates
from jaxtwin.inference.density import curvature, log_density, modes
from jaxtwin.inference.distribution import estimate_at
from jaxtwin.methods.base import AbstractMethod, Estimate, Learnt, Session, check_counts
from jaxtwin.methods.each_patient import Patient, each_patient
from jaxtwin.methods.estimate import ANY_CURVE
from jaxtwin.methods.posterior import AbstractDistribution, Posterior
from jaxtwin.methods.tasks import Curves, CurveTask

STEP = 0.3
"""Step of the differences of gradients, in standard deviations of the Gauss-Newton posterior."""


class Laplace(AbstractMethod[CurveTask, Curves]):
    """Normal distribution of z at the best of several fits through the simulator.

    Its covariance is the inverse of the Hessian of the negative log-posterior. The simulator has
    first derivatives only, so the Hessian is taken by central differences of its gradient, along
    the principal axes of the Gauss-Newton Hessian. Directions in which it is not positive get the
    Gauss-Newton value.

    Attributes:
        starts: Number of starts of each patient's fit, draws from the prior.
        iterations: Largest number of iterations from each start.
    """

    sees: ClassVar = ANY_CURVE
    starts: int = 8
    iterations: int = 30

    def __check_init__(self) -> None:
        check_counts(self, "starts", "iterations")

    def prepare(
        self,
        task: CurveTask,
        training: Curves | None,
        validation: Curves | None,
        session: Session,
    ) -> Learnt[CurveTask, Curves]:
        """Learn nothing; see `AbstractMethod`."""
        del training, validation
        return Learnt(self, task, NormalDistribution(self, task, session))


@dataclasses.dataclass(frozen=True)
class NormalDistribution(AbstractDistribution[Curves]):
    """Posterior of each patient by the Laplace approximation.

    Attributes:
        method: Settings.
        task: The task.
        session: Progress bars and the seed of the starts.
    """

    method: Laplace
    task: CurveTask
    session: Session

    def fit(
        self, measurements: Curves
    ) -> tuple[Float[np.ndarray, "patient unknown"], Float[np.ndarray, "patient unknown unknown"]]:
        """Return mode and root of the covariance of z for each patient; NaN where that fails."""
        function = eqx.Partial(
            approximate,
            self.task,
            PriorCoordinates.of(self.task),
            self.method.starts,
            self.method.iterations,
        )
        return each_patient(
            function,
            self.task,
            measurements,
            seed=self.session.seed,
            progress=self.session.progress,
        )

    def sample(self, measurements: Curves, draws: int, seed: int, mesh: Mesh | None) -> Posterior:
        """See `AbstractDistribution`. Lineax does not trace on a mesh: every process fits all."""
        del mesh
        mode, root = self.fit(measurements)
        normal = np.random.default_rng(seed).normal(size=(len(mode), draws, mode.shape[1]))
        z = mode[:, None] + np.einsum("pij,pdj->pdi", root, normal)
        theta = self._theta(z.astype(np.float32), measurements)
        success = np.asarray(np.isfinite(theta).all(axis=(1, 2)))
        return Posterior(self.task.system, self.task.box, theta, success)

    def log_density(
        self, measurements: Curves, theta: Float[np.ndarray, "patient free"]
    ) -> Float[np.ndarray, " patient"]:
        """See `AbstractDistribution`."""
        mode, root = (np.asarray(part, float) for part in self.fit(measurements))
        coordinates = PriorCoordinates.of(self.task)
        z = np.asarray(jax.vmap(coordinates.coordinates)(jnp.asarray(theta, jnp.float32)))
        away = np.linalg.solve(root, (z - mode)[..., None])[..., 0]
        _, volume = np.linalg.slogdet(root)
        return 0.5 * (z**2).sum(axis=1) - 0.5 * (away**2).sum(axis=1) - volume

    def __call__(self, measurements: Curves) -> Estimate:
        """Return the estimate at each patient's mode."""
        mode, _ = self.fit(measurements)
        return estimate_at(self.task, self._theta(mode[:, None], measurements)[:, 0])

    def _theta(
        self, z: Float[np.ndarray, "patient draw unknown"], measurements: Curves
    ) -> Float[np.ndarray, "patient draw free"]:
        coordinates = PriorCoordinates.of(self.task)
        several = jax.vmap(jax.vmap(coordinates.theta, (0, None)))
        known = jnp.asarray(measurements.known, jnp.float32)
        return np.asarray(several(jnp.asarray(z), known))


def approximate(
    task: CurveTask, coordinates: PriorCoordinates, starts: int, iterations: int, patient: Patient
) -> tuple[Float[Array, " unknown"], Float[Array, "unknown unknown"]]:
    """Return the mode of one patient's posterior, and a root of the inverse Hessian there."""
    first = jax.random.normal(patient.key, (starts, len(coordinates.unknown)), float)
    found, cost = modes(task, coordinates, iterations, first, patient)
    mode = found[jnp.argmin(cost)]
    return mode, inverse_root(hessian_like(task, coordinates, mode, patient))


def hessian_like(
    task: CurveTask,
    coordinates: PriorCoordinates,
    z: Float[Array, " unknown"],
    patient: Patient,
) -> tuple[Float[Array, "unknown unknown"], Float[Array, "unknown unknown"]]:
    """Return the Hessian of −log density in the axes of a root R of the inverse Gauss-Newton one.

    Returns:
        R, and RᵀHR, the unit matrix if the residuals are linear.
    """
    size, axes = jnp.linalg.eigh(curvature(task, coordinates, z, patient))
    root = axes / jnp.sqrt(jnp.maximum(size, 1.0))[None]
    gradient = jax.grad(lambda z: -log_density(task, coordinates, patient, z))

    def along(column: Float[Array, " unknown"]) -> Float[Array, " unknown"]:
        ahead, behind = (gradient(z + step * column) for step in (STEP, -STEP))
        return root.T @ (ahead - behind) / (2 * STEP)

    hessian = jax.lax.map(along, root.T)
    return root, 0.5 * (hessian + hessian.T)


def inverse_root(
    parts: tuple[Float[Array, "unknown unknown"], Float[Array, "unknown unknown"]],
) -> Float[Array, "unknown unknown"]:
    """Return a root of the inverse Hessian, from what `hessian_like` returns.

    Where the Hessian is less than a tenth of the Gauss-Newton one, the mode is no minimum along
    this axis as far as the differences tell, and the Gauss-Newton value is taken.
    """
    root, hessian = parts
    size, axes = jnp.linalg.eigh(hessian)
    return root @ (axes / jnp.sqrt(jnp.where(size > 0.1, size, 1.0))[None])
