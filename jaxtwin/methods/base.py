"""One protocol for every method, whatever it sees: a recipe learns a task, and then estimates.

    learnt = method.learn(task, training, validation)
    found = learnt.estimate(measurements)
    found.theta, found.readings["EF"], found.success

A method of your own says what it sees and implements `AbstractMethod.prepare`. Here is one that
gives each patient the extremes of the training patient with the most similar curve:

    class Nearest(AbstractMethod[CurveTask, Curves]):
        sees: ClassVar = Sees("curve", labels=True, cohort=True, physics=False)

        def prepare(self, task, training, validation, session):
            def answer(curves):
                distance = ((curves.values[:, None] - training.values[None]) ** 2).sum(axis=-1)
                nearest = training.take(distance.argmin(axis=1))
                return task.estimate({}, maximum=nearest.maximum, minimum=nearest.minimum)

            return Learnt(self, task, answer)

The task checks what goes in and judges what comes out, so that a method need not.
"""

import abc
import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, TypeVar, cast

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float

from jaxtwin.parameters import Box
from jaxtwin.physics.base import AbstractRecordedSystem
from jaxtwin.physics.channels import Channels
from jaxtwin.physics.solution import Recording
from jaxtwin.tabular import (
    Column,
    parameter_columns,
    reading_columns,
    recording_columns,
    status_column,
    to_dataframe,
    to_dataset,
)
from jaxtwin.training.progress import ProgressBar, progress_bar

if TYPE_CHECKING:
    from typing import ClassVar as AbstractClassVar

    import pandas
    import xarray
else:
    from equinox import AbstractClassVar


@dataclasses.dataclass(frozen=True)
class Sees:
    """What a method is allowed to look at.

    Attributes:
        measurement: A curve of one output over a beat, or an echo clip.
        labels: Whether it learns from numbers that somebody else has read off, such as EDV.
        cohort: Whether it learns from many patients before it meets a new one.
        physics: Whether it knows the system's equations.
    """

    measurement: Literal["curve", "clip"]
    labels: bool
    cohort: bool
    physics: bool


class Estimate(NamedTuple):
    """What a method says of some patients, in their order.

    Attributes:
        recording: The recordings that the method itself gives: extremes of at least the measured
            output, and curves at the task's phases. The duration is NaN where the method knows
            none. None where the method gives numbers alone.
        theta: The free parameters; None where the method has none.
        success: Whether there is an answer for the patient; if not, the other entries mean
            nothing.
        readings: The system's readings that the method gives, by name, in their units.
        misfit: How far the measurement is from what the method says it should be, as a share of
            what the task allows, see `CurveTask.judge`; None where this was not judged.
        features: What an encoder of clips saw, for `Familiarity`; None for other methods.
    """

    recording: Recording[Channels] | None
    theta: Float[np.ndarray, "patient free"] | None
    success: Bool[np.ndarray, " patient"]
    readings: Mapping[str, Float[np.ndarray, " patient"]]
    misfit: Float[np.ndarray, " patient"] | None = None
    features: Float[np.ndarray, "patient feature"] | None = None

    def to_dataset(self, task: "AbstractTask[Any]") -> "xarray.Dataset":
        """Return an xarray Dataset with the dimensions patient and phase, failures included.

        Its variables are what there is of the free parameters, the waveforms by the outputs'
        names, the extremes (`V_lv_maximum`, `V_lv_minimum`) and the readings, with success, misfit
        and duration; their attributes `units` and `long_name` say what they are. Names are those
        of `Cohort.to_dataset`. Features are left out.

        Args:
            task: What was estimated.

        Raises:
            ImportError: If xarray is not installed.
        """
        return to_dataset(self._columns(task), task.system, task.box)

    def to_dataframe(self, task: "AbstractTask[Any]") -> "pandas.DataFrame":
        """Return a pandas DataFrame with one row per patient, failed ones included.

        Its columns are the variables of `to_dataset` without the waveforms and extremes;
        `attrs["units"]` has their units by name.

        Args:
            task: What was estimated.

        Raises:
            ImportError: If pandas is not installed.
        """
        return to_dataframe(self._columns(task), task.system, task.box)

    def _columns(self, task: "AbstractTask[Any]") -> list[Column]:
        columns = [] if self.theta is None else parameter_columns(task.box, np.asarray(self.theta))
        columns += reading_columns(task.system.readings(), self.readings)
        if self.recording is not None:
            columns += recording_columns(task.system, self.recording)
        columns.append(status_column("success", self.success, "whether there is an answer"))
        if self.misfit is not None:
            meaning = "distance of the measurement from the estimate, as a share of what is allowed"
            columns.append(status_column("misfit", self.misfit, meaning))
        return columns


Measurements = TypeVar("Measurements")


class AbstractTask(abc.ABC, Generic[Measurements]):
    """What is measured of a patient, and what is asked for.

    Attributes:
        system: The model.
        box: The free parameters and where they are sought.
    """

    system: AbstractRecordedSystem
    box: Box

    @abc.abstractmethod
    def check(self, measurements: Measurements, *, labels: bool = False) -> Measurements:
        """Give the measurements as methods expect them.

        Args:
            measurements: Measurements of some patients.
            labels: Whether labels are needed.

        Raises:
            ValueError: If they do not belong to this task.
        """

    @abc.abstractmethod
    def judge(self, measurements: Measurements, found: Estimate) -> Estimate:
        """Compare an estimate with the measurements that it was made from, and warn."""

    @abc.abstractmethod
    def describe(self) -> dict[str, Any]:
        """Everything that what is learnt depends on, as JSON allows it."""


Task = TypeVar("Task", bound=AbstractTask)


class Session(NamedTuple):
    """How learning is to run; see `AbstractMethod.learn`."""

    seed: int
    folder: Path | None
    progress: ProgressBar
    resume: bool


@dataclasses.dataclass(frozen=True)
class Learnt(Generic[Task, Measurements]):
    """A method that is ready for new patients.

    Attributes:
        method: The recipe.
        task: What was learnt.
        answer: Function from checked measurements to an estimate; call `estimate` instead.
        knowledge: A pytree with the arrays that were learnt; None for methods that only work on
            the patient at hand.
        validation: Errors on the validation patients, by name; "loss" is what the step was
            selected by. Empty for methods that only work on the patient at hand.
        best_step: The step with the lowest validation loss, which was kept.
        steps: Number of optimiser steps that learning took.
        seconds: Time that learning took, with compilation [s].
        step_seconds: Time of one step, without compilation [s].
        fits: Whether estimates are meant to agree with the measurement; if not, a misfit is no
            reason to warn.
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

    def estimate(self, measurements: Measurements) -> Estimate:
        """Estimate each patient from the measurements.

        Raises:
            ValueError: If the measurements do not belong to the task.

        Warns:
            OutOfModelWarning: If a measurement is far from everything that the method says it
                could be; see the task's `judge`.
        """
        checked = self.task.check(measurements)
        found = self.answer(checked)
        return self.task.judge(checked, found) if self.fits else found


class AbstractMethod(eqx.Module, Generic[Task, Measurements]):
    """A way from a measurement to a patient's twin: settings only, nothing learnt.

    Attributes:
        sees: What it is allowed to look at.
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
    ) -> Learnt[Task, Measurements]:
        """Get ready for new patients.

        Args:
            task: What is measured and asked for.
            training: Patients to learn from; methods that only work on the patient at hand need
                none.
            validation: Other patients, to select by.
            seed: Seed of everything random.
            folder: Folder for checkpoints and the log of the training; by default nothing is
                written.
            progress: Makes progress bars, as `tqdm.tqdm` does; `silent` shows none.
            resume: Whether to go on from a checkpoint in the folder, if there is one.

        Raises:
            ValueError: If patients are missing, do not belong to the task, or lack labels.
            CheckpointError: On resuming from something else.
        """
        name = type(self).__name__
        if self.sees.cohort:
            if training is None or validation is None:
                raise ValueError(
                    f"{name} learns from a cohort: pass training and validation measurements, "
                    f"{name}(...).learn(task, training, validation)"
                )
            labels = self.sees.labels
            training = task.check(training, labels=labels)
            validation = task.check(validation, labels=labels)
        if resume and folder is None:
            raise ValueError("resume=True without a folder: pass the folder to resume from")
        session = Session(seed, None if folder is None else Path(folder), progress, resume)
        # None where `prepare` says that it may be.
        return self.prepare(task, cast(Any, training), cast(Any, validation), session)

    @abc.abstractmethod
    def prepare(
        self, task: Task, training: Measurements, validation: Measurements, session: Session
    ) -> Learnt[Task, Measurements]:
        """Get ready for new patients; `learn` has checked the arguments.

        Args:
            task: What is measured and asked for.
            training: Patients to learn from; may be None where `sees.cohort` is False.
            validation: Patients to select by; may be None where `sees.cohort` is False.
            session: Seed, folder, progress bars, and whether to resume.
        """


class AbstractTrainedMethod(AbstractMethod[Task, Measurements]):
    """A method that trains a network on a cohort, so that what it learnt can be saved."""

    @abc.abstractmethod
    def untrained(self, task: Task) -> Any:
        """Build what is learnt, before learning: only shapes and types of its arrays matter."""

    @abc.abstractmethod
    def ready(self, task: Task, knowledge: Any) -> Callable[[Measurements], Estimate]:
        """Give the function from checked measurements to an estimate."""
