"""Gradient descent for each patient, for the small networks of PINNs and Neural ODEs."""

from collections.abc import Callable
from typing import TypeVar, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

Model = TypeVar("Model")


def descend(
    loss: Callable[[Model, PRNGKeyArray], Float[Array, ""]],
    model: Model,
    *,
    steps: int,
    learning_rate: float,
    weight_decay: float = 0.0,
    key: PRNGKeyArray,
) -> Model:
    """Minimise a loss by AdamW with warm-up, cosine decay and clipping, inside jit and vmap.

    Under vmap each patient has a separate optimiser, so clipping one patient's gradient does not
    affect others. (Use `training.fit` to learn from a cohort.)

    Args:
        loss: Function from the model and the key of a step to the loss.
        model: The model, whose inexact arrays are fitted.
        steps: Number of steps.
        learning_rate: Peak learning rate of the schedule.
        weight_decay: Weight decay, applied to matrices only.
        key: Key from which the keys of the steps are derived.
    """
    schedule = optax.warmup_cosine_decay_schedule(
        learning_rate / 10, learning_rate, max(steps // 20, 1), max(steps, 2), learning_rate / 100
    )
    optim = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(
            schedule,
            weight_decay=weight_decay,
            mask=lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params),
        ),
    )
    params, static = eqx.partition(model, eqx.is_inexact_array)

    def step(state, key):
        params, optimiser = state
        gradient = jax.grad(lambda params: loss(eqx.combine(params, static), key))(params)
        change, optimiser = optim.update(gradient, optimiser, params)
        return (optax.apply_updates(params, change), optimiser), None

    keys = jax.random.split(key, steps)
    (params, _), _ = jax.lax.scan(step, (params, optim.init(params)), keys)
    return cast(Model, eqx.combine(params, static))


def phase_waves(phase: Float[Array, ""], harmonics: int) -> Float[Array, " wave"]:
    """Return cos 2πkφ and sin 2πkφ for k = 1 to `harmonics`, as inputs of periodic functions."""
    angles = 2 * jnp.pi * phase * jnp.arange(1, harmonics + 1)
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)])
