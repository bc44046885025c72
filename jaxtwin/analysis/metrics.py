"""Means over patients and seeds, with bootstrap intervals."""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats

MANY = 100_000
"""Number of patients beyond which intervals of means are normal ones."""


class Interval(NamedTuple):
    """Mean with the bounds of its bootstrap interval."""

    mean: float
    low: float
    high: float


def mean_with_interval(
    values: Float[np.ndarray, " patient"], *, level: float = 0.95, seed: int = 0
) -> Interval:
    """Compute the mean over patients and its percentile bootstrap interval.

    Beyond `MANY` patients it is the normal interval: that of the bootstrap differs from it by less
    than its own noise, and takes minutes.

    Args:
        values: One number per patient, averaged over seeds if there are several, because only
            patients are resampled. NaN (no answer) is left out.
        level: Coverage of the interval.
        seed: Seed for the resampling.
    """
    values = values[np.isfinite(values)]
    if len(values) < 2 or np.ptp(values) == 0:
        mean = float(values.mean()) if len(values) else float("nan")
        return Interval(mean, mean, mean)
    if len(values) > MANY:
        mean, spread = np.mean(values, dtype=float), np.std(values, ddof=1, dtype=float)
        half = NormalDist().inv_cdf((1 + level) / 2) * spread / math.sqrt(len(values))
        return Interval(float(mean), float(mean - half), float(mean + half))
    found = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=2_000,
        # Resampling all at once would take 2,000 times the memory of the values.
        batch=max(1, 4_000_000 // len(values)),
        confidence_level=level,
        method="percentile",
        rng=seed,
    ).confidence_interval
    return Interval(float(values.mean()), float(found.low), float(found.high))


def mean_over_draws(
    values: Float[np.ndarray, "patient draw"], *, level: float = 0.95, seed: int = 0
) -> Interval:
    """Compute the mean over patients whose numbers are uncertain, with a bootstrap interval.

    Each resample takes patients with replacement, and for each of them one of its draws. The
    interval thus contains the sampling of patients and what is not known of each. If each patient's
    draws are equal, it is that of `mean_with_interval`.

    Args:
        values: Draws of each patient's number. NaN (no answer) is left out; patients have the same
            weight however many of their draws are left.
        level: Coverage of the interval.
        seed: Seed for the resampling.
    """
    usable = np.isfinite(values)
    values, usable = values[usable.any(axis=1)], usable[usable.any(axis=1)]
    counts = usable.sum(axis=1)
    # The usable draws of each patient first.
    sorted_values = np.take_along_axis(values, np.argsort(~usable, axis=1, kind="stable"), axis=1)
    each = np.sum(values, axis=1, where=usable) / counts
    mean = float(each.mean()) if len(each) else float("nan")
    if not len(values) or np.ptp(values[usable]) == 0:
        return Interval(mean, mean, mean)
    if len(values) == 1:  # SciPy resamples at least two.
        low, high = np.quantile(values[usable], [(1 - level) / 2, (1 + level) / 2])
        return Interval(mean, float(low), float(high))
    random = np.random.default_rng([seed, 1])

    def drawn_mean(patients: np.ndarray, axis: int) -> np.ndarray:
        patients = patients.astype(int)
        draws = (random.random(patients.shape) * counts[patients]).astype(int)
        return sorted_values[patients, draws].mean(axis=axis)

    found = stats.bootstrap(
        (np.arange(len(values)),),
        drawn_mean,
        n_resamples=2_000,
        confidence_level=level,
        method="percentile",
        vectorized=True,
        rng=seed,
    ).confidence_interval
    return Interval(mean, float(found.low), float(found.high))


def mean_over_seeds(
    values: Sequence[Float[np.ndarray, " patient"]],
    *,
    same_patients: bool,
    level: float = 0.95,
    resamples: int = 2_000,
    seed: int = 0,
) -> Interval:
    """Compute the mean over seeds and patients, with a bootstrap interval over both.

    The bootstrap resamples seeds and patients: one set of patients for all seeds if they are the
    same, otherwise each seed's own. With a single seed it resamples patients only. NaN (no answer)
    is left out of every mean.

    Args:
        values: One array per seed, with one number per patient.
        same_patients: Whether entry i is the same patient for every seed.
        level: Coverage of the interval.
        resamples: Number of bootstrap resamples.
        seed: Seed for the resampling.

    Raises:
        ValueError: If `same_patients` and the number of patients differs between seeds.
    """
    sizes = {len(column) for column in values}
    if same_patients and len(sizes) > 1:
        raise ValueError(
            f"{sorted(sizes)} patients in the seeds: expected the same ones for every seed"
        )
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
