"""Errors of estimates relative to simulated truth, by which methods are compared."""

import warnings
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxtwin.cohorts.cohort import Cohort
from jaxtwin.cohorts.simulate import simulate_cohort
from jaxtwin.methods.base import Estimate, Learnt
from jaxtwin.methods.tasks import Curves, CurveTask
from jaxtwin.physics.base import kind_of
from jaxtwin.physics.record import record
from jaxtwin.physics.solution import RESULTS

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
        READING_resimulated and CHANNEL_resimulated, which are also NaN if this simulation fails.

    Raises:
        ValueError: If an argument is of the wrong type, or the truth is of another system or box,
            at other phases or of another number of patients, or a simulation of it failed.

    Warns:
        UserWarning: If the simulation of an estimate fails.
    """
    if not (isinstance(task, CurveTask) and isinstance(estimate, Estimate)):
        raise ValueError(
            f"score_curves got arguments {kind_of(task)} and {kind_of(estimate)}: expected "
            "a CurveTask, an Estimate and the patients, score_curves(task, estimate, truth)"
        )
    task.check_patients(truth)
    if len(estimate.success) != len(truth):
        raise ValueError(
            f"an estimate of {len(estimate.success)} patients and the truth of {len(truth)}: "
            "expected the same patients in the same order; select those that were measured with "
            "cohort.take(...)"
        )
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
    _warn_failed(again, np.flatnonzero(estimate.success & ~again.success))
    failed = failed | ~again.success
    for name, got in again.read().items():
        scores[f"{name}_resimulated"] = hide(np.abs(got - true[name]))
    for channel in task.channels:
        scores[f"{channel}_resimulated"] = hide(
            rms(getattr(again.recording.waveforms, channel), channel)
        )
    return scores


def score_posterior(
    learnt: Learnt[CurveTask, Curves],
    measurements: Curves,
    truth: Cohort[Any],
    *,
    draws: int = 1_000,
    seed: int = 0,
) -> Scores:
    """Compute by what distributions are compared; NaN of a patient without one.

    Args:
        learnt: What a method with distributions learnt.
        measurements: Measurements of some patients.
        truth: The patients, of the task's box.
        draws: Number of draws per patient.
        seed: Seed of the draws.

    Returns:
        log_score, posterior over prior density at the true parameters [nats], unless the method has
        no density; and over the parameters that are not known, held90, the share within their
        central 90% intervals, and width90, the mean width of these relative to 90% of the box.

    Raises:
        ValueError: If the method gives no distribution, or the measurements do not belong to the
            task.
    """
    task, theta = learnt.task, np.asarray(truth.theta)
    posterior = learnt.posterior(measurements, draws=draws, seed=seed)
    unknown = [i for i, name in enumerate(task.box.names) if name not in task.known]
    units = np.asarray(jax.vmap(jax.vmap(task.box.to_unit))(jnp.asarray(posterior.theta)))
    low, high = np.quantile(units[..., unknown], (0.05, 0.95), axis=1)
    true = np.asarray(jax.vmap(task.box.to_unit)(jnp.asarray(theta)))[:, unknown]
    held = ((low <= true) & (true <= high)).mean(axis=1)
    found = {"held90": held, "width90": (high - low).mean(axis=1) / 0.9}
    if posterior.r_hat is None:  # Markov chains have no density.
        found["log_score"] = learnt.log_density(measurements, theta)
    return {name: np.where(posterior.success, x, np.nan) for name, x in found.items()}


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


def _warn_failed(again: Cohort[Any], failed: np.ndarray) -> None:
    """Warn that estimates could not be simulated, with the reason for the first of them."""
    if not failed.size:
        return
    first = again.box.complete(jnp.asarray(again.theta[failed[0]]))
    reason = RESULTS[eqx.filter_jit(record)(again.system, first).result]
    shown = ", ".join(map(str, failed[:5])) + ", ..." * (failed.size > 5)
    warnings.warn(
        f"the simulation of {failed.size} of {len(again)} estimates failed (patients {shown}), so "
        f"their scores named ..._resimulated are NaN; of patient {failed[0]}: {reason}. If more "
        f"steps are needed, set a larger `steps` in the class of {type(again.system).__name__} "
        f"(it is {again.system.steps}); otherwise simulate this θ to see what is wrong with it",
        stacklevel=3,
    )
