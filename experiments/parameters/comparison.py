"""Rank tests and histograms of `experiments.parameters`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from experiments.parameters.settings import Config
from experiments.table_ef.table import by_patient
from jaxtwin import plotting
from jaxtwin.cohorts.draw import draw_cohort
from jaxtwin.commands.run import Run
from jaxtwin.commands.tables import read_table, write_table
from jaxtwin.data.echonet import read_theta
from jaxtwin.models.left_heart import SEVEN, LeftHeart

# As in the guidelines of the European Society of Cardiology for heart failure (2021) [%].
REDUCED, PRESERVED = 40.0, 50.0


def learnt_parameters(folder: Path, method: str) -> dict[str, np.ndarray]:
    """Read measured EF and learnt parameters of a data set's unseen patients, averaged over seeds.

    Raises:
        ValueError: If the method has no finished cell there, or does not estimate parameters.
    """
    places = sorted(folder.glob(f"{method}-*/predictions.csv"))
    if not places:
        raise ValueError(f"no finished cell of {method} in {folder}: run experiments.table_ef")
    tables = [read_table(place) for place in places]
    if missing := [name for name in SEVEN.names if name not in tables[0]]:
        raise ValueError(
            f"{method} does not estimate {', '.join(missing)}: choose pssl or ssl_simulator"
        )
    patients = tables[0]["patient"]
    columns = {
        name: by_patient(patients, np.mean([table[name] for table in tables], axis=0))
        for name in ("EF_true", *SEVEN.names)
    }
    return {"patient": np.unique(patients), **columns}


def rank_tests(
    EF: np.ndarray, parameters: Mapping[str, np.ndarray]
) -> dict[str, dict[str, float | int]]:
    """Apply the Mann-Whitney test between the two groups to each parameter.

    Returns:
        Medians of both groups, their sizes, the probability that a patient with reduced EF has the
        larger value (ties count half), and the p-value after Holm's correction.

    Raises:
        ValueError: If a group has fewer than two patients.
    """
    low, high = EF <= REDUCED, EF >= PRESERVED
    if low.sum() < 2 or high.sum() < 2:
        raise ValueError(
            f"{low.sum()} patients with EF at most {REDUCED:g}% and {high.sum()} with at least "
            f"{PRESERVED:g}%: expected at least two of each; use a larger test split"
        )
    found = {name: stats.mannwhitneyu(x[low], x[high]) for name, x in parameters.items()}
    p = np.array([test.pvalue for test in found.values()])
    order, holm = np.argsort(p), np.empty(len(p))
    holm[order] = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    return {
        name: {
            "reduced": float(np.median(x[low])),
            "preserved": float(np.median(x[high])),
            "larger_in_reduced": float(found[name].statistic / (low.sum() * high.sum())),
            "p_holm": float(min(corrected, 1.0)),
            "n_reduced": int(low.sum()),
            "n_preserved": int(high.sum()),
        }
        for (name, x), corrected in zip(parameters.items(), holm, strict=True)
    }


def draw(
    data: str,
    learnt: Mapping[str, np.ndarray],
    truth: Mapping[str, np.ndarray] | None,
    prior: np.ndarray,
    tests: Mapping[str, Mapping[str, Mapping[str, float | int]]],
) -> Figure:
    """Draw one panel per parameter: both groups' learnt values, the truth if known, the prior."""
    figure = Figure(figsize=(13, 6), layout="constrained")
    axes = list(figure.subplots(2, 4).flat)
    groups = {
        f"EF ≤ {REDUCED:g}%": learnt["EF_true"] <= REDUCED,
        f"EF ≥ {PRESERVED:g}%": learnt["EF_true"] >= PRESERVED,
    }
    for ax, spec, column in zip(axes, SEVEN.specs, prior.T, strict=False):
        plotting.distributions(
            ax,
            spec,
            {name: learnt[spec.name][mask] for name, mask in groups.items()},
            truth=None if truth is None else {n: truth[spec.name][m] for n, m in groups.items()},
            prior=column,
        )
        words = ", ".join(f"{of} p = {test[spec.name]['p_holm']:.1g}" for of, test in tests.items())
        ax.set_title(words, fontsize="medium")
    for ax in axes[len(SEVEN.specs) :]:
        ax.axis("off")
    axes[-1].legend(*axes[0].get_legend_handles_labels(), frameon=False, loc="center")
    sizes = ", ".join(f"{mask.sum()} with {name}" for name, mask in groups.items())
    figure.suptitle(f"{data}: parameters learnt for unseen patients, {sizes}")
    return figure


def experiment(config: Config, run: Run) -> dict[str, Any]:
    """Draw a figure and write a table for every data set of the run."""
    cells = config.run / "cells"
    if not cells.is_dir():
        raise ValueError(f"{config.run} holds no run of experiments.table_ef: give one with --run")
    prior = draw_cohort(LeftHeart(), SEVEN, config.prior, seed=config.seed)
    rows, results = [], {}
    for folder in sorted(path for path in cells.iterdir() if path.is_dir()):
        learnt = learnt_parameters(folder, config.method)
        tests = {"learnt": rank_tests(learnt["EF_true"], {n: learnt[n] for n in SEVEN.names})}
        truth = None
        if folder.name == "phantom":
            theta = read_theta(config.run / "phantom")
            truth = {n: np.array([theta[p][n] for p in learnt["patient"]]) for n in SEVEN.names}
            tests["truth"] = rank_tests(learnt["EF_true"], truth)
        figure = draw(folder.name, learnt, truth, np.asarray(prior.theta), tests)
        run.figure(f"parameters_{folder.name}", figure)
        results[folder.name] = tests
        rows += [
            {"data": folder.name, "of": of, "parameter": name, **test}
            for of, group in tests.items()
            for name, test in group.items()
        ]
    write_table(run.folder / "parameters.csv", {k: [row[k] for row in rows] for k in rows[0]})
    run.written.append(run.folder / "parameters.csv")
    for row in rows:
        print(
            f"{row['data']:8} {row['of']:7} {row['parameter']:6} reduced {row['reduced']:8.4g} "
            f"preserved {row['preserved']:8.4g} p {row['p_holm']:.2g}"
        )
    return results
