"""Fit through the simulator: nonlinear least squares for each patient, from many starts.

The maximum of the posterior under normal noise and a nearly uniform prior on the box, by the
Levenberg-Marquardt method (Moré, "The Levenberg-Marquardt algorithm: implementation and theory",
Lecture Notes in Mathematics 630, 1978) as Optimistix has it.
"""

from pathlib import Path
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from jaxtyping import Array, Float

from jaxtwin.cohorts.batching import Progress
from jaxtwin.cohorts.simulate import simulate_patient
from jaxtwin.methods.base import (
    RAW_SPREAD,
    AbstractCurveMethod,
    Curves,
    CurveTask,
    Estimate,
    Learnt,
    Patient,
    Sees,
    each_patient,
)
from jaxtwin.physics.channels import select


class LeastSquares(AbstractCurveMethod):
    """Levenberg-Marquardt through the periodic state, the best of many starts.

    Attributes:
        starts: Points of a Sobol sequence over the box from which each patient is fitted.
        iterations: Of each start, at most.
    """

    sees: ClassVar = Sees("curve", labels=False, cohort=False, physics=True)
    starts: int = 8
    iterations: int = 30

    def learn(
        self, task: CurveTask, training: Curves, validation: Curves, *, folder: Path, seed: int
    ) -> Learnt:
        """Nothing to learn; see `AbstractCurveMethod`."""
        del training, validation, folder
        return Learnt(lambda curves: self.fit(task, curves, seed=seed))

    def fit(
        self, task: CurveTask, curves: Curves, *, seed: int, progress: Progress = iter
    ) -> Estimate:
        """Fit each patient; see `fit_patient`. A patient failed if no start gave an orbit."""
        # The starts are the same for all patients; the box's faces are infinitely far.
        theta = jnp.asarray(task.box.sample(self.starts, seed=seed), float)
        raw = task.box.unbound(theta).clip(-4, 4)
        function = eqx.Partial(fit_patient, task, self.iterations, raw)
        theta, simulation = each_patient(
            function, task, curves, seed=seed, chunk=64, progress=progress
        )
        # From a curve with gaps the search does not move, and its start is no answer.
        success = simulation.success & np.isfinite(curves.values).all(axis=1)
        return Estimate(select(task.channels, simulation.recording), theta, success)


def fit_patient(
    task: CurveTask, iterations: int, starts: Float[Array, "start free"], patient: Patient
):
    """The most probable θ of one patient, and the simulated beat there."""

    def simulate(theta):
        return simulate_patient(task.system, task.box, task.samples, task.system.steps, theta)

    def residuals(raw, patient: Patient) -> Float[Array, " residual"]:
        recording = simulate(task.theta(raw, patient.known)).recording
        error = task.weight * (getattr(recording.waveforms, task.channel) - patient.values)
        return jnp.concatenate([error, raw / RAW_SPREAD])

    # Otherwise the solver would keep all that the linearised beat needs, for every start.
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
