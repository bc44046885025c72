"""Many patients at once: simulate a table of θ in chunks, and draw cohorts from a box."""

import functools
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from jaxtwin.parameters import Box
from jaxtwin.physics.base import AbstractPeriodicSystem
from jaxtwin.physics.observables import ejection_fraction
from jaxtwin.physics.periodic import periodic_orbit

STEPS = 240
"""Solver steps a period, `periodic_orbit`'s own default."""

Progress = Callable[[Iterable], Iterable]
"""Wraps the chunks of a long computation, as `tqdm` does."""


class Simulations(NamedTuple):
    """Periodic orbits of many patients, on a grid of phases.

    Attributes:
        theta: The free parameters, in the order of the box.
        maximum: The outputs' largest values over the beat, [patient] on every leaf.
        minimum: The outputs' smallest values over the beat, [patient] on every leaf.
        waveforms: The outputs at phases 0, 1/n, ... (n − 1)/n of the period,
            [patient, phase] on every leaf.
        converged: Whether the orbit was found; where not, the other entries mean nothing.
    """

    theta: Float[np.ndarray, "patient free"]
    maximum: Any
    minimum: Any
    waveforms: Any
    converged: Bool[np.ndarray, " patient"]

    def take(self, index) -> "Simulations":
        """The patients at an index array or a mask."""
        return jax.tree.map(lambda leaf: leaf[index], self)


@eqx.filter_jit
@functools.partial(eqx.filter_vmap, in_axes=(None, None, 0, None))
def _simulate(system: AbstractPeriodicSystem, box: Box, theta, phases: int):
    orbit = periodic_orbit(system, box.complete(theta), steps=STEPS, throw=False)
    thinned = jax.tree.map(lambda leaf: leaf[: -1 : STEPS // phases], orbit.outputs)
    maximum = jax.tree.map(jnp.max, orbit.outputs)
    minimum = jax.tree.map(jnp.min, orbit.outputs)
    return maximum, minimum, thinned, orbit.converged


def simulate_cohort(
    system: AbstractPeriodicSystem,
    box: Box,
    theta: Float[np.ndarray, "patient free"],
    *,
    phases: int = 80,
    chunk: int = 256,
    progress: Progress = iter,
) -> Simulations:
    """The periodic orbits of any number of patients, in float32.

    Args:
        system: The model.
        box: Says which parameters θ holds.
        theta: One row a patient.
        phases: Number of grid points a period; must divide `STEPS`.
        chunk: Patients simulated together: the arrays of one chunk stay in the cache.
        progress: Wraps the iterator over chunks, for example `tqdm.tqdm`.

    Raises:
        ValueError: If `phases` does not divide the number of solver steps, θ is not a table,
            or a θ is outside the box.
    """
    if theta.ndim != 2 or not len(theta):
        raise ValueError(f"θ of shape {theta.shape}: expected one row a patient, at least one")
    if phases < 1 or STEPS % phases:
        raise ValueError(f"phases={phases} must divide the solver's {STEPS} steps a period")
    box.check(jnp.asarray(theta))

    theta = np.asarray(theta, np.float32)
    starts = range(0, len(theta), chunk)

    def run(start: int):
        rows = theta[start : start + chunk]
        # Every chunk has the same shape, so that the loop compiles once.
        padded = np.concatenate([rows, np.repeat(rows[-1:], chunk - len(rows), axis=0)])
        return jax.tree.map(
            lambda leaf: np.asarray(leaf)[: len(rows)], _simulate(system, box, padded, phases)
        )

    # XLA runs a loop of small operations on one core; a second thread keeps the other busy.
    with ThreadPoolExecutor(2) as pool:
        parts = list(progress(pool.map(run, starts)))
    return Simulations(theta, *jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts))


class Limits(NamedTuple):
    """What a heart must be within to enter a cohort; anything beyond is not seen in a clinic.

    The box is wider than life: it holds hearts with an output of 1 L/min.
    """

    EDV: tuple[float, float] = (40.0, 300.0)
    """End-diastolic volume [mL]."""
    EF: tuple[float, float] = (10.0, 80.0)
    """Ejection fraction [%]."""
    P_ao_mean: tuple[float, float] = (50.0, 130.0)
    """Mean aortic pressure [mmHg]."""
    P_la_mean: tuple[float, float] = (0.0, 30.0)
    """Mean left-atrial pressure [mmHg]."""
    output: tuple[float, float] = (2.0, 10.0)
    """Cardiac output [L/min]."""

    def hold(self, simulations: Simulations) -> Bool[np.ndarray, " patient"]:
        """Which patients converged and are within all limits."""
        EDV, ESV = simulations.maximum.V_lv, simulations.minimum.V_lv
        waveforms = simulations.waveforms
        values = {
            "EDV": EDV,
            "EF": np.asarray(ejection_fraction(jnp.asarray(EDV), jnp.asarray(ESV))),
            "P_ao_mean": waveforms.P_ao.mean(axis=1),
            "P_la_mean": waveforms.P_la.mean(axis=1),
            "output": waveforms.q_s.mean(axis=1) * 60 / 1000,
        }
        held = simulations.converged
        for name, (low, high) in self._asdict().items():
            held = held & (values[name] >= low) & (values[name] <= high)
        return held


def draw_cohort(
    system: AbstractPeriodicSystem,
    box: Box,
    n: int,
    *,
    seed: int,
    limits: Limits | None = None,
    phases: int = 80,
    progress: Progress = iter,
) -> tuple[Simulations, float]:
    """The first n patients of a Sobol sequence over the box whose hearts are within limits.

    Returns:
        The patients, and the share of the points drawn that was within the limits.

    Raises:
        ValueError: If fewer than one point in eight is within the limits.
    """
    limits = Limits() if limits is None else limits
    drawn = 2 * n
    while True:
        theta = box.sample(drawn, seed=seed)
        simulations = simulate_cohort(system, box, theta, phases=phases, progress=progress)
        held = limits.hold(simulations)
        if held.sum() >= n:
            return simulations.take(np.flatnonzero(held)[:n]), float(held.mean())
        if drawn >= 8 * n:
            raise ValueError(
                f"only {held.sum()} of {drawn} points of the box are within {limits}: "
                "widen the limits or move the box"
            )
        drawn *= 2
