"""The protocol of all methods: a method learns a task, and the result estimates patients.

    learnt = method.learn(task, training, validation)
    found = learnt.estimate(measurements)
    found.theta, found.readings["EF"], found.success

A custom method declares what it sees and implements `AbstractMethod.prepare`. This one gives each
patient the extremes of the training patient with the most similar curve:

    class Nearest(AbstractMethod[CurveTask, Curves]):
        sees: ClassVar = Sees("curve", labels=True, cohort=True, physics=False)

        def prepare(self, task, training, validation, session):
            def answer(curves):
                distance = ((curves.values[:, None] - training.values[None]) ** 2).sum(axis=-1)
                nearest = training.take(distance.argmin(axis=1))
                return task.estimate({}, maximum=nearest.maximum, minimum=nearest.minimum)

            return Learnt(self, task, answer)

The task checks the measurements and judges the estimates, so a method does not have to.
"""

import abc
import dataclasses
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, cast

import equinox as eqx
import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float

from jaxtwin.cohorts.simulate import check_whole
from jaxtwin.devices import check_mesh
from jaxtwin.methods.estimate import AbstractTask as AbstractTask
from jaxtwin.methods.estimate import Estimate as Estimate
from jaxtwin.methods.estimate import Measurements as Measurements
from jaxtwin.methods.estimate import Sees as Sees
from jaxtwin.methods.estimate import Task as Task
from jaxtwin.methods.posterior import AbstractDistribution, Posterior
from jaxtwin.training.progress import ProgressBar, progress_bar

if TYPE_CHECKING:
    from typing import ClassVar as AbstractClassVar
else:
    from equinox import AbstractClassVar


class Session(NamedTuple):
    """Settings of one run of learning; see `AbstractMethod.learn`."""

    seed: int
    folder: Path | None
    progress: ProgressBar
    resume: bool
    mesh: Mesh | None = None


@dataclasses.dataclass(frozen=True)
class Learnt(Generic[Task, Measurements]):
    """Result of learning: a method that can estimate new patients.

    Attributes:
        method: The method that learnt.
        task: The task that was learnt.
        answer: Function from checked measurements to an estimate; call `estimate` instead.
        knowledge: Pytree with the learnt arrays; None for methods that fit each patient
            individually.
        validation: Errors on the validation patients, by name; "loss" is the one used to select
            the step. Empty for methods that fit each patient individually.
        best_step: Step with the lowest validation loss, whose arrays were kept.
        steps: Number of optimiser steps.
        seconds: Time for learning, including compilation [s].
        step_seconds: Time per step, without compilation [s].
        fits: Whether estimates are supposed to reproduce the measurement; if not, a misfit does
            not cause a warning.
    """

    method: "AbstractMethod[Task, Measurements]"
    task: Task
    answer: Callable[[Measurements], Estimate]
    knowledge: Any = None
    validation: Mapping[str, float] = dataclasses.field(default_factory=dict)
    best_step: int = 0
    steps: int = 0
    seconds: float = 0.0
    step_seconds: float = 0.0
    fits: bool = True

    @property
    def ignored(self) -> tuple[str, ...]:
        """Names of measured channels that the method does not use."""
        beside = getattr(self.task, "beside", ())
        return () if self.method.sees.beside else tuple(channel.name for channel in beside)

    def estimate(self, measurements: Measurements) -> Estimate:
        """Estimate each patient from the measurements.

        Raises:
            ValueError: If the measurements do not belong to the task, or the method's answer is no
                `Estimate` of these patients.

        Warns:
            UserWarning: If parameters lie outside the box.
            OutOfModelWarning: If a measurement is far from the method's reconstruction of it; see
                the task's `judge`.
        """
        checked = self.task.check(measurements, sees=self.method.sees)
        found = self.answer(checked)
        self._check(found, self.task.count(checked))
        found = found._replace(success=found.success & self.task.usable(checked))
        return self.task.judge(checked, found) if self.fits else found

    def posterior(
        self,
        measurements: Measurements,
        *,
        draws: int = 1_000,
        seed: int = 0,
        mesh: Mesh | None = None,
    ) -> Posterior:
        """Draw from the distribution of each patient's parameters, given the measurements.

        Args:
            measurements: Measurements of some patients.
            draws: Number of draws per patient.
            seed: Seed of the random numbers.
            mesh: Devices over which patients are spread; by default only JAX's default device. The
                mesh may span several processes (`jax.distributed.initialize`): all of them call
                this with the same arguments, and all get all draws.

        Raises:
            ValueError: If the method gives no distribution, or the measurements do not belong to
                the task.
        """
        distribution, checked = self._distribution(measurements)
        check_whole(draws=draws)
        check_mesh(mesh)
        found = distribution.sample(checked, draws, seed, mesh)
        return found._replace(success=found.success & self.task.usable(checked))

    def log_density(
        self, measurements: Measurements, theta: Float[np.ndarray, "patient free"]
    ) -> Float[np.ndarray, " patient"]:
        """Return the logarithm of posterior density over prior density at given parameters [nats].

        Its mean over patients, at their true parameters, is the log score: the larger, the better.
        It does not depend on units, and 0 means that the measurement said nothing.

        Args:
            measurements: Measurements of some patients.
            theta: Parameters of each patient, in the order of the box. Those that are known are
                taken from the measurements.

        Returns:
            One number per patient, NaN if nothing was measured.

        Raises:
            ValueError: If the method gives no density, the measurements do not belong to the task,
                or θ is not one row per patient or outside the box.
        """
        distribution, checked = self._distribution(measurements)
        shape, n = np.shape(theta), self.task.count(checked)
        if shape != (n, len(self.task.box.names)):
            raise ValueError(
                f"θ of shape {shape} for {n} patients: expected one row per patient, "
                f"({n}, {len(self.task.box.names)})"
            )
        self.task.box.check(theta)
        return distribution.log_density(checked, np.asarray(theta))

    def _distribution(
        self, measurements: Measurements
    ) -> tuple[AbstractDistribution[Measurements], Measurements]:
        """Return the method's distribution and the checked measurements."""
        if not isinstance(self.answer, AbstractDistribution):
            raise ValueError(
                f"{type(self.method).__name__} gives one estimate for each patient and no "
                "distribution: use NeuralPosterior, VariationalPSSL, NUTS or Laplace"
            )
        checked = self.task.check(measurements, sees=self.method.sees)
        if not self.task.count(checked):
            raise ValueError("measurements of no patient: expected those of at least one")
        return self.answer, checked

    def _check(self, found: Any, patients: int) -> None:
        """Check the shapes of what a method gave, and that its θ lie in the box."""
        name, box = type(self.method).__name__, self.task.box
        if not isinstance(found, Estimate):
            raise ValueError(
                f"the answer of {name} is of type {type(found).__name__}: expected an Estimate, "
                "such as task.estimate_from(recording, theta, success)"
            )
        shapes: list[Any] = [("success", np.shape(found.success), (patients,))]
        if found.theta is not None:
            shapes.append(("θ", np.shape(found.theta), (patients, len(box.names))))
        for leaf in jax.tree.leaves(found.recording):
            shapes.append(("recordings", np.shape(leaf)[:1], (patients,)))
        for what, got, expected in shapes:
            if got != expected:
                raise ValueError(
                    f"the answer of {name} for {patients} patients has {what} of shape {got}: "
                    f"expected {expected}"
                )
        if found.theta is not None:
            theta = np.asarray(found.theta)[np.asarray(found.success)]
            outside = ~np.asarray(box.contains(theta))
            if outside.any():
                warnings.warn(
                    f"{np.sum(outside)} of {patients} patients have parameters outside the box "
                    f"{box.describe()} by {name}: are the columns of θ in the order of the box?",
                    stacklevel=3,
                )


class AbstractMethod(eqx.Module, Generic[Task, Measurements]):
    """Base class for methods, which contain settings but nothing that was learnt.

    Attributes:
        sees: Information that the method uses.
    """

    sees: AbstractClassVar[Sees]

    def learn(
        self,
        task: Task,
        training: Measurements | None = None,
        validation: Measurements | None = None,
        *,
        seed: int = 0,
        folder: str | Path | None = None,
        progress: ProgressBar = progress_bar,
        resume: bool = False,
        mesh: Mesh | None = None,
    ) -> Learnt[Task, Measurements]:
        """Learn a task.

        Args:
            task: The task.
            training: Measurements of the training patients; not needed by methods that fit each
                patient individually.
            validation: Measurements of other patients, used to select the best step.
            seed: Seed for all random numbers.
            folder: Folder for checkpoints and the log of the training; by default nothing is
                written.
            progress: Function that makes progress bars, like `tqdm.tqdm`; `silent` shows none.
            resume: Whether to continue from a checkpoint in the folder, if there is one.
            mesh: Devices over which the batches of a training are spread; by default only JAX's
                default device. See `jaxtwin.training.loop.fit`.

        Raises:
            ValueError: If measurements are missing, do not belong to the task, or lack labels.
            CheckpointError: If the checkpoint is from a different run.

        Warns:
            UserWarning: If the method ignores channels that are measured.
        """
        if not isinstance(task, AbstractTask):
            raise ValueError(
                f"learn got {type(task).__name__} as its task: expected a task, such as CurveTask, "
                "in METHOD(...).learn(task, training, validation)"
            )
        name = type(self).__name__
        if self.sees.start and getattr(task, "unknown_start", False):
            raise ValueError(
                f"{name} needs to know where in the beat a curve begins, and this task has "
                "unknown_start=True: choose CurvePSSL or LeastSquares, or give curves from the "
                "system's t = 0 on"
            )
        if self.sees.scale and getattr(task, "unknown_scale", False):
            raise ValueError(
                f"{name} needs to know the scale of a curve, and this task has unknown_scale=True: "
                "choose CurvePSSL or LeastSquares, or give curves in the unit of the channel"
            )
        if self.sees.cohort:
            if training is None or validation is None:
                raise ValueError(
                    f"{name} learns from a cohort: pass training and validation measurements, "
                    f"{name}(...).learn(task, training, validation)"
                )
            labels = self.sees.labels
            training = task.check(training, labels=labels, sees=self.sees)
            validation = task.check(validation, labels=labels, sees=self.sees)
        check_mesh(mesh)
        if resume and folder is None:
            raise ValueError("resume=True without a folder: pass the folder to resume from")
        session = Session(seed, None if folder is None else Path(folder), progress, resume, mesh)
        # `prepare` accepts None here if `sees.cohort` is False.
        learnt = self.prepare(task, cast(Any, training), cast(Any, validation), session)
        if not isinstance(learnt, Learnt):
            raise ValueError(
                f"{name}.prepare returned {type(learnt).__name__}: expected a Learnt; is there a "
                "`return`?"
            )
        if learnt.ignored:
            warnings.warn(
                f"{name} ignores what was measured of {', '.join(learnt.ignored)}", stacklevel=2
            )
        return learnt

    @abc.abstractmethod
    def prepare(
        self, task: Task, training: Measurements, validation: Measurements, session: Session
    ) -> Learnt[Task, Measurements]:
        """Learn a task; `learn` has checked the arguments.

        Args:
            task: The task.
            training: Measurements of the training patients; may be None if `sees.cohort` is False.
            validation: Measurements of the validation patients; may be None if `sees.cohort` is
                False.
            session: Seed, folder, progress bars, and whether to resume.
        """


def check_counts(method: AbstractMethod[Any, Any], *names: str) -> None:
    """Raise a ValueError if one of these settings of a method is below 1."""
    for name in names:
        if getattr(method, name) < 1:
            raise ValueError(
                f"{name} of {type(method).__name__} is {getattr(method, name)}: expected at least 1"
            )


class AbstractTrainedMethod(AbstractMethod[Task, Measurements]):
    """A method that trains a network on a cohort, so its result can be saved."""

    @abc.abstractmethod
    def untrained(self, task: Task) -> Any:
        """Build the knowledge before learning; only the shapes and types of its arrays matter."""

    @abc.abstractmethod
    def ready(self, task: Task, knowledge: Any) -> Callable[[Measurements], Estimate]:
        """Return the function from checked measurements to an estimate."""
