"""Incomplete curves: filled in, rotated, and divided by what may be zero."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def ratio(x: Float[Array, "..."], size: Float[Array, ""]) -> Float[Array, "..."]:
    """Return x/size, and x where the size is 0; the gradient is finite there too."""
    return x / jnp.where(size > 0, size, 1.0)


def comparable(curve: Float[Array | np.ndarray, "*batch sample"]) -> Any:
    """Rotate a curve, between samples by its Fourier series, so that its first harmonic is cosine.

    Curves that differ in their start alone are then equal. Those of NumPy are rotated by NumPy.
    """
    xp = np if isinstance(curve, np.ndarray) else jnp
    harmonics = xp.fft.rfft(curve)
    order = np.arange(harmonics.shape[-1], dtype=curve.dtype)
    turn = xp.angle(harmonics[..., 1:2]) * order.reshape((1,) * (curve.ndim - 1) + (-1,))
    return xp.fft.irfft(harmonics * xp.exp(-1j * turn), curve.shape[-1])


def filled(
    values: Float[Array, " sample"], phases: Any = None, *, periodic: bool = True
) -> Float[Array, " sample"]:
    """Interpolate missing samples (NaN) linearly, around the period if there is one.

    At the ends of a transient the nearest sample is repeated. Without any sample all are NaN. With
    phases, the result is at as many equally spaced ones.
    """
    n, there = len(values), jnp.isfinite(values)
    place = jnp.arange(n)
    if phases is not None:
        some = jnp.argmax(there)  # Takes the place of those that are missing.
        at, known = (jnp.where(there, x, x[some]) for x in (phases, values))
        return jnp.interp(place / n, at % 1, known, period=1.0).astype(values.dtype)
    before = jax.lax.cummax(jnp.where(there, place, -n))
    after = jax.lax.cummin(jnp.where(there, place, 2 * n), reverse=True)
    if periodic:
        before = jnp.where(before < 0, before[-1] - n, before)
        after = jnp.where(after >= n, after[0] + n, after)
    else:
        before, after = (
            jnp.where(before < 0, after, before),
            jnp.where(after >= n, before, after),
        )
    share = (place - before) / jnp.maximum(after - before, 1)
    left, right = values[before % n], values[after % n]
    return jnp.where(there, values, left + share.astype(values.dtype) * (right - left))


def fill_all(
    values: Float[np.ndarray, "patient sample"],
    phases: Float[np.ndarray, "patient sample"] | None,
    *,
    periodic: bool,
) -> Float[np.ndarray, "patient sample"]:
    """Interpolate the missing samples of many patients; see `filled`."""
    one = functools.partial(filled, periodic=periodic)
    if phases is None:
        return np.asarray(jax.vmap(one)(jnp.asarray(values)))
    return np.asarray(jax.vmap(one)(jnp.asarray(values), jnp.asarray(phases)))
