"""The best dose for one patient, by differentiating the periodic state.

best = optimise_intervention(
LeftHeart(), p, lambda x: Pump(x[0]), [(6_000, 18_000)],
maximise="output", within={"P_ao_mean": (70, 90), "P_lv_min": (1, inf)},
)
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.optimize import minimize

from jaxtwin.models.lvad import LVAD
from jaxtwin.physics.base import AbstractRecordedSystem
from jaxtwin.physics.record import record
from jaxtwin.treatments.interventions import AbstractIntervention
from jaxtwin.treatments.trials import Endpoints, observe

# How far an endpoint may be outside its range, in shares of the scale it is divided by.
SLACK = 1e-3
# Where a start can be led into the ranges, it is within a dozen simulations; beyond this the search
# only walks along the limits that it cannot keep.
MOST_SIMULATIONS = 40


class _SpentError(Exception):
    """A start has had its simulations."""


class Optimum(NamedTuple):
    """The best doses that were found.

    Attributes:
        doses: One a bound.
        endpoints: Of the patient under them.
        feasible: Whether all endpoints are within their ranges there; where not, no doses were
            found that keep them, and these come nearest.
        simulations: Beats that were solved, each with its gradient.
        message: What the optimiser says.
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
    endpoints: Endpoints | None = None,
    starts: Sequence[float] = (0.5, 0.25, 0.75),
) -> Optimum:
    """The doses with the highest endpoint, while others stay within their ranges.

    Sequential quadratic programming (Kraft's SLSQP in SciPy) with exact derivatives: each
    simulation gives all endpoints and their slopes. It finds a local optimum.

    Args:
        system: The patient's circuit, untreated.
        p: All its parameters.
        make: From doses to the intervention; the same object each time, or it compiles anew.
        bounds: Lowest and highest value of each dose.
        maximise: The endpoint to make large.
        within: Ranges (low, high) of endpoints; infinite where there is no limit. To forbid
            suction, keep P_lv_min above the pump's threshold of 1 mmHg.
        endpoints: Which there are; as in `run_trial` by default.
        starts: Where in the bounds to start, as shares; the next is only tried where the last
            found nothing within the ranges.

    Raises:
        ValueError: If a bound or range is empty, or an endpoint unknown.
        RuntimeError: If no start can be simulated.
    """
    low, high = np.asarray(bounds, float).reshape(-1, 2).T
    if not len(low) or not (low < high).all() or any(not a < b for a, b in within.values()):
        raise ValueError(f"bounds {bounds}, ranges {dict(within)}: expected low < high in each")
    lowest: Any = low  # Not of JAX, where an index beyond the end reads the last dose.
    try:
        make(lowest)
    except IndexError:
        raise ValueError(
            f"`make` reads more doses than the {len(low)} that have bounds: give every dose its own"
        ) from None
    names = (maximise, *within)
    scale = np.array([1.0] + [_scale(*limits) for limits in within.values()])
    # Numbers as arrays: another patient is not compiled anew.
    p = jax.tree.map(lambda leaf: jnp.asarray(leaf, float), p)
    problem = eqx.Partial(_values_and_slopes, system, p, make, endpoints, names)
    solved: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}
    most = 0

    def at(u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Endpoints and their slopes at a place of the bounds, each simulated once."""
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
                # Of the order of what single precision leaves of the endpoints' digits.
                options={"ftol": 1e-4, "maxiter": 50},
            )
            tried.append(result.x)
            message = str(result.message)
        except _SpentError:
            message = f"no answer within {MOST_SIMULATIONS} simulations of a start"
        u = np.clip(tried[-1], 0.0, 1.0)
        worst = min([0.0, *np.nan_to_num(margins(u), nan=-np.inf)])
        found.append((worst, u, message))
        if worst >= -SLACK:
            break
    if not found:
        raise RuntimeError(f"the patient's beat was not found at any of the starts {starts}")
    worst, u, message = max(found, key=lambda entry: entry[0])
    doses = low + (high - low) * u
    final = _compiled(
        eqx.Partial(_endpoints, system, p, make, endpoints), jnp.asarray(doses, float)
    )
    values = {name: float(value) for name, value in final.items()}
    return Optimum(doses, values, worst >= -SLACK, len(solved), message)


def _scale(low: float, high: float) -> float:
    """What makes an endpoint of order one: the width of its range, or the size of its limit."""
    if np.isfinite(high - low):
        return high - low
    finite = [abs(limit) for limit in (low, high) if np.isfinite(limit)]
    return max([1.0, *finite])


def _endpoints(system, p, make, endpoints, doses) -> dict[str, Any]:
    treated, after = make(doses)(system, p)
    course = record(treated, after, steps=LVAD.steps)
    values = observe(treated, after, course, endpoints)
    return {name: jnp.where(course.success, value, jnp.nan) for name, value in values.items()}


def _values_and_slopes(system, p, make, endpoints, names, doses):
    """The named endpoints, and their derivatives with respect to the doses."""

    def chosen(doses):
        found = _endpoints(system, p, make, endpoints, doses)
        unknown = [name for name in names if name not in found]
        if unknown:
            raise ValueError(f"no endpoints {unknown}: there are {', '.join(found)}")
        values = jnp.stack([found[name] for name in names])
        return values, values

    slopes, values = jax.jacfwd(chosen, has_aux=True)(doses)
    return values, slopes


@eqx.filter_jit
def _compiled(problem: Callable[[Any], Any], doses: Float[Array, " dose"]) -> Any:
    return problem(doses)
