"""Digital twin of one patient: its simulated beat, its uncertainty, and its files."""

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxtwin.analysis.identifiability import Compatible
from jaxtwin.analysis.verdict import Verdict
from jaxtwin.identity import differences, fingerprint
from jaxtwin.parameters import AbstractParameters, Box
from jaxtwin.physics.base import AbstractRecordedSystem
from jaxtwin.physics.record import record
from jaxtwin.physics.solution import Solution
from jaxtwin.tabular import (
    Column,
    parameter_columns,
    reading_columns,
    recording_columns,
    status_column,
    to_dataframe,
    to_dataset,
)
from jaxtwin.training import checkpoint

if TYPE_CHECKING:
    import pandas
    import xarray

FORMAT = "jaxtwin twin 3"


class Twin(NamedTuple):
    """Digital twin of a patient, built from a clip.

    Attributes:
        system: The model.
        box: The free parameters and their bounds.
        theta: Free parameters, in the order of the box.
        parameters: All parameters of the model.
        emulated: The method's readings of the patient by name, for those measured on the training
            clips.
        solution: Simulation at θ, by the simulator and not the forward model.
        readings: All readings of the simulation, by name.
        compatible: Patients of the box that are compatible with the measurement.
        verdict: Whether to believe the measurement, and why not.
        warnings: Warnings about this twin; empty if there are none.
    """

    system: AbstractRecordedSystem
    box: Box
    theta: Float[np.ndarray, " free"]
    parameters: AbstractParameters
    emulated: dict[str, float]
    solution: Solution[Any, Any]
    readings: dict[str, float]
    compatible: Compatible
    verdict: Verdict
    warnings: tuple[str, ...]

    def __repr__(self) -> str:
        """Return the parameters and readings instead of all the numbers."""

        def listed(units, values):
            return ", ".join(f"{n} = {v:.4g} {units[n]}".rstrip() for n, v in values.items())

        free = {spec.name: spec.unit for spec in self.box.specs}
        units = {name: reading.unit for name, reading in self.system.readings().items()}
        theta = listed(free, dict(zip(free, self.theta.tolist(), strict=True)))
        warned = "".join(f"; warning: {warning}" for warning in self.warnings)
        return (
            f"Twin({type(self.system).__name__}: {theta}; {listed(units, self.readings)}{warned})"
        )

    def to_dataset(self) -> "xarray.Dataset":
        """Return the twin as an xarray Dataset of one patient, at every step of the simulation.

        Variables and names are those of `Cohort.to_dataset`. In addition there are the method's
        readings (`EF_emulated`), the bounds of the compatible patients and the share of the box's
        range that they leave (`E_max_low`, `E_max_high`, `E_max_narrowing`), and the clip's
        distance and threshold. The attributes contain the warnings. `xarray.concat(datasets,
        "patient")` joins twins of the same system.

        Raises:
            ImportError: If xarray is not installed.
        """
        return to_dataset(self._columns(), self.system, self.box, warnings=list(self.warnings))

    def to_dataframe(self) -> "pandas.DataFrame":
        """Return the twin as a pandas DataFrame of one row.

        Its columns are the variables of `to_dataset` without the waveforms and extremes;
        `attrs["units"]` contains their units by name.

        Raises:
            ImportError: If pandas is not installed.
        """
        return to_dataframe(self._columns(), self.system, self.box, warnings=list(self.warnings))

    def _columns(self) -> list[Column]:
        readings = self.system.readings()
        known = {spec.name: (spec.unit, spec.meaning) for spec in self.box.specs}
        known |= {name: (one.unit, one.meaning) for name, one in readings.items()}
        recording = jax.tree.map(lambda leaf: np.asarray(leaf)[None], self.solution.recording())
        columns = [
            *parameter_columns(self.box, np.asarray(self.theta)[None]),
            *reading_columns(readings, {n: np.array([v]) for n, v in self.readings.items()}),
            *recording_columns(self.system, recording),
        ]
        for name, value in self.emulated.items():
            unit, meaning = known[name]
            columns.append(
                status_column(f"{name}_emulated", [value], f"{meaning}, by the method", unit)
            )
        for name, ends in self.compatible.intervals.items():
            unit, meaning = known[name]
            quantiles = zip(
                ("low", "median", "high"),
                ("5%", "50%", "95%"),
                (ends[0], self.compatible.medians[name], ends[1]),
                strict=True,
            )
            for end, quantile, value in quantiles:
                says = f"{quantile} of compatible patients: {meaning}"
                columns.append(status_column(f"{name}_{end}", [value], says, unit))
            bits = [self.compatible.information_bits[name]]
            columns.append(
                status_column(f"{name}_bits", bits, f"information gained about it: {meaning}")
            )
            narrowing = [self.compatible.narrowing[name]]
            says = f"share of the range that the measurement leaves: {meaning}"
            columns.append(status_column(f"{name}_narrowing", narrowing, says))
        stats = self.solution.stats
        return [
            *columns,
            status_column(
                "success", self.solution.success[None], "whether the simulation succeeded"
            ),
            status_column(
                "residual", stats.residual[None], "relative change of the state per beat"
            ),
            status_column("error", stats.error[None], "estimated discretisation error"),
            status_column("trusted", [self.verdict.kind == "trusted"], "whether to believe it"),
        ]

    def save(self, folder: str | Path) -> None:
        """Save the twin, for `load_twin`.

        Its `config.json` contains the result of `describe` and the identity of the system. Neither
        the clip nor its name is saved.

        Args:
            folder: Folder of the twin. An existing one is replaced once the new one is complete.

        Raises:
            ValueError: If the parameters are not those of θ in the box, or the system cannot be
                identified, see `fingerprint`.
        """
        expected = self.box.complete(jnp.asarray(self.theta))
        for name in self.box.parameters.specs():
            value, other = getattr(self.parameters, name), getattr(expected, name)
            if not np.array_equal(value, other, equal_nan=True):
                raise ValueError(
                    f"{name} of this twin is {value}, but {other} by θ and the box: save the twin "
                    "as it was built, and change it after loading"
                )
        checkpoint.save(
            Path(folder),
            (self.theta, self.solution),
            {
                "kind": "twin",
                "format": FORMAT,
                "jaxtwin": version("jaxtwin"),
                "identity": fingerprint(self.system, self.box).description,
                "box": self.box.describe(),
                "theta": str(np.asarray(self.theta).dtype),
                "x64": bool(jax.config.read("jax_enable_x64")),
                "points": self.compatible.points,
                "drawn": self.compatible.drawn,
                **describe(self),
            },
        )


def load_twin(folder: str | Path, system: AbstractRecordedSystem) -> Twin:
    """Load a twin saved by `Twin.save`.

        twin = load_twin("twins/7", LeftHeart())
        periodic_orbit(twin.system, twin.parameters)

    Args:
        folder: Folder of the twin.
        system: The system with which the twin was made.

    Raises:
        CheckpointError: If there is no twin, or it is damaged or of another format or system.
    """
    folder = Path(folder)
    kept = checkpoint.config(folder, kind="twin")
    if kept["format"] != FORMAT:
        raise checkpoint.CheckpointError(
            f"the twin at {folder} has the format {kept['format']!r}, this version reads "
            f"{FORMAT!r}: build it again, or load it with jaxtwin {kept['jaxtwin']}"
        )
    name = kept["identity"]["system"]["class"]
    if name != fingerprint(system).description["system"]["class"]:
        raise checkpoint.CheckpointError(
            f"the twin at {folder} is of {name}, not of {type(system).__name__}: load it with the "
            "system it was made with"
        )
    box = Box.described(system.parameters, kept["box"])
    differing = differences(kept["identity"], fingerprint(system, box).description)
    if differing:
        raise checkpoint.CheckpointError(
            f"the twin at {folder} is of another system: {'; '.join(differing)}. Load it with the "
            "system it was made with"
        )
    # In the precision of the twin, which may differ from that of this process.
    with jax.enable_x64(kept["x64"]):
        theta = jnp.zeros(len(box.names), kept["theta"])
        solution = eqx.filter_eval_shape(lambda v: record(system, box.complete(v)), theta)
        theta, solution = checkpoint.load(folder, (theta, solution))
        p = box.complete(theta)
    entries = kept["parameters"] | kept["simulated"]
    asked = {name: entry for name, entry in entries.items() if "median" in entry}
    return Twin(
        system=system,
        box=box,
        theta=np.asarray(theta),
        parameters=p,
        emulated={name: entry["value"] for name, entry in kept["emulated"].items()},
        solution=solution,
        readings={name: entry["value"] for name, entry in kept["simulated"].items()},
        compatible=Compatible(
            kept["points"],
            kept["drawn"],
            {name: (entry["low"], entry["high"]) for name, entry in asked.items()},
            *(
                {name: entry[part] for name, entry in asked.items()}
                for part in ("median", "narrowing", "information_bits")
            ),
        ),
        verdict=Verdict(kept["verdict"], tuple(kept["reasons"]), kept["signs"]),
        warnings=tuple(kept["warnings"]),
    )


def describe(twin: Twin) -> dict[str, Any]:
    """Describe a twin as a JSON value, every number with its unit."""
    known = twin.compatible
    units = {name: one.unit for name, one in twin.system.readings().items()}

    def compatible(name: str) -> dict[str, Any]:
        if name not in known.intervals:
            return {}
        low, high = known.intervals[name]
        return {
            "median": known.medians[name],
            "low": low,
            "high": high,
            "narrowing": known.narrowing[name],
            "information_bits": known.information_bits[name],
        }

    def readings(values: dict[str, float]) -> dict[str, dict[str, Any]]:
        return {name: {"value": value, "unit": units[name]} for name, value in values.items()}

    simulated = readings(twin.readings)
    return {
        "verdict": twin.verdict.kind,
        "reasons": list(twin.verdict.reasons),
        "signs": twin.verdict.signs,
        "warnings": list(twin.warnings),
        "parameters": {
            spec.name: {
                "value": float(value),
                "unit": spec.unit,
                "meaning": spec.meaning,
                **compatible(spec.name),
            }
            for spec, value in zip(twin.box.specs, twin.theta, strict=True)
        },
        "emulated": readings(twin.emulated),
        "simulated": {name: entry | compatible(name) for name, entry in simulated.items()},
        "converged": bool(twin.solution.success),
        "note": (
            "Research use only. From `low` to `high` are the central 90% of the patients who "
            "could have been measured so, around the `median`; `narrowing` is the width of that "
            "interval over its width without any measurement, `information_bits` what the "
            "measurement told: 1 bit halves a range. A parameter with 0 bits is a guess."
        ),
    }


def summary(twin: Twin) -> str:
    """Format a twin as a short table for the terminal."""
    units = {name: one.unit for name, one in twin.system.readings().items()}
    lines = [f"WARNING: {warning}" for warning in twin.warnings]
    lines.append(f"{'':14}{'value':>10}  {'unit':<12} {'could be (90%)':>22}  bits")

    def compatible(name: str) -> str:
        if name not in twin.compatible.intervals:
            return ""
        low, high = twin.compatible.intervals[name]
        bits = twin.compatible.information_bits[name]
        return f"{f'{low:.3g} – {high:.3g}':>22}  {bits:4.1f}"

    for spec, value in zip(twin.box.specs, twin.theta, strict=True):
        lines.append(f"{spec.name:14}{value:10.4g}  {spec.unit:<12} {compatible(spec.name)}")
    for name, value in twin.emulated.items():
        again = twin.readings[name]
        lines.append(f"{name:14}{value:10.4g}  {units[name]:<12} re-simulated {again:.4g}")
    for name, value in twin.readings.items():
        if name not in twin.emulated:
            lines.append(
                f"{name:14}{value:10.4g}  {units[name]:<12} {compatible(name) or 'simulated'}"
            )
    return "\n".join(lines)
