"""Inverse physics-informed neural network for states and parameters.

Raissi, Perdikaris and Karniadakis, "Physics-informed neural networks: a deep learning framework
for solving forward and inverse problems involving nonlinear partial differential equations",
Journal of Computational Physics 378, 2019.
"""

import functools
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from jaxtwin.cohorts.batching import map_patients
from jaxtwin.methods.base import (
    AbstractMethod,
    Estimate,
    Learnt,
    Sees,
    Session,
    check_counts,
)
from jaxtwin.methods.checks import require_period
from jaxtwin.methods.descent import descend, phase_waves
from jaxtwin.methods.each_patient import Patient, each_patient
from jaxtwin.methods.tasks import Curves, CurveTask
from jaxtwin.parameters import AbstractParameters
from jaxtwin.physics.base import AbstractPeriodicSystem
from jaxtwin.physics.record import record


class Scales(NamedTuple):
    """Typical values of a system's states, which scale the network's outputs to order one.

    Attributes:
        mean: Mean of each state variable over the box and the beat.
        spread: Standard deviation of each state variable over the box and the beat.
    """

    mean: Float[Array | np.ndarray, " state"]
    spread: Float[Array | np.ndarray, " state"]


class StateNetwork(eqx.Module):
    """Periodic network from phase to dimensionless state, with the patient's raw parameters."""

    network: eqx.nn.MLP
    raw: Float[Array, " free"]
    harmonics: int = eqx.field(static=True)

    def __call__(self, phase: Float[Array, ""]) -> Float[Array, " state"]:
        """Return the state at one phase of the beat."""
        return self.network(phase_waves(phase, self.harmonics))


class PINN(AbstractMethod[CurveTask, Curves]):
    """A network for the states of each patient, trained together with θ.

    The loss is the misfit of the curve, plus the residual of the equations in seconds at
    collocation points that move at every step, plus that of the conserved quantities. The residual
    of each equation is divided by the rate 1/T + |∂f_i/∂x_i| at which its state relaxes: otherwise,
    a valve with a small resistance weighs ten thousand times more than anything else. With this
    scaling, an equation that relaxes fast turns into the balance to which it relaxes, and the
    conserved quantities supply what the balances leave undetermined. The period is enforced,
    because the inputs of the network are periodic functions.

    Attributes:
        width: Width of the network.
        depth: Number of hidden layers.
        harmonics: Number of Fourier features of the phase.
        collocation: Number of collocation points per step.
        steps: Number of optimiser steps.
        learning_rate: Peak learning rate of the schedule.
        preconditioned: Whether residuals are divided by the relaxation rates of their states, as
            above; otherwise by 1/T alone, the usual choice in the literature.
        tolerance: Residual, as a share of a state's spread, that has the same weight as an error
            of the curve of one standard deviation of its noise.
    """

    sees: ClassVar = Sees(
        "curve",
        labels=False,
        cohort=False,
        physics=True,
        scale=False,
        gaps=True,
    )
    width: int = 32
    depth: int = 3
    harmonics: int = 8
    collocation: int = 64
    steps: int = 12_000
    learning_rate: float = 5e-3
    preconditioned: bool = True
    tolerance: float = 0.2

    def __check_init__(self) -> None:
        check_counts(self, "width", "collocation", "steps")

    def prepare(
        self,
        task: CurveTask,
        training: Curves | None,
        validation: Curves | None,
        session: Session,
    ) -> Learnt[CurveTask, Curves]:
        """Learn only the scales of the states; see `AbstractMethod`."""
        del training, validation
        require_period(task.system, self)
        scales = jax.tree.map(jnp.asarray, state_scales(task))
        function = eqx.Partial(fit_patient, self, task, scales)

        def answer(curves: Curves) -> Estimate:
            theta, outputs = each_patient(
                function, task, curves, seed=session.seed, chunk=32, progress=session.progress
            )
            curve = getattr(outputs, task.channel)
            waveforms = {
                channel: getattr(outputs, channel)[:, :: FINE // task.samples]
                for channel in task.channels
            }
            maximum, minimum = curve.max(axis=1), curve.min(axis=1)
            return task.estimate(waveforms, maximum=maximum, minimum=minimum, theta=theta)

        return Learnt(self, task, answer)


FINE = 240
"""Number of phases at which a fitted network is evaluated."""


def state_scales(task: CurveTask, points: int = 256) -> Scales:
    """Simulate points of the box for typical states, which a modeller would know in advance."""
    theta = task.box.sample(points, seed=0).astype(np.float32)
    states = map_patients(eqx.Partial(_states, task), theta)
    return Scales(states.mean(axis=(0, 1)), states.std(axis=(0, 1)))


def _states(task: CurveTask, theta: Float[Array, " free"]) -> Float[Array, "time state"]:
    orbit = record(task.system, task.box.complete(theta))
    return jnp.stack(jax.tree.leaves(orbit.states), axis=1)


def residuals(
    task: CurveTask,
    scales: Scales,
    model: Callable[[Float[Array, ""]], Float[Array, " state"]],
    p: AbstractParameters,
    phase: Float[Array, ""],
    *,
    preconditioned: bool,
) -> Float[Array, " residual"]:
    """Compute the scaled residuals of equations and conserved quantities at one phase."""
    system, T = cast(AbstractPeriodicSystem, task.system), task.system.duration(p)
    _, unravel = ravel_pytree(jax.tree.map(jnp.asarray, system.initial_state(p)))

    def rates(y: Float[Array, " state"]) -> Float[Array, " state"]:
        return ravel_pytree(system.vector_field(phase * T, unravel(y), p))[0]

    mean, spread = jnp.asarray(scales.mean), jnp.asarray(scales.spread)
    z, dz = jax.jvp(model, (phase,), (jnp.ones_like(phase),))
    y, dy = mean + spread * z, spread * dz / T
    relaxation = 1 / T
    if preconditioned:
        relaxation = relaxation + jnp.abs(jnp.diag(jax.jacfwd(rates)(y)))
    equations = (dy - rates(y)) / (jax.lax.stop_gradient(relaxation) * spread)

    def conserved(y: Float[Array, " state"]) -> Float[Array, " quantity"]:
        return jnp.asarray(system.conserved(unravel(y), p)).reshape(-1)

    start = conserved(ravel_pytree(system.initial_state(p))[0])
    size = jnp.linalg.norm(jax.jacfwd(conserved)(y) * spread[None], axis=1)
    return jnp.concatenate([equations, (conserved(y) - start) / jax.lax.stop_gradient(size)])


def fit_patient(method: PINN, task: CurveTask, scales: Scales, patient: Patient) -> tuple[Any, Any]:
    """Fit one patient; return θ and the network's outputs at `FINE` phases."""
    make, rest = jax.random.split(patient.key)
    size = len(scales.mean)
    network = eqx.nn.MLP(
        2 * method.harmonics,
        size,
        method.width,
        method.depth,
        jnp.tanh,
        dtype=jnp.float32,
        key=make,
    )
    model = StateNetwork(network, jnp.zeros(len(task.box.names), jnp.float32), method.harmonics)

    def outputs(model: StateNetwork, phases: Float[Array, " phase"]):
        p = task.box.complete(task.theta(model.raw, patient.known))
        _, unravel = ravel_pytree(jax.tree.map(jnp.asarray, task.system.initial_state(p)))

        def one(phase):
            y = jnp.asarray(scales.mean) + jnp.asarray(scales.spread) * model(phase)
            return task.system.outputs(phase * task.system.duration(p), unravel(y), p)

        return jax.vmap(one)(phases)

    def loss(model: StateNetwork, key) -> Float[Array, ""]:
        phases = jnp.arange(task.samples) / task.samples
        own, *_ = task.measured_channels
        values, noise, at = (
            task.parts(row)[0] for row in (patient.values, patient.noise, patient.phases)
        )
        weight = 1 / jnp.maximum(noise, own.resolution)
        misfit = own.compare(getattr(outputs(model, phases), task.channel), values, weight, at)
        p = task.box.complete(task.theta(model.raw, patient.known))
        points = (jnp.arange(method.collocation) + jax.random.uniform(key)) / method.collocation
        residual = functools.partial(residuals, task, scales, preconditioned=method.preconditioned)
        wrong = jax.vmap(lambda phase: residual(model, p, phase))(points)
        physics = jnp.sum(jnp.mean((wrong / method.tolerance) ** 2, axis=0))
        return (
            jnp.mean(misfit**2) + physics + task.surprise(model.raw, patient.known) / task.samples
        )

    model = descend(loss, model, steps=method.steps, learning_rate=method.learning_rate, key=rest)
    return task.theta(model.raw, patient.known), outputs(model, jnp.arange(FINE) / FINE)
