"""Trials described in a file: the same patients under several treatments.

The output is every patient's endpoints in every arm, paired effects with bootstrap intervals by EF
level, safety events, and a figure of the effects.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from jaxtwin import plotting
from jaxtwin.cohorts.cohort import Cohort
from jaxtwin.cohorts.draw import draw_cohort
from jaxtwin.cohorts.simulate import simulate_cohort
from jaxtwin.commands.run import Run
from jaxtwin.commands.settings import TrialConfig
from jaxtwin.commands.tables import read_table, write_table
from jaxtwin.models.left_heart import EIGHT, SEVEN, LeftHeart
from jaxtwin.training.progress import progress_bar
from jaxtwin.treatments import Trial, ef_level
from jaxtwin.treatments.trial_file import read_arms, read_trial
from jaxtwin.treatments.trials import run_trial, trial_endpoints

ENDPOINTS = ("output", "P_ao_mean", "P_la_mean", "EF", "stroke_work")


def drawn_cohort(patients: int, seed: int) -> Cohort:
    """Draw patients from the seven-parameter box within physiological limits."""
    cohort = draw_cohort(LeftHeart(), SEVEN, patients, seed=seed)
    limits = ", ".join(f"{n} {a:g} to {b:g}" for n, (a, b) in LeftHeart().limits().items())
    source = (
        f"{patients:,} patients of the seven-parameter box (seed {seed}); "
        f"{100 * cohort.accepted:.0f}% of its points are within the limits {limits}"
    )
    return dataclasses.replace(cohort, source=source)


def learnt_cohort(path: Path) -> Cohort:
    """Simulate patients learnt from clips, given as a table with one column per parameter.

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
    source = f"{len(theta):,} twins of {path.name}"
    return simulate_cohort(LeftHeart(), box, theta, source=source)


def read_cohort(described: Mapping[str, Any], folder: Path, most: int | None, seed: int) -> Cohort:
    """Return the patients described in the trial's file, at most `most` of them."""
    wanted = dict(described.get("cohort", {}))
    if unknown := wanted.keys() - {"patients", "seed", "twins"}:
        raise ValueError(f"[cohort] has {', '.join(unknown)}: expected patients, seed or twins")
    if "twins" in wanted:
        cohort = learnt_cohort(folder / wanted["twins"])
        return cohort if most is None else cohort.take(slice(most))
    patients = wanted.get("patients", 1_000)
    patients = patients if most is None else min(patients, most)
    if not isinstance(patients, int) or patients < 2:
        raise ValueError(f"{patients} patients: expected a whole number of at least 2")
    return drawn_cohort(patients, int(wanted.get("seed", seed)))


def effect_rows(
    trial: Trial, endpoints: Sequence[str], control: str, seed: int
) -> list[dict[str, Any]]:
    """Return the effects of every arm on some endpoints, overall and by EF level, as table rows."""
    rows = []
    for endpoint in endpoints:
        for effect in trial.effects(endpoint, control=control, by=ef_level, seed=seed):
            row = effect._asdict()
            mean, low, high = row.pop("difference")
            rows.append(row | {"difference": mean, "low": low, "high": high})
    return rows


def markdown(trial: Trial, rows: Sequence[Mapping[str, Any]]) -> str:
    """Return effects and events as Markdown."""
    lines = [
        f"{trial.cohort.source}.",
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
    names, patients = list(next(iter(events.values()))), len(trial.cohort.theta)
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


def write_report(run: Run, trial: Trial, endpoints: Sequence[str], control: str, seed: int) -> str:
    """Write all tables and the figure of the effects; return the Markdown table."""
    rows = effect_rows(trial, endpoints, control, seed)
    trial.write(run.folder / "patients.csv")
    write_table(run.folder / "effects.csv", {k: [row[k] for row in rows] for k in rows[0]})
    table = markdown(trial, rows)
    (run.folder / "trial.md").write_text(table + "\n")
    run.written += [run.folder / name for name in ("patients.csv", "effects.csv", "trial.md")]
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
    cohort = read_cohort(described, file.parent, config.patients, config.seed)
    known = trial_endpoints(cohort, arms)
    if unknown := [name for name in endpoints if name not in known]:
        raise ValueError(f"endpoints {unknown}: expected some of {', '.join(known)}")
    result = run_trial(
        cohort,
        arms,
        folder=run.folder / "arms",
        progress=lambda arm: functools.partial(progress_bar, desc=arm, unit="chunk"),
    )
    print(f"\n{write_report(run, result, endpoints, control, config.seed)}")
    return {"events": result.events(), "source": cohort.source}
