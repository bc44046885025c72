"""Figures of `experiments.decisions`."""

from collections.abc import Mapping

from matplotlib.figure import Figure

from experiments.decisions.cells import Case
from experiments.decisions.scores import (
    PROBABILITIES,
    STRATEGIES,
    THRESHOLDS,
    benefits,
    reliabilities,
)
from experiments.detection.scores import MARKED
from jaxtwin import plotting
from jaxtwin.cohorts.diseases import HEALTHY, Disease
from jaxtwin.commands.run import Run
from jaxtwin.models.left_heart import EIGHT

REFERENCES = ("none", "all")
# In this order, posteriors have the colours that they have in the reliability diagrams.
DRAWN = ("limit", "chance", "shifted", "informed", "threshold")


def draw_figures(run: Run, cases: Mapping[str, Case]) -> None:
    """Draw reliability diagrams and decision curves of each case, one panel per disease."""
    for name, case in cases.items():
        place = name.replace(",", "").replace(" ", "_")
        run.figure(f"reliability_{place}", draw_reliability(case))
        run.figure(f"net_benefit_{place}", draw_benefits(case))


def draw_reliability(case: Case) -> Figure:
    """Draw reliability diagrams over the number of patients in each bin, of the first seed."""
    figure = Figure(figsize=(3.2 * len(MARKED), 4.8), layout="constrained")
    grid = figure.subplots(2, len(MARKED), sharex=True, sharey="row", height_ratios=(3, 1))
    for i, (top, bottom) in enumerate(grid.T):
        found = {PROBABILITIES[k]: each[0] for k, each in reliabilities(case, i).items()}
        plotting.reliability_diagram(top, found)
        plotting.reliability_counts(bottom, found)
        top.set_title(f"{MARKED[i].name}\n{_beyond(MARKED[i])}", fontsize="medium")
    grid[0, 0].set_ylabel("share of patients beyond health")
    grid[1, 0].set_ylabel("patients")
    for ax in grid[1]:
        ax.set_xlabel("predicted probability")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def _beyond(disease: Disease) -> str:
    """Return what is beyond health, such as R_m > 0.012 mmHg·s/mL."""
    assert disease.marker is not None
    name, sign = disease.marker
    spec = EIGHT.specs[EIGHT.names.index(name)]
    limit = HEALTHY.ranges[name][1 if sign > 0 else 0]
    return f"${spec.symbol}$ {'>' if sign > 0 else '<'} {limit:g} {spec.unit}"


def draw_benefits(case: Case) -> Figure:
    """Draw decision curves, of the first seed."""
    figure = Figure(figsize=(3.2 * len(MARKED), 3.8), layout="constrained")
    axes = figure.subplots(1, len(MARKED), sharex=True, sharey=True)
    for i, ax in enumerate(axes):
        found = benefits(case, i)
        lines, references = (
            {STRATEGIES[name]: found[name] for name in names if name in found}
            for names in (DRAWN, REFERENCES)
        )
        plotting.decision_curves(ax, THRESHOLDS, lines, references)
        ax.set_title(MARKED[i].name, fontsize="medium")
    axes[0].set_ylabel("net benefit / prevalence")
    for ax in axes:
        ax.set_xlabel("threshold probability, 1/(1 + k)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure
