"""Neural ODEs: a network in the place of the equations.

Chen, Rubanova, Bettencourt and Duvenaud, "Neural ordinary differential equations", NeurIPS 2018;
with the additional dimensions of Dupont, Doucet and Teh, "Augmented neural ODEs", NeurIPS 2019.
The heart is driven, so the network is told the phase of the beat.
"""

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from jaxtwin.cohorts.batching import Progress
from jaxtwin.methods.base import (
    AbstractCurveMethod,
    Curves,
    CurveTask,
    Estimate,
    Learnt,
    Patient,
    Sees,
    each_patient,
    estimate,
    require_period,
)
from jaxtwin.methods.curves import CURVE_TRAINING, CurveEncoder, learn_from_curves
from jaxtwin.methods.descent import descend, phase_waves
from jaxtwin.training.loop import TrainingConfig

Code = Float[Array, " code"]


class DrivenField(eqx.Module):
    """dz/dφ = network(z, waves of φ, code), and its solution over one beat.

    Attributes:
        network: The trained part.
        harmonics: Fourier features of the phase; with none the network is blind to time.
    """

    network: Callable[[Float[Array, " entry"]], Float[Array, " state"]]
    harmonics: int = eqx.field(static=True)

    @classmethod
    def create(
        cls, size: int, code: int, harmonics: int, width: int, depth: int, *, key: PRNGKeyArray
    ) -> "DrivenField":
        """An untrained field of `size` states."""
        network = eqx.nn.MLP(
            size + 2 * harmonics + code,
            size,
            width,
            depth,
            jax.nn.silu,
            dtype=jnp.float32,
            key=key,
        )
        return cls(network, harmonics)

    def solve(
        self, z0: Float[Array, " state"], code: Code, samples: int
    ) -> Float[Array, "boundaries state"]:
        """The states at phases 0, 1/n, ... 1, by Heun's method."""

        def field(phase, z, code):
            return self.network(jnp.concatenate([z, phase_waves(phase, self.harmonics), code]))

        solution = dfx.diffeqsolve(
            dfx.ODETerm(field),
            dfx.Heun(),
            t0=0.0,
            t1=1.0,
            dt0=1 / samples,
            y0=z0,
            args=code,
            saveat=dfx.SaveAt(steps=True, t0=True),
            max_steps=samples,
            # Every step is kept: there are few, and computing them again takes time.
            adjoint=dfx.RecursiveCheckpointAdjoint(checkpoints=samples),
            throw=False,
        )
        return jnp.asarray(solution.ys)


class PatientODE(eqx.Module):
    """One patient's field and initial state, in dimensionless units."""

    field: DrivenField
    z0: Float[Array, " state"]


class NeuralODE(AbstractCurveMethod):
    """A Neural ODE for each patient's curve, periodic by a penalty.

    It knows no physiology: the curve is all it gives.

    Attributes:
        augment: States beside the curve itself.
        width: Of the network.
        depth: Its hidden layers.
        harmonics: Fourier features of the phase.
        steps: Optimiser steps.
        learning_rate: Peak of the schedule.
        weight_decay: What keeps it from following the noise.
    """

    sees: ClassVar = Sees("curve", labels=False, cohort=False, physics=False)
    augment: int = 2
    width: int = 32
    depth: int = 2
    harmonics: int = 3
    steps: int = 1_000
    learning_rate: float = 1e-2
    weight_decay: float = 1e-2

    def learn(
        self, task: CurveTask, training: Curves, validation: Curves, *, folder: Path, seed: int
    ) -> Learnt:
        """Nothing to learn; see `AbstractCurveMethod`."""
        del training, validation, folder
        require_period(task, self)
        return Learnt(lambda curves: self.fit(task, curves, seed=seed))

    def fit(
        self, task: CurveTask, curves: Curves, *, seed: int, progress: Progress = iter
    ) -> Estimate:
        """Fit each patient; see `fit_patient`."""
        function = eqx.Partial(fit_patient, self, task)
        curve = each_patient(function, task, curves, seed=seed, chunk=64, progress=progress)
        return estimate(task, {task.channel: curve})


def fit_patient(method: NeuralODE, task: CurveTask, patient: Patient) -> Float[Array, " sample"]:
    """One patient's curve as the fitted Neural ODE has it."""
    make, rest = jax.random.split(patient.key)
    size = 1 + method.augment
    field = DrivenField.create(size, 0, method.harmonics, method.width, method.depth, key=make)
    model = PatientODE(field, jnp.zeros(size, jnp.float32))
    mean, spread = jnp.mean(patient.values), jnp.std(patient.values)
    nothing = jnp.zeros(0, jnp.float32)

    def loss(model: PatientODE, key) -> Float[Array, ""]:
        del key
        z = model.field.solve(model.z0, nothing, task.samples)
        misfit = z[:-1, 0] - (patient.values - mean) / spread
        return jnp.mean(misfit**2) + jnp.mean((z[-1] - z[0]) ** 2)

    model = descend(
        loss,
        model,
        steps=method.steps,
        learning_rate=method.learning_rate,
        weight_decay=method.weight_decay,
        key=rest,
    )
    return mean + spread * model.field.solve(model.z0, nothing, task.samples)[:-1, 0]


class SharedODE(eqx.Module):
    """One field for all patients, and a network that reads each patient's code from the curve."""

    encoder: CurveEncoder
    field: DrivenField
    size: int = eqx.field(static=True)

    def __call__(
        self, known: Float[Array, " known"], values: Float[Array, " sample"]
    ) -> Float[Array, "boundaries state"]:
        """The beat of one patient, in dimensionless units."""
        read = self.encoder(known, values)
        return self.field.solve(read[: self.size], read[self.size :], len(values))


class ConditionedNeuralODE(AbstractCurveMethod):
    """One Neural ODE shared by all patients, conditioned on the measured curve.

    Attributes:
        augment: States beside the curve itself.
        code: Length of what the encoder says of a patient, beside the initial state.
        width: Of both networks.
        depth: Hidden layers of the field.
        harmonics: Fourier features of the phase.
        config: How it is trained.
    """

    sees: ClassVar = Sees("curve", labels=False, cohort=True, physics=False)
    augment: int = 2
    code: int = 16
    width: int = 64
    depth: int = 2
    harmonics: int = 3
    config: TrainingConfig = CURVE_TRAINING

    def learn(
        self, task: CurveTask, training: Curves, validation: Curves, *, folder: Path, seed: int
    ) -> Learnt:
        """Learn the field and the encoder from the curves; see `AbstractCurveMethod`."""
        require_period(task, self)
        size = 1 + self.augment
        keys = jax.random.split(jax.random.key(seed))
        model = SharedODE(
            CurveEncoder.create(training, size + self.code, width=4 * self.width, key=keys[0]),
            DrivenField.create(
                size, self.code, self.harmonics, self.width, self.depth, key=keys[1]
            ),
            size,
        )
        mean, spread = float(training.values.mean()), float(training.values.std())

        def objective(model: SharedODE, seen: Curves, curves: Curves) -> Float[Array, " n"]:
            def one(known, seen, values):
                z = model(known, seen)
                misfit = z[:-1, 0] - (values - mean) / spread
                return jnp.mean(misfit**2) + jnp.mean((z[-1] - z[0]) ** 2)

            return jax.vmap(one)(curves.known, seen.values, curves.values)

        fitted = learn_from_curves(
            model,
            objective,
            task,
            training,
            validation,
            self.config,
            stage="neural_ode",
            folder=folder,
            seed=seed,
        )
        apply = eqx.filter_jit(lambda known, values: jax.vmap(fitted.model)(known, values))

        def answer(curves: Curves) -> Estimate:
            z = np.asarray(apply(curves.known, curves.values))
            return estimate(task, {task.channel: mean + spread * z[:, :-1, 0]})

        return Learnt(answer, fitted.steps, fitted.seconds, fitted.step_seconds)
