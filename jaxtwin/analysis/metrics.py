"""How far an answer is from the truth, and how sure one can be of it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats

from jaxtwin.cohorts.cohort import Cohort
from jaxtwin.cohorts.simulate import simulate_cohort
from jaxtwin.methods.base import CurveTask, Estimate
from jaxtwin.physics.channels import MissingChannelError


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


def score_curves(
    task: CurveTask, estimate: Estimate, truth: Cohort
) -> dict[str, Float[np.ndarray, " patient"]]:
    """Errors of each patient; NaN where a method has no such answer, or failed.

    Args:
        task: What was asked.
        estimate: What a method said.
        truth: The patients' own simulations, at the task's phases.

    Returns:
        By name: CHANNEL_error, the root-mean-square error of each curve that the method gives, in
        the curve's unit, and READING_error, the absolute error of each of the system's readings
        that the measured channel's extremes and these curves allow, such as EF. For methods that
        give θ also theta_NAME, the absolute error as a share of the box's side, theta, their mean
        over the parameters that were not known, and, simulated at θ̂, READING_resimulated and
        CHANNEL_resimulated.
    """
    true = truth.read()
    failed = ~estimate.success
    curves = estimate.recording.waveforms

    def hide(values: np.ndarray) -> np.ndarray:
        return np.where(failed, np.nan, values)

    def rms(got: np.ndarray, channel: str) -> np.ndarray:
        return np.sqrt(np.mean((got - getattr(truth.recording.waveforms, channel)) ** 2, axis=1))

    scores = {}
    for name, reading in task.system.readings().items():
        try:
            got = np.asarray(reading.of(estimate.recording))
        except MissingChannelError:
            continue
        scores[f"{name}_error"] = hide(np.abs(got - true[name]))
    for channel in curves.channel_names:
        scores[f"{channel}_error"] = hide(rms(curves[channel], channel))
    if estimate.theta is None:
        return scores
    low, high = np.asarray(task.box.low), np.asarray(task.box.high)
    error = np.abs(estimate.theta - truth.theta) / (high - low)
    for name, column in zip(task.box.names, error.T, strict=True):
        scores[f"theta_{name}"] = hide(column)
    unknown = [name not in task.known for name in task.box.names]
    scores["theta"] = hide(error[:, unknown].mean(axis=1))
    # A bound is met but for rounding; where there is no answer, anything will do.
    middle = (low + high) / 2
    theta = np.where(failed[:, None], middle, estimate.theta).clip(
        np.asarray(low, np.float32), np.asarray(high, np.float32)
    )
    again = simulate_cohort(task.system, task.box, theta, phases=task.samples)
    failed = failed | ~again.success
    for name, got in again.read().items():
        scores[f"{name}_resimulated"] = hide(np.abs(got - true[name]))
    for channel in task.channels:
        scores[f"{channel}_resimulated"] = hide(
            rms(getattr(again.recording.waveforms, channel), channel)
        )
    return scores
