"""Saving and loading of learnt methods: arrays with a description, no code."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx

from jaxtwin.forward.base import AbstractForward
from jaxtwin.forward.emulator import Emulator
from jaxtwin.identity import differences
from jaxtwin.methods.base import AbstractTask, AbstractTrainedMethod, Learnt
from jaxtwin.physics.base import kind_of
from jaxtwin.training import checkpoint
from jaxtwin.training.loop import Fitted

_FACTS = ("validation", "best_step", "steps", "seconds", "step_seconds")


def trained(
    method: AbstractTrainedMethod[Any, Any],
    task: AbstractTask[Any],
    knowledge: Any,
    fitted: Fitted[Any],
) -> Learnt[Any, Any]:
    """Make a `Learnt` from a method's knowledge and the course of its training."""
    facts = {name: getattr(fitted, name) for name in _FACTS}
    return Learnt(method, task, method.ready(task, knowledge), knowledge, **facts)


def save_learnt(folder: str | Path, learnt: Learnt[Any, Any]) -> None:
    """Save the result of learning, with its validation errors.

    The forward model is not included: save it with `save_emulator`.

    Raises:
        ValueError: If the method learns nothing that could be saved, or is no
            `AbstractTrainedMethod`.
    """
    method = learnt.method
    if not isinstance(method, AbstractTrainedMethod):
        if method.sees.cohort or learnt.knowledge is not None:
            raise ValueError(
                f"{type(method).__name__} is no AbstractTrainedMethod, and only they can be saved: "
                "subclass it, with `untrained` and `ready`, and return its arrays as the knowledge "
                "of Learnt(self, task, self.ready(task, knowledge), knowledge)"
            )
        raise ValueError(
            f"{type(method).__name__} works on the patient at hand and learns nothing to save: "
            "call method.learn(task) again"
        )
    facts = {name: getattr(learnt, name) for name in _FACTS}
    checkpoint.save(
        Path(folder), learnt.knowledge, identity(method, learnt.task) | {"learnt": facts}
    )


def load_learnt(
    folder: str | Path, method: AbstractTrainedMethod[Any, Any], task: AbstractTask[Any]
) -> Learnt[Any, Any]:
    """Load the result of learning saved by `save_learnt`.

    Args:
        folder: Folder in which it was saved.
        method: Method like the one that learnt; its training settings may differ.
        task: The task that was learnt.

    Raises:
        ValueError: If these are not a trained method and a task.
        CheckpointError: If the files are damaged, or from another method, task or forward model.
    """
    if not (isinstance(method, AbstractTrainedMethod) and isinstance(task, AbstractTask)):
        raise ValueError(
            f"load_learnt got a method {kind_of(method)} and a task {kind_of(task)}: expected the "
            "trained method and its task, load_learnt(folder, method, task)"
        )
    folder = Path(folder)
    kept, now = checkpoint.config(folder, kind="learnt"), identity(method, task)
    known = ("method", "task", "made_with")
    differing = differences({name: kept[name] for name in known}, {n: now[n] for n in known})
    if differing:
        raise checkpoint.CheckpointError(
            f"what was learnt at {folder} is of another method or task: {'; '.join(differing)}. "
            "Load it with the method and the task with which it was learnt"
        )
    # Only the shapes are needed: drawing weights that are replaced at once takes seconds.
    blank = eqx.filter_eval_shape(method.untrained, task)
    knowledge = checkpoint.load(folder, blank)
    return Learnt(method, task, method.ready(task, knowledge), knowledge, **kept["learnt"])


def identity(method: AbstractTrainedMethod[Any, Any], task: AbstractTask[Any]) -> dict[str, Any]:
    """Describe a method and a task, as a JSON value."""
    found = {
        "kind": "learnt",
        "method": type(method).__name__,
        "task": task.describe(),
        "made_with": made_with(method),
        "settings": {
            field.name: _plain(getattr(method, field.name))
            for field in dataclasses.fields(method)
            if not isinstance(getattr(method, field.name), AbstractForward)
        },
    }
    return json.loads(json.dumps(found))


def made_with(method: AbstractTrainedMethod[Any, Any]) -> str:
    """Name a method's forward model, with the error of an emulator; "" without a forward model."""
    forward = getattr(method, "forward", None)
    if forward is None:
        return ""
    error = forward.error if isinstance(forward, Emulator) else None
    return type(forward).__name__ + (f" {error}" if error is not None else "")


def _plain(value: Any) -> Any:
    """Convert a setting to a JSON value."""
    if isinstance(value, eqx.Module):  # Its arrays are not settings.
        return type(value).__name__
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, Callable):
        return getattr(value, "__qualname__", type(value).__name__)
    return value
