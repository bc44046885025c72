"""Nonlinear least squares through the simulator for each patient, from several starts.

Maximises the posterior under normal noise and the task's prior, with the
Levenberg-Marquardt method (Moré, "The Levenberg-Marquardt algorithm: implementation and theory",
Lecture Notes in Mathematics 630, 1978) of Optimistix.
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from jaxtyping import Array, Float

from jaxtwin.cohorts.simulate import simulate_patient
from jaxtwin.methods.base import (
    AbstractMethod,
    Estimate,
    Learnt,
    Session,
    check_counts,
)
from jaxtwin.methods.each_patient import Patient, each_patient
from jaxtwin.methods.estimate import ANY_CURVE
from jaxtwin.methods.tasks import Curves, CurveTask


class LeastSquares(AbstractMethod[CurveTask, Curves]):
    """Levenberg-Marquardt fit through the simulator, the best of several starts.

    Attributes:
        starts: Number of starts of each patient's fit, points of a Sobol sequence over the box.
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
        # All patients have the same starts. The faces of the box are at infinity.
        theta = jnp.asarray(task.box.sample(self.starts, seed=session.seed), float)
        raw = task.box.unbound(theta).clip(-4, 4)
        function = eqx.Partial(fit_patient, task, self.iterations, raw)

        def answer(curves: Curves) -> Estimate:
            theta, simulation = each_patient(
                function, task, curves, seed=session.seed, progress=session.progress
            )
            return task.estimate_from(simulation.recording, theta, simulation.success)

        return Learnt(self, task, answer)


def fit_patient(
    task: CurveTask, iterations: int, starts: Float[Array, "start free"], patient: Patient
):
    """Return the most probable θ of one patient, and the simulated beat at this θ."""

    def simulate(theta):
        return simulate_patient(task.system, task.box, task.samples, task.system.steps, theta)

    def residuals(raw, patient: Patient) -> Float[Array, " residual"]:
        recording = simulate(task.theta(raw, patient.known)).recording
        weight = 1 / jnp.maximum(patient.noise, task.resolutions)
        error = task.errors(recording, patient.values, weight, patient.phases)
        return jnp.concatenate([error, task.whiten(raw, patient.known)])

    # Otherwise the solver would store the residuals of the linearised beat for every start.
    linearised = jax.custom_jvp(residuals)

    @linearised.defjvp
    def _(primals, tangents):
        raw, patient = primals
        jacobian = jax.jacfwd(residuals)(raw, patient)
        return residuals(raw, patient), jacobian @ tangents[0]

    solver = optx.LevenbergMarquardt(rtol=1e-4, atol=1e-4)

    def solve(raw: Float[Array, " free"]):
        solution = optx.least_squares(
            linearised, solver, raw, args=patient, max_steps=iterations, throw=False
        )
        cost = jnp.sum(residuals(solution.value, patient) ** 2)
        return solution.value, jnp.where(jnp.isfinite(cost), cost, jnp.inf)

    raw, cost = jax.vmap(solve)(starts)
    theta = task.theta(raw[jnp.argmin(cost)], patient.known)
    return theta, simulate(theta)
