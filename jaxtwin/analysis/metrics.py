"""Means over patients and seeds, and how sure one can be of them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats


class Interval(NamedTuple):
    """A mean with its bootstrap interval."""

    mean: float
    low: float
    high: float


def mean_with_interval(
    values: Float[np.ndarray, " patient"], *, level: float = 0.95, seed: int = 0
) -> Interval:
    """The mean over patients and its percentile bootstrap interval.

    Args:
        values: One number a patient. Where there are several seeds, their mean for each patient:
            patients are what is drawn anew. NaN (no answer) is left out.
        level: Share of the interval.
        seed: Of the resampling.
    """
    values = values[np.isfinite(values)]
    if len(values) < 2 or np.ptp(values) == 0:
        mean = float(values.mean()) if len(values) else float("nan")
        return Interval(mean, mean, mean)
    found = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=2_000,
        confidence_level=level,
        method="percentile",
        rng=seed,
    ).confidence_interval
    return Interval(float(values.mean()), float(found.low), float(found.high))


def mean_over_seeds(
    values: Sequence[Float[np.ndarray, " patient"]],
    *,
    same_patients: bool,
    level: float = 0.95,
    resamples: int = 2_000,
    seed: int = 0,
) -> Interval:
    """The mean over seeds and patients, with the bootstrap interval over both.

    Seeds are drawn anew, and patients: for all seeds alike if they are the same, or each seed's
    own within it. With one seed only patients are. NaN (no answer) is left out of every mean.

    Args:
        values: One array a seed, one number a patient.
        same_patients: Whether entry i is the same patient in every seed.
        level: Share of the interval.
        resamples: How many.
        seed: Of the resampling.

    Raises:
        ValueError: If the patients are the same, and not as many in every seed.
    """
    sizes = {len(column) for column in values}
    if same_patients and len(sizes) > 1:
        raise ValueError(f"{sorted(sizes)} patients in the seeds: expected the same ones in each")
    random = np.random.default_rng(seed)
    means = np.empty(resamples)
    shared = max(sizes)
    for i in range(resamples):
        seeds = random.integers(len(values), size=len(values)) if len(values) > 1 else [0]
        rows = random.integers(shared, size=shared)
        drawn = []
        for s in seeds:
            n = len(values[s])
            drawn.append(values[s][rows if same_patients else random.integers(n, size=n)])
        means[i] = _mean(np.concatenate(drawn))
    mean = _mean(np.concatenate(list(values)))
    means = means[np.isfinite(means)]
    if not len(means):
        return Interval(mean, mean, mean)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean, float(low), float(high))


def _mean(values: Float[np.ndarray, " patient"]) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")
