"""Decision analysis: what it costs to act on a probability or a score.

A false alarm costs 1, a missed patient k. Acting on a patient whose probability of being ill is P
costs 1 − P on average, and not acting k P: so it pays to act if P > 1/(1 + k) (Pauker and Kassirer,
"The threshold approach to clinical decision making", New England Journal of Medicine 302(20),
1980).
"""

import numpy as np
from jaxtyping import Bool, Float

Ill = Bool[np.ndarray, " patient"]


def treatment_threshold(k: float) -> float:
    """Return the probability above which it pays to act, 1/(1 + k).

    Args:
        k: Cost of a missed patient, in false alarms.

    Raises:
        ValueError: If k is not positive.
    """
    if not k > 0:
        raise ValueError(f"k={k}: expected the positive cost of a missed patient in false alarms")
    return 1 / (1 + k)


def decision_costs(treated: Ill, ill: Ill, k: float) -> Float[np.ndarray, " patient"]:
    """Return the cost of each patient's decision, in false alarms.

    It is k for an ill patient who is not treated, 1 for a treated one who is not ill, and else 0.

    Args:
        treated: Whether each patient is treated.
        ill: Whether each patient is ill.
        k: Cost of a missed patient, in false alarms.
    """
    return k * (ill & ~treated) + 1.0 * (treated & ~ill)


def cheapest_threshold(scores: Float[np.ndarray, " patient"], ill: Ill, k: float) -> float:
    """Return the threshold with the lowest cost on some patients, who are treated above it.

    Candidates are −∞ (treat all), the middles between neighbouring scores, and ∞ (treat none). Of
    equally cheap ones, the middle one is taken.

    Args:
        scores: Score of each patient; higher means more likely ill.
        ill: Whether each patient is ill.
        k: Cost of a missed patient, in false alarms.

    Raises:
        ValueError: If there are no patients, or a score is not finite.
    """
    if not len(scores) or not np.isfinite(scores).all():
        raise ValueError(
            f"{len(scores)} scores, {int(np.sum(~np.isfinite(scores)))} of them not finite: leave "
            "out patients without a score"
        )
    levels, place = np.unique(scores, return_inverse=True)
    ills, wells = (np.bincount(place, who, len(levels)) for who in (ill, ~ill))
    missed = np.concatenate([[0], np.cumsum(ills)])
    alarms = np.concatenate([[0], np.cumsum(wells[::-1])])[::-1]
    cuts = np.concatenate([[-np.inf], (levels[1:] + levels[:-1]) / 2, [np.inf]])
    cost = k * missed + alarms
    best = np.flatnonzero(np.isclose(cost, cost.min()))
    return float(cuts[best[len(best) // 2]])


def net_benefit(
    treated: Bool[np.ndarray, "patient threshold"],
    ill: Ill,
    thresholds: Float[np.ndarray, " threshold"],
) -> Float[np.ndarray, " threshold"]:
    """Return the net benefit of decisions at each threshold probability.

    It is TP/n − FP/n · t/(1 − t): true positives per patient, less false ones weighted by the odds
    of the threshold (Vickers and Elkin, "Decision curve analysis: a novel method for evaluating
    prediction models", Medical Decision Making 26(6), 2006). At t = 1/(1 + k) it is the prevalence
    less 1/k of the mean of `decision_costs`. Treating nobody has 0.

    Args:
        treated: Whether each patient is treated at each threshold, such as
            `chance[:, None] > thresholds`.
        ill: Whether each patient is ill.
        thresholds: Threshold probabilities, at least 0 and below 1.

    Raises:
        ValueError: If a threshold is out of range.
    """
    if not ((thresholds >= 0) & (thresholds < 1)).all():
        raise ValueError(
            f"thresholds from {thresholds.min():.3g} to {thresholds.max():.3g}: expected "
            "probabilities of at least 0 and below 1"
        )
    true = (treated & ill[:, None]).mean(axis=0)
    false = (treated & ~ill[:, None]).mean(axis=0)
    return true - false * thresholds / (1 - thresholds)
