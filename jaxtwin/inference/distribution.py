"""Distributions of patients' parameters that a flow has learnt."""

import dataclasses
import functools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float

from jaxtwin.cohorts.simulate import simulate_cohort
from jaxtwin.devices import fetch, spread
from jaxtwin.inference.coordinates import PriorCoordinates
from jaxtwin.inference.flow import PosteriorFlow
from jaxtwin.methods.base import Estimate
from jaxtwin.methods.posterior import AbstractDistribution, Posterior
from jaxtwin.methods.tasks import Curves, CurveTask
from jaxtwin.physics.compilation import SMALL, compiled

TOGETHER = 50
"""Number of patients whose draws are made together."""
MIDDLE = 1_000
"""Number of draws whose mean is a patient's estimate."""


def shown_row(
    task: CurveTask,
    known: Float[Array, " known"],
    values: Float[Array, " entry"],
    phases: Float[Array, " entry"] | None = None,
) -> Float[Array, " input"]:
    """Return what a flow is shown of a patient.

    These are the known parameters, what `CurveTask.seen` says, and, if something may be missing,
    what is there (1) and what is not (0).

    Args:
        task: The task.
        known: Values of the known parameters.
        values: The patient's row, see `CurveTask.rows`.
        phases: Phases of its samples; by default those of the channels.
    """
    parts = [known, task.seen(values, phases)]
    if any(channel.missing for channel in task.measured_channels):
        parts.append(jnp.isfinite(values))
    return jnp.concatenate([jnp.asarray(part, jnp.float32) for part in parts])


def shown_table(task: CurveTask, measurements: Curves) -> Float[np.ndarray, "patient input"]:
    """Return what a flow is shown of patients whose measurements were checked."""
    rows = task.rows(measurements)
    return np.asarray(_shown(task, rows.known, rows.values, rows.phases))


def shown_size(task: CurveTask) -> int:
    """Return the length of `shown_row`."""
    known, entries = jnp.zeros(len(task.known)), jnp.zeros(len(task.resolutions))
    return eqx.filter_eval_shape(lambda: shown_row(task, known, entries)).shape[0]


@dataclasses.dataclass(frozen=True)
class FlowDistribution(AbstractDistribution[Curves]):
    """Posterior of each patient by a conditional flow.

    Attributes:
        task: The task.
        coordinates: Coordinates of the unknown parameters.
        flow: The flow.
    """

    task: CurveTask
    coordinates: PriorCoordinates
    flow: PosteriorFlow

    def sample(self, measurements: Curves, draws: int, seed: int, mesh: Mesh | None) -> Posterior:
        """See `AbstractDistribution`."""
        theta, _ = self.propose(measurements, draws, seed, mesh)
        success = np.asarray(np.isfinite(theta).all(axis=(1, 2)))
        return Posterior(self.task.system, self.task.box, theta, success)

    def propose(
        self, measurements: Curves, draws: int, seed: int, mesh: Mesh | None = None
    ) -> tuple[Float[np.ndarray, "patient draw free"], Float[np.ndarray, "patient draw"]]:
        """Return draws, and the logarithm of prior density over this density at each [nats]."""
        check_as_learnt(self.task, measurements)
        table = self.task.rows(measurements)
        columns = table.known, table.values, table.phases
        key = jax.random.key(seed)
        learnt = self.task, self.coordinates, self.flow
        devices = 1 if mesh is None else mesh.size
        n = len(table.values)
        together = devices * min(TOGETHER, -(-n // devices))

        def some(start: int) -> tuple[np.ndarray, np.ndarray]:
            # Every call has the same shape, so that it compiles once.
            place = np.arange(start, start + together).clip(max=n - 1)
            rows: Any = (place, *(None if x is None else np.asarray(x)[place] for x in columns))
            if mesh is not None:
                rows = tuple(None if x is None else spread(x, mesh) for x in rows)
            theta, ratio = fetch(_sample(learnt, rows, key, draws, mesh))
            return theta[: n - start], ratio[: n - start]

        # All processes of a mesh must run the parts in the same order.
        with ThreadPoolExecutor(2 if mesh is None else 1) as pool:
            parts = list(pool.map(some, range(0, n, together)))
        theta, ratio = (np.concatenate(part) for part in zip(*parts, strict=True))
        return theta, ratio

    def log_density(
        self, measurements: Curves, theta: Float[np.ndarray, "patient free"]
    ) -> Float[np.ndarray, " patient"]:
        """See `AbstractDistribution`."""
        shown = self._shown(measurements)
        found = _log_density(self.flow, self.coordinates, shown, theta.astype(np.float32))
        return np.where(self.task.usable(measurements), np.asarray(found), np.nan)

    def features(self, measurements: Curves) -> Float[np.ndarray, "patient summary"]:
        """Return the flow's summary of each patient's measurement."""
        return np.asarray(_features(self.flow, self._shown(measurements)))

    def __call__(self, measurements: Curves) -> Estimate:
        """Return the estimate at the mean of each patient's draws, in the coordinates z."""
        shown = self._shown(measurements)
        theta = np.asarray(
            _middle(self.flow, self.coordinates, shown, np.asarray(measurements.known, np.float32))
        )
        return estimate_at(self.task, theta)

    def _shown(self, measurements: Curves) -> Float[np.ndarray, "patient input"]:
        check_as_learnt(self.task, measurements)
        return shown_table(self.task, measurements)


def estimate_at(task: CurveTask, theta: Float[np.ndarray, "patient free"]) -> Estimate:
    """Return the estimate of patients at θ, by simulation; those whose θ is NaN fail."""
    good = np.asarray(np.isfinite(theta).all(axis=1))
    inside = np.asarray(task.box.sample(1, seed=0), np.float32)
    cohort = simulate_cohort(
        task.system, task.box, np.where(good[:, None], theta, inside), phases=task.samples
    )
    return task.estimate_from(cohort.recording, theta, cohort.success & good)


def flow_of(learnt: Any, task: CurveTask) -> FlowDistribution:
    """Return the flow of what a method learnt.

    Raises:
        ValueError: If it is no flow, or was learnt for another task.
    """
    if not isinstance(learnt.answer, FlowDistribution):
        raise ValueError(
            f"the flow is what {type(learnt.method).__name__} learnt: expected what "
            "NeuralPosterior or VariationalPSSL learnt"
        )
    if learnt.task.describe() != task.describe():
        raise ValueError("the flow was learnt for another task: learn it again for this one")
    return learnt.answer


def check_as_learnt(task: CurveTask, measurements: Curves) -> None:
    """Raise a ValueError if samples have gaps or noise for which the task's flow has not learnt."""
    usable = task.usable(measurements)
    beside = measurements.beside or {}
    parts = [measurements, *(beside[channel.name] for channel in task.beside)]
    for channel, part in zip(task.measured_channels, parts, strict=True):
        gaps = ~np.isfinite(part.values).all(axis=1) & usable
        if gaps.any() and not channel.missing:
            raise ValueError(
                f"{int(gaps.sum())} of {len(gaps)} patients lack samples of {channel.name}; the "
                "posterior has learnt from complete ones: its widths would be wrong. Learn a task "
                "with the share that is missing, such as missing=0.3, or use NUTS or Laplace"
            )
        if part.noise is None:
            continue
        noise = np.asarray(part.noise)[np.isfinite(part.values)]
        if noise.size and not np.allclose(noise, channel.noise, rtol=0.05):
            raise ValueError(
                f"noise of {channel.name} from {noise.min():.3g} to {noise.max():.3g}, and the "
                f"posterior was learnt for {channel.noise:.3g}: its widths would be wrong. Learn a "
                "task with this noise, or use NUTS or Laplace, which take the noise of each sample"
            )


@compiled
def _shown(task: CurveTask, *row: Any) -> Float[Array, "patient input"]:
    return jax.vmap(lambda *one: shown_row(task, *one))(*row)


@eqx.filter_jit
def _features(flow: PosteriorFlow, shown: Any) -> Float[Array, "patient summary"]:
    return jax.vmap(flow.summarise)(shown)


def _draws_at_once(learnt: Any, rows: Any, key: Any, draws: int, mesh: Mesh | None) -> int:
    """Return the number of draws that `_sample` makes, or many if more are to follow."""
    del learnt, key, mesh
    return len(rows[0]) * draws if len(rows[0]) < TOGETHER else SMALL + 1


@functools.partial(compiled, size=_draws_at_once)
def _sample(
    learnt: tuple[CurveTask, PriorCoordinates, PosteriorFlow],
    rows: tuple[Any, ...],
    key: Any,
    draws: int,
    mesh: Mesh | None,
) -> tuple[Float[Array, "patient draw free"], Float[Array, "patient draw"]]:
    task, coordinates, flow = learnt

    def one(place, known, values, phases):
        shown = shown_row(task, known, values, phases)
        z, density = flow.sample(shown, jax.random.fold_in(key, place), draws)
        prior = -0.5 * jnp.sum(z**2 + np.log(2 * np.pi), axis=-1)
        return jax.vmap(coordinates.theta, (0, None))(z, known), prior - density

    some = jax.vmap(one)
    if mesh is not None:
        over_all = PartitionSpec(mesh.axis_names)
        some = jax.shard_map(
            some, mesh=mesh, in_specs=over_all, out_specs=over_all, check_vma=False
        )
    return some(*rows)


@eqx.filter_jit
def _middle(
    flow: PosteriorFlow, coordinates: PriorCoordinates, shown: Any, known: Any
) -> Float[Array, "patient free"]:
    def one(row):
        shown, known = row
        z, _ = flow.sample(shown, jax.random.key(0), MIDDLE)
        return coordinates.theta(jnp.mean(z, axis=0), known)

    return jax.lax.map(one, (shown, known), batch_size=TOGETHER)


@eqx.filter_jit
def _log_density(
    flow: PosteriorFlow, coordinates: PriorCoordinates, shown: Any, theta: Any
) -> Float[Array, " patient"]:
    def one(shown, theta):
        z = coordinates.coordinates(theta)
        prior = -0.5 * jnp.sum(z**2 + np.log(2 * np.pi))
        return flow.log_density(shown, z) - prior

    return jax.vmap(one)(shown, theta)
