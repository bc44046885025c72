"""What a measurement can tell, before it is taken: the Fisher information of a task.

The posterior is taken as normal, with the curvature of the simulator at the patient's own
parameters. This needs no training, so that measurements can be compared before they are taken;
where posteriors are far from normal it is optimistic.
"""

from collections.abc import Mapping
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxtwin.cohorts.batching import map_patients
from jaxtwin.cohorts.simulate import check_whole, simulate_cohort
from jaxtwin.inference.coordinates import PriorCoordinates
from jaxtwin.inference.density import curvature
from jaxtwin.inference.observing import TaskObservation, exact_rows, noise_of
from jaxtwin.methods.each_patient import Patient
from jaxtwin.methods.tasks import CurveTask
from jaxtwin.parameters import Box


class ExpectedInformation(NamedTuple):
    """What a measurement is expected to tell.

    Attributes:
        names: Names of the unknown parameters.
        bits: Mean information about each, −½ log₂ of the posterior's variance relative to the
            prior's [bit].
        total: Mean information about all of them together, ½ log₂ of the determinant of prior over
            posterior covariance [bit].
        spread: Mean standard deviation of each, as a share of the prior's.
        patients: Number of patients.
    """

    names: tuple[str, ...]
    bits: Float[np.ndarray, " unknown"]
    total: float
    spread: Float[np.ndarray, " unknown"]
    patients: int


class OpenDirections(NamedTuple):
    """Directions in which a measurement leaves one patient's parameters open.

    Attributes:
        names: Names of the parameters.
        spread: Standard deviation of the posterior along each direction, as a share of the prior's,
            the most open first.
        directions: Unit vectors in the prior's coordinates, one per row: of `open_directions` in z,
            of `of_draws` in parameters divided by their standard deviations.
    """

    names: tuple[str, ...]
    spread: Float[np.ndarray, " direction"]
    directions: Float[np.ndarray, "direction unknown"]

    @classmethod
    def of_draws(
        cls,
        box: Box,
        theta: Float[np.ndarray, "draw free"],
        before: Float[np.ndarray, "prior_draw free"],
        count: int | None = None,
    ) -> "OpenDirections":
        """Return the principal axes of a posterior's draws.

        Unlike the Fisher information, they contain all that the posterior knows of errors and of
        nonlinearity. Each parameter is divided by its own standard deviation before anything was
        measured, along logarithmic sides of the box in the logarithm.

        Args:
            box: The free parameters.
            theta: Draws of one patient's parameters.
            before: Draws of the prior.
            count: Number of directions; by default all.
        """
        own, prior = (np.asarray(box.to_unit(np.asarray(x)), float) for x in (theta, before))
        variance, axes = np.linalg.eigh(np.cov(own / prior.std(axis=0), rowvar=False))
        order = np.argsort(-variance)[:count]
        return cls(box.names, np.sqrt(variance[order].clip(0)), axes.T[order])

    def __str__(self) -> str:
        """Describe the directions and their spread, the most open first, as sums of parameters."""
        lines = []
        for spread, direction in zip(self.spread, self.directions, strict=True):
            order = np.argsort(-np.abs(direction))
            shown = [k for k in order if abs(direction[k]) > 0.25]
            parts = [f"{direction[k]:+.2f} {self.names[k]}" for k in shown]
            lines.append(f"{spread:6.2f} along {' '.join(parts)}")
        return "\n".join(lines)


def expected_information(
    task: CurveTask, patients: int = 512, *, seed: int = 0
) -> ExpectedInformation:
    """Return what a task's measurement is expected to tell about patients of its prior.

    Args:
        task: The task. Nothing is missing.
        patients: Number of patients over whom to average.
        seed: Seed of the patients.

    Raises:
        ValueError: If no patient can be simulated.
    """
    check_whole(patients=patients)
    theta = TaskObservation().patients(task, patients, seed=seed)
    hessian = fisher_information(task, theta)
    good = np.isfinite(hessian).all(axis=(1, 2))
    if not good.any():
        raise ValueError("no patient of the prior can be simulated")
    covariance = np.linalg.inv(hessian[good])
    variance = np.diagonal(covariance, axis1=1, axis2=2)
    _, volume = np.linalg.slogdet(hessian[good])
    return ExpectedInformation(
        PriorCoordinates.of(task).names,
        -0.5 * np.log2(variance).mean(axis=0),
        float(0.5 * volume.mean() / np.log(2)),
        np.sqrt(variance).mean(axis=0),
        int(good.sum()),
    )


def fisher_information(
    task: CurveTask, theta: Float[np.ndarray, "patient free"]
) -> Float[np.ndarray, "patient unknown unknown"]:
    """Return the Fisher information of a measurement at θ, plus 1 for the prior, in z.

    Args:
        task: The task. Nothing is missing.
        theta: Parameters of each patient, one row per patient.
    """
    cohort = simulate_cohort(task.system, task.box, theta, phases=task.samples)
    rows = np.concatenate([np.asarray(cohort.theta), exact_rows(task, cohort)], axis=1)
    found = map_patients(eqx.Partial(_fisher, task), rows.astype(np.float32), chunk=64)
    return np.where(cohort.success[:, None, None], found, np.nan).astype(float)


def open_directions(task: CurveTask, theta: Float[np.ndarray, " free"]) -> OpenDirections:
    """Return the directions in which a measurement leaves a patient's parameters open.

    Args:
        task: The task. Nothing is missing.
        theta: The patient's parameters.

    Raises:
        ValueError: If the patient's simulation fails.
    """
    (hessian,) = fisher_information(task, np.asarray(theta)[None])
    if not np.isfinite(hessian).all():
        raise ValueError(f"the simulation at θ = {np.asarray(theta)} fails")
    size, axes = np.linalg.eigh(hessian)
    return OpenDirections(PriorCoordinates.of(task).names, 1 / np.sqrt(size), axes.T)


def trade_offs(
    draws: Mapping[str, Float[np.ndarray, " draw"]], least: float = 0.5
) -> dict[tuple[str, str], float]:
    """Return the pairs of numbers that a posterior cannot tell apart.

    Args:
        draws: Draws of one patient's parameters or readings, by name.
        least: Smallest absolute rank correlation of a pair that is returned.

    Returns:
        Spearman's rank correlation of each pair, the strongest first.
    """
    from scipy.stats import spearmanr  # Takes half a second; nothing else here needs it.

    names = [name for name, x in draws.items() if np.ptp(x) > 0]
    found = {}
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            found[first, second] = float(np.asarray(spearmanr(draws[first], draws[second])[0]))
    strong = {pair: r for pair, r in found.items() if abs(r) >= least}
    return dict(sorted(strong.items(), key=lambda item: -abs(item[1])))


def _fisher(task: CurveTask, row: Float[Array, " entry"]) -> Float[Array, "unknown unknown"]:
    coordinates = PriorCoordinates.of(task)
    theta, exact = jnp.split(row, [len(task.box.names)])
    noise = np.concatenate(
        [np.full(len(c.phases), noise_of(c), np.float32) for c in task.measured_channels]
    )
    parts = zip(task.measured_channels, task.parts(exact), strict=True)
    # Of unknown scale, values are relative to their root mean square, as noise is.
    exact = jnp.concatenate(
        [part / jnp.sqrt(jnp.mean(part**2)) if c.unknown_scale else part for c, part in parts]
    )
    patient = Patient(
        jax.random.key(0), theta[np.array(coordinates.known, int)], exact, jnp.asarray(noise)
    )
    return curvature(task, coordinates, coordinates.coordinates(theta), patient)
