"""From θ to what can be observed of the beat: the simulator, or whatever stands in its place."""

import abc
from collections.abc import Sequence
from typing import Literal, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxtwin.cohort import map_patients, simulate_patient
from jaxtwin.parameters import Box, Theta
from jaxtwin.physics.base import AbstractPeriodicSystem

MeasurementName = Literal["EDV", "ESV", "period", "systolic", "diastolic"]
_EXTREMES = {
    "EDV": ("V_lv", "maximum"),
    "ESV": ("V_lv", "minimum"),
    "systolic": ("P_ao", "maximum"),
    "diastolic": ("P_ao", "minimum"),
}


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

    system: eqx.AbstractVar[AbstractPeriodicSystem]
    box: eqx.AbstractVar[Box]
    channels: eqx.AbstractVar[tuple[str, ...]]
    phases: eqx.AbstractVar[int]

    @abc.abstractmethod
    def __call__(self, theta: Theta) -> Emulation:
        """The beat of one patient."""

    @abc.abstractmethod
    def predict(self, theta: Float[np.ndarray, "patient free"]) -> Emulation:
        """The beats of many patients, given as concrete numbers; [patient] on every leaf."""

    def measure(self, theta: Theta, names: Sequence[MeasurementName]) -> list[Float[Array, ""]]:
        """What would be measured on one patient, in the order of the names.

        Volumes are the extremes of the channel V_lv [mL], blood pressures those of P_ao [mmHg]: the
        cuff is taken to be at the aorta. The period [s] is the system's.

        Raises:
            ValueError: If a channel is missing.
        """
        return self.read(self(theta), theta, names)

    def read(
        self, emulation: Emulation, theta: Theta, names: Sequence[MeasurementName]
    ) -> list[Float[Array, ""]]:
        """What would be measured on one patient whose beat is known; see `measure`."""

        def one(name: MeasurementName) -> Float[Array, ""]:
            if name == "period":
                return jnp.asarray(self.system.period(self.box.complete(theta)))
            channel, extreme = _EXTREMES[name]
            if channel not in self.channels:
                raise ValueError(
                    f"{name} is read off {channel}, and this forward model gives "
                    f"{', '.join(self.channels)}: make one with that channel"
                )
            return getattr(emulation, extreme)[self.channels.index(channel)]

        return [one(name) for name in names]

    def volumes(self, theta: Theta) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """EDV and ESV [mL] of one patient."""
        EDV, ESV = self.measure(theta, ("EDV", "ESV"))
        return EDV, ESV


class Simulator(AbstractForward):
    """The simulator itself: the periodic orbit, with its implicit gradient.

    A θ for which no periodic orbit is found gives numbers that mean nothing, and a gradient of
    NaN where the solution diverged; in the left heart's boxes there is none.
    """

    system: AbstractPeriodicSystem
    box: Box = eqx.field(static=True)
    channels: tuple[str, ...] = eqx.field(static=True)
    phases: int = eqx.field(static=True, default=80)

    def __call__(self, theta: Theta) -> Emulation:
        """Simulate one patient."""
        beat = simulate_patient(self.system, self.box, self.phases, theta)

        def pick(outputs) -> Float[Array, "channel *phase"]:
            return jnp.stack([getattr(outputs, channel) for channel in self.channels])

        return Emulation(pick(beat.maximum), pick(beat.minimum), pick(beat.waveforms))

    def predict(self, theta: Float[np.ndarray, "patient free"]) -> Emulation:
        """Simulate many patients, on all cores."""
        return map_patients(self, np.asarray(theta, np.float32))
