"""Simulated patients beside a clinic's: quantiles, rank correlations, and what the box covers.

    python -m experiments.population [--preset tiny|default|full] [--out DIR]

Draws a cohort of the nine-parameter left heart that is distributed as the patients of an
echocardiography laboratory, and writes its quantiles beside the clinic's and those of patients
drawn uniformly over the box and over the paper's seven-parameter box. Then measures how many of the
clinic's pairs of end-diastolic and end-systolic volume are within 2 mL of a simulated patient with
plausible pressures. The pairs are drawn from published quantiles of EF by fifths of EDV, because
the clinic's own may not be redistributed; EF between two quantiles is taken as uniform.

The default preset takes two minutes on two CPU cores. Expect medians within 2%, rank correlations
within 0.03, and 99% of the pairs covered, compared with less than 80% by the paper's box.
"""

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.command import Run, RunConfig, main

if TYPE_CHECKING:
    from jaxtwin.cohorts.cohort import Cohort

PROBABILITIES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
EF_BY_FIFTHS = ((47, 63, 71), (41, 61, 69), (37, 60, 69), (31, 58, 68), (19, 48, 66))
"""EF at 5, 50 and 95% in fifths of EDV: 10,030 patients of EchoNet-Dynamic (Ouyang et al., Nature
580, 2020)."""
NEAR = 2.0  # [mL]
PRESSURES = ("systolic", "diastolic", "P_la_mean")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(RunConfig):
    """Compare a cohort with the clinic whose patients it stands for.

    Attributes:
        patients: Number of patients of the cohort.
        pairs: Number of the clinic's pairs of volumes.
        points: Number of points of each box that may cover them.
    """

    patients: int = 2_000
    pairs: int = 10_000
    points: int = 2**18


PRESETS = {
    "tiny": Config(preset="tiny", patients=100, pairs=200, points=2**12),
    "default": Config(),
    "full": Config(preset="full", patients=10_000, points=2**20),
}


def clinic_pairs(n: int, seed: int) -> np.ndarray:
    """Draw pairs (EDV, ESV) [mL] of the clinic's patients, one row per patient."""
    from jaxtwin.cohorts.clinic import ECHO_LABORATORY

    random = np.random.default_rng(seed)
    rank, place = random.uniform(size=(2, n))
    EDV = ECHO_LABORATORY.marginals["EDV"].quantile(rank)
    lowest, highest = ECHO_LABORATORY.marginals["EF"].limits
    EF = np.array(
        [
            np.interp(p, (0, 0.05, 0.5, 0.95, 1), (lowest, *EF_BY_FIFTHS[int(5 * r)], highest))
            for r, p in zip(rank, place, strict=True)
        ]
    )
    return np.stack([EDV, EDV * (1 - EF / 100)], axis=1)


def rank_correlations(cohort: "Cohort") -> dict[str, float]:
    """Return Spearman's rank correlation of the pairs that the clinic's are known of."""
    from scipy.stats import rankdata

    from jaxtwin.cohorts.clinic import ECHO_LABORATORY

    values = cohort.take(cohort.success).read(ECHO_LABORATORY.marginals)
    ranks = {name: rankdata(column) for name, column in values.items()}
    return {
        f"{a} and {b}": float(np.corrcoef(ranks[a], ranks[b])[0, 1])
        for a, b in ECHO_LABORATORY.correlations
    }


def EF_by_fifths(cohort: "Cohort") -> list[list[float]]:
    """Return EF at 5, 50 and 95% in fifths of EDV."""
    values = cohort.read(["EDV", "EF"])
    fifths = np.array_split(np.argsort(values["EDV"]), 5)
    return [np.quantile(values["EF"][part], (0.05, 0.5, 0.95)).tolist() for part in fifths]


def experiment(config: Config, run: Run) -> dict[str, Any]:
    """Draw, compare and write. Imports are local, so that --help is fast."""
    from scipy.spatial import KDTree

    from jaxtwin.cohorts.clinic import ECHO_LABORATORY
    from jaxtwin.cohorts.population import compare_population, draw_population
    from jaxtwin.cohorts.simulate import simulate_cohort
    from jaxtwin.models.left_heart import NINE, SEVEN, LeftHeart

    heart, pairs = LeftHeart(), clinic_pairs(config.pairs, config.seed)
    cohort = draw_population(heart, NINE, ECHO_LABORATORY, config.patients, seed=config.seed)
    table = compare_population(ECHO_LABORATORY, cohort, PROBABILITIES)
    limits = {name: ECHO_LABORATORY.limits[name] for name in PRESSURES}
    covered, correlations = {}, {"cohort": rank_correlations(cohort)}
    boxes = {"nine parameters": NINE, "the paper's seven": SEVEN}
    for name, box in boxes.items():
        drawn = simulate_cohort(heart, box, box.sample(config.points, seed=config.seed))
        plausible = drawn.take(drawn.within(limits) & np.asarray(heart.feasible(drawn.recording)))
        for reading, row in compare_population(ECHO_LABORATORY, plausible, PROBABILITIES).items():
            table[reading][name] = row["cohort"]
        correlations[name] = rank_correlations(plausible)
        volumes = plausible.read(["EDV", "ESV"])
        distance, _ = KDTree(np.stack([volumes["EDV"], volumes["ESV"]], axis=1)).query(pairs)
        covered[name] = float(100 * np.mean(distance <= NEAR))
        draw_figure(run, name, cohort, plausible)
    print_table(table)
    clinic = {f"{a} and {b}": value for (a, b), value in ECHO_LABORATORY.correlations.items()}
    for pair, value in clinic.items():
        print(
            f"rank correlation of {pair}: clinic {value:.2f}, "
            f"cohort {correlations['cohort'][pair]:.2f}"
        )
    fifths = EF_by_fifths(cohort)
    print(
        "EF at 5/50/95% in fifths of EDV: "
        + ", ".join("/".join(f"{value:.0f}" for value in row) for row in fifths)
        + "; clinic "
        + ", ".join("/".join(map(str, row)) for row in EF_BY_FIFTHS)
    )
    for name, percent in covered.items():
        print(f"{percent:.1f}% of the clinic's pairs are within {NEAR:g} mL of the box of {name}")
    return {
        "quantiles": {"probabilities": PROBABILITIES} | table,
        "rank_correlations": {"clinic": clinic} | correlations,
        "EF_by_fifths_of_EDV": {"clinic": EF_BY_FIFTHS, "cohort": fifths},
        "covered_percent": covered,
        "effective_percent": 100 * cohort.accepted,
    }


def print_table(table: dict[str, dict[str, list[float]]]) -> None:
    """Print the quantiles of every reading, in the clinic, the cohort and the boxes."""
    print(f"\n{'':30}" + "".join(f"{100 * p:>8.0f}%" for p in PROBABILITIES))
    for reading, rows in table.items():
        for name, values in rows.items():
            print(f"{reading:15}{name:18}" + "".join(f"{value:>8.3g} " for value in values))
    print()


def draw_figure(run: Run, name: str, cohort: "Cohort", box: "Cohort") -> None:
    """Draw EF against EDV, of the cohort and of patients drawn uniformly over the box."""
    from matplotlib.figure import Figure

    from jaxtwin.cohorts.clinic import ECHO_LABORATORY

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for patients, colour, label in ((box, "0.75", f"box of {name}"), (cohort, "C0", "cohort")):
        values = patients.take(slice(0, 2_000)).read(["EDV", "EF"])
        left.plot(values["EDV"], values["EF"], ".", ms=3, color=colour, label=label)
        probability = (np.arange(len(values["EDV"])) + 0.5) / len(values["EDV"])
        right.plot(np.sort(values["EDV"]), 100 * probability, color=colour, label=label)
    clinic = ECHO_LABORATORY.marginals["EDV"].quantile(PROBABILITIES)
    right.plot(clinic, 100 * np.array(PROBABILITIES), "ko", ms=4, label="clinic")
    left.set(xlabel="EDV [mL]", ylabel="EF [%]", xscale="log")
    right.set(xlabel="EDV [mL]", ylabel="patients below [%]", xscale="log")
    for ax in (left, right):
        ax.set_xticks([20, 50, 100, 200, 500], ["20", "50", "100", "200", "500"])
        ax.set_xticks([], minor=True)
        ax.legend(frameon=False, fontsize=8)
    run.figure(name.replace(" ", "_").replace("'", ""), figure)


if __name__ == "__main__":
    main("population", PRESETS, experiment, __doc__)
