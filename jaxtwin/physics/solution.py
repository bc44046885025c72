"""Results of solving a system: `Solution` and `Recording`, from which readings are computed."""

import functools
import math
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxtwin.physics.compilation import compiled, differentiable

State = TypeVar("State")
"""A small named tuple of scalars, one entry per state variable."""
Outputs = TypeVar("Outputs")
"""A small named tuple of scalars, one entry per quantity that can be observed."""


class RESULTS(eqx.Enumeration):
    """Outcome of solving a system."""

    successful = "the solution can be used"
    max_beats_reached = "the beat still changed after `max_beats` beats"
    diverged = "the solution became infinite or not a number"
    step_not_solved = "the equations of an implicit step were not solved: more steps are needed"
    undetermined = (
        "the beat does not change a combination of states, so the orbit is one of many and its "
        "gradient is wrong: declare what is conserved (`conserved`; check_system finds it). If "
        "nothing is, the model takes thousands of periods to settle: check the units of its "
        "parameters"
    )
    inaccurate = "the estimated discretisation error is beyond `accuracy`: more steps are needed"
    last_time_not_reached = "the solver did not reach the last time"
    unstable = (
        "the orbit is unstable: a small deviation grows from period to period, so that no "
        "simulation settles in it; look for a flow with the wrong sign"
    )


def first_of(*failures: tuple[Bool[Array, ""], RESULTS]) -> RESULTS:
    """Return the result of the first failure that occurred, or success if none did."""
    result = RESULTS.successful
    for happened, failure in reversed(failures):
        result = RESULTS.where(happened, failure, result)
    return result


ACCURACY = 0.03
"""Largest estimated discretisation error that counts as success by default, see `Stats.errors`.

At 8,192 points of each of the left heart's boxes, the largest estimate is 0.023, for an error of
0.0096: the estimate may be more than twice the error, see `jaxtwin.physics.coarse.comparison`."""


class Recording(eqx.Module, Generic[Outputs]):
    """Outputs of a system over its duration, for one or many patients.

    Attributes:
        maximum: Largest value of each output, [*patient] on every leaf.
        minimum: Smallest value of each output, [*patient] on every leaf.
        waveforms: The outputs at phases 0, 1/n, ... (n − 1)/n of the duration,
            [*patient, phase] on every leaf.
        duration: Duration [s], [*patient].
    """

    maximum: Outputs
    minimum: Outputs
    waveforms: Outputs
    duration: Float[Array | np.ndarray, "*patient"]


@jax.custom_jvp
def largest(x: Float[Array | np.ndarray, "*patient time"]) -> Float[Array, "*patient"]:
    """Return the largest value over time, with the gradient of the place where it is.

    The gradient of `jnp.max` looks for that place by comparing values with the largest one. Where
    a compiled program computes the values twice, rounded differently, it finds none, and the
    gradient of an output such as (P − P_v)/R is wrong or NaN.
    """
    return jnp.max(x, -1)


@largest.defjvp
def _largest_jvp(primals, tangents):
    (x,), (d_x,) = primals, tangents
    place = jnp.argmax(x, -1, keepdims=True)
    return largest(x), jnp.take_along_axis(d_x, place, -1)[..., 0]


class Reading(NamedTuple):
    """A number computed from a recording, such as an end-diastolic volume.

    Attributes:
        unit: Unit of the number.
        function: Function from a `Recording` to the number, for one patient or many
            (`recording.waveforms.P_ao.mean(-1)`). Only the outputs it uses need to be recorded.
        meaning: Meaning in words.
        absent: Value for systems without this reading in a table with systems that have it, such
            as 0 for the flow of a pump without a pump.
    """

    unit: str
    function: Callable[[Recording[Any]], Any]
    meaning: str = ""
    absent: float = math.nan


class Event(NamedTuple):
    """A reading outside its safe range.

    Attributes:
        reading: Name of the reading.
        low: Lowest safe value, in the reading's unit; -inf for no limit.
        high: Highest safe value, in the reading's unit; inf for no limit.
    """

    reading: str
    low: float
    high: float


class Stats(NamedTuple):
    """Accuracy and cost of a solution.

    Attributes:
        residual: Largest change of a state variable over the period, relative to its largest
            size during it; 0 for a transient, NaN if the solution diverged.
        beats: Number of beats run on the full grid, including the one returned; 0 for a transient.
        left: Largest remaining defect of the equations of an implicit step, as the relative change
            of the states that would remove it; 0 if they are solved exactly (the vector field is
            piecewise linear) or the solver does not report it.
        errors: Estimated discretisation error of each state, the largest over time, relative to
            the range of the state (or to a tenth of its size, if that is larger). NaN if unknown.
    """

    residual: Float[Array, "*patient"]
    beats: Int[Array, "*patient"]
    left: Float[Array, "*patient"]
    errors: Any

    @property
    def error(self) -> Float[Array, "*patient"]:
        """Largest of the errors."""
        return functools.reduce(jnp.maximum, jax.tree.leaves(self.errors))


class Solution(eqx.Module, Generic[State, Outputs]):
    """Solution of a system over time, returned by `simulate`, `periodic_orbit` and `record`.

    Attributes:
        times: Times [s], [*patient, time].
        states: The state at each time, [*patient, time] on every leaf.
        outputs: The outputs at each time, [*patient, time] on every leaf.
        duration: Duration of the solution [s], [*patient]; for an orbit, its period.
        result: Outcome, one of `RESULTS`.
        stats: Accuracy and cost, see `Stats`.
        equidistant: Whether the times are known to be equally spaced.
    """

    times: Float[Array, "*patient time"]
    states: State
    outputs: Outputs
    duration: Float[Array | np.ndarray, "*patient"]
    result: RESULTS
    stats: Stats
    equidistant: bool = eqx.field(static=True, default=False)

    @property
    def success(self) -> Bool[Array, "*patient"]:
        """Whether the solution can be used; if not, `result` says why."""
        return self.result == RESULTS.successful

    def recording(self, phases: int | None = None) -> Recording[Outputs]:
        """Return extremes over all times, and waveforms at equally spaced phases.

        Args:
            phases: Number n of phases 0, 1/n, ... (n − 1)/n of the duration. It must divide the
                number of steps, which is the default. If the times are not equidistant, values are
                interpolated linearly.

        Raises:
            ValueError: If the number of phases does not divide the number of steps.
        """
        steps = self.times.shape[-1] - 1
        phases = steps if phases is None else phases
        if phases < 1 or steps % phases:
            raise ValueError(
                f"{phases} phases of a solution with {steps} steps: expected a divisor of {steps}"
            )
        return self._recording(phases)

    @differentiable
    @compiled
    def _recording(self, phases: int) -> Recording[Outputs]:
        """Compute `recording`, compiled as a whole."""
        steps = self.times.shape[-1] - 1
        if self.equidistant:
            waveforms = jax.tree.map(lambda leaf: leaf[..., : -1 : steps // phases], self.outputs)
        else:
            at = jnp.multiply.outer(self.duration, jnp.arange(phases)) / phases
            interpolate = jnp.vectorize(jnp.interp, signature="(n),(t),(t)->(n)")
            waveforms = jax.tree.map(lambda leaf: interpolate(at, self.times, leaf), self.outputs)
        maximum = jax.tree.map(largest, self.outputs)
        minimum = jax.tree.map(lambda leaf: -largest(-leaf), self.outputs)
        return Recording(maximum, minimum, waveforms, self.duration)
