"""Posterior distributions of patients' parameters, as draws."""

import abc
from collections.abc import Mapping, Sequence
from typing import Any, Generic, NamedTuple

import equinox as eqx
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Bool, Float

from jaxtwin.cohorts.batching import map_patients
from jaxtwin.cohorts.simulate import check_whole, simulate_patient
from jaxtwin.methods.estimate import Estimate, Measurements
from jaxtwin.parameters import Box
from jaxtwin.physics.base import AbstractRecordedSystem, read


class Predicted(NamedTuple):
    """Simulations of the draws of some patients' posteriors.

    Attributes:
        readings: Readings of the system by name, in their units.
        waveforms: Outputs of the system by name, in their units.
        success: Whether the simulation of the draw succeeded; if not, its numbers are NaN.
    """

    readings: Mapping[str, Float[np.ndarray, "patient draw"]]
    waveforms: Mapping[str, Float[np.ndarray, "patient draw phase"]]
    success: Bool[np.ndarray, "patient draw"]


class Posterior(NamedTuple):
    """Draws from the distribution of each patient's parameters, given what was measured.

    Attributes:
        system: The model.
        box: The free parameters.
        theta: Draws of the free parameters, in the order of the box and in their units.
        success: Whether there are draws for the patient; if not, they are meaningless.
        r_hat: For Markov chains, potential scale reduction of each free parameter, near 1 if the
            chains agree; NaN for known parameters. None for independent draws.
        effective: For Markov chains, number of independent draws that would say as much about each
            free parameter. None for independent draws.
    """

    system: AbstractRecordedSystem
    box: Box
    theta: Float[np.ndarray, "patient draw free"]
    success: Bool[np.ndarray, " patient"]
    r_hat: Float[np.ndarray, "patient free"] | None = None
    effective: Float[np.ndarray, "patient free"] | None = None

    def take(self, index: Any) -> "Posterior":
        """Select patients by an index array, a slice or a mask."""
        return self._replace(
            theta=self.theta[index],
            success=self.success[index],
            r_hat=None if self.r_hat is None else self.r_hat[index],
            effective=None if self.effective is None else self.effective[index],
        )

    def parameters(self) -> dict[str, Float[np.ndarray, "patient draw"]]:
        """Return the draws of each free parameter, by name."""
        return dict(zip(self.box.names, np.moveaxis(self.theta, -1, 0), strict=True))

    def simulate(
        self,
        readings: str | Sequence[str] = (),
        waveforms: str | Sequence[str] = (),
        *,
        phases: int = 80,
        draws: int | None = None,
        mesh: Mesh | None = None,
    ) -> Predicted:
        """Simulate draws.

        Args:
            readings: Names of the readings to return; by default all of the system.
            waveforms: Names of the outputs to return as waveforms.
            phases: Number of phases of the waveforms; a divisor of the system's steps.
            draws: Number of draws of each patient to simulate, the first ones; by default all.
            mesh: Devices to use, see `map_patients`.

        Raises:
            ValueError: If the system has no such reading or output, or there are fewer draws.
        """
        drawn = self.theta.shape[1]
        some = drawn if draws is None else draws
        check_whole(draws=some)
        if some > drawn:
            raise ValueError(f"{some} draws to simulate, and the posterior has {drawn}")
        readings, waveforms = (
            (names,) if isinstance(names, str) else tuple(names) for names in (readings, waveforms)
        )
        names = readings or tuple(self.system.readings())
        function = eqx.Partial(_simulated, self.system, self.box, names, waveforms, phases)
        theta = self.theta[:, :some]
        numbers, curves, success = map_patients(
            function, theta.reshape(-1, theta.shape[-1]).astype(np.float32), mesh=mesh
        )

        def shaped(leaf: np.ndarray) -> np.ndarray:
            good = success.reshape(len(success), *[1] * (leaf.ndim - 1))
            return np.where(good, leaf, np.nan).reshape(len(theta), some, *leaf.shape[1:])

        return Predicted(
            {name: shaped(leaf) for name, leaf in numbers.items()},
            {name: shaped(leaf) for name, leaf in curves.items()},
            success.reshape(len(theta), some),
        )


def _simulated(
    system: AbstractRecordedSystem,
    box: Box,
    readings: tuple[str, ...],
    waveforms: tuple[str, ...],
    phases: int,
    theta: Any,
) -> tuple[dict[str, Any], dict[str, Any], Any]:
    found = simulate_patient(system, box, phases, system.steps, theta)
    curves = {name: getattr(found.recording.waveforms, name) for name in waveforms}
    return dict(read(system, found.recording, readings)), curves, found.success


class AbstractDistribution(abc.ABC, Generic[Measurements]):
    """What a method that gives distributions has learnt; see `Learnt.posterior`."""

    @abc.abstractmethod
    def sample(
        self, measurements: Measurements, draws: int, seed: int, mesh: Mesh | None
    ) -> Posterior:
        """Draw from each patient's posterior.

        Args:
            measurements: Checked measurements.
            draws: Number of draws per patient.
            seed: Seed of the random numbers.
            mesh: Devices to use, see `map_patients`. Draws do not depend on it but for rounding.
        """

    @abc.abstractmethod
    def log_density(
        self, measurements: Measurements, theta: Float[np.ndarray, "patient free"]
    ) -> Float[np.ndarray, " patient"]:
        """Return the logarithm of posterior density over prior density at each patient's θ [nats].

        Args:
            measurements: Checked measurements.
            theta: The parameters; those that are known are taken from the measurements.
        """

    @abc.abstractmethod
    def __call__(self, measurements: Measurements) -> Estimate:
        """Return the estimate at the middle of each patient's posterior."""
