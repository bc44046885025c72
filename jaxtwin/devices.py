"""Arrays on the devices of a mesh, which may belong to several processes, or hosts.

Every process calls these functions with the same arguments, in the same order.
"""

import os
import zlib
from collections.abc import Callable
from typing import Any, TypeVar, cast

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Int

T = TypeVar("T")


def join_processes() -> None:
    """Join the processes of this run by `jax.distributed.initialize`, before anything is computed.

    JAX finds them itself under SLURM, Open MPI and on Cloud TPUs. Elsewhere the variables
    JAX_COORDINATOR_ADDRESS (host:port of the first process), JAX_NUM_PROCESSES and JAX_PROCESS_ID
    say where they are.

    Raises:
        ValueError: If only one of the two numbers is given, or JAX finds no processes.
    """
    numbers = ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
    told = {name: os.environ[name] for name in numbers if name in os.environ}
    try:
        if not told:
            jax.distributed.initialize()
            return
        processes, process = (int(told[name]) for name in numbers)
        jax.distributed.initialize(
            num_processes=processes, process_id=process, cluster_detection_method="deactivate"
        )
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"--distributed found no other processes ({error}; {told or 'no variables'}): run it "
            "with srun or mpirun, or set JAX_COORDINATOR_ADDRESS (host:port of the first process), "
            "JAX_NUM_PROCESSES and JAX_PROCESS_ID (0, 1, ...)"
        ) from error


def all_devices() -> Mesh:
    """Return a mesh of the devices of all processes."""
    return jax.make_mesh((jax.device_count(),), ("batch",))


def first_devices(number: int) -> Mesh | None:
    """Return a mesh of the first devices of this machine; None for one, JAX's default device.

    Raises:
        ValueError: If there are not so many.
    """
    there = jax.local_devices()
    if not 1 <= number <= len(there):
        raise ValueError(
            f"{number} devices: expected 1 to {len(there)}, the number that JAX finds "
            f"({there[0].platform}; on a CPU it is as many as JAX_NUM_CPU_DEVICES says)"
        )
    return None if number == 1 else Mesh(np.array(there[:number]), ("batch",))


def check_mesh(mesh: Any) -> None:
    """Raise a ValueError if this is neither a mesh of devices nor None."""
    if not (mesh is None or isinstance(mesh, Mesh)):
        raise ValueError(
            f"mesh={mesh!r}: expected a jax.sharding.Mesh, such as "
            'jax.make_mesh((jax.device_count(),), ("batch",)), or None for one device'
        )


def check_rows(number: int, mesh: Mesh) -> None:
    """Raise a ValueError if the devices of a mesh cannot share this number of rows equally."""
    if number % mesh.size:
        raise ValueError(
            f"a batch of {number} on {mesh.size} devices: expected a multiple of {mesh.size}; "
            "choose another batch_size"
        )


def spread(rows: Any, mesh: Mesh) -> jax.Array:
    """Distribute an array's first axis over all devices of a mesh.

    Args:
        rows: The whole array, in every process, or what `joined` returned.
        mesh: The devices, along all axes of the mesh. Their number divides that of the rows.
    """
    if isinstance(rows, jax.Array) and not rows.is_fully_addressable:
        return rows
    rows = np.asarray(rows)
    return jax.make_array_from_callback(rows.shape, _by_rows(mesh), lambda index: rows[index])


def own_rows(number: int, mesh: Mesh) -> Int[np.ndarray, " own"]:
    """Return which rows of an array of this length are on devices of this process, in order."""
    check_rows(number, mesh)
    places = _by_rows(mesh).addressable_devices_indices_map((number,)).values()
    return np.unique(np.concatenate([np.arange(number)[place] for place in places]))


def joined(rows: Any, number: int, mesh: Mesh) -> jax.Array:
    """Return the array over all devices of which each process has its `own_rows`.

    Args:
        rows: The rows of this process, in order.
        number: Number of rows of all processes.
        mesh: The devices.
    """
    rows = np.asarray(rows)
    shape = (number, *rows.shape[1:])
    # Whatever the types of its axes: the batches of several hosts are like those of one.
    mesh = Mesh(mesh.devices, mesh.axis_names)
    return jax.make_array_from_process_local_data(_by_rows(mesh), rows, shape)


def _by_rows(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec(mesh.axis_names))


def everywhere(tree: Any, mesh: Mesh) -> Any:
    """Put a copy of every array of a tree on each device of a mesh."""
    sharding = NamedSharding(mesh, PartitionSpec())

    def copied(leaf: Any) -> jax.Array:
        leaf = np.asarray(leaf)
        return jax.make_array_from_callback(leaf.shape, sharding, lambda index: leaf[index])

    return jax.tree.map(copied, tree)


def here(tree: Any) -> Any:
    """Return a tree whose arrays, copies of which are everywhere, are on one device only."""
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)


def fetch(tree: Any) -> Any:
    """Return a tree's arrays as NumPy arrays, including the parts of other processes."""
    if all(leaf.is_fully_addressable for leaf in jax.tree.leaves(tree)):
        return jax.tree.map(np.asarray, tree)
    return multihost_utils.process_allgather(tree, tiled=True)


def from_first_host(array: np.ndarray) -> np.ndarray:
    """Return the first process's array in every process; all have one of this shape and dtype."""
    if jax.process_count() == 1:
        return array
    return np.asarray(multihost_utils.broadcast_one_to_all(array))


def on_first_host(action: Callable[[], Any]) -> Any:
    """Run an action in the first process only, and return its result, or None in the others.

    The others wait, and raise if the first one failed.
    """
    if jax.process_count() == 1:
        return action()
    given, error = None, None
    if jax.process_index() == 0:
        try:
            given = action()
        except Exception as caught:
            error = caught
    failed = bool(multihost_utils.broadcast_one_to_all(np.array(error is not None)))
    if error is not None:
        raise error
    if failed:
        raise RuntimeError("the first host failed; see its own error")
    return given


def on_every_host(action: Callable[[], T]) -> T:
    """Run an action in every process and return its result there, when all have finished.

    If it fails in one of them, it raises there, and a RuntimeError that names the host in the
    others.
    """
    if jax.process_count() == 1:
        return action()
    given, error = None, None
    try:
        given = action()
    except Exception as caught:
        error = caught
    failed = multihost_utils.process_allgather(np.array(error is not None))
    if error is not None:
        raise error
    if failed.any():
        raise RuntimeError(f"host {int(np.argmax(failed))} failed; see its own error")
    return cast(T, given)


def check_same_everywhere(text: str, otherwise: str) -> None:
    """Raise a ValueError that says `otherwise` if processes have different texts."""
    if jax.process_count() == 1:
        return
    found = multihost_utils.process_allgather(np.array(zlib.crc32(text.encode()), np.uint32))
    if other := np.flatnonzero(found != found[0]).tolist():
        raise ValueError(f"host {other[0]} differs from host 0: {otherwise}")
