"""What a system does while it is watched: its periodic orbit, or its transient."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxtwin.parameters import AbstractParameters
from jaxtwin.physics.base import AbstractPeriodicSystem, AbstractRecordedSystem
from jaxtwin.physics.beat import BeatMap
from jaxtwin.physics.periodic import periodic_orbit
from jaxtwin.physics.sdirk import SDIRK2
from jaxtwin.physics.solution import RESULTS, Outputs, Solution, State, Stats


def record(
    system: AbstractRecordedSystem[State, Any, Outputs],
    p: AbstractParameters,
    *,
    steps: int | None = None,
) -> Solution[State, Outputs]:
    """The periodic orbit of a periodic system; of any other, the transient from its initial state.

    Made for `jax.vmap`, and differentiable in both modes. A failure is reported in `result` and
    spoils no other patient.

    Args:
        system: The model.
        p: All its parameters.
        steps: Steps of `SDIRK2` over the time, with no error control; `system.steps` by default.
    """
    if isinstance(system, AbstractPeriodicSystem):
        return periodic_orbit(system, p, steps=steps, throw=False)
    p = jax.tree.map(jnp.asarray, p)
    course = BeatMap(system, p, SDIRK2(), system.steps if steps is None else steps)
    states = course.steps()(course.initial_state(), record=True).states
    finite = jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(states)]).all()
    result = RESULTS.where(finite, RESULTS.successful, RESULTS.diverged)
    residual = jnp.where(finite, 0.0, jnp.nan).astype(course.times().dtype)
    return course.solution(states, result, Stats(residual, jnp.array(0)))
