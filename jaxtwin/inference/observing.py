"""What would be measured in a patient, inside jit: fresh measurements, and their likelihood."""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from jaxtwin.cohorts.cohort import Cohort
from jaxtwin.methods.interpolation import filled, ratio
from jaxtwin.methods.measured import Channel
from jaxtwin.methods.tasks import CurveTask
from jaxtwin.physics.solution import Recording


class AbstractObservation(eqx.Module):
    """How simulated patients are drawn and measured, for a posterior to learn from."""

    @abc.abstractmethod
    def patients(self, task: CurveTask, n: int, *, seed: int) -> Float[np.ndarray, "patient free"]:
        """Return the parameters of about n patients, in random order."""

    @abc.abstractmethod
    def __call__(
        self,
        task: CurveTask,
        exact: Float[Array, " entry"],
        known: Float[Array, " known"],
        key: PRNGKeyArray,
    ) -> tuple[Float[Array, " entry"], Float[Array, " known"]]:
        """Return one patient's row and known parameters as they would be measured.

        Args:
            task: The task.
            exact: The row without errors, see `exact_rows`.
            known: True values of the known parameters.
            key: Key of the errors.
        """


class AbstractLikelihood(eqx.Module):
    """Density of a measurement, given a patient's recording."""

    @abc.abstractmethod
    def log_likelihood(
        self,
        task: CurveTask,
        recording: Recording[Any],
        known: Float[Array, " known"],
        values: Float[Array, " entry"],
        noise: Float[Array, " entry"],
        phases: Float[Array, " entry"] | None = None,
    ) -> Float[Array, ""]:
        """Return the log-density of one patient's row, up to a constant [nats].

        Args:
            task: The task.
            recording: The patient's recording without errors, with the task's channels.
            known: Values of the known parameters, as measured.
            values: The measured row, see `CurveTask.rows`.
            noise: Standard deviation of each number; infinite where it is missing.
            phases: Phases of the samples; by default those of the channels.
        """


class TaskObservation(AbstractObservation, AbstractLikelihood):
    """Patients of the task's prior, measured with the task's noise and gaps."""

    def patients(self, task: CurveTask, n: int, *, seed: int) -> Float[np.ndarray, "patient free"]:
        """Return points of a Sobol sequence, distributed as the prior."""
        box, prior = task.box, task.prior
        theta = box.sample(n, seed=seed) if prior is None else prior.sample(box, n, seed=seed)
        return np.random.default_rng(seed).permutation(np.asarray(theta, np.float32))

    def __call__(self, task: Any, exact: Any, known: Any, key: Any) -> tuple[Any, Any]:
        """See `observe`; known parameters are exact."""
        return observe(task, exact, key), known

    def log_likelihood(
        self,
        task: Any,
        recording: Any,
        known: Any,
        values: Any,
        noise: Any,
        phases: Any = None,
    ) -> Float[Array, ""]:
        """Return that of normal, independent errors; known parameters are exact."""
        del known
        weight = 1 / jnp.maximum(noise, task.resolutions)
        return -0.5 * jnp.sum(task.errors(recording, values, weight, phases) ** 2)


def noise_of(channel: Channel) -> float:
    """Return the standard deviation of a channel's errors: its noise, at least its resolution."""
    return max(channel.noise, channel.resolution)


def exact_rows(task: CurveTask, patients: Cohort[Any]) -> Float[np.ndarray, "patient entry"]:
    """Return what would be measured without noise, all channels in one row.

    Args:
        task: The task.
        patients: Patients of the task's system and box, simulated at its phases.
    """
    parts = []
    for channel in task.measured_channels:
        if task.is_curve(channel):
            curve = jnp.asarray(getattr(patients.recording.waveforms, channel.name))
            parts.append(np.asarray(jax.vmap(channel.sampled)(curve)))
        else:
            parts.append(np.asarray(patients.read([channel.name])[channel.name])[:, None])
    return np.concatenate(parts, axis=1).astype(np.float32)


def observe(
    task: CurveTask, exact: Float[Array, " entry"], key: PRNGKeyArray
) -> Float[Array, " entry"]:
    """Return one patient's row as `CurveTask.rows` would have it, with fresh noise and gaps.

    The errors of a channel have the standard deviation of its noise, and at least its resolution,
    as in the likelihood of the other methods.

    Args:
        task: The task.
        exact: The row without noise, see `exact_rows`.
        key: Key of the noise and of which samples are missing.
    """
    found = []
    for i, (channel, part) in enumerate(
        zip(task.measured_channels, task.parts(exact), strict=True)
    ):
        first, second = jax.random.split(jax.random.fold_in(key, i))
        size = noise_of(channel)
        if channel.unknown_scale:
            size = size * jnp.sqrt(jnp.mean(part**2))
        values = part + size * jax.random.normal(first, part.shape, part.dtype)
        if channel.missing:
            gone = jax.random.bernoulli(second, channel.missing, part.shape)
            values = jnp.where(gone, jnp.nan, values)
        if channel.unknown_scale:
            whole = filled(values, periodic=task.periodic)
            values = ratio(values, jnp.sqrt(jnp.mean(whole**2)))
        found.append(values)
    return jnp.concatenate(found)
