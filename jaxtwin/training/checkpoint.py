"""Models and training states on disk: arrays through Orbax, their description as JSON beside."""

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

T = TypeVar("T")
Tree = TypeVar("Tree")

_ARRAYS = "arrays"
_CONFIG = "config.json"
_DIGEST = "arrays.sha256"


class CheckpointError(ValueError):
    """A checkpoint that is missing, cut short, or from another configuration."""


def _by_path(tree: Any, kind: Any = jax.Array | np.ndarray) -> dict[str, Any]:
    """A pytree's arrays by where they stand in it; everything else is left out."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves if isinstance(leaf, kind)}


def _digest(arrays: Mapping[str, Any]) -> str:
    """Of all arrays by name: a flipped bit in a weight would pass for a patient."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(name.encode() + np.asarray(arrays[name]).tobytes())
    return digest.hexdigest()


class _Settled(ocp.type_handlers.NumpyHandler):
    """Writes and reads arrays so that nothing is under way when an error is raised.

    Orbax starts all arrays of a tree in one event loop, raises at the first that fails and closes
    the loop. The others then report to a closed loop, from a thread of TensorStore where nobody
    can catch the error. Here arrays are written each in a loop of its own, and all are waited
    for; they are read one after the other.
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
    """What `work` does with a checkpointer, all of it ended when this returns or raises.

    It runs in a thread of its own. An interrupt reaches the main thread only, which then waits
    for Orbax to end instead of closing an event loop that is in use; and in a notebook the main
    thread has a running loop already, beside which Orbax cannot run one.
    """
    registry = ocp.type_handlers.create_type_handler_registry(
        (np.ndarray, _Settled()),
        (jax.Array, ocp.type_handlers.ArrayHandler()),  # Unused; Orbax warns where it is missing.
    )
    with (
        ocp.Checkpointer(ocp.PyTreeCheckpointHandler(type_handler_registry=registry)) as orbax,
        ThreadPoolExecutor(1) as thread,
    ):
        return thread.submit(work, orbax).result()


def save(folder: Path, tree: Any, config: Mapping[str, Any]) -> None:
    """Write a pytree's arrays and what they belong to; the folder appears whole or not at all.

    Args:
        folder: Where; replaced if it exists, once the new one is complete.
        tree: Any pytree; only its arrays are kept.
        config: What is needed to build the tree again, as JSON allows it.

    Raises:
        OSError: If it cannot be written, for instance to a full disk; what was there before
            stays.
    """
    folder = folder.resolve()
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        try:
            arrays = {name: np.asarray(leaf) for name, leaf in _by_path(tree).items()}
            _with_orbax(lambda orbax: orbax.save(partial / _ARRAYS, arrays))
            (partial / _DIGEST).write_text(_digest(arrays))
        except ValueError as error:  # TensorStore's kind for a full disk, among others.
            raise OSError(f"cannot write the checkpoint {folder}: {error}") from error
        (partial / _CONFIG).write_text(json.dumps(config, indent=1))
        previous = folder.with_name(folder.name + ".previous")
        # Where a save was cut between its two renames, `previous` is all there is.
        if folder.exists():
            shutil.rmtree(previous, ignore_errors=True)
            folder.rename(previous)
        partial.rename(folder)
        shutil.rmtree(previous, ignore_errors=True)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _complete(folder: Path) -> Path:
    """The folder, or its predecessor where a save was cut between its two renames."""
    folder = folder.resolve()
    previous = folder.with_name(folder.name + ".previous")
    return previous if previous.exists() and not folder.exists() else folder


def exists(folder: Path) -> bool:
    """Whether there is a checkpoint to load."""
    return _complete(folder).exists()


def config(folder: Path, kind: str | None = None) -> dict[str, Any]:
    """The description kept beside a checkpoint's arrays.

    Args:
        folder: Where `save` wrote.
        kind: What the description must call itself, under "kind".

    Raises:
        CheckpointError: If there is no checkpoint, it was cut short, or is of another kind.
    """
    folder = _complete(folder)
    if not folder.exists():
        raise CheckpointError(f"no checkpoint at {folder}: expected a folder that jaxtwin wrote")
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
        folder: Where `save` wrote.
        like: A pytree of the same structure; its arrays (or, from `eqx.filter_eval_shape`,
            what stands for them) are replaced, its other leaves kept.

    Raises:
        CheckpointError: If there is no checkpoint, it was cut short, or its arrays are not
            those of `like`.
    """
    config(folder)
    folder = _complete(folder)
    try:
        stored = _with_orbax(lambda orbax: orbax.restore(folder / _ARRAYS))
        if (folder / _DIGEST).read_text() != _digest(stored):
            raise ValueError("the arrays are not those that were written")
    except Exception as error:  # Orbax and TensorStore raise a dozen kinds, all for one reason.
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
        return jax.numpy.asarray(stored[name]) if name in wanted else leaf

    return jax.tree_util.tree_map_with_path(replace, like)
