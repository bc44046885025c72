"""Scores of `experiments.decisions`: areas, reliability, costs and net benefit."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from experiments.decisions.cells import Answers, Case
from experiments.detection.scores import MARKED
from jaxtwin.analysis.decisions import (
    cheapest_threshold,
    decision_costs,
    net_benefit,
    treatment_threshold,
)
from jaxtwin.analysis.detection import auroc
from jaxtwin.analysis.metrics import mean_over_seeds
from jaxtwin.analysis.reliability import Reliability, reliability, shift_prevalence

SCORES = {
    "twin": "twin of P-SSL, its parameter",
    "median": "posterior, median of the parameter",
    "chance": "posterior, probability",
    "informed": "posterior with the clinic as prior, probability",
}
PROBABILITIES = {
    "own": "posterior, patients of its prior",
    "chance": "posterior, the clinic's patients",
    "shifted": "the same, corrected for prevalence",
    "informed": "posterior with the clinic as prior",
}
STRATEGIES = {
    "none": "treat nobody",
    "all": "treat all",
    "limit": "twin beyond the healthy limit",
    "threshold": "twin beyond the best threshold",
    "chance": "posterior",
    "chance_threshold": "posterior, best threshold",
    "shifted": "posterior, corrected for prevalence",
    "informed": "posterior with the clinic as prior",
}
BESIDE = "threshold"
"""Strategy with which the costs of the others are compared, patient by patient."""
RESAMPLES = 500
THRESHOLDS = np.linspace(0.01, 0.6, 60)


class Seen:
    """One disease in one case and seed: what is said of patients who have a posterior.

    Attributes:
        ill: Which unseen patients are ill.
        tested: Unseen patients: scores and probabilities by name.
        chosen: The same of the patients that thresholds are chosen on.
        chosen_ill: Which of these are ill.
        without: Number of unseen patients without a posterior.
    """

    def __init__(self, case: Case, answers: Answers, disease: int):
        self.limit = case.limit[disease]
        said = {name: getattr(answers, name)[disease] for name in SCORES}
        said["shifted"] = shift_prevalence(
            said["chance"], case.before[disease], MARKED[disease].share
        )
        if np.isnan(said["informed"]).all():
            del said["informed"]
        known = np.all([np.isfinite(values) for values in said.values()], axis=0)
        first = np.arange(len(known)) < case.validation
        ill = case.beyond[disease]
        self.ill, self.chosen_ill = ill[known & ~first], ill[known & first]
        self.tested = {name: values[known & ~first] for name, values in said.items()}
        self.chosen = {name: values[known & first] for name, values in said.items()}
        self.without = int(np.sum(~known & ~first))

    def treated(self, k: float) -> dict[str, Bool[np.ndarray, " patient"]]:
        """Return whom each strategy treats, if a missed patient costs k false alarms."""
        said, n = self.tested, len(self.ill)
        found = {
            "none": np.zeros(n, bool),
            "all": np.ones(n, bool),
            "limit": said["twin"] > self.limit,
            "threshold": said["twin"] > self._best("twin", k),
            "chance": said["chance"] > treatment_threshold(k),
            "chance_threshold": said["chance"] > self._best("chance", k),
            "shifted": said["shifted"] > treatment_threshold(k),
        }
        if "informed" in said:
            found["informed"] = said["informed"] > treatment_threshold(k)
        return found

    def _best(self, name: str, k: float) -> float:
        return cheapest_threshold(self.chosen[name], self.chosen_ill, k)


def areas(cases: Mapping[str, Case]) -> list[dict[str, Any]]:
    """Return areas under the receiver operating characteristic, against everyone else."""
    rows = []
    for name, case in cases.items():
        for i, disease in enumerate(MARKED):
            seen = [Seen(case, answers, i) for answers in case.answers]
            for score in SCORES:
                if score not in seen[0].tested:
                    continue
                area = auroc(np.stack([s.tested[score] for s in seen]), seen[0].ill)
                rows.append(
                    {"case": name, "disease": disease.name, "score": score}
                    | {"AUROC": area.mean, "low": area.low, "high": area.high}
                    | {"ill": int(seen[0].ill.sum()), "patients": len(seen[0].ill)}
                    | {"without": seen[0].without, "seeds": len(seen)}
                )
    return rows


def reliabilities(case: Case, disease: int) -> dict[str, list[Reliability]]:
    """Return the reliability of every kind of probability, one for each seed."""
    seen = [Seen(case, answers, disease) for answers in case.answers]
    found = {"own": [reliability(a.own[disease], case.own_beyond[disease]) for a in case.answers]}
    for name in ("chance", "shifted", "informed"):
        if name in seen[0].tested:
            found[name] = [reliability(s.tested[name], s.ill) for s in seen]
    return found


def reliability_rows(cases: Mapping[str, Case]) -> list[dict[str, Any]]:
    """Return the summaries of all reliability diagrams, means over seeds."""
    rows = []
    for name, case in cases.items():
        for i, disease in enumerate(MARKED):
            without = Seen(case, case.answers[0], i).without
            for kind, found in reliabilities(case, i).items():
                row: dict[str, Any] = {"case": name, "disease": disease.name, "probability": kind}
                row["patients"] = int(found[0].patients.sum())
                row["without"] = found[0].without if kind == "own" else without
                for field in ("share", "mean", "brier", "brier_of_share", "calibration_error"):
                    row[field] = float(np.mean([getattr(one, field) for one in found]))
                row["bins_within"] = float(np.mean([_held(one) for one in found]))
                row["bins"] = float(np.mean([np.sum(one.patients > 0) for one in found]))
                rows.append(row)
    return rows


def _held(found: Reliability) -> int:
    """Return the number of bins in whose interval the mean probability lies."""
    # Comparisons with the NaN of an empty bin are false.
    return int(np.sum((found.low <= found.predicted) & (found.predicted <= found.high)))


def cost_rows(cases: Mapping[str, Case], costs: Sequence[float]) -> list[dict[str, Any]]:
    """Return the mean cost of every strategy, in false alarms per patient."""
    rows = []
    for name, case in cases.items():
        for i, disease in enumerate(MARKED):
            seen = [Seen(case, answers, i) for answers in case.answers]
            ill = seen[0].ill
            for k in costs:
                each = [one.treated(k) for one in seen]
                treated = {strategy: [one[strategy] for one in each] for strategy in each[0]}
                cost = {
                    strategy: [decision_costs(who, ill, k) for who in decided]
                    for strategy, decided in treated.items()
                }
                for strategy, decided in treated.items():
                    beside = zip(cost[strategy], cost[BESIDE], strict=True)
                    mean, less = (
                        mean_over_seeds(values, same_patients=True, resamples=RESAMPLES)
                        for values in (cost[strategy], [a - b for a, b in beside])
                    )
                    who = np.mean(decided, axis=0)
                    rows.append(
                        {"case": name, "disease": disease.name, "k": k, "strategy": strategy}
                        | {"cost": mean.mean, "low": mean.low, "high": mean.high}
                        | {"less": less.mean, "less_low": less.low, "less_high": less.high}
                        | {"missed": float(1 - who[ill].mean())}
                        | {"alarms": float(who[~ill].mean())}
                    )
    return rows


def benefits(case: Case, disease: int) -> dict[str, Float[np.ndarray, " threshold"]]:
    """Return net benefit over thresholds by strategy, relative to the prevalence, first seed."""
    seen = Seen(case, case.answers[0], disease)
    treated = [seen.treated((1 - t) / t) for t in THRESHOLDS]
    return {
        name: net_benefit(np.stack([one[name] for one in treated], axis=1), seen.ill, THRESHOLDS)
        / seen.ill.mean()
        for name in treated[0]
    }
