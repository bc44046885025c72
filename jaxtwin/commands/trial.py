"""Trials described in a file: the same patients under several treatments.

The output is every patient's endpoints in every arm, as a table or, streamed, as a Zarr group;
paired effects with bootstrap intervals by EF level; safety events; and a figure of the effects.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jax.sharding import Mesh
from matplotlib.figure import Figure

from jaxtwin import plotting
from jaxtwin.cohorts.cohort import Cohort
from jaxtwin.cohorts.draw import draw_cohort, draw_theta
from jaxtwin.cohorts.simulate import simulate_cohort
from jaxtwin.commands.run import Run
from jaxtwin.commands.settings import TrialConfig
from jaxtwin.commands.tables import read_table, write_table
from jaxtwin.devices import all_devices, first_devices, from_first_host, on_first_host
from jaxtwin.models.left_heart import EIGHT, SEVEN, LeftHeart
from jaxtwin.parameters import Box
from jaxtwin.training.progress import progress_bar
from jaxtwin.treatments import StoredTrial, Trial, ef_level, open_trial, run_trial_into
from jaxtwin.treatments.trial_file import read_arms, read_trial
from jaxtwin.treatments.trials import plan_trial, run_trial

ENDPOINTS = ("output", "P_ao_mean", "P_la_mean", "EF", "stroke_work")


def drawn_cohort(patients: int, seed: int) -> Cohort:
    """Draw patients from the seven-parameter box within physiological limits."""
    cohort = draw_cohort(LeftHeart(), SEVEN, patients, seed=seed)
    return dataclasses.replace(cohort, source=_source_of_drawn(patients, seed, cohort.accepted))


def _source_of_drawn(patients: int, seed: int, accepted: float) -> str:
    limits = ", ".join(f"{n} {a:g} to {b:g}" for n, (a, b) in LeftHeart().limits().items())
    return (
        f"{patients:,} patients of the seven-parameter box (seed {seed}); "
        f"{100 * accepted:.0f}% of its points are within the limits {limits}"
    )


def drawn_patients(
    folder: Path, patients: int, seed: int, mesh: Mesh | None
) -> tuple[Box, np.ndarray, str]:
    """Draw the patients of `drawn_cohort` without their recordings; kept in a file of the folder.

    Args:
        folder: Folder of the run; the first process reads it and writes to it.
        patients: Number of patients.
        seed: Seed of the drawing.
        mesh: Devices to use.
    """
    path, blank = folder / "drawn.npz", np.zeros((patients, len(SEVEN.names)), np.float32)
    kept = on_first_host(lambda: dict(np.load(path)) if path.exists() else None) or {}
    if from_first_host(np.array(bool(kept))):
        theta = from_first_host(kept.get("theta", blank))
        accepted = float(from_first_host(kept.get("accepted", np.array(0.0))))
    else:
        theta, accepted = draw_theta(LeftHeart(), SEVEN, patients, seed=seed, mesh=mesh)
        partial = path.with_suffix(".partial.npz")
        on_first_host(lambda: np.savez(partial, theta=theta, accepted=accepted))
        on_first_host(lambda: partial.replace(path))
    return SEVEN, theta, _source_of_drawn(patients, seed, accepted)


def learnt_cohort(path: Path) -> Cohort:
    """Simulate patients learnt from clips, given as a table with one column per parameter.

    Raises:
        ValueError: If there is no such table, or it lacks a parameter.
    """
    box, theta, source = learnt_patients(path)
    return simulate_cohort(LeftHeart(), box, theta, source=source)


def learnt_patients(path: Path) -> tuple[Box, np.ndarray, str]:
    """Read patients learnt from clips: their box, their parameters and where they are from.

    Raises:
        ValueError: If there is no such table, or it lacks a parameter.
    """
    try:
        table = read_table(path)
    except (OSError, IndexError) as error:
        raise ValueError(f"twins = {path}: no table of patients there ({error})") from error
    if missing := [name for name in SEVEN.names if name not in table]:
        raise ValueError(
            f"{path} has no column {', '.join(missing)}: expected one for each of "
            f"{', '.join(SEVEN.names)}, as in the predictions.csv of a P-SSL cell of "
            "experiments.table_ef"
        )
    box = EIGHT if "R_s" in table else SEVEN
    theta = np.stack([table[name] for name in box.names], axis=1)
    return box, theta, f"{len(theta):,} twins of {path.name}"


def read_cohort(described: Mapping[str, Any], folder: Path, most: int | None, seed: int) -> Cohort:
    """Return the patients described in the trial's file, at most `most` of them."""
    wanted = _wanted(described, most, seed)
    if isinstance(wanted, str):
        cohort = learnt_cohort(folder / wanted)
        return cohort if most is None else cohort.take(slice(most))
    return drawn_cohort(*wanted)


def _wanted(described: Mapping[str, Any], most: int | None, seed: int) -> str | tuple[int, int]:
    """Return the table of twins that a trial's file names, or number and seed of its patients."""
    wanted = dict(described.get("cohort", {}))
    if unknown := wanted.keys() - {"patients", "seed", "twins"}:
        raise ValueError(f"[cohort] has {', '.join(unknown)}: expected patients, seed or twins")
    if "twins" in wanted:
        return wanted["twins"]
    patients = wanted.get("patients", 1_000)
    patients = patients if most is None else min(patients, most)
    if not isinstance(patients, int) or patients < 2:
        raise ValueError(f"{patients} patients: expected a whole number of at least 2")
    return patients, int(wanted.get("seed", seed))


def effect_rows(
    trial: Trial | StoredTrial, endpoints: Sequence[str], control: str, seed: int
) -> list[dict[str, Any]]:
    """Return the effects of every arm on some endpoints, overall and by EF level, as table rows."""
    rows = []
    for endpoint in endpoints:
        for effect in trial.effects(endpoint, control=control, by=ef_level, seed=seed):
            row = effect._asdict()
            mean, low, high = row.pop("difference")
            rows.append(row | {"difference": mean, "low": low, "high": high})
    return rows


def markdown(trial: Trial | StoredTrial, rows: Sequence[Mapping[str, Any]]) -> str:
    """Return effects and events as Markdown."""
    stored = isinstance(trial, StoredTrial)
    patients = trial.patients if stored else len(trial.cohort)
    lines = [
        f"{trial.source if stored else trial.cohort.source}.",
        "",
        "| endpoint | arm | EF level | n (failed) | control | treated | difference "
        "| standardised |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        unit = trial.units[row["endpoint"]]
        lines.append(
            f"| {row['endpoint']} [{unit}] | {row['arm']} | {row['group']} "
            f"| {row['patients']} ({row['failed']}) | {row['control']:.4g} | {row['treated']:.4g} "
            f"| {row['difference']:+.3g} [{row['low']:+.3g}, {row['high']:+.3g}] "
            f"| {row['standardised']:+.2f} |"
        )
    events = trial.events()
    names = list(next(iter(events.values())))
    lines += ["", f"| patients with | {' | '.join(names)} |", "|---" * (1 + len(names)) + "|"]
    lines += [
        f"| {arm} | {counts['failed']} of {patients} | "
        + " | ".join(f"{counts[n]} of {patients - counts['failed']}" for n in names[1:])
        + " |"
        for arm, counts in events.items()
    ]
    lines += [
        "",
        "Differences within patients, with 95% bootstrap intervals over patients; standardised by "
        "the standard deviation of the differences. Patients who failed in an arm are excluded "
        "from its differences and counted.",
    ]
    return "\n".join(lines)


def draw_effects(
    rows: Sequence[Mapping[str, Any]], endpoints: Sequence[str], units: Mapping[str, str]
) -> Figure:
    """Draw one panel per endpoint with the effect of each arm, overall and by EF level."""
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    figure = Figure(
        figsize=(2.5 + 3.2 * len(endpoints), 1.5 + 0.55 * len(arms)), layout="constrained"
    )
    for ax, endpoint in zip(
        figure.subplots(1, len(endpoints), sharey=True, squeeze=False)[0], endpoints, strict=True
    ):
        groups: dict[str, list[tuple[float, float, float]]] = {}
        for row in rows:
            if row["endpoint"] == endpoint:
                groups.setdefault(row["group"], []).append(
                    (row["difference"], row["low"], row["high"])
                )
        label = f"change of {endpoint} [{units[endpoint]}]"
        plotting.forest(ax, arms, groups, label=label)
    figure.axes[0].legend(frameon=False, fontsize="small")
    return figure


def write_report(
    run: Run, trial: Trial | StoredTrial, endpoints: Sequence[str], control: str, seed: int
) -> str:
    """Write all tables and the figure of the effects; return the Markdown table.

    A stored trial has its patients in its Zarr group, and gets no table of them.
    """
    rows = effect_rows(trial, endpoints, control, seed)
    if isinstance(trial, Trial):
        trial.write(run.folder / "patients.csv")
        run.written.append(run.folder / "patients.csv")
    write_table(run.folder / "effects.csv", {k: [row[k] for row in rows] for k in rows[0]})
    table = markdown(trial, rows)
    (run.folder / "trial.md").write_text(table + "\n")
    run.written += [run.folder / name for name in ("effects.csv", "trial.md")]
    run.figure("effects", draw_effects(rows, endpoints, trial.units))
    return table


def trial(file: Path, config: TrialConfig, run: Run) -> dict[str, Any]:
    """Run a trial, write its tables and figure, and return the content of results.json.

    Raises:
        ValueError: If the file cannot be read or is not valid.
    """
    described = read_trial(file)
    analysis = described.get("analysis", {})
    if unknown := analysis.keys() - {"control", "endpoints"}:
        raise ValueError(
            f"[analysis] has {', '.join(sorted(unknown))}: expected control or endpoints"
        )
    arms = read_arms(described)
    control = analysis.get("control", next(iter(arms)))
    endpoints = tuple(analysis.get("endpoints", ENDPOINTS))
    if control not in arms:
        raise ValueError(f"control {control!r}: expected one of the arms {', '.join(arms)}")
    mesh = all_devices() if config.distributed else first_devices(config.devices)
    analysed = _Analysis(config, run, control, endpoints, mesh)
    if config.stream:
        return _streamed(described, file.parent, arms, analysed)
    cohort = read_cohort(described, file.parent, config.patients, config.seed)
    analysed.check(cohort.system, cohort.box, cohort.theta, arms)
    result = run_trial(
        cohort,
        arms,
        folder=None if config.distributed else run.folder / "arms",
        mesh=mesh,
        progress=lambda arm: functools.partial(progress_bar, desc=arm, unit="chunk"),
    )
    return analysed.report(result, cohort.source)


class _Analysis(NamedTuple):
    """How a trial is run and analysed."""

    config: TrialConfig
    run: Run
    control: str
    endpoints: tuple[str, ...]
    mesh: Mesh | None

    def check(self, system: Any, box: Box, theta: Any, arms: Mapping[str, Any]) -> None:
        """Raise a ValueError if an endpoint of the analysis is none of the trial's."""
        known = plan_trial(system, box, np.asarray(theta[0], np.float32), arms, None, None, None)
        if unknown := [name for name in self.endpoints if name not in known.endpoints]:
            raise ValueError(f"endpoints {unknown}: expected some of {', '.join(known.endpoints)}")

    def report(self, trial: Trial | StoredTrial, source: str) -> dict[str, Any]:
        """Write the report, in the process that writes; return the content of results.json."""
        if not self.run.leads:
            return {}
        table = write_report(self.run, trial, self.endpoints, self.control, self.config.seed)
        print(f"\n{table}")
        return {"events": trial.events(), "source": source}


def _streamed(
    described: Mapping[str, Any], folder: Path, arms: Mapping[str, Any], analysed: _Analysis
) -> dict[str, Any]:
    """Run a trial into a Zarr group of the run's folder."""
    config, run, mesh = analysed.config, analysed.run, analysed.mesh
    wanted = _wanted(described, config.patients, config.seed)
    if isinstance(wanted, str):
        box, theta, source = learnt_patients(folder / wanted)
        theta = theta[: config.patients]
    else:
        box, theta, source = drawn_patients(run.folder, *wanted, mesh)
    system = LeftHeart()
    analysed.check(system, box, theta, arms)
    place = run.folder / "trial.zarr"
    bar = functools.partial(progress_bar, desc="trial", unit="block", disable=not run.leads)
    run_trial_into(place, system, box, theta, arms, mesh=mesh, progress=bar, source=source)
    if not run.leads:
        return {}
    run.written.append(place)
    return analysed.report(open_trial(place), source)
