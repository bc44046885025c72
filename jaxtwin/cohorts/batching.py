"""Mapping of a function of one patient over many, in chunks, on all cores or devices."""

import collections
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Float

from jaxtwin.devices import check_mesh, fetch, spread
from jaxtwin.parameters import Box, Theta
from jaxtwin.physics.kernel import BLOCK

Progress = Callable[[Iterable], Iterable]
"""Wrapper for the iterable of chunks of a long computation, such as `tqdm`."""


def default_chunk(dtype: Any) -> int:
    """Return the number of patients computed together on one device.

    On a CPU this is one block of `as_one_function`, 128 in float32 and 64 in float64. Larger chunks
    are computed block by block, which takes copies, and all of them wait for the slowest patient:
    chunks of 512 took 12 to 30% longer. On an accelerator it is 131,072, which takes about 3 GB.
    """
    return BLOCK // np.dtype(dtype).itemsize if jax.default_backend() == "cpu" else 131_072


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
        function: Function from one patient's θ to any pytree of arrays, such as readings or their
            gradient. It is vmapped and compiled. To avoid recompilation, pass the same object
            each time, or an `equinox.Partial` of one.
        theta: Parameters, one row per patient. The computation uses its dtype; float64 needs JAX's
            x64 mode.
        chunk: Number of patients computed together on one device; `default_chunk` of θ's dtype by
            default.
        mesh: Devices over which each chunk is distributed, along all axes of the mesh; by default
            only JAX's default device. The mesh may span several processes
            (`jax.distributed.initialize`): all of them call this with the same arguments, and all
            get the whole result.
        progress: Wrapper for the iterable of chunks, which has a length; `tqdm.tqdm`, for example.

    Returns:
        The function's results as NumPy arrays, with a leading patient axis on every leaf.

    Raises:
        ValueError: If there is no function, θ is not a table, is in float64 without x64 mode, or is
            outside the box of a function that has one, such as a `Simulator`; or if `chunk` is not
            positive.
    """
    if not callable(function):
        raise ValueError(
            f"map_patients got {type(function).__name__} first: expected a function of one "
            "patient's θ and then the patients, map_patients(function, theta)"
        )
    theta = np.asarray(theta)
    if theta.ndim != 2 or not len(theta):
        raise ValueError(f"θ of shape {theta.shape}: expected one row per patient, at least one")
    if theta.dtype == np.float64 and jnp.result_type(float) != jnp.float64:
        raise ValueError(
            "θ is in float64, and JAX's x64 mode is off, so that float32 would be computed: pass "
            'theta.astype("float32"), or call jax.config.update("jax_enable_x64", True) first'
        )
    box = getattr(function, "box", None)
    if isinstance(box, Box):
        box.check(theta)
    if chunk is None:
        chunk = default_chunk(theta.dtype)
    if chunk < 1:
        raise ValueError(f"chunk={chunk}: expected at least one patient")
    check_mesh(mesh)
    together = chunk * (1 if mesh is None else mesh.size)
    # JAX's context managers only affect the caller's thread.
    x64 = jnp.result_type(float) == jnp.float64
    (device,) = jnp.zeros(()).devices()

    def run(start: int):
        with jax.enable_x64(x64), jax.default_device(device):
            return compute(start)

    def compute(start: int):
        rows = theta[start : start + together]
        # Every chunk has the same shape, so that the function compiles once.
        padded = np.concatenate([rows, np.repeat(rows[-1:], together - len(rows), axis=0)])
        rows_there = padded if mesh is None else spread(padded, mesh)
        results = fetch(_map_chunk(function, rows_there, mesh))
        return jax.tree.map(lambda leaf: leaf[: len(rows)], results)

    starts = range(0, len(theta), together)
    if mesh is not None or len(starts) == 1:
        threads = 1  # All processes of a mesh must run the chunks in the same order.
    elif jax.default_backend() == "cpu":
        # XLA runs a loop of small operations on one core.
        cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()
        threads = len(cores) or os.cpu_count() or 1
        # XLA distributes a batch of matrix factorisations over its own threads, one per core, while
        # the calling thread waits. If all of them waited at once, they would deadlock.
        with jax.enable_x64(x64), jax.default_device(device):
            waits = _factorises(function, theta[:1].repeat(chunk, axis=0))
        threads = max(1, threads - waits)
    else:
        threads = 2  # One computes while the other copies.
    parts = list(progress(_InOrder(run, starts, threads)))
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
    """Return whether a chunk's computation factorises matrices. The run reuses this trace."""
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
    """Compute a chunk on one device, or a part of it on each device of the mesh."""
    if mesh is None:
        return jax.vmap(function)(theta)
    over_all = PartitionSpec(mesh.axis_names)
    # Without shard_map each beat would wait for the slowest patient of all devices.
    over_devices = jax.shard_map(
        jax.vmap(function), mesh=mesh, in_specs=over_all, out_specs=over_all, check_vma=False
    )
    return over_devices(theta)


class _InOrder:
    """Iterable over run(start) for each start, in order, computed `threads` ahead of the reader."""

    def __init__(self, run: Callable[[int], Any], starts: Sequence[int], threads: int):
        self.run, self.starts, self.threads = run, starts, threads

    def __len__(self) -> int:
        return len(self.starts)

    def __iter__(self) -> Iterator[Any]:
        if len(self.starts) == 1:
            yield self.run(self.starts[0])
            return
        with ThreadPoolExecutor(self.threads) as pool:
            pending: collections.deque[Future] = collections.deque()
            for start in self.starts:
                pending.append(pool.submit(self.run, start))
                if len(pending) > self.threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
