"""What is measured in a patient, and what is estimated: tasks and estimates."""

import abc
import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, TypeVar

import numpy as np
from jaxtyping import Bool, Float

from jaxtwin.forward.base import AbstractForward
from jaxtwin.identity import differences, fingerprint
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

if TYPE_CHECKING:
    import pandas
    import xarray


@dataclasses.dataclass(frozen=True)
class Sees:
    """Information that a method uses.

    Attributes:
        measurement: A curve of one output over a beat, or an echo clip.
        labels: Whether it learns from labels, such as EDV measured by an expert.
        cohort: Whether it learns from a cohort before it estimates new patients.
        physics: Whether it uses the equations of the system.
        start: Whether it needs to know at which phase of the beat a curve begins.
        scale: Whether it needs to know the scale of a curve.
        gaps: Whether it takes curves with missing samples, and samples with a noise of their own.
        beside: Whether it uses channels measured beside the first one.
    """

    measurement: Literal["curve", "clip"]
    labels: bool
    cohort: bool
    physics: bool
    start: bool = True
    scale: bool = True
    gaps: bool = False
    beside: bool = False


ANY_CURVE = Sees(
    "curve",
    labels=False,
    cohort=False,
    physics=True,
    start=False,
    scale=False,
    gaps=True,
    beside=True,
)
"""What methods use that need no more than the simulator, whatever is unknown of a curve."""


class Estimate(NamedTuple):
    """Estimates of a method for some patients.

    Attributes:
        recording: Recordings given by the method: extremes of at least the measured output, and
            curves at the task's phases. The duration is NaN if the method does not give it. None
            for methods that give only numbers.
        theta: Free parameters; None for methods without parameters.
        success: Whether there is an estimate for the patient; if not, the other entries are
            meaningless.
        readings: Readings of the system given by the method, by name, in their units.
        misfit: Distance between the measurement and the method's reconstruction of it, as a share
            of what the task allows, see `CurveTask.judge`; None if it was not judged.
        features: Features of an encoder of clips, for `Familiarity`; None for other methods.
    """

    recording: Recording[Channels] | None
    theta: Float[np.ndarray, "patient free"] | None
    success: Bool[np.ndarray, " patient"]
    readings: Mapping[str, Float[np.ndarray, " patient"]]
    misfit: Float[np.ndarray, " patient"] | None = None
    features: Float[np.ndarray, "patient feature"] | None = None

    def to_dataset(self, task: "AbstractTask[Any]") -> "xarray.Dataset":
        """Return an xarray Dataset with the dimensions patient and phase, failures included.

        Its variables are the free parameters, the waveforms by the outputs' names, the extremes
        (`V_lv_maximum`, `V_lv_minimum`) and the readings, as far as the method gives them, with
        success, misfit and duration. They have the attributes `units` and `long_name`, and the
        names used by `Cohort.to_dataset`. Features are left out.

        Args:
            task: Task of the estimate.

        Raises:
            ImportError: If xarray is not installed.
        """
        return to_dataset(self._columns(task), task.system, task.box)

    def to_dataframe(self, task: "AbstractTask[Any]") -> "pandas.DataFrame":
        """Return a pandas DataFrame with one row per patient, failed ones included.

        Its columns are the variables of `to_dataset` without the waveforms and extremes;
        `attrs["units"]` contains their units by name.

        Args:
            task: Task of the estimate.

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
    """What is measured in a patient, and what is to be estimated.

    Attributes:
        system: The model.
        box: The free parameters and their bounds.
    """

    system: AbstractRecordedSystem
    box: Box

    @abc.abstractmethod
    def check(
        self, measurements: Measurements, *, labels: bool = False, sees: Sees | None = None
    ) -> Measurements:
        """Return the measurements in the form that methods expect.

        Args:
            measurements: Measurements of some patients.
            labels: Whether labels are required.
            sees: What the method uses; by default everything.

        Raises:
            ValueError: If they do not belong to this task.
        """

    @abc.abstractmethod
    def count(self, measurements: Measurements) -> int:
        """Return the number of patients of checked measurements."""

    @abc.abstractmethod
    def usable(self, measurements: Measurements) -> Bool[np.ndarray, " patient"]:
        """Return for which patients checked measurements say anything; others get no estimate."""

    @abc.abstractmethod
    def judge(self, measurements: Measurements, found: Estimate) -> Estimate:
        """Compare an estimate with its measurements, and warn if they disagree."""

    @abc.abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return everything on which the result of learning depends, as a JSON value."""

    def check_forward(self, forward: AbstractForward) -> None:
        """Raise a ValueError unless it is a forward model with this task's system and box."""
        if not isinstance(forward, AbstractForward):
            raise ValueError(
                f"a forward model of type {type(forward).__name__}: expected "
                "Simulator(task.system, task.box, task.channels, task.samples), or an Emulator"
            )
        wrong = self.unlike(forward.system)
        if wrong or forward.box != self.box:
            raise ValueError(
                f"a forward model of {type(forward.system).__name__} on the box "
                f"{forward.box.describe()} for a task of {type(self.system).__name__} on "
                f"{self.box.describe()}{''.join(f'; {line}' for line in wrong)}: make both with "
                "the same system and box"
            )

    def unlike(self, system: AbstractRecordedSystem) -> list[str]:
        """Describe where a system differs from the task's, as "system.speed is 6000, not 0"."""
        if system is self.system:
            return []
        kept, wanted = (fingerprint(s).description["system"] for s in (system, self.system))
        return differences(kept, wanted, "system")


Task = TypeVar("Task", bound=AbstractTask)
