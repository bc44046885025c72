"""The simulator as a forward model."""

from collections.abc import Sequence

import equinox as eqx
import numpy as np
from jaxtyping import Float

from jaxtwin.cohorts.batching import map_patients
from jaxtwin.cohorts.simulate import check_box, check_phases, simulate_patient
from jaxtwin.forward.base import AbstractForward
from jaxtwin.parameters import Box, Theta
from jaxtwin.physics.base import AbstractRecordedSystem, check_channels
from jaxtwin.physics.channels import Channels, select
from jaxtwin.physics.solution import Recording


class Simulator(AbstractForward):
    """The simulator itself: the periodic orbit with its implicit gradient, or the transient.

    If the simulation of a θ fails, the result is meaningless. `simulate_cohort` reports such
    failures.

    Attributes:
        system: The model.
        box: The free parameters.
        channels: Names of the recorded outputs.
        phases: Number of phases of the waveforms, a divisor of `steps`.
        steps: Solver steps over the system's duration; `system.steps` by default.

    Raises:
        ValueError: If the box is of another model, a channel is no output of the system, or
            `phases` does not divide `steps`.
    """

    system: AbstractRecordedSystem
    box: Box = eqx.field(static=True)
    channels: tuple[str, ...] = eqx.field(static=True)
    phases: int = eqx.field(static=True)
    steps: int = eqx.field(static=True)

    def __init__(
        self,
        system: AbstractRecordedSystem,
        box: Box,
        channels: Sequence[str],
        phases: int = 80,
        *,
        steps: int | None = None,
    ):
        check_box(system, box)
        self.system, self.box = system, box
        self.channels = check_channels(system, channels)
        self.phases, self.steps = phases, check_phases(system, phases, steps)

    def __call__(self, theta: Theta) -> Recording[Channels]:
        """Simulate one patient."""
        self.check_one(theta)
        simulation = simulate_patient(self.system, self.box, self.phases, self.steps, theta)
        return select(self.channels, simulation.recording)

    def predict(self, theta: Float[np.ndarray, "patient free"]) -> Recording[Channels]:
        """Simulate many patients, on all cores."""
        return map_patients(self, np.asarray(theta, np.float32))
