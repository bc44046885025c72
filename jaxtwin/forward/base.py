"""Base class of forward models from parameters θ to a recording."""

import abc
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

from jaxtwin.parameters import Box, Theta
from jaxtwin.physics.base import AbstractRecordedSystem, read
from jaxtwin.physics.channels import Channels
from jaxtwin.physics.solution import Reading, Recording


class AbstractForward(eqx.Module):
    """A differentiable function from one patient's θ to a recording, for use in jit and vmap.

    Methods that learn parameters from measurements take any forward model.

    Attributes:
        system: The model.
        box: The free parameters.
        channels: Names of the recorded outputs.
        phases: Number of phases of the waveforms, 0, 1/n, ... (n − 1)/n.
    """

    system: eqx.AbstractVar[AbstractRecordedSystem]
    box: eqx.AbstractVar[Box]
    channels: eqx.AbstractVar[tuple[str, ...]]
    phases: eqx.AbstractVar[int]

    @abc.abstractmethod
    def __call__(self, theta: Theta) -> Recording[Channels]:
        """Return the recording of one patient.

        Raises:
            ValueError: If θ is not that of one patient.
        """

    def check_one(self, theta: Any) -> None:
        """Raise a ValueError unless θ is that of one patient."""
        if np.ndim(theta) > 1:
            raise ValueError(
                f"θ of shape {np.shape(theta)}, and this is a function of one patient: for many, "
                "use predict(theta), or jax.vmap inside jit and grad"
            )
        self.box.complete(theta)

    @abc.abstractmethod
    def predict(self, theta: Float[np.ndarray, "patient free"]) -> Recording[Channels]:
        """Return the recordings of many patients, with a leading patient axis on every leaf.

        Args:
            theta: The free parameters, concrete (not traced), one row per patient.

        Raises:
            ValueError: If θ is not a table with one row per patient.
        """

    def read(self, theta: Theta, names: Sequence[str | Reading]) -> list[Float[Array, ""]]:
        """Read numbers off one patient's recording.

        Args:
            theta: The free parameters.
            names: Readings of the system by name, or readings of your own.

        Returns:
            The values in the order of the names.

        Raises:
            ValueError: If the system has no such reading, or a channel that it needs is missing.
        """
        found = read(self.system, self(theta), names)
        return [found[name] for name in names]
