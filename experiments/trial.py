"""A trial that is written in a file: the same hearts under several treatments.

    python -m experiments.trial --config FILE [--out DIR]

The file (TOML, see experiments/trials/heart_failure.toml) says which patients there are, drawn
from the box or learnt from clips, and what each arm does to them. Writes every patient's endpoints
in every arm, paired effects with bootstrap intervals by EF level, safety events, and a figure of
the effects. A thousand patients in five arms take under a minute on two CPU cores.
"""

import dataclasses
import functools
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.command import Run, RunConfig, main
from experiments.tables import read_table, write_table
from jaxtwin import plotting
from jaxtwin.cohorts.cohort import Cohort
from jaxtwin.cohorts.draw import draw_cohort
from jaxtwin.cohorts.simulate import simulate_cohort
from jaxtwin.models.left_heart import EIGHT, SEVEN, LeftHeart
from jaxtwin.models.ventricle import CLINICAL
from jaxtwin.training.progress import progress_bar
from jaxtwin.treatments import (
    AbstractIntervention,
    AorticRepair,
    DoseResponse,
    Fluid,
    Inotrope,
    MitralRepair,
    Pump,
    RateControl,
    Vasodilator,
    combine,
)
from jaxtwin.treatments import BelowSuction, FlatteningFlow
from jaxtwin.treatments.trials import ENDPOINT_UNITS, Trial, ef_level, run_trial

# What a file may call them.
INTERVENTIONS: dict[str, type[AbstractIntervention]] = {
    "inotrope": Inotrope,
    "vasodilator": Vasodilator,
    "fluid": Fluid,
    "rate_control": RateControl,
    "mitral_repair": MitralRepair,
    "aortic_repair": AorticRepair,
    "pump": Pump,
}
ENDPOINTS = ("output", "P_ao_mean", "P_la_mean", "EF", "stroke_work")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(RunConfig):
    """Run a trial.

    Attributes:
        config: The file that describes it.
        patients: At most so many patients, whatever the file says.
    """

    config: Path = Path(__file__).parent / "trials" / "heart_failure.toml"
    patients: int | None = None


PRESETS = {
    "tiny": Config(preset="tiny", patients=24),
    "default": Config(),
    "full": Config(preset="full"),
}


def read_trial(path: Path) -> dict[str, Any]:
    """A trial's description.

    Raises:
        ValueError: If it cannot be read, or says something that is not understood.
    """
    try:
        described = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"--config {path}: {error}") from error
    unknown = described.keys() - {"cohort", "arms", "analysis"}
    if unknown or len(described.get("arms", {})) < 2:
        raise ValueError(
            f"{path} has [{'], ['.join(described)}]: expected [cohort], [analysis] and at least "
            "two [arms.NAME], one of them the control"
        )
    return described


def create(name: str, settings: Any) -> AbstractIntervention:
    """One intervention as the file describes it.

    Raises:
        ValueError: If there is no such intervention, or it has no such setting.
    """
    if name not in INTERVENTIONS:
        raise ValueError(f"no intervention {name!r}: there are {', '.join(INTERVENTIONS)}")
    kind = INTERVENTIONS[name]
    known = [field.name for field in dataclasses.fields(kind) if field.name != "pump"]
    required = [
        field.name
        for field in dataclasses.fields(kind)
        if field.default is dataclasses.MISSING and field.name in known
    ]
    if (
        not isinstance(settings, dict)
        or settings.keys() - set(known)
        or set(required) - settings.keys()
    ):
        raise ValueError(
            f"{name} = {settings}: expected {{ {', '.join(f'{n} = ...' for n in known)} }}, with "
            f"at least {', '.join(required) or 'nothing'}"
        )
    return kind(**{key: _value(name, key, value) for key, value in settings.items()})


# What a number may be at least.
LOWEST = {"effect": -0.95, "speed": 0.0, "rate": 20.0, "resistance": 0.0, "below_suction": 0.0}
LOWEST |= {"half": 1e-9, "dose": 0.0}
HIGHEST = {"below_suction": 0.9}


def _value(name: str, key: str, value: Any) -> Any:
    """A number, a dose with its response, or a speed law."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not LOWEST.get(key, -float("inf")) <= value <= HIGHEST.get(key, float("inf")):
            most = f" and at most {HIGHEST[key]:g}" if key in HIGHEST else ""
            raise ValueError(f"{name}: {key} = {value}: expected at least {LOWEST[key]:g}{most}")
        return float(value)
    if isinstance(value, dict):
        if key == "speed" and value.keys() == {"below_suction"}:
            return BelowSuction(_value(name, "below_suction", value["below_suction"]))
        if key == "speed" and value == {"law": "flattening_flow"}:
            return FlatteningFlow()
        if {"dose", "maximum", "half"} <= value.keys() <= {"dose", "maximum", "half", "exponent"}:
            numbers = {k: float(_value(name, k, v)) for k, v in value.items()}
            response = DoseResponse(**{k: v for k, v in numbers.items() if k != "dose"})
            return _value(name, key, float(response(numbers["dose"])))
    raise ValueError(
        f"{name}: {key} = {value}: expected a number, {{ dose, maximum, half }}, or for a speed "
        "{ below_suction = share } or { law = 'flattening_flow' }"
    )


def read_arms(described: Mapping[str, Any]) -> dict[str, AbstractIntervention]:
    """Every arm; its interventions follow each other in the file's order."""
    arms = {}
    for arm, parts in described["arms"].items():
        try:
            arms[arm] = combine(*(create(name, settings) for name, settings in parts.items()))
        except ValueError as error:
            raise ValueError(f"arm {arm!r}: {error}") from error
    return arms


def draw(patients: int, seed: int) -> Cohort:
    """Patients of the box within physiological limits."""
    cohort = draw_cohort(LeftHeart(), SEVEN, patients, seed=seed)
    limits = ", ".join(f"{n} {a:g} to {b:g}" for n, (a, b) in CLINICAL.items())
    source = (
        f"{patients:,} patients of the seven-parameter box (seed {seed}); "
        f"{100 * cohort.accepted:.0f}% of its points are within the limits {limits}"
    )
    return dataclasses.replace(cohort, source=source)


def twins(path: Path) -> Cohort:
    """Patients learnt from clips: a table with a column a parameter.

    Raises:
        ValueError: If there is no such table.
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
    """The file's patients."""
    wanted = dict(described.get("cohort", {}))
    if unknown := wanted.keys() - {"patients", "seed", "twins"}:
        raise ValueError(f"[cohort] has {', '.join(unknown)}: expected patients, seed or twins")
    if "twins" in wanted:
        cohort = twins(folder / wanted["twins"])
        return cohort if most is None else cohort.take(slice(most))
    patients = wanted.get("patients", 1_000)
    patients = patients if most is None else min(patients, most)
    if not isinstance(patients, int) or patients < 2:
        raise ValueError(f"{patients} patients: expected a whole number of at least 2")
    return draw(patients, int(wanted.get("seed", seed)))


def effect_rows(
    trial: Trial, endpoints: Sequence[str], control: str, seed: int
) -> list[dict[str, Any]]:
    """The effects of every arm on some endpoints, for all and by EF level, as rows of a table."""
    rows = []
    for endpoint in endpoints:
        for effect in trial.effects(endpoint, control=control, by=ef_level, seed=seed):
            row = effect._asdict()
            mean, low, high = row.pop("difference")
            rows.append(row | {"difference": mean, "low": low, "high": high})
    return rows


def markdown(trial: Trial, rows: Sequence[Mapping[str, Any]]) -> str:
    """Effects and events as Markdown."""
    lines = [
        f"{trial.cohort.source}.",
        "",
        "| endpoint | arm | EF level | n (failed) | control | treated | difference "
        "| standardised |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        unit = ENDPOINT_UNITS.get(row["endpoint"], "")
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
        "Differences within patients, with 95% bootstrap intervals over them; standardised by the "
        "differences' own spread. Who failed in an arm is left out of its differences and counted.",
    ]
    return "\n".join(lines)


def draw_effects(rows: Sequence[Mapping[str, Any]], endpoints: Sequence[str]) -> Figure:
    """A panel an endpoint: the effect of each arm, for all and by EF level."""
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
        label = f"change of {endpoint} [{ENDPOINT_UNITS.get(endpoint, '')}]"
        plotting.forest(ax, arms, groups, label=label)
    figure.axes[0].legend(frameon=False, fontsize="small")
    return figure


def report(run: Run, trial: Trial, endpoints: Sequence[str], control: str, seed: int) -> str:
    """Write all tables and the figure of the effects; the Markdown table."""
    rows = effect_rows(trial, endpoints, control, seed)
    trial.write(run.folder / "patients.csv")
    write_table(run.folder / "effects.csv", {k: [row[k] for row in rows] for k in rows[0]})
    table = markdown(trial, rows)
    (run.folder / "trial.md").write_text(table + "\n")
    run.written += [run.folder / name for name in ("patients.csv", "effects.csv", "trial.md")]
    run.figure("effects", draw_effects(rows, endpoints))
    return table


def experiment(config: Config, run: Run) -> dict[str, Any]:
    """The trial, its tables and its figure."""
    described = read_trial(config.config)
    analysis = described.get("analysis", {})
    if unknown := analysis.keys() - {"control", "endpoints"}:
        raise ValueError(
            f"[analysis] has {', '.join(sorted(unknown))}: expected control or endpoints"
        )
    arms = read_arms(described)
    control = analysis.get("control", next(iter(arms)))
    endpoints = tuple(analysis.get("endpoints", ENDPOINTS))
    unknown = [name for name in endpoints if name not in ENDPOINT_UNITS]
    if control not in arms:
        raise ValueError(f"control {control!r}: expected one of the arms {', '.join(arms)}")
    if unknown:
        raise ValueError(f"endpoints {unknown}: expected some of {', '.join(ENDPOINT_UNITS)}")
    cohort = read_cohort(described, config.config.parent, config.patients, config.seed)
    trial = run_trial(
        cohort,
        arms,
        folder=run.folder / "arms",
        progress=lambda arm: functools.partial(progress_bar, desc=arm, unit="chunk"),
    )
    print(f"\n{report(run, trial, endpoints, control, config.seed)}")
    return {"events": trial.events(), "source": cohort.source}


if __name__ == "__main__":
    main("trial", PRESETS, experiment, __doc__)
