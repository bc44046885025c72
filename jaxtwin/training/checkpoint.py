"""Saving of models and training states: arrays with Orbax, their description as JSON."""

import functools
import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp

from jaxtwin.devices import on_first_host

T = TypeVar("T")
Tree = TypeVar("Tree")

_ARRAYS = "arrays"
_CONFIG = "config.json"
_DIGEST = "arrays.sha256"


class CheckpointError(ValueError):
    """Error for a checkpoint that is missing, incomplete, or from another configuration."""


def _by_path(tree: Any, kind: Any = jax.Array | np.ndarray) -> dict[str, Any]:
    """Return a pytree's arrays by their path in the tree; other leaves are omitted."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves if isinstance(leaf, kind)}


def _digest(arrays: Mapping[str, Any]) -> str:
    """Return a hash of all arrays, to detect corrupted weights."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(name.encode() + np.asarray(arrays[name]).tobytes())
    return digest.hexdigest()


class _Settled(ocp.type_handlers.NumpyHandler):
    """An array handler that has no pending operations when it raises an error.

    Orbax starts the operations on all arrays of a tree in one event loop, raises at the first
    failure and closes the loop. The other operations then report to a closed loop, from a
    TensorStore thread where the error cannot be caught. This handler waits for all writes before
    it raises, and reads the arrays one after the other.
    """

    async def serialize(self, values, infos, args=None) -> Sequence[Any]:
        writes, errors = [], []
        for value, info, arg in zip(values, infos, args or [None] * len(values), strict=True):
            writes += await super().serialize([value], [info], arg and [arg])
        for write in writes:
            try:
                write.result()
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]
        return []

    async def deserialize(self, infos, args=None) -> Sequence[np.ndarray]:
        arrays = []
        for info, arg in zip(infos, args or [None] * len(infos), strict=True):
            arrays += await super().deserialize([info], arg and [arg])
        return arrays


def _with_orbax(work: Callable[[ocp.Checkpointer], T]) -> T:
    """Call `work` with a checkpointer; no operation is pending when this returns or raises.

    `work` runs in its own thread, for two reasons. An interrupt only reaches the main thread,
    which then waits for Orbax to finish instead of closing an event loop that is in use. In a
    notebook, the main thread already has a running event loop, in which Orbax cannot start
    another.
    """
    registry = ocp.type_handlers.create_type_handler_registry(
        (np.ndarray, _Settled()),
        (jax.Array, ocp.type_handlers.ArrayHandler()),  # Unused; Orbax warns if it is missing.
    )
    # Every process for itself: by default Orbax waits for the others.
    this = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=this, active_processes={this}, barrier_sync_key_prefix=str(this)
    )
    handler = ocp.PyTreeCheckpointHandler(
        type_handler_registry=registry, multiprocessing_options=alone
    )
    with (
        ocp.Checkpointer(handler, multiprocessing_options=alone) as orbax,
        ThreadPoolExecutor(1) as thread,
    ):
        return thread.submit(work, orbax).result()


def save(folder: Path, tree: Any, config: Mapping[str, Any]) -> None:
    """Write a pytree's arrays and their description atomically.

    Of several processes (`jax.distributed.initialize`) all call this, and the first one writes.

    Args:
        folder: Folder of the checkpoint. An existing one is replaced once the new one is complete.
        tree: Any pytree; only its arrays are saved.
        config: Description from which the tree can be rebuilt, serialisable as JSON.

    Raises:
        OSError: If the checkpoint cannot be written, for example because the disk is full; an
            existing checkpoint is kept.
    """
    on_first_host(functools.partial(_save, folder.resolve(), tree, config))


def _save(folder: Path, tree: Any, config: Mapping[str, Any]) -> None:
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        try:
            arrays = {name: np.asarray(leaf) for name, leaf in _by_path(tree).items()}
            _with_orbax(lambda orbax: orbax.save(partial / _ARRAYS, arrays))
            (partial / _DIGEST).write_text(_digest(arrays))
        except ValueError as error:  # Raised by TensorStore if the disk is full, for example.
            raise OSError(f"cannot write the checkpoint {folder}: {error}") from error
        (partial / _CONFIG).write_text(json.dumps(config, indent=1))
        previous = folder.with_name(folder.name + ".previous")
        # If an earlier save was interrupted between its two renames, only `previous` exists.
        if folder.exists():
            shutil.rmtree(previous, ignore_errors=True)
            folder.rename(previous)
        partial.rename(folder)
        shutil.rmtree(previous, ignore_errors=True)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _complete(folder: Path) -> Path:
    """Return the folder, or its predecessor if a save was interrupted between its two renames."""
    folder = folder.resolve()
    previous = folder.with_name(folder.name + ".previous")
    return previous if previous.exists() and not folder.exists() else folder


def exists(folder: Path) -> bool:
    """Return whether there is a checkpoint to load."""
    return _complete(folder).exists()


def config(folder: Path, kind: str | None = None) -> dict[str, Any]:
    """Return the description saved with a checkpoint.

    Args:
        folder: Folder given to `save`.
        kind: Expected value of the description's entry "kind"; not checked by default.

    Raises:
        CheckpointError: If there is no checkpoint, it is incomplete, or it is of another kind.
    """
    folder = _complete(folder)
    if not folder.exists():
        raise CheckpointError(f"no checkpoint at {folder}: expected a folder written by jaxtwin")
    try:
        kept = json.loads((folder / _CONFIG).read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"the checkpoint at {folder} was cut short: its {_CONFIG} is missing or broken; "
            "delete the folder and run again"
        ) from error
    if kind is not None and kept.get("kind") != kind:
        raise CheckpointError(
            f"the checkpoint at {folder} is of kind {kept.get('kind')}, expected {kind}"
        )
    return kept


def load(folder: Path, like: Tree) -> Tree:
    """Read a pytree's arrays.

    Args:
        folder: Folder given to `save`.
        like: A pytree of the same structure. Its arrays (or the shapes that
            `eqx.filter_eval_shape` gives in their place) are replaced; other leaves are kept.

    Raises:
        CheckpointError: If there is no checkpoint, it is incomplete, or its arrays do not match
            those of `like`.
    """
    config(folder)
    folder = _complete(folder)
    try:
        stored = _with_orbax(lambda orbax: orbax.restore(folder / _ARRAYS))
        if (folder / _DIGEST).read_text() != _digest(stored):
            raise ValueError("the arrays differ from those that were saved")
    except Exception as error:  # Orbax and TensorStore raise many kinds for a damaged checkpoint.
        raise CheckpointError(
            f"the checkpoint at {folder} was cut short or damaged and cannot be read; delete the "
            "folder and run again"
        ) from error
    wanted = _by_path(like, jax.Array | np.ndarray | jax.ShapeDtypeStruct)
    for name in sorted(wanted.keys() | stored.keys()):
        found, expected = (
            f"{a[name].dtype}{list(a[name].shape)}" if name in a else "nothing"
            for a in (stored, wanted)
        )
        if found != expected:
            raise CheckpointError(
                f"the checkpoint at {folder} is from another configuration: {name} is {found}, "
                f"expected {expected}; run with the configuration in its {_CONFIG}"
            )

    def replace(path, leaf):
        name = jax.tree_util.keystr(path)
        # `jnp.asarray` would compile a program for each shape.
        return jax.device_put(stored[name]) if name in wanted else leaf

    return jax.tree_util.tree_map_with_path(replace, like)
