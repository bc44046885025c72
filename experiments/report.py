"""Comparison tables of the README, from saved results.

    python -m experiments.report [--table-ef RUN] [--methods RUN] [--detection RUN] [--models RUN]
        [--decisions RUN]

Copies the results of finished runs to `benchmarks/results/`: their summaries, the predictions for
every clip, and the commits and machine. Then regenerates the README's tables from that folder.
Without arguments, it only regenerates the tables.
"""

import csv
import dataclasses
import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import tyro

from experiments.decisions.scores import STRATEGIES
from experiments.detection.curves import EXACT
from experiments.detection.scores import EVERYONE, TITLES

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
README = ROOT / "README.md"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Regenerate the README's tables.

    Attributes:
        table_ef: Finished run of experiments.table_ef to copy.
        methods: Finished run of experiments.methods to copy.
        detection: Finished run of experiments.detection to copy.
        models: Finished run of experiments.models to copy.
        decisions: Finished run of experiments.decisions to copy.
    """

    table_ef: Path | None = None
    methods: Path | None = None
    detection: Path | None = None
    models: Path | None = None
    decisions: Path | None = None


def keep(name: str, run: Path, results: Path = RESULTS) -> None:
    """Copy a run's summary and its cells' tables, and write their commits and configuration.

    Raises:
        ValueError: If the run is not finished.
    """
    if not (run / "results.json").exists() or not (run / f"{name}.csv").exists():
        raise ValueError(f"{run} is no finished run of experiments.{name}: finish it with --resume")
    made = json.loads((run / "config.json").read_text())
    if made["config"].get("preset") == "tiny":
        raise ValueError(
            f"{run} is a tiny run, which only tests that everything runs: give a run of another "
            "preset"
        )
    results.mkdir(parents=True, exist_ok=True)
    for suffix in ("csv", "md"):
        shutil.copy(run / f"{name}.{suffix}", results / f"{name}.{suffix}")
    cells = results / name / "cells"
    shutil.rmtree(cells, ignore_errors=True)
    commits = set()
    for result in sorted((run / "cells").glob("**/result.json")):
        predictions = result.parent / "predictions.csv"
        if predictions.exists():
            place = cells / result.parent.relative_to(run / "cells")
            place.mkdir(parents=True)
            for kept in (result, predictions):
                shutil.copy(kept, place / kept.name)
        # A resumed run may have cells of several commits.
        commits.add(json.loads(result.read_text()).get("commit", made["commit"]))
    made["commits"] = sorted(commits)
    # Where folders of another machine were means nothing here.
    made["config"] = {
        key: Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value
        for key, value in made["config"].items()
    }
    (results / f"{name}.json").write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n")


def _short(commit: str) -> str:
    """Shorten a commit for display, keeping the mark of uncommitted changes."""
    return commit[:7] + ("-dirty" if commit.endswith("-dirty") else "")


def _number(row: Mapping[str, str], name: str, digits: int) -> str:
    if not row[name]:
        return "–"
    return f"{float(row[name]):.{digits}f}"


def _interval(row: Mapping[str, str], name: str, digits: int = 1) -> str:
    if not row[name]:
        return "–"
    return f"{_number(row, name, digits)} {_bounds(row, name, digits)}"


def _bounds(row: Mapping[str, str], name: str, digits: int) -> str:
    low, high = (_number(row, f"{name}_{end}", digits) for end in ("low", "high"))
    return f"[{low}, {high}]"


def clip_table(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the table of methods on clips, with one row per data set and method."""
    lines = [
        "| clips of | method | EF error [points] | less that of the supervised default encoder "
        "| EF re-simulated | EDV [mL] | ESV [mL] | clips seen | seeds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        seen = int(row["clips_seen"])
        spread = f" ± {_number(row, 'EF_seeds', 2)}" if row["EF_seeds"] else ""
        cells = [f"{_number(row, 'EF', 2)}{spread} {_bounds(row, 'EF', 2)}"]
        cells += [_interval(row, "EF_beside", 2), _number(row, "EF_resimulated", 2)]
        cells += [_number(row, "EDV", 1), _number(row, "ESV", 1)]
        cells += [f"{seen:,}" if seen else "–", row["seeds"] if seen else "–"]
        lines.append(f"| {row['data']} | {row['method']} | {' | '.join(cells)} |")
    return lines


def curve_table(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the table of methods on curves, with one row per method and period.

    The table is for the middle noise.
    """
    noises = sorted({float(row["noise"]) for row in rows})
    noise = noises[len(noises) // 2]
    lines = [
        f"| noise {noise:g} mL | EF [points] | EF re-simulated | V_lv re-simulated [mL] "
        "| hidden P_lv re-simulated [mmHg] | less that of P-SSL | θ [% of the box] | failures "
        "| s for all |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if float(row["noise"]) != noise:
            continue
        cells = [_interval(row, "EF_error", 2)]
        cells += [_number(row, "EF_resimulated", 2), _number(row, "V_lv_resimulated", 2)]
        cells += [_interval(row, "P_lv_resimulated", 1)]
        cells += [_interval(row, "P_lv_resimulated_beside", 1), _number(row, "theta", 0)]
        cells += [f"{row['failures']} of {row['patients']}", _number(row, "seconds", 0)]
        measured = row.get("measured", "complete curves")
        told = "" if measured == "complete curves" else f", {measured}"
        lines.append(f"| {row['method']}, period {row['period']}{told} | {' | '.join(cells)} |")
    return lines


def disease_table(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the table of disease detection, the ill against everyone else; one row per source."""
    areas = {
        (row["source"], row["disease"], row["score"]): float(row["AUROC"])
        for row in rows
        if row["against"] == EVERYONE
    }
    diseases = list(dict.fromkeys(row["disease"] for row in rows))
    lines = [f"| seen in | {' | '.join(diseases)} |", "|---" * (1 + len(diseases)) + "|"]
    for source in dict.fromkeys(row["source"] for row in rows):
        cells = []
        for disease in diseases:
            pair = [areas.get((source, disease, score)) for score in ("its parameter", "told")]
            cells.append(" / ".join("–" if area is None else f"{area:.2f}" for area in pair))
        lines.append(f"| {TITLES[source]} | {' | '.join(cells)} |")
    return lines


def decision_table(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the costs of decisions on curves of unknown start, one row per disease and cost."""
    costs = {
        (row["disease"], float(row["k"]), row["strategy"]): float(row["cost"])
        for row in rows
        if row["case"] == EXACT[1]
    }
    strategies = [name for name in STRATEGIES if any(key[2] == name for key in costs)]
    columns = " | ".join(STRATEGIES[name] for name in strategies)
    lines = [f"| disease | k | {columns} |", "|---" * (2 + len(strategies)) + "|"]
    for disease, k in dict.fromkeys(key[:2] for key in costs):
        cells = [f"{costs[disease, k, name]:.3f}" for name in strategies]
        lines.append(f"| {disease} | {k:g} | {' | '.join(cells)} |")
    return lines


def model_table(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the table of models, with P-SSL, the fit and the middle of the box side by side."""
    lines = [
        "| model | measured curve, re-simulated | a hidden one | θ [% of the box] |",
        "|---|---|---|---|",
    ]
    for system in dict.fromkeys(row["system"] for row in rows):
        own = [row for row in rows if row["system"] == system]

        def side_by_side(name: str, own: Sequence[Mapping[str, str]] = own) -> str:
            return " / ".join(f"{float(row[name]):.2g}" for row in own)

        lines.append(
            f"| {system} | {own[0]['channel']}: {side_by_side('curve')} "
            f"| {own[0]['hidden_channel']}: {side_by_side('hidden')} | {side_by_side('theta')} |"
        )
    return lines


TABLES: dict[str, Callable[[Sequence[Mapping[str, str]]], list[str]]] = {
    "table_ef": clip_table,
    "methods": curve_table,
    "detection": disease_table,
    "models": model_table,
    "decisions": decision_table,
}


def rewritten(readme: str, results: Path = RESULTS) -> str:
    """Return the README with new tables between the comments that mark their places.

    Raises:
        ValueError: If the comments of a table are missing.
    """
    for name, make in TABLES.items():
        source = results / f"{name}.csv"
        if not source.exists():
            continue
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        if begin not in readme or end not in readme:
            raise ValueError(f"README.md has no place for {name}: expected {begin} and {end}")
        with source.open(newline="") as file:
            lines = make(list(csv.DictReader(file)))
        made = json.loads((results / f"{name}.json").read_text())
        commits = ", ".join(f"`{_short(commit)}`" for commit in made["commits"])
        origin = f"`python -m experiments.{name}`, cells of commit {commits}, {made['machine']}"
        before, after = readme.split(begin)[0], readme.split(end)[1]
        readme = before + "\n".join([begin, "", *lines, "", origin, "", end]) + after
    return readme


def main(config: Config) -> None:
    """Copy the given runs, then write the README."""
    for name in TABLES:
        run = getattr(config, name)
        if run is not None:
            keep(name, run)
    README.write_text(rewritten(README.read_text()))
    print(f"written: {README}, from {RESULTS}; check both with git diff")


if __name__ == "__main__":
    try:
        main(tyro.cli(Config, description=__doc__, prog="python -m experiments.report"))
    except ValueError as error:
        sys.exit(f"error: {error}")
