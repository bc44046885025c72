"""Neural ODEs: a network in place of the equations.

Chen, Rubanova, Bettencourt and Duvenaud, "Neural ordinary differential equations", NeurIPS 2018;
with the additional dimensions of Dupont, Doucet and Teh, "Augmented neural ODEs", NeurIPS 2019.
Because the heart is driven, the phase of the beat is an input of the network.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from jaxtwin.methods.base import (
    AbstractMethod,
    AbstractTrainedMethod,
    Estimate,
    Learnt,
    Sees,
    Session,
    check_counts,
)
from jaxtwin.methods.checks import require_period
from jaxtwin.methods.curves import CurveEncoder, blank_curves, learn_from_curves, shown_curves
from jaxtwin.methods.descent import descend, phase_waves
from jaxtwin.methods.each_patient import Patient, each_patient
from jaxtwin.methods.interpolation import ratio
from jaxtwin.methods.saving import trained
from jaxtwin.methods.settings import CURVE_TRAINING
from jaxtwin.methods.tasks import Curves, CurveTask
from jaxtwin.training.settings import TrainingConfig

Code = Float[Array, " code"]


class DrivenField(eqx.Module):
    """dz/dφ = network(z, waves of φ, code), and its solution over one beat.

    Attributes:
        network: The trained network.
        harmonics: Number of Fourier features of the phase; with 0, the field is autonomous.
    """

    network: Callable[[Float[Array, " entry"]], Float[Array, " state"]]
    harmonics: int = eqx.field(static=True)

    @classmethod
    def create(
        cls, size: int, code: int, harmonics: int, width: int, depth: int, *, key: PRNGKeyArray
    ) -> "DrivenField":
        """Make an untrained field of `size` states."""
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
        """Return the states at phases 0, 1/n, ... 1, by Heun's method."""

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
            # Store every step: there are few, and recomputing them would take time.
            adjoint=dfx.RecursiveCheckpointAdjoint(checkpoints=samples),
            throw=False,
        )
        return jnp.asarray(solution.ys)


class PatientODE(eqx.Module):
    """Field and initial state of one patient, in dimensionless units."""

    field: DrivenField
    z0: Float[Array, " state"]


class NeuralODE(AbstractMethod[CurveTask, Curves]):
    """A Neural ODE for each patient's curve, made periodic by a penalty.

    It uses no physiology and gives only the curve.

    Attributes:
        augment: Number of states in addition to the curve.
        width: Width of the network.
        depth: Number of hidden layers.
        harmonics: Number of Fourier features of the phase.
        steps: Number of optimiser steps.
        learning_rate: Peak learning rate of the schedule.
        weight_decay: Weight decay, which limits fitting of the noise.
    """

    sees: ClassVar = Sees("curve", labels=False, cohort=False, physics=False, gaps=True)
    augment: int = 2
    width: int = 32
    depth: int = 2
    harmonics: int = 3
    steps: int = 1_000
    learning_rate: float = 1e-2
    weight_decay: float = 1e-2

    def __check_init__(self) -> None:
        check_counts(self, "width", "steps")

    def prepare(
        self,
        task: CurveTask,
        training: Curves | None,
        validation: Curves | None,
        session: Session,
    ) -> Learnt[CurveTask, Curves]:
        """Learn nothing; see `AbstractMethod`."""
        del training, validation
        require_period(task.system, self)
        function = eqx.Partial(fit_patient, self, task)

        def answer(curves: Curves) -> Estimate:
            curve = each_patient(
                function, task, curves, seed=session.seed, progress=session.progress
            )
            return task.estimate({task.channel: curve})

        return Learnt(self, task, answer)


def fit_patient(method: NeuralODE, task: CurveTask, patient: Patient) -> Float[Array, " sample"]:
    """Fit one patient and return the curve of the fitted Neural ODE."""
    make, rest = jax.random.split(patient.key)
    size = 1 + method.augment
    field = DrivenField.create(size, 0, method.harmonics, method.width, method.depth, key=make)
    model = PatientODE(field, jnp.zeros(size, jnp.float32))
    measured = patient.values, patient.noise, patient.phases
    values = patient.values[: task.samples]
    there = jnp.isfinite(values)
    mean, spread = (f(jnp.where(there, values, 0), where=there) for f in (jnp.mean, jnp.std))
    nothing = jnp.zeros(0, jnp.float32)

    def loss(model: PatientODE, key) -> Float[Array, ""]:
        del key
        z = model.field.solve(model.z0, nothing, task.samples)
        error = curve_error(task, mean + spread * z[:-1, 0], *measured) / spread**2
        return error + jnp.mean((z[-1] - z[0]) ** 2)

    model = descend(
        loss,
        model,
        steps=method.steps,
        learning_rate=method.learning_rate,
        weight_decay=method.weight_decay,
        key=rest,
    )
    return mean + spread * model.field.solve(model.z0, nothing, task.samples)[:-1, 0]


def curve_error(
    task: CurveTask,
    curve: Float[Array, " sample"],
    values: Float[Array, " entry"],
    noise: Float[Array, " entry"],
    phases: Float[Array, " entry"] | None,
) -> Float[Array, ""]:
    """Return the mean square difference between a curve and a patient's, weighted by its noise."""
    own, *_ = task.measured_channels
    values, noise, phases = (task.parts(row)[0] for row in (values, noise, phases))
    weight = 1 / jnp.maximum(noise, own.resolution)
    square = jnp.sum(own.compare(curve, values, weight, phases) ** 2)
    return ratio(square, jnp.sum(weight**2))


class SharedODE(eqx.Module):
    """One field for all patients, with an encoder from a curve to a patient's code."""

    encoder: CurveEncoder
    field: DrivenField
    size: int = eqx.field(static=True)
    samples: int = eqx.field(static=True)

    def __call__(
        self, known: Float[Array, " known"], shown: Float[Array, " input"]
    ) -> Float[Array, "boundaries state"]:
        """Return the beat of one patient, in dimensionless units."""
        read = self.encoder(known, shown)
        return self.field.solve(read[: self.size], read[self.size :], self.samples)


class SharedKnowledge(eqx.Module):
    """Knowledge of `ConditionedNeuralODE`: the networks, and the scale of the curves.

    Attributes:
        model: Encoder and field.
        mean: Mean over all samples of the training curves.
        spread: Standard deviation over all samples of the training curves.
    """

    model: SharedODE
    mean: Float[Array, ""]
    spread: Float[Array, ""]


class ConditionedNeuralODE(AbstractTrainedMethod[CurveTask, Curves]):
    """One Neural ODE shared by all patients, conditioned on the measured curve.

    Attributes:
        augment: Number of states in addition to the curve.
        code: Length of a patient's code, which the encoder gives in addition to the initial state.
        width: Width of the field's network; the encoder is four times as wide.
        depth: Number of hidden layers of the field.
        harmonics: Number of Fourier features of the phase.
        config: Settings of the training.
    """

    sees: ClassVar = Sees(
        "curve",
        labels=False,
        cohort=True,
        physics=False,
        gaps=True,
        beside=True,
    )
    augment: int = 2
    code: int = 16
    width: int = 64
    depth: int = 2
    harmonics: int = 3
    config: TrainingConfig = CURVE_TRAINING

    def prepare(
        self, task: CurveTask, training: Curves, validation: Curves, session: Session
    ) -> Learnt[CurveTask, Curves]:
        """Learn the field and the encoder from the curves; see `AbstractMethod`."""
        require_period(task.system, self)
        shown = shown_curves(task, training)
        first = self._create(task, shown, training, jax.random.key(session.seed))
        mean, spread = float(first.mean), float(first.spread)

        def objective(
            model: SharedODE, seen: Curves, curves: Curves, key: Any
        ) -> Float[Array, " n"]:
            del key

            def one(known, seen, *measured):
                z = model(known, seen)
                error = curve_error(task, mean + spread * z[:-1, 0], *measured) / spread**2
                return error + jnp.mean((z[-1] - z[0]) ** 2)

            measured = curves.values, curves.noise, curves.phases
            return jax.vmap(one)(curves.known, seen.values, *measured)

        fitted = learn_from_curves(
            first.model,
            objective,
            task,
            training,
            validation,
            self.config,
            session,
            stage="neural_ode",
        )
        return trained(self, task, dataclasses.replace(first, model=fitted.model), fitted)

    def untrained(self, task: CurveTask) -> SharedKnowledge:
        """Build the networks; see `AbstractTrainedMethod`."""
        blank = blank_curves(task)
        return self._create(task, blank, blank, jax.random.key(0))

    def ready(self, task: CurveTask, knowledge: SharedKnowledge) -> Callable[[Curves], Estimate]:
        """Return the function from curves to an estimate."""
        apply = eqx.filter_jit(lambda known, values: jax.vmap(knowledge.model)(known, values))
        mean, spread = float(knowledge.mean), float(knowledge.spread)

        def answer(curves: Curves) -> Estimate:
            shown = shown_curves(task, curves)
            z = np.asarray(apply(shown.known, shown.values))
            return task.estimate({task.channel: mean + spread * z[:, :-1, 0]})

        return answer

    def _create(
        self, task: CurveTask, shown: Curves, training: Curves, key: PRNGKeyArray
    ) -> SharedKnowledge:
        size, keys = 1 + self.augment, jax.random.split(key)
        encoder = CurveEncoder.create(shown, size + self.code, width=4 * self.width, key=keys[0])
        field = DrivenField.create(
            size, self.code, self.harmonics, self.width, self.depth, key=keys[1]
        )
        values = np.asarray(training.values)
        mean, spread = (jnp.asarray(f(values)) for f in (np.nanmean, np.nanstd))
        return SharedKnowledge(SharedODE(encoder, field, size, task.samples), mean, spread)
