"""Check that the drive of a periodic system repeats itself."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxtwin.physics.base import AbstractPeriodicSystem
from jaxtwin.physics.check.report import Report, paths
from jaxtwin.physics.check.states import STATES, States, some

# Largest change from one period to the next, as a share of the largest value: beyond rounding.
REPEATS = 1e-6


def check_repeats(system: AbstractPeriodicSystem, p: Any, visited: States, report: Report) -> None:
    """Check that rates and outputs are the same one period later, at the same state."""
    period = jnp.asarray(system.period(p))
    # Between the round fractions of a period, at which drives switch.
    times, states = period * (np.arange(STATES) + 0.382) / STATES, some(visited).states
    for name in ("vector_field", "outputs"):
        values = jax.vmap(getattr(system, name), (0, 0, None))
        now, later = values(times, states, p), values(times + period, states, p)
        differs = [
            f"{name}, {path}"
            for (path, a), (_, b) in zip(paths(now), paths(later), strict=True)
            if jnp.max(jnp.abs(a - b)) > REPEATS * jnp.max(jnp.abs(a))
        ]
        if differs:
            report.problem(
                f"{'; '.join(differs)}: not the same at t and at t + period, so that the orbit is "
                "not what a simulation settles into",
                "where the drive needs the time within the period, write t % self.period(p); "
                "elsewhere, make its period that of `period`",
            )
            return
