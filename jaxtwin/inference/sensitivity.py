"""Sensitivity: which parameters determine a reading or a curve, over the whole box.

Sobol's indices decompose the variance of a number over the box. The first-order index of a
parameter is the share of the variance that its value explains alone; the total index also counts
what it explains together with others, so that a parameter whose total index is near 0 may be fixed
(Saltelli et al., "Variance based sensitivity analysis of model output", Computer Physics
Communications 181, 2010; by SALib).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxtwin.cohorts.batching import map_patients
from jaxtwin.cohorts.simulate import check_box, check_whole, simulate_patient
from jaxtwin.parameters import Box
from jaxtwin.physics.base import AbstractRecordedSystem, read


class SobolIndices(NamedTuple):
    """Sobol's indices of some numbers and curves.

    Attributes:
        names: Names of the readings, then of the outputs as curves.
        parameters: Names of the free parameters.
        first: First-order indices.
        first_error: Half-widths of their 95% intervals, by bootstrap.
        total: Total indices.
        total_error: Half-widths of their 95% intervals.
        left_out: Share of the points that were left out because a simulation failed.
    """

    names: tuple[str, ...]
    parameters: tuple[str, ...]
    first: Float[np.ndarray, "name free"]
    first_error: Float[np.ndarray, "name free"]
    total: Float[np.ndarray, "name free"]
    total_error: Float[np.ndarray, "name free"]
    left_out: float


def sobol_indices(
    system: AbstractRecordedSystem,
    box: Box,
    *,
    readings: Sequence[str] | None = None,
    curves: Sequence[str] = (),
    points: int = 2_048,
    phases: int = 20,
    seed: int = 0,
) -> SobolIndices:
    """Compute Sobol's indices of readings and curves by the free parameters, with the simulator.

    The parameters are uniform in the box, along logarithmic sides in the logarithm. The indices of
    a curve are those of its phases, weighted by the variance of each (Gamboa et al., "Sensitivity
    indices for multivariate outputs", 2013), and so are their errors, which is cautious.

    Args:
        system: The model.
        box: The free parameters.
        readings: Names of the readings; by default all.
        curves: Names of outputs.
        points: Number of base points, a power of two; each parameter needs as many simulations,
            and two more.
        phases: Number of phases of a curve; a divisor of the system's steps.
        seed: Seed of the points and the bootstrap.

    Raises:
        ValueError: If more than half of the simulations fail, or an argument is invalid.
    """
    from SALib.analyze import sobol as analysis  # Imported here because it takes a second.
    from SALib.sample import sobol as sampling

    check_box(system, box)
    check_whole(points=points)
    if points & (points - 1):
        raise ValueError(f"points={points}: expected a power of two")
    names = tuple(system.readings()) if readings is None else tuple(readings)
    free = len(box.names)
    problem = {"num_vars": free, "names": list(box.names), "bounds": [[0.0, 1.0]] * free}
    # As a sequence, because SALib takes a seed of 0 for none.
    resampling = np.random.SeedSequence(seed)
    u = sampling.sample(problem, points, calc_second_order=False, seed=seed)
    theta = np.asarray(box.from_unit(jnp.asarray(u, jnp.float32)))
    values, waves, success = map_patients(
        eqx.Partial(_numbers, system, box, names, tuple(curves), phases), theta
    )
    # A point belongs to a block of one simulation for each parameter, and two.
    good = success.reshape(points, free + 2).all(axis=1)
    if good.mean() < 0.5:
        raise ValueError(
            f"in {100 * (1 - good.mean()):.0f}% of the points a simulation failed: make the box "
            "smaller"
        )
    kept = np.repeat(good, free + 2)

    def analyse(column: np.ndarray) -> np.ndarray:
        """Return indices and errors; 0 for a number that does not vary."""
        column = column[kept].astype(float)
        if np.ptp(column) <= 1e-6 * np.abs(column).max():
            return np.zeros((4, free))
        found = analysis.analyze(problem, column, calc_second_order=False, seed=resampling)
        return np.array([found[key] for key in ("S1", "S1_conf", "ST", "ST_conf")])

    rows = [analyse(values[name]) for name in names]
    for name in curves:
        wave = waves[name]
        each = np.array([analyse(wave[:, k]) for k in range(phases)])
        rows.append(np.average(each, axis=0, weights=wave[kept].var(axis=0)))
    first, first_error, total, total_error = np.array(rows).swapaxes(0, 1)
    return SobolIndices(
        (*names, *curves),
        box.names,
        first,
        first_error,
        total,
        total_error,
        float(1 - good.mean()),
    )


def _numbers(
    system: AbstractRecordedSystem,
    box: Box,
    readings: tuple[str, ...],
    curves: tuple[str, ...],
    phases: int,
    theta: Any,
) -> tuple[dict[str, Any], dict[str, Any], Any]:
    found = simulate_patient(system, box, phases, system.steps, theta)
    waves = {name: getattr(found.recording.waveforms, name) for name in curves}
    values = dict(read(system, found.recording, readings)) if readings else {}
    return values, waves, found.success
