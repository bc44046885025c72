"""Derivatives by both modes from one program, as compiling takes most of the time of a test."""

import jax
import jax.numpy as jnp


def by_both_modes(function, x):
    """Value, auxiliary output, and Jacobian by the forward and by the reverse mode.

    Both are of one linearisation, as `jax.jvp` and `jax.vjp` make it. The function returns an array
    and what else is wanted of it.
    """
    x = jnp.asarray(x)
    value, push, aux = jax.linearize(function, x, has_aux=True)
    pull = jax.linear_transpose(push, x)
    if x.ndim == value.ndim == 0:
        (slope,) = pull(jnp.ones_like(value))
        return value, aux, push(jnp.ones_like(x)), slope
    forward = jax.vmap(push, out_axes=-1)(jnp.eye(x.size, dtype=x.dtype).reshape(-1, *x.shape))
    (reverse,) = jax.vmap(pull)(jnp.eye(value.size, dtype=value.dtype).reshape(-1, *value.shape))
    shape = value.shape + x.shape
    return value, aux, forward.reshape(shape), reverse.reshape(shape)
