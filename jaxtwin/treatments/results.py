"""Results of a trial: endpoints of every patient in every arm."""

import csv
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float

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
from jaxtwin.treatments.effects import AbstractPatientTrial

if TYPE_CHECKING:
    import pandas
    import xarray


@dataclasses.dataclass(frozen=True)
class Trial(AbstractPatientTrial):
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
        return {name: values[self._index(arm)] for name, values in self.values.items()}

    def _succeeded(self, arm: str) -> Bool[np.ndarray, " patient"]:
        return self.success[self._index(arm)]

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
