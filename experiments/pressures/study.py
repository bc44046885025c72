"""Study of `experiments.pressures`: learn once for each task, then answer for all patients."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.pressures.answers import METHODS, Answer, Numbers, answer, learn, reserve, together
from experiments.pressures.figures import draw_agreement
from experiments.pressures.patients import (
    OTHERS,
    SAMPLES,
    Laboratory,
    curve_task,
    draw_laboratory,
    draw_other,
    measure,
    prior_of,
    true_numbers,
    without_curve,
)
from experiments.pressures.settings import Config
from experiments.pressures.table import in_silico_table, left_out_table, main_table, summarise
from jaxtwin.cohorts.cohort import Cohort
from jaxtwin.commands.emulator import obtain_emulator
from jaxtwin.commands.run import Run
from jaxtwin.commands.tables import read_table, write_table
from jaxtwin.methods.measured import Curves
from jaxtwin.models.left_heart import NINE
from jaxtwin.parameters import NormalPrior

CUFFS = {"cuff": True, "no cuff": False}
MEDIAN = "median"
"""The learning patients' median, for everybody."""
LACKING = {"cuff": ("EF",), "cuff, EF": ()}
"""What is measured without a curve, and which of it a patient lacks."""


class Group(NamedTuple):
    """Patients whose numbers are estimated.

    Attributes:
        patients: The patients.
        truth: Their true numbers, by name.
        seed: Seed of their measurements.
    """

    patients: Cohort[Any]
    truth: Numbers
    seed: int


def groups_of(
    test: Laboratory, config: Config
) -> tuple[dict[str, Group], dict[str, dict[str, int]]]:
    """Return all groups of unseen patients, and who was left out of those of other circuits."""
    seed = config.seed + 100
    found = {
        name: Group(part, true_numbers(part), seed + k)
        for k, (name, part) in enumerate(zip(("rest", "stress"), test, strict=True))
    }
    told = {}
    for k, name in enumerate(config.circuits, start=2):
        other = OTHERS[name]
        patients, told[name] = draw_other(other, config.others, config.seed)
        found[name] = Group(patients, true_numbers(patients, other.elastance), seed + k)
    return found, told


def rows_of(group: str, truth: Numbers, found: Answer) -> dict[str, list[Any]]:
    """Return one row per patient and number, as columns."""
    columns: dict[str, list[Any]] = {
        name: [] for name in ("group", "number", "patient", "true", "value", "low", "high")
    }
    for name, values in found.values.items():
        n = len(values)
        nothing = np.full(n, np.nan)
        parts = ([group] * n, [name] * n, range(n), truth[name], values)
        ends = (found.low.get(name, nothing), found.high.get(name, nothing))
        for column, part in zip(columns.values(), (*parts, *ends), strict=True):
            column += list(part)
    return columns


def joined(tables: Sequence[Mapping[str, list[Any]]]) -> dict[str, list[Any]]:
    """Return tables one below the other."""
    return {name: [x for table in tables for x in table[name]] for name in tables[0]}


def fill_cell(
    place: Path,
    name: str,
    cuff: bool,
    patients: tuple[Laboratory, Laboratory],
    groups: Mapping[str, Group],
    config: Config,
    prior: NormalPrior,
    run: Run,
) -> None:
    """Learn one task by one method, and write its estimates of all groups."""
    emulator = functools.cache(
        lambda: obtain_emulator(
            run.folder / "emulator", NINE, config.emulator, seed=config.seed, phases=SAMPLES
        )[0]
    )
    task = curve_task(prior, cuff)
    learnt = learn(name, task, patients, config, place.with_suffix(""), emulator)
    # All groups together, so that their programs are compiled once.
    parts = [measure(task, part.patients, part.seed) for part in groups.values()]
    ends = np.cumsum([len(part.values) for part in parts])
    found = answer(learnt, together(*parts), config)
    answers = {
        group: found.take(slice(end - len(part.values), end))
        for group, part, end in zip(groups, parts, ends, strict=True)
    }
    tables = [rows_of(group, groups[group].truth, found) for group, found in answers.items()]
    ratio = {"reserve": groups["stress"].truth["E_max"] / groups["rest"].truth["E_max"]}
    tables.append(rows_of("reserve", ratio, reserve(answers["rest"], answers["stress"])))
    write_table(place, joined(tables))


def fill_median(place: Path, learning: Laboratory, groups: Mapping[str, Group]) -> None:
    """Write the median of the patients to learn from, at rest or not, as everybody's estimate."""
    rest, stress = (true_numbers(part) for part in learning)
    ratio = float(np.median(stress["E_max"] / rest["E_max"]))
    tables = []
    for group, part in groups.items():
        like = stress if group == "stress" else rest
        values = {name: np.full(len(x), np.median(like[name])) for name, x in part.truth.items()}
        tables.append(rows_of(group, part.truth, Answer(values, {}, {})))
    true = {"reserve": groups["stress"].truth["E_max"] / groups["rest"].truth["E_max"]}
    same = {"reserve": np.full(len(true["reserve"]), ratio)}
    write_table(place, joined([*tables, rows_of("reserve", true, Answer(same, {}, {}))]))


def fill_without_curve(
    place: Path,
    patients: tuple[Laboratory, Laboratory],
    group: Group,
    config: Config,
    prior: NormalPrior,
) -> None:
    """Learn posteriors of patients without a curve, with and without EF, and write estimates."""

    def none() -> Any:
        raise AssertionError("a posterior needs no emulator")

    plain = curve_task(prior, True)
    task = without_curve(plain)
    learnt = learn("without curve", plain, patients, config, place.with_suffix(""), none)
    whole, parts = measure(task, group.patients, group.seed), []
    for lacking in LACKING.values():
        beside = {
            key: Curves(np.full_like(part.values, np.nan)) if key in lacking else part
            for key, part in (whole.beside or {}).items()
        }
        parts.append(whole._replace(values=np.full_like(whole.values, np.nan), beside=beside))
    n, found = len(whole.values), answer(learnt, together(*parts), config)
    tables = [
        rows_of(name, group.truth, found.take(slice(k * n, (k + 1) * n)))
        for k, name in enumerate(LACKING)
    ]
    write_table(place, joined(tables))


def experiment(config: Config, run: Run) -> dict[str, Any]:
    """Fill the cells that are missing, and write tables and figures."""
    ends = np.cumsum(config.cohort)
    drawn = draw_laboratory(int(ends[-1]), config.points, config.seed)
    learning, selecting, test = (
        drawn.take(slice(end - n, end)) for n, end in zip(config.cohort, ends, strict=True)
    )
    prior = prior_of(learning)
    groups, left_out = groups_of(test, config)
    cells = run.folder / "cells"
    cells.mkdir(exist_ok=True)
    places = {}
    for name in METHODS:
        for title, cuff in CUFFS.items():
            if not (cuff or config.without_cuff):
                continue
            places[name, title] = place = cells / f"{name}-{title.replace(' ', '-')}.csv"
            if place.exists():
                continue
            print(f"{METHODS[name]}, {title}", flush=True)
            fill_cell(place, name, cuff, (learning, selecting), groups, config, prior, run)
    places[MEDIAN, "no cuff"] = cells / "median.csv"
    fill_median(places[MEDIAN, "no cuff"], learning, groups)
    bare = cells / "without-curve.csv"
    if not bare.exists():
        print("posterior without a curve", flush=True)
        at_rest = NormalPrior.of(NINE, np.asarray(learning.rest.theta))
        fill_without_curve(bare, (learning, selecting), groups["rest"], config, at_rest)
    tables = {key: read_table(place) for key, place in places.items()}
    scores = summarise(tables)
    silico = {
        **{
            f"{what}, period": {
                key: x[read_table(bare)["group"] == what] for key, x in read_table(bare).items()
            }
            for what in LACKING
        },
        "cuff, volume curve, period": _at_rest(tables["posterior", "cuff"]),
        "nothing: everybody gets the median": _at_rest(tables[MEDIAN, "no cuff"]),
    }
    in_silico, markdown = in_silico_table(silico)
    words = {
        "pressures": main_table(scores),
        "in_silico": markdown,
        "left_out": left_out_table(left_out),
    }
    for name, text in words.items():
        path = run.folder / f"{name}.md"
        path.write_text(text + "\n")
        run.written.append(path)
        print(f"\n{text}")
    write_table(
        run.folder / "pressures.csv", {key: [row[key] for row in scores] for key in scores[0]}
    )
    run.written.append(run.folder / "pressures.csv")
    run.figure("pressures", draw_agreement(tables))
    return {"rows": scores, "in_silico": in_silico, "left_out": left_out}


def _at_rest(table: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {key: x[table["group"] == "rest"] for key, x in table.items()}
