"""Many patients at once: simulate a table of θ in chunks, and draw cohorts from a box."""

import collections
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float

from jaxtwin.parameters import Box, Theta
from jaxtwin.physics.base import AbstractRecordedSystem
from jaxtwin.physics.record import record
from jaxtwin.physics.solution import Reading, Recording

"""Solver steps a period, `periodic_orbit`'s own default."""

Limits = Mapping[str, tuple[float, float]]
"""By name of a reading, what it must be within."""

Progress = Callable[[Iterable], Iterable]
"""Wraps the chunks of a long computation, as `tqdm` does."""


class Simulations(NamedTuple):
    """Periodic orbits (or transients) of many patients, on a grid of phases.

    Attributes:
        theta: The free parameters, in the order of the box.
        maximum: The outputs' largest values over the beat, [patient] on every leaf.
        minimum: The outputs' smallest values over the beat, [patient] on every leaf.
        waveforms: The outputs at phases 0, 1/n, ... (n − 1)/n of the period,
            [patient, phase] on every leaf.
        converged: Whether the orbit was found; where not, the other entries mean nothing.
        residual: How far each beat is from periodic, as in `Solution`; NaN where the
            solution diverged.
    """

    theta: Float[Array | np.ndarray, "*patient free"]
    maximum: Any
    minimum: Any
    waveforms: Any
    converged: Bool[Array | np.ndarray, "*patient"]
    residual: Float[Array | np.ndarray, "*patient"]

    def take(self, index) -> "Simulations":
        """The patients at an index array or a mask."""
        return jax.tree.map(lambda leaf: leaf[index], self)

    def failures(self, box: Box, limit: int = 3) -> str:
        """Which patients did not converge, with their parameters; "" if all did.

        Args:
            box: The box that θ belongs to.
            limit: How many are described in full.
        """
        failed = np.flatnonzero(~self.converged)
        if not failed.size:
            return ""
        lines = [f"{failed.size} of {len(self.theta)} patients did not converge:"]
        for i in failed[:limit]:
            values = ", ".join(
                f"{spec.name}={value:.6g}{' ' * bool(spec.unit)}{spec.unit}"
                for spec, value in zip(box.specs, self.theta[i], strict=True)
            )
            how = (
                f"changes by {self.residual[i]:.1e} a beat"
                if np.isfinite(self.residual[i])
                else "diverged"
            )
            lines.append(f"  patient {i} {how}: {values}")
        if failed.size > limit:
            lines.append(f"  and {failed.size - limit} more")
        return "\n".join(lines)


def default_chunk(dtype: Any) -> int:
    """Patients computed together on one device.

    On a CPU 512 in float32 and 256 in float64: fewer pay more for the overhead of each small
    operation, more no longer fit the cache. On an accelerator 131,072, about 3 GB.
    """
    return 2048 // np.dtype(dtype).itemsize if jax.default_backend() == "cpu" else 131_072


def map_patients(
    function: Callable[[Theta], Any],
    theta: Float[np.ndarray, "patient free"],
    *,
    chunk: int | None = None,
    mesh: Mesh | None = None,
    progress: Progress = iter,
) -> Any:
    """Apply a function of one patient to many, in chunks, on all cores or devices.

    Args:
        function: From θ to any pytree of arrays, such as observables or their gradient. It is
            vmapped and compiled once, and again for another function: give the same object
            each time, or an `equinox.Partial` of one.
        theta: One row a patient. Its dtype is the dtype computed in; float64 needs JAX's x64 mode.
        chunk: Patients computed together on one device; `default_chunk` of θ's dtype by default.
        mesh: Devices over which each chunk is spread, along all of the mesh's axes; by default
            only JAX's default device. It may span several processes
            (`jax.distributed.initialize`): all call this with the same arguments, and all get
            the whole result.
        progress: Wraps the chunks, whose number is known, for example `tqdm.tqdm`.

    Returns:
        The function's results as NumPy arrays, [patient, ...] on every leaf.

    Raises:
        ValueError: If θ is not a table, or `chunk` is not positive.
    """
    theta = np.asarray(theta)
    if theta.ndim != 2 or not len(theta):
        raise ValueError(f"θ of shape {theta.shape}: expected one row a patient, at least one")
    if chunk is None:
        chunk = default_chunk(theta.dtype)
    if chunk < 1:
        raise ValueError(f"chunk={chunk}: expected at least one patient")
    together = chunk * (1 if mesh is None else mesh.size)
    # JAX's context managers act on the caller's thread alone.
    x64 = jnp.result_type(float) == jnp.float64
    (device,) = jnp.zeros(()).devices()

    def run(start: int):
        with jax.enable_x64(x64), jax.default_device(device):
            return compute(start)

    def compute(start: int):
        rows = theta[start : start + together]
        # Every chunk has the same shape, so that the loop compiles once.
        padded = np.concatenate([rows, np.repeat(rows[-1:], together - len(rows), axis=0)])
        results = _fetch(_map_chunk(function, _spread(padded, mesh), mesh))
        return jax.tree.map(lambda leaf: leaf[: len(rows)], results)

    if mesh is not None:
        threads = 1  # All processes must run the chunks in the same order.
    elif jax.default_backend() == "cpu":
        # XLA runs a loop of small operations on one core.
        cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()
        threads = len(cores) or os.cpu_count() or 1
        # XLA shares a batch of matrix factorisations out over its own threads, one a core, and the
        # thread that asks waits: if all of them did at once, all would wait for ever.
        with jax.enable_x64(x64), jax.default_device(device):
            waits = _factorises(function, theta[:1].repeat(chunk, axis=0))
        threads = max(1, threads - waits)
    else:
        threads = 2  # One computes while the other copies.
    parts = list(progress(_InOrder(run, range(0, len(theta), together), threads)))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


_FACTORISATIONS = {
    "cholesky",
    "eig",
    "eigh",
    "geqrf",
    "hessenberg",
    "householder_product",
    "lu",
    "qr",
    "schur",
    "svd",
    "tridiagonal",
}


def _factorises(function: Callable[[Theta], Any], rows: Any) -> bool:
    """Whether a chunk's computation factorises matrices; it is traced once, here or by its run."""
    traced, *_ = eqx.filter_make_jaxpr(_map_chunk)(function, rows, None)

    def holds(jaxpr: Any) -> bool:
        for equation in jaxpr.eqns:
            if equation.primitive.name in _FACTORISATIONS:
                return True
            for value in equation.params.values():
                for part in value if isinstance(value, tuple | list) else (value,):
                    inner = getattr(part, "jaxpr", part)
                    if hasattr(inner, "eqns") and holds(inner):
                        return True
        return False

    return holds(traced.jaxpr)


@eqx.filter_jit
def _map_chunk(function: Callable[[Theta], Any], theta, mesh: Mesh | None):
    """A chunk on one device, or a part of it on each device of the mesh."""
    if mesh is None:
        return jax.vmap(function)(theta)
    over_all = PartitionSpec(mesh.axis_names)
    # Without shard_map each beat would wait for the slowest patient of all devices.
    spread = jax.shard_map(
        jax.vmap(function), mesh=mesh, in_specs=over_all, out_specs=over_all, check_vma=False
    )
    return spread(theta)


def _spread(rows: np.ndarray, mesh: Mesh | None):
    """Rows over all devices of a mesh, of which this process may have only some."""
    if mesh is None:
        return rows
    sharding = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
    return jax.make_array_from_callback(rows.shape, sharding, lambda index: rows[index])


def _fetch(results: Any) -> Any:
    """Results as NumPy arrays, those of other processes too."""
    if all(leaf.is_fully_addressable for leaf in jax.tree.leaves(results)):
        return jax.tree.map(np.asarray, results)
    return multihost_utils.process_allgather(results, tiled=True)


class _InOrder:
    """run(start) for each start, in order, at most `threads` of them ahead of the reader."""

    def __init__(self, run: Callable[[int], Any], starts: Sequence[int], threads: int):
        self.run, self.starts, self.threads = run, starts, threads

    def __len__(self) -> int:
        return len(self.starts)

    def __iter__(self) -> Iterator[Any]:
        with ThreadPoolExecutor(self.threads) as pool:
            pending: collections.deque[Future] = collections.deque()
            for start in self.starts:
                pending.append(pool.submit(self.run, start))
                if len(pending) > self.threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()


def simulate_patient(
    system: AbstractRecordedSystem, box: Box, phases: int, theta: Theta
) -> Simulations:
    """One patient's entry of `Simulations`, inside jit, vmap and grad.

    Args:
        system: The model.
        box: Says which parameters θ holds.
        phases: Number of grid points a period; it must divide `system.steps`.
        theta: The free parameters.
    """
    p = box.complete(theta)
    course = record(system, p)
    found = course.recording(phases)
    return Simulations(
        theta, found.maximum, found.minimum, found.waveforms, course.success, course.stats.residual
    )


def simulate_cohort(
    system: AbstractRecordedSystem,
    box: Box,
    theta: Float[np.ndarray, "patient free"],
    *,
    phases: int = 80,
    chunk: int | None = None,
    mesh: Mesh | None = None,
    progress: Progress = iter,
    throw: bool = False,
) -> Simulations:
    """The periodic orbits, or the transients, of any number of patients, in float32.

    Args:
        system: The model.
        box: Says which parameters θ holds.
        theta: One row a patient.
        phases: Number of grid points a period; must divide `system.steps`.
        chunk: Patients simulated together, see `map_patients`.
        mesh: Devices to use, see `map_patients`.
        progress: Wraps the chunks, see `map_patients`.
        throw: Whether to raise where a patient did not converge; otherwise it is reported in
            `converged` and `failures`, and spoils no other.

    Raises:
        ValueError: If the box is of another model, `phases` does not divide the number of solver
            steps, θ is not a table, a θ is outside the box, or `chunk` is not positive.
        RuntimeError: With `throw`, if a patient did not converge.
    """
    if not issubclass(box.parameters, system.parameters):
        raise ValueError(
            f"a box of {box.parameters.__name__} for {type(system).__name__}, whose parameters are "
            f"{system.parameters.__name__}: make one with Box.of({system.parameters.__name__}, ...)"
        )
    if phases < 1 or system.steps % phases:
        raise ValueError(
            f"phases={phases} must divide the {system.steps} solver steps of "
            f"{type(system).__name__}"
        )
    theta = np.asarray(theta, np.float32)
    if theta.ndim == 2:
        box.check(theta)
    function = eqx.Partial(simulate_patient, system, box, phases)
    simulations = map_patients(function, theta, chunk=chunk, mesh=mesh, progress=progress)
    if throw and not simulations.converged.all():
        raise RuntimeError(simulations.failures(box))
    return simulations


def read(
    system: AbstractRecordedSystem, box: Box, simulations: Simulations, names: Iterable[str]
) -> dict[str, Float[np.ndarray, " patient"]]:
    """What is read off simulated patients, by name; see `AbstractRecordedSystem.readings`.

    Raises:
        ValueError: If the system has no reading of that name.
    """
    recording = Recording(
        simulations.maximum,
        simulations.minimum,
        simulations.waveforms,
        durations(system, box, simulations.theta),
    )
    return {name: np.asarray(reading(system, name).of(recording)) for name in names}


def durations(
    system: AbstractRecordedSystem, box: Box, theta: Float[Array | np.ndarray, "patient free"]
) -> Float[np.ndarray, " patient"]:
    """How long each patient is recorded [s]."""
    duration = jax.vmap(lambda theta: jnp.asarray(system.duration(box.complete(theta))))
    return np.asarray(duration(jnp.asarray(theta)))


def reading(system: AbstractRecordedSystem, name: str | Reading) -> Reading:
    """The system's reading of that name; a `Reading` of your own as it is.

    Raises:
        ValueError: If it has none.
    """
    if isinstance(name, Reading):
        return name
    known = system.readings()
    if name not in known:
        raise ValueError(
            f"{type(system).__name__} has no reading {name!r}: it has "
            f"{', '.join(known) or 'none'}; add it to the system's `readings`"
        )
    return known[name]


def within(
    system: AbstractRecordedSystem, box: Box, simulations: Simulations, limits: Limits
) -> Bool[np.ndarray, " patient"]:
    """Which patients converged and have all readings within the limits."""
    held = np.asarray(simulations.converged)
    values = read(system, box, simulations, limits)
    for name, (low, high) in limits.items():
        held = held & (values[name] >= low) & (values[name] <= high)
    return held


def draw_cohort(
    system: AbstractRecordedSystem,
    box: Box,
    n: int,
    *,
    seed: int,
    limits: Limits | None = None,
    phases: int = 80,
    progress: Progress = iter,
) -> tuple[Simulations, float]:
    """The first n patients of a Sobol sequence over the box whose readings are within limits.

    Args:
        system: The model.
        box: Says which parameters θ holds.
        n: How many.
        seed: Of the sequence.
        limits: By name of a reading, the lowest and highest value; the system's own by default.
        phases: Number of grid points a period, see `simulate_cohort`.
        progress: Wraps the chunks, see `map_patients`.

    Returns:
        The patients, and the share of the points drawn that was within the limits.

    Raises:
        ValueError: If fewer than one point in eight is within the limits.
    """
    limits = system.limits() if limits is None else limits
    drawn = 2 * n
    while True:
        theta = box.sample(drawn, seed=seed)
        simulations = simulate_cohort(system, box, theta, phases=phases, progress=progress)
        held = within(system, box, simulations, limits)
        if held.sum() >= n:
            return simulations.take(np.flatnonzero(held)[:n]), float(held.mean())
        if drawn >= 8 * n:
            if not simulations.converged.any():
                raise ValueError(
                    f"{simulations.failures(box)}\nprint(check_system(system)) says what is wrong"
                )
            raise ValueError(
                f"only {held.sum()} of {drawn} points of the box are within {dict(limits)}: "
                "widen the limits or move the box"
            )
        drawn *= 2


def draw_splits(
    system: AbstractRecordedSystem,
    box: Box,
    sizes: Sequence[int],
    *,
    seed: int,
    limits: Limits | None = None,
    phases: int = 80,
    progress: Progress = iter,
) -> list[Simulations]:
    """Cohorts of such sizes, such as training, validation and test, with no patient in two.

    Drawn together by `draw_cohort`, and dealt in random order.
    """
    patients, _ = draw_cohort(
        system, box, sum(sizes), seed=seed, limits=limits, phases=phases, progress=progress
    )
    patients = patients.take(np.random.default_rng(seed).permutation(sum(sizes)))
    ends = np.cumsum(sizes)
    return [patients.take(slice(end - n, end)) for n, end in zip(sizes, ends, strict=True)]
