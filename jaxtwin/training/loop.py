"""The one training loop: optimiser, validation, early stop, checkpoints, resume."""

import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import equinox as eqx
import jax
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

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
        best_step: The step it was found at.
        steps: Steps made, fewer than asked for where training stopped early.
        validation: What `validate` gave for it.
        seconds: Time spent training and validating, over all resumed parts.
        step_seconds: Time of one step, without validation and compilation: the median over the
            stretches between validations of the last part, the first left out where there are
            more; NaN where it made no step.
    """

    model: Model
    best_step: int
    steps: int
    validation: dict[str, float]
    seconds: float
    step_seconds: float

    def of(self, model: Other) -> "Fitted[Other]":
        """The same facts about the model that holds the one trained."""
        return Fitted(**{**vars(self), "model": model})


def optimiser(config: TrainingConfig) -> optax.GradientTransformation:
    """AdamW with gradient clipping, warm-up and cosine decay."""
    schedule = optax.warmup_cosine_decay_schedule(
        init_value=config.learning_rate / 100,
        peak_value=config.learning_rate,
        warmup_steps=max(config.steps // 20, 1),
        decay_steps=max(config.steps, 2),
        end_value=config.learning_rate / 100,
    )
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(
            schedule,
            weight_decay=config.weight_decay,
            mask=lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params),
        ),
    )


def epochs(
    n: int, batch_size: int, *, seed: int, start_step: int
) -> Iterator[Int[np.ndarray, " batch"]]:
    """Indices of batches, without end: whole epochs, each shuffled by its own number.

    Batch k depends on the seed and on k alone. A batch that would be larger than the n examples
    is as large as they are many.
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
    """`metrics.jsonl`: one line of JSON an event, appended as it happens."""

    def __init__(self, path: Path):
        self.path = path

    def keep(self, stage: str, last_step: int) -> None:
        """Drop a stage's lines after a step, so that a resumed run does not repeat them."""
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
        """A killed run may leave half a line at the end."""
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
    progress_bar: ProgressBar = progress_bar,
) -> Fitted[Model]:
    """Train a model, and keep the one that validates best.

    A run that was killed at any point and started again with `resume` ends with the numbers
    of an unbroken one: everything random depends on the seed and the step alone, and the
    state is kept at every validation.

    Args:
        model: Its inexact arrays are trained.
        loss: Of a model on a batch; the key is for dropout and the like.
        batches: The batches from a given step on, without end. Step k's batch must depend on
            k only.
        validate: Measures a model on data it is not trained on; must give "loss".
        config: How to train.
        stage: The name of this training in the log and in `folder`.
        folder: The state is kept in `folder/stage_state`, the log in `folder/metrics.jsonl`; with
            None neither is written.
        description: All that the result depends on, kept beside the state.
        seed: Of the keys given to `loss`.
        resume: Whether to go on from the kept state, if there is one.
        progress_bar: Makes the progress bar.

    Raises:
        CheckpointError: On resuming from a state of another description, or a broken one.
        FloatingPointError: Where the loss is no longer finite.
    """
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
        log.keep(stage, progress["step"])

    @eqx.filter_jit
    def update(params, optimiser_state, batch, key):
        def objective(params):
            return loss(cast(Model, eqx.combine(params, static)), batch, key)

        value, gradient = jax.value_and_grad(objective)(params)
        change, optimiser_state = optim.update(gradient, optimiser_state, params)
        return optax.apply_updates(params, change), optimiser_state, value

    def finished() -> bool:
        waited = progress["step"] - progress["best_step"]
        return progress["step"] >= config.steps or waited >= config.patience * config.evaluate_every

    key = jax.random.key(seed)
    start, before = time.monotonic(), progress["seconds"]
    feed = iter(()) if finished() else batches(progress["step"])
    losses, paces = [], []
    stretch = start
    with progress_bar(total=config.steps, initial=progress["step"], desc=stage, unit="step") as bar:
        while not finished():
            step_key = jax.random.fold_in(key, progress["step"])
            state["params"], state["optimiser"], value = update(
                state["params"], state["optimiser"], next(feed), step_key
            )
            losses.append(value)
            progress["step"] += 1
            bar.update()
            if progress["step"] % config.evaluate_every and progress["step"] < config.steps:
                continue
            train_loss = float(np.mean(jax.device_get(losses)))
            paces.append((time.monotonic() - stretch) / len(losses))
            losses.clear()
            scores = validate(cast(Model, eqx.combine(state["params"], static)))
            if not np.isfinite(train_loss) or not np.isfinite(scores["loss"]):
                raise FloatingPointError(
                    f"{stage}: the loss is {train_loss} in training and {scores['loss']} in "
                    f"validation at step {progress['step']}"
                    + (f"; the last good state, if any, is in {place}" if place else "")
                    + ". Lower learning_rate or clip_norm, or look at the data."
                )
            if not progress["best"] or scores["loss"] < progress["best"]["loss"]:
                progress |= {"best_step": progress["step"], "best": scores}
                state["best"] = state["params"]
            progress["seconds"] = before + time.monotonic() - start
            if log is not None and place is not None:
                # The log first: a run killed in between writes its last line again, loses none.
                log.write(stage, progress["step"], train_loss=train_loss, **scores)
                checkpoint.save(place, state, {"description": description, "progress": progress})
            bar.set_postfix(train=f"{train_loss:.3g}", validation=f"{scores['loss']:.3g}")
            stretch = time.monotonic()
    return Fitted(
        cast(Model, eqx.combine(state["best"], static)),
        progress["best_step"],
        progress["step"],
        progress["best"],
        progress["seconds"],
        float(np.median(paces[1:] or paces or [np.nan])),
    )


def _difference(place: Path, kept: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Which entries two descriptions differ in."""
    names = [name for name in sorted(kept.keys() | now.keys()) if kept.get(name) != now.get(name)]
    lines = [f"  {name}: kept {kept.get(name)}, now {now.get(name)}" for name in names]
    return "\n".join(
        [
            f"cannot resume from {place}: it was made with another configuration",
            *lines,
            "run with the former configuration, or in another folder",
        ]
    )
