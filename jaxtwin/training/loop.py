"""The training loop: optimiser, validation, early stopping, checkpoints and resuming."""

import dataclasses
import functools
import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import equinox as eqx
import jax
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxtwin.devices import check_rows, everywhere, here, on_first_host, spread
from jaxtwin.identity import differences
from jaxtwin.training import checkpoint
from jaxtwin.training.progress import ProgressBar, progress_bar
from jaxtwin.training.settings import TrainingConfig

Model = TypeVar("Model", bound=eqx.Module)
Other = TypeVar("Other", bound=eqx.Module)
Batch = Any


@dataclasses.dataclass(frozen=True)
class Fitted(Generic[Model]):
    """A trained model.

    Attributes:
        model: The model with the lowest validation loss.
        best_step: Step at which this model was found.
        steps: Number of steps taken; fewer than requested if training stopped early.
        validation: Result of `validate` for this model.
        seconds: Time spent training and validating [s], summed over all resumed parts.
        step_seconds: Duration of one step [s], without validation and compilation: the median over
            the intervals between validations since the last resume, without the first interval if
            there are several; NaN if no step was taken.
    """

    model: Model
    best_step: int
    steps: int
    validation: dict[str, float]
    seconds: float
    step_seconds: float

    def with_model(self, model: Other) -> "Fitted[Other]":
        """Return this result for a model that contains the trained one."""
        return Fitted(**{**vars(self), "model": model})


def learning_rate(config: TrainingConfig) -> optax.Schedule:
    """Return the learning rate at each step: linear warm-up, then cosine decay."""
    return optax.warmup_cosine_decay_schedule(
        init_value=config.learning_rate / 100,
        peak_value=config.learning_rate,
        warmup_steps=max(config.steps // 20, 1),
        decay_steps=max(config.steps, 2),
        end_value=config.learning_rate / 100,
    )


def optimiser(config: TrainingConfig) -> optax.GradientTransformation:
    """Return AdamW with gradient clipping, warm-up and cosine decay."""
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(
            learning_rate(config),
            weight_decay=config.weight_decay,
            mask=lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params),
        ),
    )


def epochs(
    n: int, batch_size: int, *, seed: int, start_step: int
) -> Iterator[Int[np.ndarray, " batch"]]:
    """Yield batches of indices indefinitely, shuffled anew in each epoch.

    Batch k depends only on the seed and k. If there are fewer examples than `batch_size`, each
    batch has all n of them.
    """
    per_epoch = max(n // batch_size, 1)
    order, epoch, step = np.empty(0, int), -1, start_step
    while True:
        if step // per_epoch != epoch:
            epoch = step // per_epoch
            order = np.random.default_rng((seed, epoch)).permutation(n)
        place = step % per_epoch * batch_size
        yield order[place : place + batch_size]
        step += 1


class MetricsLog:
    """The log `metrics.jsonl`, with one line of JSON per event."""

    def __init__(self, path: Path):
        self.path = path

    def keep(self, stage: str, last_step: int) -> None:
        """Remove a stage's lines after a step, so that a resumed run does not repeat them."""
        if not self.path.exists():
            return
        rows = [json.loads(line) for line in self._whole_lines()]
        kept = [row for row in rows if row["stage"] != stage or row["step"] <= last_step]
        partial = self.path.with_suffix(".partial")
        partial.write_text("".join(json.dumps(row) + "\n" for row in kept))
        partial.replace(self.path)

    def write(self, stage: str, step: int, **values: float) -> None:
        """Append one line."""
        with self.path.open("a") as file:
            file.write(json.dumps({"stage": stage, "step": step, **values}) + "\n")

    def _whole_lines(self) -> list[str]:
        """Return the complete lines; a killed run may leave an incomplete line at the end."""
        return [line for line in self.path.read_text().splitlines(True) if line.endswith("\n")]


def fit(
    model: Model,
    loss: Callable[[Model, Batch, PRNGKeyArray], Float[Array, ""]],
    batches: Callable[[int], Iterator[Batch]],
    validate: Callable[[Model], dict[str, float]],
    config: TrainingConfig,
    *,
    stage: str,
    folder: Path | None,
    description: Mapping[str, Any],
    seed: int,
    resume: bool,
    mesh: Mesh | None = None,
    optimiser: Callable[[TrainingConfig], optax.GradientTransformation] = optimiser,
    progress_bar: ProgressBar = progress_bar,
) -> Fitted[Model]:
    """Train a model and return the one with the lowest validation loss.

    A run that was killed at any point and restarted with `resume` gives the same numbers as an
    uninterrupted run: all randomness depends only on the seed and the step, and the state is saved
    at every validation.

    Args:
        model: Model to train; its inexact arrays are optimised.
        loss: Function from a model, a batch and a random key (for dropout, for example) to the
            loss.
        batches: Function from a step to an endless iterator of batches from that step on. Batch k
            must depend only on k.
        validate: Function from a model to its scores on validation data, which must include
            "loss".
        config: Training settings.
        stage: Name of this training in the log and in `folder`.
        folder: Folder for the state (`{stage}_state`) and the log (`metrics.jsonl`). If None,
            neither is written.
        description: Everything the result depends on; saved with the state.
        seed: Seed for the keys given to `loss`.
        resume: Whether to continue from a saved state, if there is one. It may have been saved
            with another number of devices.
        mesh: Devices, each of which has a copy of the model and computes a part of every batch; by
            default only JAX's default device. The mesh may span several processes
            (`jax.distributed.initialize`), with a common folder: all of them call this with the
            same arguments, and all get the whole result.
        optimiser: Function from the settings to the optimiser.
        progress_bar: Function that creates the progress bar.

    Raises:
        CheckpointError: If the state to resume from is damaged or has another description.
        FloatingPointError: If the loss is not finite.
        ValueError: If the number of devices does not divide a batch.
    """
    if mesh is not None:
        # Whatever the types of its axes: the compiler decides where intermediate results are.
        mesh = Mesh(mesh.devices, mesh.axis_names)
    optim = optimiser(config)
    params, static = eqx.partition(model, eqx.is_inexact_array)
    state = {"params": params, "best": params, "optimiser": optim.init(params)}
    progress = {"step": 0, "best_step": 0, "best": {}, "seconds": 0.0}
    place = None if folder is None else folder / f"{stage}_state"
    log = None if folder is None else MetricsLog(folder / "metrics.jsonl")
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    description = json.loads(
        json.dumps({**description, "seed": seed, "training": dataclasses.asdict(config)})
    )
    if resume and place is not None and checkpoint.exists(place):
        kept = checkpoint.config(place)
        if kept["description"] != description:
            raise checkpoint.CheckpointError(_difference(place, kept["description"], description))
        state, progress = checkpoint.load(place, state), kept["progress"]
    if log is not None:
        on_first_host(functools.partial(log.keep, stage, progress["step"]))
    if mesh is not None:
        state = everywhere(state, mesh)

    @eqx.filter_jit
    def update(params, optimiser_state, batch, step):
        key = jax.random.fold_in(jax.random.key(seed), step)

        def objective(params):
            return loss(cast(Model, eqx.combine(params, static)), batch, key)

        value, gradient = jax.value_and_grad(objective)(params)
        change, optimiser_state = optim.update(gradient, optimiser_state, params)
        found = optax.apply_updates(params, change), optimiser_state, value
        if mesh is None:
            return found
        return jax.lax.with_sharding_constraint(found, NamedSharding(mesh, PartitionSpec()))

    def given(batch: Batch) -> Batch:
        return batch if mesh is None else _spread(batch, mesh)

    def own(tree: Any) -> Any:
        return tree if mesh is None else here(tree)

    def finished() -> bool:
        waited = progress["step"] - progress["best_step"]
        return progress["step"] >= config.steps or waited >= config.patience * config.evaluate_every

    start, before = time.monotonic(), progress["seconds"]
    feed = iter(()) if finished() else batches(progress["step"])
    losses, paces = [], []
    stretch = start
    with progress_bar(total=config.steps, initial=progress["step"], desc=stage, unit="step") as bar:
        while not finished():
            step = np.asarray(progress["step"], np.uint32)
            state["params"], state["optimiser"], value = update(
                state["params"], state["optimiser"], given(next(feed)), step
            )
            losses.append(value)
            progress["step"] += 1
            bar.update()
            if progress["step"] % config.evaluate_every and progress["step"] < config.steps:
                continue
            train_loss = float(np.mean(jax.device_get(losses)))
            paces.append((time.monotonic() - stretch) / len(losses))
            losses.clear()
            scores = validate(cast(Model, eqx.combine(own(state["params"]), static)))
            if not np.isfinite(train_loss) or not np.isfinite(scores["loss"]):
                raise FloatingPointError(
                    f"{stage}: the loss is {train_loss} in training and {scores['loss']} in "
                    f"validation at step {progress['step']}"
                    + (f"; the last good state, if any, is in {place}" if place else "")
                    + "; lower learning_rate or clip_norm, or check the data"
                )
            if not progress["best"] or scores["loss"] < progress["best"]["loss"]:
                progress |= {"best_step": progress["step"], "best": scores}
                state["best"] = state["params"]
            progress["seconds"] = before + time.monotonic() - start
            if log is not None and place is not None:
                values = {"train_loss": train_loss, **scores}
                # The log comes first, so that a run killed in between repeats a line, not loses it.
                on_first_host(functools.partial(log.write, stage, progress["step"], **values))
                told = {"description": description, "progress": progress}
                checkpoint.save(place, own(state), told)
            bar.set_postfix(train=f"{train_loss:.3g}", validation=f"{scores['loss']:.3g}")
            stretch = time.monotonic()
    return Fitted(
        cast(Model, eqx.combine(own(state["best"]), static)),
        progress["best_step"],
        progress["step"],
        progress["best"],
        progress["seconds"],
        float(np.median(paces[1:] or paces or [np.nan])),
    )


def _spread(batch: Batch, mesh: Mesh) -> Batch:
    """Distribute the rows of a batch over devices.

    Raises:
        ValueError: If the number of devices does not divide theirs.
    """
    check_rows(len(jax.tree.leaves(batch)[0]), mesh)
    return jax.tree.map(lambda rows: spread(rows, mesh), batch)


def _difference(place: Path, kept: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return an error message that lists the entries in which two descriptions differ."""
    lines = [f"  {line}" for line in differences(kept, now)]
    return "\n".join(
        [
            f"cannot resume from {place}: it was made with another configuration",
            *lines,
            "use the previous configuration, or another folder",
        ]
    )
