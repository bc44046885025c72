"""Periodic orbits by SciPy, with no knowledge of jaxtwin's solvers."""

import numpy as np
from scipy.integrate import solve_ivp


def settled(rates, start, period, *, times, most=400, tolerance=1e-7):
    """The states [state, time] at the times of a beat that repeats itself.

    `rates(t, y)` is the right-hand side in plain NumPy, for 0 <= t <= period.
    """
    y = np.asarray(start, float)
    for _ in range(most):
        beat = solve_ivp(
            rates, (0.0, period), y, method="LSODA", rtol=1e-8, atol=1e-8, max_step=period / 50
        )
        assert beat.success
        change = np.max(np.abs(beat.y[:, -1] - y) / (1 + np.abs(y)))
        y = beat.y[:, -1]
        if change < tolerance:
            break
    else:
        raise AssertionError(f"not periodic after {most} beats")
    times = np.minimum(np.asarray(times), period)
    beat = solve_ivp(
        rates,
        (0.0, period),
        y,
        method="LSODA",
        rtol=1e-8,
        atol=1e-8,
        max_step=period / 50,
        t_eval=times,
    )
    return beat.y


def hills(t_n, rise, n_rise, fall, n_fall):
    """The product of two Hill functions, by powers."""
    g, h = (t_n / rise) ** n_rise, (t_n / fall) ** n_fall
    return g / (1 + g) / (1 + h)
