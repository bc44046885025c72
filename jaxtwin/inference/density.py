"""Density of the posterior in the coordinates z, by simulation."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxtwin.cohorts.simulate import simulate_patient
from jaxtwin.inference.coordinates import PriorCoordinates
from jaxtwin.methods.each_patient import Patient
from jaxtwin.methods.tasks import CurveTask


def residuals(
    task: CurveTask,
    coordinates: PriorCoordinates,
    z: Float[Array, " unknown"],
    patient: Patient,
) -> Float[Array, " residual"]:
    """Return residuals r at z, of which −½ rᵀr is the logarithm of the posterior density of z.

    The measurement has independent normal errors, with the standard deviation of its noise and at
    least the task's resolution. An unknown start or scale takes the value that fits best.

    Args:
        task: The task.
        coordinates: Its coordinates.
        z: Coordinates of the unknown parameters.
        patient: What was measured.
    """
    theta = coordinates.theta(z, patient.known)
    simulation = simulate_patient(task.system, task.box, task.samples, task.system.steps, theta)
    weight = 1 / jnp.maximum(patient.noise, task.resolutions)
    error = task.errors(simulation.recording, patient.values, weight, patient.phases)
    return jnp.concatenate([jnp.where(simulation.success, error, jnp.inf), z])


def log_density(
    task: CurveTask,
    coordinates: PriorCoordinates,
    patient: Patient,
    z: Float[Array, " unknown"],
) -> Float[Array, ""]:
    """Return the logarithm of the posterior density of z up to a constant; see `residuals`."""
    return -0.5 * jnp.sum(residuals(task, coordinates, z, patient) ** 2)


def modes(
    task: CurveTask,
    coordinates: PriorCoordinates,
    iterations: int,
    starts: Float[Array, "start unknown"],
    patient: Patient,
) -> tuple[Any, Any]:
    """Return where Levenberg-Marquardt iterations from several starts end, and −2 log density.

    Args:
        task: The task.
        coordinates: Its coordinates.
        iterations: Largest number of iterations.
        starts: Where they start.
        patient: What was measured.
    """
    import optimistix as optx  # Takes a sixth of a second; the rest of the module does without.

    def function(z: Any, patient: Patient) -> Any:
        return residuals(task, coordinates, z, patient)

    # Otherwise the solver would store the residuals of the linearised beat for every start.
    linearised = jax.custom_jvp(function)

    @linearised.defjvp
    def _(primals, tangents):
        z, patient = primals
        return function(z, patient), jax.jacfwd(function)(z, patient) @ tangents[0]

    solver = optx.LevenbergMarquardt(rtol=1e-4, atol=1e-4)

    def solve(z: Any) -> Any:
        found = optx.least_squares(
            linearised, solver, z, args=patient, max_steps=iterations, throw=False
        ).value
        cost = jnp.sum(function(found, patient) ** 2)
        return found, jnp.where(jnp.isfinite(cost), cost, jnp.inf)

    return jax.vmap(solve)(starts)


def curvature(
    task: CurveTask,
    coordinates: PriorCoordinates,
    z: Float[Array, " unknown"],
    patient: Patient,
) -> Float[Array, "unknown unknown"]:
    """Return JᵀJ of the residuals: the Gauss-Newton Hessian of −log density.

    It is the Fisher information of the measurement, plus 1 for the prior.
    """
    jacobian = jax.jacfwd(lambda z: residuals(task, coordinates, z, patient))(z)
    return jacobian.T @ jacobian
