"""Reliability of probabilities: whether events happen as often as predicted.

`jaxtwin.inference.calibration` asks this of intervals of a number, this module of the probability
of an event, such as a narrow valve. Patients without a probability (NaN) are left out and counted.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats

Chance = Float[np.ndarray, " patient"]
Event = Bool[np.ndarray, " patient"]


class Reliability(NamedTuple):
    """Reliability diagram of the probabilities of an event, and its summaries.

    Attributes:
        edges: Limits of the bins.
        patients: Number of patients in each bin.
        predicted: Mean probability in each bin; NaN in an empty one.
        observed: Share of its patients in whom the event happened; NaN in an empty one.
        low: Lower limit of Wilson's interval of the share; NaN in an empty bin.
        high: Its upper limit.
        brier: Mean squared difference between probability and event (Brier, Monthly Weather Review
            78(1), 1950), from 0, perfect, to 1.
        brier_of_share: The same if everybody's probability were the share of all patients.
        calibration_error: Expected calibration error: the mean over patients of the difference
            between `predicted` and `observed` of their bin (Naeini, Cooper and Hauskrecht, AAAI
            2015). Above 0 even for calibrated probabilities of few patients.
        share: Share of all patients in whom the event happened.
        mean: Mean probability.
        without: Number of patients without a probability.
    """

    edges: Float[np.ndarray, " edge"]
    patients: Int[np.ndarray, " bin"]
    predicted: Float[np.ndarray, " bin"]
    observed: Float[np.ndarray, " bin"]
    low: Float[np.ndarray, " bin"]
    high: Float[np.ndarray, " bin"]
    brier: float
    brier_of_share: float
    calibration_error: float
    share: float
    mean: float
    without: int


def reliability(
    chance: Chance, happened: Event, *, bins: int = 10, level: float = 0.95
) -> Reliability:
    """Compare probabilities with what happened, in bins of equal width.

    Args:
        chance: Probability of the event for each patient; NaN if there is none.
        happened: Whether the event happened.
        bins: Number of bins; each contains its lower edge, the last one also 1.
        level: Coverage of the intervals of the shares.

    Raises:
        ValueError: If a probability is outside [0, 1], or no patient has one.
    """
    known = np.isfinite(chance)
    _check(chance[known])
    p, y = chance[known].astype(float), happened[known]
    edges = np.linspace(0, 1, bins + 1)
    place = np.minimum((p * bins).astype(int), bins - 1)
    count, sums, events = (
        np.bincount(place, weights, bins) for weights in (None, p, y.astype(float))
    )
    filled = np.where(count > 0, count, np.nan)
    predicted, observed = sums / filled, events / filled
    low, high = wilson(events.astype(int), count, level=level)
    return Reliability(
        edges,
        count,
        predicted,
        observed,
        low,
        high,
        brier=float(np.mean((p - y) ** 2)),
        brier_of_share=float(y.mean() * (1 - y.mean())),
        calibration_error=float(np.nansum(count * np.abs(predicted - observed)) / len(p)),
        share=float(y.mean()),
        mean=float(p.mean()),
        without=int(np.sum(~known)),
    )


def wilson(
    events: Int[np.ndarray, " case"], count: Int[np.ndarray, " case"], *, level: float = 0.95
) -> tuple[Float[np.ndarray, " case"], Float[np.ndarray, " case"]]:
    """Return Wilson's score interval of binomial shares; NaN where nothing was counted.

    Wilson, "Probable inference, the law of succession, and statistical inference", Journal of the
    American Statistical Association 22(158), 1927.

    Args:
        events: Number of events.
        count: Number of cases among which they happened.
        level: Coverage of the interval.
    """
    z2 = stats.norm.ppf((1 + level) / 2) ** 2
    n = np.where(count > 0, count, np.nan)
    middle = (events + z2 / 2) / (n + z2)
    half = np.sqrt(z2 * (events * (1 - events / n) + z2 / 4)) / (n + z2)
    return np.clip(middle - half, 0, 1), np.clip(middle + half, 0, 1)


def event_probability(
    happens: Bool[np.ndarray, "patient draw"], success: Bool[np.ndarray, " patient"]
) -> Chance:
    """Return the probability of an event from draws of each patient's posterior.

    It is (events + ½)/(draws + 1), the mean under Jeffreys' prior, so that finitely many draws
    make nothing certain.

    Args:
        happens: Whether the event happens in each draw.
        success: Whether the patient has a posterior; if not, the probability is NaN.
    """
    return np.where(success, (happens.sum(axis=1) + 0.5) / (happens.shape[1] + 1), np.nan)


def shift_prevalence(chance: Chance, before: float, after: float) -> Chance:
    """Return probabilities for patients among whom the event has another prevalence.

    The odds are multiplied by the odds of the new prevalence over those of the old one. This is
    Bayes' rule if only the prevalence differs: what is measured in those with the event, and in
    those without it, has the same distribution in both groups of patients (Saerens, Latinne and
    Decaestecker, "Adjusting the outputs of a classifier to new a priori probabilities", Neural
    Computation 14(1), 2002).

    Args:
        chance: Probability for each patient; NaN stays NaN.
        before: Prevalence for which the probabilities are meant.
        after: Prevalence among these patients.

    Raises:
        ValueError: If a prevalence is not between 0 and 1, or a probability is outside [0, 1].
    """
    if not (0 < before < 1 and 0 < after < 1):
        raise ValueError(
            f"prevalences {before:.3g} and {after:.3g}: expected numbers above 0 and below 1"
        )
    _check(chance[np.isfinite(chance)], fewest=0)
    ill, well = chance * after / before, (1 - chance) * (1 - after) / (1 - before)
    return ill / (ill + well)


def _check(chance: np.ndarray, *, fewest: int = 1) -> None:
    """Raise a ValueError if numbers are not probabilities, or there are too few of them."""
    if len(chance) < fewest:
        raise ValueError("no patient has a probability: nothing can be compared")
    outside = ~((chance >= 0) & (chance <= 1))
    if outside.any():
        raise ValueError(
            f"{int(outside.sum())} probabilities outside [0, 1], the first {chance[outside][0]:.3g}"
        )
