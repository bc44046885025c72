"""What a system does while it is watched: its periodic orbit, or its transient."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxtwin.parameters import AbstractParameters
from jaxtwin.physics.base import AbstractPeriodicSystem, AbstractRecordedSystem
from jaxtwin.physics.solution import Recording
from jaxtwin.physics.beat import BeatMap
from jaxtwin.physics.implicit import SDIRK2
from jaxtwin.physics.periodic import PeriodicOrbit, periodic_orbit


class Transient(eqx.Module):
    """A system from its initial state on.

    Attributes:
        times: From 0 to the system's `duration` [s].
        states: The state at each time, [time] on every leaf.
        outputs: What can be observed at each time, [time] on every leaf.
        residual: 0, or NaN where the solution diverged.
    """

    times: Float[Array, " time"]
    states: Any
    outputs: Any
    residual: Float[Array, ""]

    @property
    def converged(self) -> Bool[Array, "*batch"]:
        """Whether all of the solution is finite."""
        return jnp.isfinite(self.residual)


def record(
    system: AbstractRecordedSystem, p: AbstractParameters, *, steps: int = 240
) -> PeriodicOrbit | Transient:
    """The periodic orbit of a periodic system; of any other, the transient from its initial state.

    Made for `jax.vmap`, and differentiable in both modes. A failure is reported in `converged`
    and spoils no other patient.

    Args:
        system: The model.
        p: All its parameters.
        steps: Steps of `SDIRK2` over the time, with no error control: compare with `simulate`
            (adaptive), or with twice as many, where you do not know that they are enough.
    """
    if isinstance(system, AbstractPeriodicSystem):
        return periodic_orbit(system, p, steps=steps, throw=False)
    p = jax.tree.map(jnp.asarray, p)
    course = BeatMap(system, p, SDIRK2(), steps)
    states = course.steps()(course.initial_state(), record=True).states
    times = course.times()
    outputs = jax.vmap(system.outputs, in_axes=(0, 0, None))(times, states, p)
    finite = jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(states)]).all()
    return Transient(times, states, outputs, jnp.where(finite, 0.0, jnp.nan).astype(times.dtype))


def on_phases(
    system: AbstractRecordedSystem, p: AbstractParameters, course: PeriodicOrbit | Transient, n: int
) -> Recording:
    """What was recorded, on a grid of phases.

    Args:
        system: The model.
        p: All its parameters.
        course: From `record`, with a multiple of n steps.
        n: Grid points, at phases 0, 1/n, ... (n − 1)/n of the time.
    """
    duration = jnp.asarray(system.duration(p))
    if system.discontinuities(p):  # Then the grid is not equidistant.
        at = duration * jnp.arange(n) / n
        waveforms = jax.tree.map(lambda leaf: jnp.interp(at, course.times, leaf), course.outputs)
    else:
        stride = (len(course.times) - 1) // n
        waveforms = jax.tree.map(lambda leaf: leaf[:-1:stride], course.outputs)
    maximum = jax.tree.map(jnp.max, course.outputs)
    minimum = jax.tree.map(jnp.min, course.outputs)
    return Recording(maximum, minimum, waveforms, duration)
