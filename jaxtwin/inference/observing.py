"""Simulated measurements inside jit: what would be measured in a patient, with fresh noise."""

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


class TaskObservation(AbstractObservation):
    """Patients of the task's prior, measured with the task's noise and gaps."""

    def patients(self, task: CurveTask, n: int, *, seed: int) -> Float[np.ndarray, "patient free"]:
        """Return points of a Sobol sequence, distributed as the prior."""
        box, prior = task.box, task.prior
        theta = box.sample(n, seed=seed) if prior is None else prior.sample(box, n, seed=seed)
        return np.random.default_rng(seed).permutation(np.asarray(theta, np.float32))

    def __call__(self, task: Any, exact: Any, known: Any, key: Any) -> tuple[Any, Any]:
        """See `observe`; known parameters are exact."""
        return observe(task, exact, key), known


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
