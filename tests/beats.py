"""Quantities of a beat, other than its readings, that tests check."""

import jax.numpy as jnp


def mean_over_time(beat, values):
    """Mean of a quantity over a solution's times, by the trapezoidal rule."""
    return jnp.trapezoid(values, beat.times) / (beat.times[-1] - beat.times[0])
