"""Errors of estimates relative to simulated truth, by which methods are compared."""

from typing import Any

import numpy as np
from jaxtyping import Float

from jaxtwin.cohorts.cohort import Cohort
from jaxtwin.cohorts.simulate import simulate_cohort
from jaxtwin.methods.base import Estimate
from jaxtwin.methods.tasks import CurveTask

Scores = dict[str, Float[np.ndarray, " patient"]]


def score_readings(estimate: Estimate, truth: dict[str, Any]) -> Scores:
    """Compute the absolute error of every reading present in both estimate and truth.

    Args:
        estimate: Estimate of some patients, from curves or clips.
        truth: Readings of the patients by name, such as `cohort.read()` or `clips.measured()`.

    Returns:
        READING_error for each reading, in its unit; NaN if the method failed.
    """
    return {
        f"{name}_error": np.where(
            estimate.success, np.abs(np.asarray(got) - np.asarray(truth[name])), np.nan
        )
        for name, got in estimate.readings.items()
        if name in truth
    }


def score_curves(task: CurveTask, estimate: Estimate, truth: Cohort[Any]) -> Scores:
    """Compute the errors of each patient; NaN if the method failed.

    Args:
        task: The task.
        estimate: Estimate of a method.
        truth: Simulations of the patients, at the task's phases.

    Returns:
        Errors by name. Those of `score_readings`, for the readings that can be computed from the
        measured channel's extremes and the method's curves, such as EF. CHANNEL_error, the
        root-mean-square error of each curve that the method gives, in the curve's unit. For
        methods that give θ also theta_NAME, the absolute error as a share of the side of the box;
        theta, the mean of these over the parameters that were not known; and, simulated at θ̂,
        READING_resimulated and CHANNEL_resimulated.
    """
    true = truth.read()
    failed = ~estimate.success
    scores = score_readings(estimate, true)

    def hide(values: np.ndarray) -> np.ndarray:
        return np.where(failed, np.nan, values)

    def rms(got: np.ndarray, channel: str) -> np.ndarray:
        return np.sqrt(np.mean((got - getattr(truth.recording.waveforms, channel)) ** 2, axis=1))

    if estimate.recording is not None:
        curves = estimate.recording.waveforms
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
    again = resimulate(task, estimate)
    failed = failed | ~again.success
    for name, got in again.read().items():
        scores[f"{name}_resimulated"] = hide(np.abs(got - true[name]))
    for channel in task.channels:
        scores[f"{channel}_resimulated"] = hide(
            rms(getattr(again.recording.waveforms, channel), channel)
        )
    return scores


def resimulate(task: CurveTask, estimate: Estimate) -> Cohort[Any]:
    """Simulate the patients of an estimate at its θ, or at the middle of the box if it failed.

    Raises:
        ValueError: If the estimate has no θ.
    """
    if estimate.theta is None:
        raise ValueError("this estimate has no θ to simulate: its method knows no parameters")
    low, high = np.asarray(task.box.low), np.asarray(task.box.high)
    # Clipped because θ may exceed a bound by rounding. The value for a failed estimate is not used.
    theta = np.where(~estimate.success[:, None], (low + high) / 2, estimate.theta).clip(
        np.asarray(low, np.float32), np.asarray(high, np.float32)
    )
    return simulate_cohort(task.system, task.box, theta, phases=task.samples)
