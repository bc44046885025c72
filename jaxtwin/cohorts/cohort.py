"""Cohorts of simulated patients: their parameters, recordings and whether simulation succeeded."""

import collections
import dataclasses
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Bool, Float

from jaxtwin.parameters import Box
from jaxtwin.physics.base import AbstractRecordedSystem, reading
from jaxtwin.physics.solution import RESULTS, Outputs, Recording
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

Limits = Mapping[str, tuple[float, float]]
"""Lowest and highest allowed value of readings, by name."""


@dataclasses.dataclass(frozen=True)
class Cohort(Generic[Outputs]):
    """Simulated patients of one system.

    Attributes:
        system: The model.
        box: The free parameters.
        theta: The free parameters of each patient, in the box's order and the parameters' units.
        recording: The patients' recordings, with a leading patient axis on every leaf.
        success: Whether each simulation succeeded; if not, its recording is meaningless.
        residual: Deviation of each beat from periodicity, as in `Stats`; NaN if it diverged.
        error: Estimated discretisation error of each recording, as in `Stats`.
        source: Origin of the patients, for reports.
        accepted: Fraction of the drawn points whose readings were within the limits.
        result: Outcome of each simulation, one of `RESULTS`; None if unknown.
    """

    system: AbstractRecordedSystem
    box: Box
    theta: Float[np.ndarray, "patient free"]
    recording: Recording[Outputs]
    success: Bool[np.ndarray, " patient"]
    residual: Float[np.ndarray, " patient"]
    error: Float[np.ndarray, " patient"]
    source: str = ""
    accepted: float = 1.0
    result: RESULTS | None = None

    def __len__(self) -> int:
        """Number of patients."""
        return len(self.theta)

    def __repr__(self) -> str:
        """Return a line instead of all the numbers."""
        name, free = type(self.system).__name__, ", ".join(self.box.names)
        return (
            f"Cohort({len(self)} patients of {name}, {np.sum(self.success)} simulated; "
            f"free: {free})"
        )

    def take(self, index: Any) -> "Cohort[Outputs]":
        """Select patients by an index array, a slice or a mask."""
        return dataclasses.replace(
            self,
            theta=self.theta[index],
            recording=jax.tree.map(lambda leaf: leaf[index], self.recording),
            success=self.success[index],
            residual=self.residual[index],
            error=self.error[index],
            result=jax.tree.map(lambda leaf: leaf[index], self.result),
        )

    def read(self, names: Iterable[str] | None = None) -> dict[str, Float[np.ndarray, " patient"]]:
        """Read numbers off every patient's recording.

        Args:
            names: Readings of the system; all of them by default.

        Returns:
            The values by name, in each reading's unit.

        Raises:
            ValueError: If the system has no reading of that name.
        """
        names = self.system.readings() if names is None else names
        names = [names] if isinstance(names, str) else names
        with np.errstate(divide="ignore", invalid="ignore"):  # The readings of failed patients.
            return {
                name: np.asarray(reading(self.system, name).function(self.recording))
                for name in names
            }

    def within(self, limits: Limits) -> Bool[np.ndarray, " patient"]:
        """Return which patients were simulated successfully with all readings within the limits.

        Raises:
            ValueError: If the system has no such reading, or low ≥ high.
        """
        check_limits(self.system, limits)
        held = np.asarray(self.success)
        values = self.read(limits)
        for name, (low, high) in limits.items():
            held = held & (values[name] >= low) & (values[name] <= high)
        return held

    def to_dataset(self) -> "xarray.Dataset":
        """Return everything as an xarray Dataset, failed patients included.

        Its dimensions are patient and phase. Its variables are the free parameters, the waveforms
        by the outputs' names, the extremes (`V_lv_maximum`, `V_lv_minimum`), all readings,
        success, residual, error and duration; their attributes `units` and `long_name` say what
        they are. Where an output, a reading or a parameter share a name, the latter's kind is
        appended, as in `V_parameter`. The arrays are the cohort's own, not copies.

        Raises:
            ImportError: If xarray is not installed.
        """
        return to_dataset(
            self._columns(), self.system, self.box, source=self.source, accepted=self.accepted
        )

    def to_dataframe(self) -> "pandas.DataFrame":
        """Return a pandas DataFrame with one row per patient, failed ones included.

        Its columns are the variables of `to_dataset` without the waveforms and extremes;
        `attrs["units"]` has their units by name.

        Raises:
            ImportError: If pandas is not installed.
        """
        return to_dataframe(
            self._columns(), self.system, self.box, source=self.source, accepted=self.accepted
        )

    def _columns(self) -> list[Column]:
        return [
            *parameter_columns(self.box, self.theta),
            *reading_columns(self.system.readings(), self.read()),
            *recording_columns(self.system, self.recording),
            status_column("success", self.success, "whether the simulation succeeded"),
            status_column("residual", self.residual, "relative change of the state per beat"),
            status_column("error", self.error, "estimated discretisation error"),
        ]

    def failures(self, limit: int = 3) -> str:
        """Describe the patients whose simulation failed; return "" if there are none.

        Args:
            limit: Maximum number of patients described in full.
        """
        failed = np.flatnonzero(~self.success).tolist()
        if not failed:
            return ""
        lines = [f"{len(failed)} of {len(self)} simulations failed:"]
        for i in failed[:limit]:
            values = ", ".join(
                f"{spec.name}={value:.6g}{' ' * bool(spec.unit)}{spec.unit}"
                for spec, value in zip(self.box.specs, self.theta[i], strict=True)
            )
            reason = self._reason(i)
            if reason == RESULTS[RESULTS.max_beats_reached]:
                reason += f", by {self.residual[i]:.1e} in the last"
            lines.append(f"  patient {i} ({values}): {reason}")
        if len(failed) > limit:
            lines.append(f"  and {len(failed) - limit} more")
        return "\n".join(lines)

    def _reason(self, i: int) -> str:
        """Return why a patient's simulation failed."""
        if self.result is not None:
            reason = RESULTS[jax.tree.map(lambda leaf: np.asarray(leaf[i]), self.result)]
        else:
            reason = RESULTS[RESULTS.diverged] if np.isnan(self.residual[i]) else ""
        return (
            reason or f"the reason is not known (the last beat changed by {self.residual[i]:.1e})"
        )


def warn_of_failures(*cohorts: Cohort[Any]) -> None:
    """Warn of failed simulations that are left out of what is drawn or learnt."""
    reasons = collections.Counter(
        cohort._reason(i) for cohort in cohorts for i in np.flatnonzero(~cohort.success).tolist()
    )
    failed, total = reasons.total(), sum(map(len, cohorts))
    if failed:
        ((reason, count),) = reasons.most_common(1)
        warnings.warn(
            f"{failed} of {total} simulations ({failed / total:.1%}) failed and are left out, so "
            f"that a part of the box is missing. The main reason ({count} of them): {reason}. Make "
            "the box smaller, or change the system accordingly",
            stacklevel=3,
        )


def check_limits(system: AbstractRecordedSystem, limits: Any) -> None:
    """Raise a ValueError if limits are not (low, high) by the names of the system's readings."""
    if not isinstance(limits, Mapping):
        raise ValueError(f'limits {limits!r}: expected them by name, such as {{"EF": (20, 80)}}')
    for name, side in limits.items():
        reading(system, name)
        if np.shape(side) != (2,) or not side[0] < side[1]:
            raise ValueError(f"limits of {name} are {side}: expected (low, high) with low < high")


def join(cohorts: Sequence[Cohort[Outputs]]) -> Cohort[Outputs]:
    """Join cohorts of the same system and box into one.

    The result's `source` lists the sources of all parts. Its `accepted` is NaN if the parts'
    values differ.

    Raises:
        ValueError: If there is no cohort, or the cohorts differ in system or box.
    """
    alike = all(
        cohort.box == cohorts[0].box and eqx.tree_equal(cohort.system, cohorts[0].system)
        for cohort in cohorts
    )
    if not cohorts or not alike:
        raise ValueError("expected at least one cohort, all of one system and box")
    first, accepted = cohorts[0], {cohort.accepted for cohort in cohorts}
    results = [cohort.result for cohort in cohorts]

    def joined(*leaves: Any) -> np.ndarray:
        return np.concatenate(leaves)

    return dataclasses.replace(
        first,
        theta=joined(*(cohort.theta for cohort in cohorts)),
        recording=jax.tree.map(joined, *(cohort.recording for cohort in cohorts)),
        success=joined(*(cohort.success for cohort in cohorts)),
        residual=joined(*(cohort.residual for cohort in cohorts)),
        error=joined(*(cohort.error for cohort in cohorts)),
        result=None
        if any(result is None for result in results)
        else jax.tree.map(joined, *results),
        source=", ".join(dict.fromkeys(cohort.source for cohort in cohorts if cohort.source)),
        accepted=accepted.pop() if len(accepted) == 1 else math.nan,
    )
