"""Profile likelihood: how well one parameter of one patient is determined, without a prior's help.

Raue et al., "Structural and practical identifiability analysis of partially observed dynamical
models by exploiting the profile likelihood", Bioinformatics 25(15), 2009.
"""

import dataclasses
import warnings
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy import stats

from jaxtwin.cohorts.simulate import check_whole
from jaxtwin.inference.importance import log_likelihoods
from jaxtwin.methods.least_squares import LeastSquares
from jaxtwin.methods.tasks import Curves, CurveTask, OutOfModelWarning


class Profile(NamedTuple):
    """Profile likelihood of one parameter.

    Attributes:
        name: Name of the parameter.
        values: Values of the parameter, evenly spaced over its side of the box.
        drop: By how much twice the largest log-likelihood is below that of the best value, at each
            value; NaN where no fit was found.
        theta: Free parameters of the best fit at each value.
    """

    name: str
    values: Float[np.ndarray, " value"]
    drop: Float[np.ndarray, " value"]
    theta: Float[np.ndarray, "value free"]

    def interval(self, level: float = 0.9) -> tuple[float, float]:
        """Return the smallest and largest value that a likelihood-ratio test does not reject.

        Where it is an end of the box, the measurement does not bound the parameter on that side.

        Args:
            level: Confidence level.

        Raises:
            ValueError: If the level is not between 0 and 1, or no fit was found at all.
        """
        if not 0 < level < 1:
            raise ValueError(f"level={level}: expected one between 0 and 1, such as 0.9")
        good = np.isfinite(self.drop)
        if not good.any():
            raise ValueError(f"no fit was found at any value of {self.name}")
        values, drop = self.values[good], self.drop[good]
        limit = stats.chi2.ppf(level, 1)
        inside = np.flatnonzero(drop <= limit)
        ends = []
        for place, step in ((inside[0], -1), (inside[-1], 1)):
            beyond = place + step
            if not 0 <= beyond < len(values):
                ends.append(float(values[place]))
                continue
            pair = [place, beyond]
            ends.append(float(np.interp(limit, drop[pair], values[pair])))
        return ends[0], ends[1]


def profile_likelihood(
    task: CurveTask,
    measurements: Curves,
    name: str,
    *,
    points: int = 25,
    starts: int = 8,
    seed: int = 0,
) -> Profile:
    """Fit one patient with a parameter held at each of several values.

    The other parameters are found by `LeastSquares`, whose prior keeps those in the box that the
    measurement does not determine; the likelihood is without it.

    Args:
        task: The task.
        measurements: Measurements of one patient.
        name: Name of the parameter, which is not known.
        points: Number of values.
        starts: Number of starts of each fit.
        seed: Seed of the starts.

    Raises:
        ValueError: If it is not one patient, the parameter is not unknown or the only unknown one,
            or the measurements do not belong to the task.
    """
    check_whole(points=points)
    checked = task.check(measurements)
    unknown = [one for one in task.box.names if one not in task.known]
    if task.count(checked) != 1 or name not in unknown or len(unknown) < 2 or points < 3:
        raise ValueError(
            f"the profile of {name} at {points} values for {task.count(checked)} patients: "
            "expected one patient, one of at least two unknown parameters, "
            f"{', '.join(unknown)}, and at least three values"
        )
    column = task.box.names.index(name)
    unit = np.tile(0.5 * np.ones(len(task.box.names), np.float32), (points, 1))
    unit[:, column] = np.linspace(0, 1, points)
    # The ends of the box, rounded to float32, may lie outside.
    low, high = np.float32(task.box.low[column]), np.float32(task.box.high[column])
    low, high = np.nextafter(low, high), np.nextafter(high, low)
    values = np.asarray(task.box.from_unit(jnp.asarray(unit)))[:, column].clip(low, high)
    held = dataclasses.replace(task, known=(*task.known, name))
    repeated = checked.take(np.zeros(points, int))
    known = np.concatenate([np.asarray(repeated.known), values[:, None]], axis=1)
    with warnings.catch_warnings():
        # That most values explain the measurement badly is what a profile shows.
        warnings.simplefilter("ignore", OutOfModelWarning)
        found = (
            LeastSquares(starts=starts)
            .learn(held, seed=seed)
            .estimate(repeated._replace(known=known))
        )
    theta = np.asarray(found.theta)
    fit = log_likelihoods(task, repeated, theta[:, None])[:, 0]
    fit = np.where(found.success & np.isfinite(fit), fit, np.nan)
    return Profile(name, values, 2 * (np.nanmax(fit) - fit), theta)
