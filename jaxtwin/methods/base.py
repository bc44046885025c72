"""What methods are given, what they must say of themselves, and what they give back."""

import abc
import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxtwin.cohorts.batching import Progress, map_patients
from jaxtwin.cohorts.cohort import Cohort
from jaxtwin.cohorts.simulate import check_phases
from jaxtwin.parameters import Box, Theta
from jaxtwin.physics.base import (
    AbstractPeriodicSystem,
    AbstractRecordedSystem,
    check_channels,
)
from jaxtwin.physics.channels import Channels
from jaxtwin.physics.solution import Recording

if TYPE_CHECKING:
    from typing import ClassVar as AbstractClassVar
else:
    from equinox import AbstractClassVar

# Spread of a logistic variable: with it, a normal prior on raw parameters is close to a uniform
# one on the box.
RAW_SPREAD = float(np.pi / np.sqrt(3))


@dataclasses.dataclass(frozen=True)
class Sees:
    """What a method is allowed to look at.

    Attributes:
        measurement: A curve of one observable over a beat, or an echo clip.
        labels: Whether it learns from numbers that somebody else has read off, such as EDV.
        cohort: Whether it learns from many patients before it meets a new one.
        physics: Whether it knows the system's equations.
    """

    measurement: Literal["curve", "clip"]
    labels: bool
    cohort: bool
    physics: bool


@dataclasses.dataclass(frozen=True)
class CurveTask:
    """Find a patient's parameters from one observable, sampled over one beat (or transient).

    Attributes:
        system: The model.
        box: The free parameters and where they are sought.
        channel: The output of the system that is measured.
        resolution: Errors of the curve below this do not matter, in the channel's unit; it stands
            in for a noise that is smaller.
        hidden: Outputs that are not measured, and are asked for.
        samples: How many samples there are, at phases 0, 1/n, ... (n − 1)/n of the system's
            duration, the first one at its t = 0.
        known: Free parameters that are measured beside the curve, exactly, such as the period.
        noise: Standard deviation of the measurement's noise, in the channel's unit.

    Raises:
        ValueError: If a channel is no output of the system; if a known parameter is not free, or
            nothing would be left to find; if the samples are none of the simulator's steps.
    """

    system: AbstractRecordedSystem
    box: Box
    channel: str
    resolution: float
    hidden: tuple[str, ...] = ()
    samples: int = 60
    known: tuple[str, ...] = ()
    noise: float = 0.0

    def __post_init__(self):
        check_channels(self.system, self.channels)
        if not set(self.known) < set(self.box.names):
            raise ValueError(
                f"known parameters {self.known}: expected some of the free ones, "
                f"{', '.join(self.box.names)}, and not all"
            )
        if self.samples < 2 or self.noise < 0 or self.resolution <= 0:
            raise ValueError(
                f"{self.samples} samples, noise {self.noise}, resolution {self.resolution}: "
                "expected at least 2 samples, a noise of at least 0, and a positive resolution"
            )
        check_phases(self.system, self.samples)

    @property
    def channels(self) -> tuple[str, ...]:
        """The measured output, then the hidden ones."""
        return (self.channel, *self.hidden)

    @property
    def weight(self) -> float:
        """What one unit of error counts: one over the noise or the resolution."""
        return 1 / max(self.noise, self.resolution)

    def theta(self, raw: Float[Array, " free"], known: Float[Array, " known"]) -> Theta:
        """The θ of unbounded parameters, with those that were measured put in their places."""
        theta = self.box.bound(raw)
        for name, value in zip(self.known, known, strict=True):
            theta = theta.at[self.box.names.index(name)].set(value)
        return theta

    def measure(self, patients: Cohort, random: np.random.Generator) -> "Curves":
        """What would be measured of simulated patients: their curves, with noise.

        Args:
            patients: Simulated at the task's phases.
            random: Of the noise. The same state gives the same draw at every size of the noise.
        """
        curve = np.asarray(getattr(patients.recording.waveforms, self.channel))
        columns = [self.box.names.index(name) for name in self.known]
        return Curves(
            (curve + self.noise * random.normal(size=curve.shape)).astype(np.float32),
            np.asarray(patients.theta)[:, columns],
            np.asarray(getattr(patients.recording.maximum, self.channel)),
            np.asarray(getattr(patients.recording.minimum, self.channel)),
        )

    def surprise(self, raw: Float[Array, " free"]) -> Float[Array, ""]:
        """Minus the logarithm of the prior, which is nearly uniform on the box."""
        return 0.5 * jnp.sum((raw / RAW_SPREAD) ** 2)


class Curves(NamedTuple):
    """Measured curves of some patients.

    Attributes:
        values: Samples of the task's channel, with noise.
        known: The task's known parameters, in its order.
        maximum: Label, for methods that see labels: the channel's largest value, without noise.
        minimum: Likewise, its smallest value.
    """

    values: Float[Array | np.ndarray, "patient sample"]
    known: Float[Array | np.ndarray, "patient known"]
    maximum: Float[Array | np.ndarray, " patient"]
    minimum: Float[Array | np.ndarray, " patient"]

    def take(self, index) -> "Curves":
        """The patients at an index array or a mask."""
        return Curves(*(leaf[index] for leaf in self))


class Estimate(NamedTuple):
    """What a method says of some patients, in their order.

    Attributes:
        recording: Extremes of the measured channel, and the curves that the method itself gives,
            at the task's phases. Its duration is NaN where the method knows none.
        theta: The free parameters; None where the method has none.
        success: Whether there is an answer for the patient; if not, the other entries mean
            nothing.
    """

    recording: Recording[Channels]
    theta: Float[np.ndarray, "patient free"] | None
    success: Bool[np.ndarray, " patient"]


def estimate(
    task: CurveTask,
    waveforms: Mapping[str, np.ndarray],
    *,
    maximum: Float[np.ndarray, " patient"] | None = None,
    minimum: Float[np.ndarray, " patient"] | None = None,
    theta: Float[np.ndarray, "patient free"] | None = None,
) -> Estimate:
    """Make an estimate in which a patient fails where an extreme or a curve is not finite.

    Args:
        task: What was asked.
        waveforms: Curves by output, [patient, phase].
        maximum: Largest values of the measured channel; those of its curve by default.
        minimum: Smallest values likewise.
        theta: The free parameters, where the method has them.
    """
    largest = waveforms[task.channel].max(axis=1) if maximum is None else np.asarray(maximum)
    smallest = waveforms[task.channel].min(axis=1) if minimum is None else np.asarray(minimum)
    success = np.isfinite(largest) & np.isfinite(smallest)
    for values in waveforms.values():
        success = success & np.isfinite(values).all(axis=1)
    duration = np.full(len(success), np.nan)
    if theta is not None:
        lasting = jax.vmap(lambda v: jnp.asarray(task.system.duration(task.box.complete(v))))
        duration = np.asarray(lasting(jnp.asarray(theta)))
    recording = Recording(
        Channels((task.channel,), (largest,)),
        Channels((task.channel,), (smallest,)),
        Channels(tuple(waveforms), tuple(waveforms.values())),
        duration,
    )
    return Estimate(recording, theta, success)


class Learnt(NamedTuple):
    """A method that is ready for new patients.

    Attributes:
        estimate: Gives twins.
        steps: Optimiser steps it took to get ready; 0 for methods that only work on the patient
            at hand.
        seconds: Time they took, with compilation.
        step_seconds: Time of one of them, without.
    """

    estimate: Callable[[Curves], Estimate]
    steps: int = 0
    seconds: float = 0.0
    step_seconds: float = 0.0


class AbstractCurveMethod(eqx.Module):
    """A way from a measured curve to a patient's twin."""

    sees: AbstractClassVar[Sees]

    @abc.abstractmethod
    def learn(
        self, task: CurveTask, training: Curves, validation: Curves, *, folder: Path, seed: int
    ) -> Learnt:
        """Get ready for new patients.

        Args:
            task: What is asked.
            training: Patients to learn from; methods that see one patient at a time ignore them.
            validation: Patients to select by.
            folder: For checkpoints and the log of the training, which goes on where it was cut.
            seed: Of everything random.
        """


def require_period(task: CurveTask, method: AbstractCurveMethod) -> None:
    """Raise a ValueError where a method that is periodic by construction is given a transient."""
    if not isinstance(task.system, AbstractPeriodicSystem):
        raise ValueError(
            f"{type(method).__name__} knows only curves that repeat themselves, and "
            f"{type(task.system).__name__} is no AbstractPeriodicSystem: use P-SSL, "
            "least squares or supervised regression"
        )


class Patient(NamedTuple):
    """One patient's measurement, inside `each_patient`."""

    key: Array
    known: Float[Array, " known"]
    values: Float[Array, " sample"]


def each_patient(
    function: Callable[[Patient], Any],
    task: CurveTask,
    curves: Curves,
    *,
    seed: int,
    chunk: int = 64,
    progress: Progress = iter,
) -> Any:
    """Apply a function of one patient to all, on all cores.

    Args:
        function: Of one patient, inside jit and vmap. It is compiled once; give an equal
            `equinox.Partial` each time.
        task: What is asked.
        curves: The patients.
        seed: Of the patients' keys; the key of patient i depends on it and on i alone.
        chunk: Patients computed together on one core, at most.
        progress: Wraps the chunks.

    Returns:
        The results as NumPy arrays, [patient, ...] on every leaf.
    """
    n = len(curves.values)
    # Float32 holds whole numbers up to 2^24.
    head = np.stack([np.full(n, seed % 2**24), np.arange(n)], axis=1)
    rows = np.concatenate([head, curves.known, curves.values], axis=1).astype(np.float32)
    chunk = min(chunk, -(-n // 2))  # Few patients are shared by two cores as well.
    return map_patients(
        eqx.Partial(_one, function, len(task.known)), rows, chunk=chunk, progress=progress
    )


def _one(function: Callable[[Patient], Any], known: int, row: Float[Array, " entry"]) -> Any:
    seed, place = row[0].astype(int), row[1].astype(int)
    key = jax.random.fold_in(jax.random.key(seed), place)
    return function(Patient(key, row[2 : 2 + known], row[2 + known :]))
