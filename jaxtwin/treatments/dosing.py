"""The dose for one patient who is known by a posterior: best in expectation, and safe.

choice = choose_dose(
posterior.take([0]), lambda x: Pump(x[0]), [np.linspace(6_000, 14_000, 41)],
maximise="output", within={"P_ao_mean": (60, 110), "P_lv_min": (1, inf)},
)
choice.safe.doses if choice.safe else choice.message
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxtwin.cohorts.batching import map_patients
from jaxtwin.methods.posterior import Posterior
from jaxtwin.models.intervention import AbstractIntervention, check_intervention
from jaxtwin.parameters import Box
from jaxtwin.physics.base import AbstractRecordedSystem
from jaxtwin.physics.solution import Reading
from jaxtwin.treatments.treat import treat, warn_of_bounds

# Share of the draws that must be simulated for a dose to be compared by its expectation, which
# would otherwise be that of an arbitrary minority.
FEWEST = 0.5


class ChosenDose(NamedTuple):
    """A dose, and what is to be expected of it.

    Attributes:
        candidate: Row of the dose among the candidates.
        doses: The doses, one per grid.
        expected: Mean of each endpoint over the draws that can be simulated.
        safety: Probability that all endpoints are within their ranges.
    """

    candidate: int
    doses: Float[np.ndarray, " dose"]
    expected: dict[str, float]
    safety: float


class DoseChoice(NamedTuple):
    """Result of the choice of a dose for one patient.

    Attributes:
        safe: The dose with the largest expected endpoint among those whose probability of being
            safe is high enough. None if there is none: see `most_probable` and `message`.
        expected: The dose with the largest expected endpoint among those whose expected endpoints
            are all within their ranges. It may be unsafe in many patients who could have been
            measured so. None if there is none.
        most_probable: The dose with the highest probability of being safe; of several, the one with
            the largest expected endpoint.
        known: Largest endpoint that could be expected if the patient were known exactly: the mean,
            over draws for which any candidate is safe, of the endpoint at the draw's own best dose.
            NaN if there are none.
        treatable: Share of the draws for which any candidate is safe.
        message: The choice in words.
        doses: All candidates.
        values: Endpoints at every candidate in every draw; NaN if the simulation failed.
        within: Whether the simulation succeeded and all endpoints are within their ranges.
    """

    safe: ChosenDose | None
    expected: ChosenDose | None
    most_probable: ChosenDose
    known: float
    treatable: float
    message: str
    doses: Float[np.ndarray, "candidate dose"]
    values: dict[str, Float[np.ndarray, "candidate draw"]]
    within: Bool[np.ndarray, "candidate draw"]

    @property
    def safety(self) -> Float[np.ndarray, " candidate"]:
        """Probability that all endpoints are within their ranges, at every candidate."""
        return self.within.mean(axis=1)


def choose_dose(
    posterior: Posterior,
    make: Callable[[Float[Array, " dose"]], AbstractIntervention],
    grids: Sequence[Sequence[float] | Float[np.ndarray, " _"]],
    *,
    maximise: str,
    within: Mapping[str, tuple[float, float]],
    probability: float = 0.95,
    endpoints: Mapping[str, Reading] | None = None,
    steps: int | None = None,
) -> DoseChoice:
    """Choose the dose of one patient from a grid, given the patient's posterior.

    Every candidate is simulated in every draw. A candidate is safe in a draw if the simulation
    succeeds and all endpoints are within their ranges; its probability of being safe is the share
    of such draws. `optimise_intervention` is for a patient whose parameters are known exactly.

    Args:
        posterior: The posterior of one patient, such as `posterior.take([0])`. Its number of draws
            limits how finely probabilities are known: take 200 or more.
        make: Function from doses to the intervention. Pass the same object each time to avoid
            recompilation.
        grids: Values of each dose, one or two grids as a rule; all combinations are candidates.
        maximise: Name of the endpoint to maximise.
        within: Ranges (low, high) of endpoints by name; infinite for no limit.
        probability: Probability with which a safe dose keeps all endpoints within their ranges.
        endpoints: Endpoints by name; by default the readings of the treated system.
        steps: Number of solver steps; by default the `steps` of the treated system.

    Raises:
        ValueError: If this is not one patient who has a posterior, a grid or range is empty, an
            endpoint is unknown, or the probability is not above 0 and at most 1.

    Warns:
        UserWarning: If a chosen dose moves a parameter out of its bounds.
    """
    theta = _draws(posterior)
    columns = [np.asarray(grid, np.float32) for grid in grids]
    if any(grid.ndim != 1 for grid in columns):
        raise ValueError(
            f"grids={grids!r}: expected one grid for each dose, such as [np.linspace(0, 60, 4)]"
        )
    if not columns or any(not grid.size or not np.isfinite(grid).all() for grid in columns):
        raise ValueError("grids: expected at least one grid, each of at least one finite dose")
    if any(not low < high for low, high in within.values()):
        raise ValueError(f"ranges {dict(within)}: expected low < high in each")
    if not 0 < probability <= 1:
        raise ValueError(f"probability={probability}: expected more than 0 and at most 1")
    doses = np.stack([axis.ravel() for axis in np.meshgrid(*columns, indexing="ij")], axis=1)
    first: Any = doses[0].astype(float)  # NumPy: JAX would clamp an index beyond the end.
    try:
        check_intervention(make(first), "what `make` returns")
    except IndexError:
        raise ValueError(
            f"`make` reads more doses than the {len(columns)} that have grids: give a grid for each"
        ) from None
    names = tuple(dict.fromkeys((maximise, *within)))
    function = eqx.Partial(
        _at_dose, posterior.system, posterior.box, make, endpoints, steps, names, len(columns)
    )
    rows = np.hstack([np.repeat(doses, len(theta), axis=0), np.tile(theta, (len(doses), 1))])
    found, success, parameters = map_patients(function, rows)
    shape = (len(doses), len(theta))
    success = success.reshape(shape)
    values = {name: np.where(success, found[name].reshape(shape), np.nan) for name in names}
    inside = success.copy()
    for name, (low, high) in within.items():
        inside &= (values[name] >= low) & (values[name] <= high)
    choice = _choose(doses, values, success, inside, maximise, within, probability)
    before = jax.vmap(posterior.box.complete)(jnp.asarray(theta))
    for chosen in {c.candidate: c for c in (choice.safe, choice.expected) if c}.values():
        after = {
            name: column.reshape(shape)[chosen.candidate] for name, column in parameters.items()
        }
        warn_of_bounds(f"the dose {chosen.doses}", before, after, rows="draws")
    return choice


def _draws(posterior: Any) -> np.ndarray:
    """Return the draws of the only patient."""
    if not isinstance(posterior, Posterior):
        raise ValueError(
            f"choose_dose got {type(posterior).__name__}: expected the posterior of one patient, "
            "such as posterior.take([0])"
        )
    theta = np.asarray(posterior.theta, np.float32)
    if theta.ndim != 3 or len(theta) != 1:
        raise ValueError(
            f"θ of shape {theta.shape}: expected one patient, [1, draw, parameter], such as "
            "posterior.take([0])"
        )
    if not np.all(posterior.success):
        raise ValueError("the patient has no posterior (`success` is False): no dose can be chosen")
    posterior.box.check(theta)
    return theta[0]


def _at_dose(
    system: AbstractRecordedSystem,
    box: Box,
    make: Callable[[Any], AbstractIntervention],
    endpoints: Mapping[str, Reading] | None,
    steps: int | None,
    names: tuple[str, ...],
    doses: int,
    row: Any,
) -> tuple[dict[str, Any], Any, dict[str, Any]]:
    outcome = treat(
        system, box.complete(row[doses:]), make(row[:doses]), endpoints=endpoints, steps=steps
    )
    if unknown := [name for name in names if name not in outcome.readings]:
        raise ValueError(f"no endpoints {unknown}: there are {', '.join(outcome.readings)}")
    readings = {name: outcome.readings[name] for name in names}
    return readings, outcome.success, outcome.parameters


def _choose(
    doses: Float[np.ndarray, "candidate dose"],
    values: dict[str, Float[np.ndarray, "candidate draw"]],
    success: Bool[np.ndarray, "candidate draw"],
    inside: Bool[np.ndarray, "candidate draw"],
    maximise: str,
    within: Mapping[str, tuple[float, float]],
    probability: float,
) -> DoseChoice:
    counts, safety = success.sum(axis=1), inside.mean(axis=1)
    means = {
        name: np.divide(
            np.sum(each, axis=1, where=success, dtype=float),
            counts,
            out=np.full(len(doses), np.nan),
            where=counts > 0,
        )
        for name, each in values.items()
    }
    aim = np.where(counts > 0, means[maximise], -np.inf)
    fair = success.mean(axis=1) >= FEWEST
    for name, (low, high) in within.items():
        fair &= (means[name] >= low) & (means[name] <= high)

    def best(allowed: np.ndarray) -> ChosenDose | None:
        if not allowed.any():
            return None
        i = int(np.argmax(np.where(allowed, aim, -np.inf)))
        at = {name: float(column[i]) for name, column in means.items()}
        return ChosenDose(i, doses[i], at, float(safety[i]))

    safe = best(safety >= probability)
    most_probable = best(safety == safety.max())
    assert most_probable is not None
    treatable = inside.any(axis=0)
    own = np.where(inside, values[maximise], -np.inf).max(axis=0)[treatable]
    known = float(own.mean()) if len(own) else np.nan
    told = f"{100 * probability:g}%"
    if safe is not None:
        message = (
            f"{_title(safe)} is safe with a probability of {100 * safe.safety:.0f}% (at least "
            f"{told} wanted), with an expected {maximise} of {safe.expected[maximise]:.3g}"
        )
    else:
        message = (
            f"no dose is known to be safe: the highest probability is "
            f"{100 * most_probable.safety:.0f}% of {told}, at {_title(most_probable)}; measure "
            "the patient better, widen the ranges, or try other doses"
        )
    return DoseChoice(
        safe,
        best(fair),
        most_probable,
        known,
        float(treatable.mean()),
        message,
        doses,
        values,
        inside,
    )


def _title(chosen: ChosenDose) -> str:
    return f"dose {', '.join(f'{dose:g}' for dose in chosen.doses)}"
