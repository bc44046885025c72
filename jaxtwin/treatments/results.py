"""Results of a trial: endpoints of every patient in every arm, paired effects, safety events."""

import csv
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from jaxtwin.analysis.metrics import Interval, mean_with_interval
from jaxtwin.cohorts.cohort import Cohort
from jaxtwin.physics.solution import Event, Reading
from jaxtwin.tabular import (
    Column,
    install,
    named,
    parameter_columns,
    reading_columns,
    status_column,
    table,
    to_dataframe,
    to_dataset,
)

if TYPE_CHECKING:
    import pandas
    import xarray


class Effect(NamedTuple):
    """Effect of an arm compared with the control, over patients successful in both.

    Attributes:
        arm: Name of the arm.
        endpoint: Name of the endpoint.
        group: Name of the subgroup of patients; "all" for all patients.
        patients: Number of patients in the group.
        failed: Number of patients left out because the simulation failed in one of the two arms:
            no recording was found, the treated system reports it as infeasible, or the arm's law
            has no dose for the patient. They are not a random sample: if many failed in an arm,
            compare it with the others on the same patients.
        control: Mean in the control arm.
        treated: Mean in the arm.
        difference: Mean of the differences within patients, with its bootstrap interval.
        standardised: Mean difference divided by the standard deviation of the differences; NaN if
            all differences are equal.
        failed_draws: Share of the other patients' draws that were left out for the same reasons, in
            a trial of posteriors; see `PosteriorTrial`.
    """

    arm: str
    endpoint: str
    group: str
    patients: int
    failed: int
    control: float
    treated: float
    difference: Interval
    standardised: float
    failed_draws: float = 0.0


@dataclasses.dataclass(frozen=True)
class Trial:
    """Results of a trial: endpoints of every patient in every arm.

    Attributes:
        cohort: The patients.
        arms: Names of the arms, in the order of the arrays' first axis.
        endpoints: Endpoints by name, with their units.
        values: Value of each endpoint, [arm, patient], by name; NaN if the simulation failed.
        success: Whether the simulation can be used; see `Effect` for reasons why not.
        safety: Definitions of the safety events, by name.
    """

    cohort: Cohort[Any]
    arms: tuple[str, ...]
    endpoints: dict[str, Reading]
    values: dict[str, Float[np.ndarray, "arm patient"]]
    success: Bool[np.ndarray, "arm patient"]
    safety: dict[str, Event]

    def __repr__(self) -> str:
        """Return a line instead of all the numbers."""
        return (
            f"Trial({len(self.cohort)} patients in the arms {', '.join(map(repr, self.arms))}; "
            f"endpoints: {', '.join(self.endpoints)})"
        )

    @property
    def units(self) -> dict[str, str]:
        """Unit of each endpoint, by name."""
        return {name: reading.unit for name, reading in self.endpoints.items()}

    def arm(self, arm: str) -> dict[str, Float[np.ndarray, " patient"]]:
        """Return the endpoints of one arm.

        Raises:
            ValueError: If there is no such arm.
        """
        if arm not in self.arms:
            raise ValueError(f"no arm {arm!r}: the trial has {', '.join(self.arms)}")
        return {name: values[self.arms.index(arm)] for name, values in self.values.items()}

    def effects(
        self,
        endpoint: str,
        *,
        control: str,
        by: Callable[[Mapping[str, np.ndarray]], Sequence[str]] | None = None,
        seed: int = 0,
    ) -> list[Effect]:
        """Compute the paired effect of each arm other than the control on an endpoint.

        Args:
            endpoint: Name of the endpoint.
            control: Name of the control arm.
            by: Function from the control arm's endpoints to the name of each patient's subgroup,
                such as `ef_level`; effects are then also computed for the subgroups.
            seed: Seed for the bootstrap.

        Raises:
            ValueError: If there is no such arm or endpoint, or `by` does not return a subgroup for
                each patient.
        """
        return paired_effects(
            self.arms, self.arm, self._succeeded, endpoint, control=control, by=by, seed=seed
        )

    def events(self) -> dict[str, dict[str, int]]:
        """Count the patients with each safety event, by arm, and the "failed" ones without data."""
        return count_events(self.arms, self.arm, self._succeeded, self.safety)

    def _succeeded(self, arm: str) -> Bool[np.ndarray, " patient"]:
        return self.success[self.arms.index(arm)]

    def to_dataset(self) -> "xarray.Dataset":
        """Return an xarray Dataset with the dimensions arm and patient, failures included.

        Its variables are the endpoints and the success in every arm, and the patients' free
        parameters, with the attributes `units` and `long_name`. The patients' waveforms are in
        `trial.cohort.to_dataset()`.

        Raises:
            ImportError: If xarray is not installed.
        """
        cohort = self.cohort
        return to_dataset(
            self._columns(), cohort.system, cohort.box, arms=self.arms, source=cohort.source
        )

    def to_dataframe(self) -> "pandas.DataFrame":
        """Return `table` as a pandas DataFrame; `attrs["units"]` contains the units by column.

        Raises:
            ImportError: If pandas is not installed.
        """
        cohort = self.cohort
        return to_dataframe(
            self._columns(), cohort.system, cohort.box, arms=self.arms, source=cohort.source
        )

    def table(self) -> dict[str, np.ndarray]:
        """Return parameters, endpoints and success by column, with one row per patient and arm."""
        return table(named(self._columns()), self.arms)

    def _columns(self) -> list[Column]:
        dims = ("arm", "patient")
        return [
            *parameter_columns(self.cohort.box, self.cohort.theta),
            *reading_columns(self.endpoints, self.values, dims),
            status_column("success", self.success, "whether the simulation can be used", dims=dims),
        ]

    def write(self, path: str | Path) -> None:
        """Write `table` to a file. A failed write leaves no partial file.

        Args:
            path: File that ends in .csv or .parquet. Parquet keeps types and needs the extra
                `parquet`. The folder is created if necessary.

        Raises:
            ValueError: If the path has any other ending.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        columns = self.table()
        partial = path.with_suffix(".partial")
        if path.suffix == ".csv":
            with partial.open("w", newline="") as file:
                rows = csv.writer(file)
                rows.writerow(columns)
                rows.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))
        elif path.suffix == ".parquet":
            try:
                import pyarrow
                import pyarrow.parquet
            except ImportError as error:
                raise ImportError(
                    f"Parquet needs pyarrow, or write a .csv file: {install('parquet')}"
                ) from error
            pyarrow.parquet.write_table(pyarrow.table(columns), partial)
        else:
            raise ValueError(f"{path}: expected a name that ends in .csv or .parquet")
        partial.replace(path)


OfArm = Callable[[str], Mapping[str, Float[np.ndarray, " patient"]]]
"""Function from an arm to the endpoints of its patients, by name."""
Succeeded = Callable[[str], Bool[np.ndarray, " patient"]]
"""Function from an arm to whether the simulation of each patient can be used."""


def paired_effects(
    arms: Sequence[str],
    of_arm: OfArm,
    succeeded: Succeeded,
    endpoint: str,
    *,
    control: str,
    by: Callable[[Mapping[str, np.ndarray]], Sequence[str]] | None,
    seed: int,
) -> list[Effect]:
    """Compute `Trial.effects`, with two arms at a time in memory."""
    endpoints = of_arm(control)
    if not isinstance(endpoint, str) or endpoint not in endpoints:
        raise ValueError(f"no endpoint {endpoint!r}: there are {', '.join(endpoints)}")
    before = endpoints[endpoint]
    groups = {"all": np.ones(len(before), bool)}
    if by is not None:
        known = succeeded(control)
        level = subgroups(by, endpoints, len(before))
        groups |= {str(name): known & (level == name) for name in sorted(set(level[known]))}
    found = []
    for arm in arms:
        if arm == control:
            continue
        after = of_arm(arm)[endpoint]
        for name, inside in groups.items():
            a, b = before[inside], after[inside]
            both = np.isfinite(a) & np.isfinite(b)
            change = (b - a)[both]
            spread = np.std(change, ddof=1) if len(change) > 1 else 0.0
            found.append(
                Effect(
                    arm,
                    endpoint,
                    name,
                    int(inside.sum()),
                    int((~both).sum()),
                    float(np.mean(a[both])) if both.any() else np.nan,
                    float(np.mean(b[both])) if both.any() else np.nan,
                    mean_with_interval(change, seed=seed),
                    float(np.mean(change) / spread) if spread > 0 else np.nan,
                )
            )
    return found


def count_events(
    arms: Sequence[str], of_arm: OfArm, succeeded: Succeeded, safety: Mapping[str, Event]
) -> dict[str, dict[str, int]]:
    """Compute `Trial.events`."""
    table = {}
    for arm in arms:
        usable = succeeded(arm)
        endpoints = of_arm(arm)
        counts = {"failed": int((~usable).sum())}
        for name, event in safety.items():
            values = endpoints[event.reading]
            outside = (values < event.low) | (values > event.high)
            counts[name] = int(np.sum(outside & usable))
        table[arm] = counts
    return table


def subgroups(
    by: Any, endpoints: Mapping[str, Float[np.ndarray, " patient"]], patients: int
) -> np.ndarray:
    """Return the subgroup of each patient, given the endpoints of the control arm.

    Raises:
        ValueError: If `by` is not a function, or does not return a subgroup for each patient.
    """
    if not callable(by):
        raise ValueError(
            f"by={by!r}: expected a function from the control arm's endpoints to the name of "
            "each patient's subgroup, such as jaxtwin.treatments.ef_level"
        )
    level = np.asarray(by(endpoints))
    if level.shape != (patients,):
        raise ValueError(
            f"`by` gives shape {level.shape}: expected one name for each of the {patients} patients"
        )
    return level
