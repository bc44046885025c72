"""From θ to what can be observed of the beat: the simulator, or whatever stands in its place."""

import abc
from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxtwin.cohort import map_patients, reading, simulate_patient
from jaxtwin.parameters import Box, Theta
from jaxtwin.physics.base import AbstractRecordedSystem, check_channels
from jaxtwin.physics.solution import Reading, Recording


class Emulation(NamedTuple):
    """What a forward model gives for one patient, one entry a channel (an output of the system).

    The extremes stand on their own: a grid of phases misses a waveform's peak.
    """

    maximum: Float[Array, " channel"]
    minimum: Float[Array, " channel"]
    waveforms: Float[Array, "channel phase"]


class AbstractForward(eqx.Module):
    """θ → the beat of one patient, differentiable, inside jit and vmap.

    What learns parameters from measurements learns through one of these, and need not know
    which.

    Attributes:
        system: The model.
        box: Where θ lies.
        channels: Names of the outputs it gives.
        phases: Grid points a period, at phases 0, 1/n, ... (n − 1)/n.
    """

    system: eqx.AbstractVar[AbstractRecordedSystem]
    box: eqx.AbstractVar[Box]
    channels: eqx.AbstractVar[tuple[str, ...]]
    phases: eqx.AbstractVar[int]

    @abc.abstractmethod
    def __call__(self, theta: Theta) -> Emulation:
        """The beat of one patient."""

    @abc.abstractmethod
    def predict(self, theta: Float[np.ndarray, "patient free"]) -> Emulation:
        """The beats of many patients, given as concrete numbers; [patient] on every leaf."""

    def measure(self, theta: Theta, names: Sequence[str | Reading]) -> list[Float[Array, ""]]:
        """What would be read off one patient, in the order of the names (or readings of your own).

        Raises:
            ValueError: If the system has no such reading, or a channel that it needs is missing.
        """
        return self.read(self(theta), theta, names)

    def read(
        self, emulation: Emulation, theta: Theta, names: Sequence[str | Reading]
    ) -> list[Float[Array, ""]]:
        """What would be read off one patient whose beat is known; see `measure`."""
        duration = jnp.asarray(self.system.duration(self.box.complete(theta)))
        recording = recording_of(self.channels, emulation, duration)

        def one(name: str | Reading) -> Float[Array, ""]:
            try:
                return jnp.asarray(reading(self.system, name).of(recording))
            except MissingChannelError as error:
                shown = name if isinstance(name, str) else "a reading of your own"
                raise MissingChannelError(
                    f"{shown} is read off {error.channel}, and this forward model gives "
                    f"{', '.join(self.channels)}: make one with that channel",
                    error.channel,
                ) from None

        return [one(name) for name in names]


class Channels:
    """Some of a system's outputs by their names, `channels.P_ao`."""

    def __init__(self, names: Sequence[str], values: Sequence[Any]):
        self._values = dict(zip(names, values, strict=True))

    def __getattr__(self, name: str) -> Any:
        try:
            return self._values[name]
        except KeyError:
            raise MissingChannelError(
                f"{name} is not among {', '.join(self._values)}", name
            ) from None


class MissingChannelError(ValueError):
    """A reading needs an output that is not among the channels.

    Attributes:
        channel: Which.
    """

    def __init__(self, message: str, channel: str):
        super().__init__(message)
        self.channel = channel


def recording_of(channels: Sequence[str], emulation: Emulation, duration: Any) -> Recording:
    """An emulation of one patient, or of many ([patient] on every leaf), as a `Recording`."""
    return Recording(
        Channels(channels, list(jnp.moveaxis(jnp.asarray(emulation.maximum), -1, 0))),
        Channels(channels, list(jnp.moveaxis(jnp.asarray(emulation.minimum), -1, 0))),
        Channels(channels, list(jnp.moveaxis(jnp.asarray(emulation.waveforms), -2, 0))),
        duration,
    )


class Simulator(AbstractForward):
    """The simulator itself: the periodic orbit with its implicit gradient, or the transient.

    A θ for which no periodic orbit is found gives numbers that mean nothing, and a gradient of
    NaN where the solution diverged: see `simulate_cohort` for whether a box has any.
    """

    system: AbstractRecordedSystem
    box: Box = eqx.field(static=True)
    channels: tuple[str, ...] = eqx.field(static=True)
    phases: int = eqx.field(static=True, default=80)

    def __check_init__(self):
        check_channels(self.system, self.channels)

    def __call__(self, theta: Theta) -> Emulation:
        """Simulate one patient."""
        beat = simulate_patient(self.system, self.box, self.phases, theta)

        def pick(outputs) -> Float[Array, "channel *phase"]:
            return jnp.stack([getattr(outputs, channel) for channel in self.channels])

        return Emulation(pick(beat.maximum), pick(beat.minimum), pick(beat.waveforms))

    def predict(self, theta: Float[np.ndarray, "patient free"]) -> Emulation:
        """Simulate many patients, on all cores."""
        return map_patients(self, np.asarray(theta, np.float32))
