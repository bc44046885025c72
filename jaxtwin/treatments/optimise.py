"""The best dose for one patient, found with the derivatives of the readings.

best = optimise_intervention(
LeftHeart(), p, lambda x: Pump(x[0]), [(6_000, 18_000)],
maximise="output", within={"P_ao_mean": (70, 90), "P_lv_min": (1, inf)},
)
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.optimize import minimize

from jaxtwin.models.intervention import AbstractIntervention, check_intervention
from jaxtwin.physics.base import AbstractRecordedSystem
from jaxtwin.physics.solution import Reading
from jaxtwin.treatments.treat import Outcome, treat, warn_of_bounds

# Tolerance on the range of an endpoint, as a share of the endpoint's scale.
SLACK = 1e-3
# A start that leads into the ranges does so within a dozen simulations. Beyond this limit the
# search only moves along constraints that it cannot satisfy.
MOST_SIMULATIONS = 40


class _SpentError(Exception):
    """A start has used up its simulations."""


class Optimum(NamedTuple):
    """Result of the search for the best doses.

    Attributes:
        doses: The best doses found, one per bound.
        endpoints: The patient's endpoints at these doses, by name.
        feasible: Whether all endpoints are within their ranges and the recording is physically
            possible. If not, no feasible doses were found, and these are the closest.
        simulations: Number of simulations, each with its gradient.
        message: Message of the optimiser.
    """

    doses: Float[np.ndarray, " dose"]
    endpoints: dict[str, float]
    feasible: bool
    simulations: int
    message: str


def optimise_intervention(
    system: AbstractRecordedSystem,
    p: Any,
    make: Callable[[Float[Array, " dose"]], AbstractIntervention],
    bounds: Sequence[tuple[float, float]],
    *,
    maximise: str,
    within: Mapping[str, tuple[float, float]],
    endpoints: Mapping[str, Reading] | None = None,
    steps: int | None = None,
    starts: Sequence[float] = (0.5, 0.25, 0.75),
) -> Optimum:
    """Find the doses that maximise an endpoint while others stay within their ranges.

    Uses sequential quadratic programming (Kraft's SLSQP in SciPy) with exact derivatives: each
    simulation gives all endpoints and their derivatives. It finds a local optimum.

    Args:
        system: The untreated patient's system.
        p: All parameters of the patient.
        make: Function from doses to the intervention. Pass the same object each time to avoid
            recompilation.
        bounds: Lowest and highest value of each dose.
        maximise: Name of the endpoint to maximise.
        within: Ranges (low, high) of endpoints by name; infinite for no limit. To prevent suction
            by a pump, keep P_lv_min above its threshold of 1 mmHg.
        endpoints: Endpoints by name; by default the readings of the treated system.
        steps: Number of solver steps; by default the `steps` of the treated system.
        starts: Starting points as shares of the bounds, tried in order until one leads to doses
            within the ranges.

    Raises:
        ValueError: If a bound or range is empty, or an endpoint is unknown.
        RuntimeError: If the simulation fails at every start.

    Warns:
        UserWarning: If the best dose moves a parameter out of its bounds, or a dose has no effect.
    """
    low, high = np.asarray(bounds, float).reshape(-1, 2).T
    if not len(low) or not (low < high).all() or any(not a < b for a, b in within.values()):
        raise ValueError(f"bounds {bounds}, ranges {dict(within)}: expected low < high in each")
    lowest: Any = low  # A NumPy array: JAX would clamp an index beyond the end to the last dose.
    try:
        check_intervention(make(lowest), "what `make` returns")
    except IndexError:
        raise ValueError(
            f"`make` reads more doses than the {len(low)} that have bounds: give bounds for each"
        ) from None
    names = (maximise, *within)
    scale = np.array([1.0] + [_scale(*limits) for limits in within.values()])
    # Arrays instead of numbers, so that another patient needs no recompilation.
    p = jax.tree.map(lambda leaf: jnp.asarray(leaf, float), p)
    outcome = eqx.Partial(_outcome, system, p, make, endpoints, steps)
    problem = eqx.Partial(_values_and_slopes, outcome, names)
    solved: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}
    most = 0

    def at(u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return endpoints and their derivatives at a point, which is simulated only once."""
        u = np.clip(u, 0.0, 1.0)
        if u.tobytes() not in solved:
            if len(solved) >= most:
                raise _SpentError
            doses = jnp.asarray(low + (high - low) * u, float)
            values, slopes = jax.tree.map(np.asarray, _compiled(problem, doses))
            solved[u.tobytes()] = values, slopes * (high - low)
        return solved[u.tobytes()]

    limits = [
        (i, sign, bound)
        for i, (a, b) in enumerate(within.values(), 1)
        for sign, bound in ((1, a), (-1, b))
        if np.isfinite(bound)
    ]

    def margins(u: np.ndarray) -> np.ndarray:
        values, _ = at(u)
        return np.array([sign * (values[i] - bound) / scale[i] for i, sign, bound in limits])

    def margin_slopes(u: np.ndarray) -> np.ndarray:
        _, slopes = at(u)
        return np.array([sign * slopes[i] / scale[i] for i, sign, _ in limits])

    found: list[tuple[float, np.ndarray, str]] = []
    for start in starts:
        most = len(solved) + MOST_SIMULATIONS
        u0 = np.full(len(low), start)
        values, _ = at(u0)
        if not np.isfinite(values).all():
            continue
        unit = max(abs(values[0]), 1e-6)
        tried: list[np.ndarray] = [u0]
        try:
            result = minimize(
                lambda u, unit=unit: -at(u)[0][0] / unit,
                u0,
                jac=lambda u, unit=unit: -at(u)[1][0] / unit,
                bounds=[(0.0, 1.0)] * len(low),
                constraints={"type": "ineq", "fun": margins, "jac": margin_slopes}
                if limits
                else (),
                method="SLSQP",
                callback=tried.append,
                # About the precision of the endpoints in float32.
                options={"ftol": 1e-4, "maxiter": 50},
            )
            tried.append(result.x)
            message = str(result.message)
        except _SpentError:
            message = f"no optimum within {MOST_SIMULATIONS} simulations from a start"
        u = np.clip(tried[-1], 0.0, 1.0)
        worst = min([0.0, *np.nan_to_num(margins(u), nan=-np.inf)])
        found.append((worst, u, message))
        if worst >= -SLACK:
            break
    if not found:
        raise RuntimeError(f"the simulation failed at all of the starts {starts}")
    idle = [
        i for i in range(len(low)) if all(not slopes[:, i].any() for _, slopes in solved.values())
    ]
    if idle:
        warnings.warn(
            f"doses {', '.join(map(str, idle))} of {len(low)}, counted from 0, have no effect on "
            f"{' or '.join(names)}: does `make` use one dose for each of the bounds?",
            stacklevel=2,
        )
    worst, u, message = max(found, key=lambda entry: entry[0])
    doses = low + (high - low) * u
    final = _compiled(outcome, jnp.asarray(doses, float))
    warn_of_bounds(f"the best dose, {doses}", p, final.parameters)
    values = {name: float(value) for name, value in final.readings.items()}
    feasible = worst >= -SLACK and bool(final.success)
    return Optimum(doses, values, feasible, len(solved), message)


def _scale(low: float, high: float) -> float:
    """Return the scale of an endpoint: the width of its range, or the size of its limit."""
    if np.isfinite(high - low):
        return high - low
    finite = [abs(limit) for limit in (low, high) if np.isfinite(limit)]
    return max([1.0, *finite])


def _outcome(system, p, make, endpoints, steps, doses) -> Outcome:
    return treat(system, p, make(doses), endpoints=endpoints, steps=steps)


def _values_and_slopes(outcome, names, doses):
    """Return the named endpoints, and their derivatives with respect to the doses."""

    def chosen(doses):
        found = outcome(doses)
        unknown = [name for name in names if name not in found.readings]
        if unknown:
            raise ValueError(f"no endpoints {unknown}: there are {', '.join(found.readings)}")
        values = jnp.stack([found.readings[name] for name in names])
        values = jnp.where(found.solved, values, jnp.nan)
        return values, values

    slopes, values = jax.jacfwd(chosen, has_aux=True)(doses)
    return values, slopes


@eqx.filter_jit
def _compiled(problem: Callable[[Any], Any], doses: Float[Array, " dose"]) -> Any:
    return problem(doses)
