"""Calibration: whether intervals contain the truth as often as they say.

All checks compare draws with the truth of patients who come from the prior. In a calibrated method
the rank of the truth among the draws is uniform.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import KFold, cross_val_score

SAME = 1e-6
"""Relative difference up to which a draw and a truth are equal: the rounding of float32."""
LEVELS = np.arange(0.05, 1.0, 0.05)
"""Levels at which coverage is measured."""


class Calibration(NamedTuple):
    """Calibration of one number, such as a parameter or a reading.

    Attributes:
        patients: Number of patients.
        coverage: Share of the patients whose truth is within the central interval, at each of
            `LEVELS`.
        coverage90: The same at 90%.
        rank_test_p: p-value of the hypothesis that the ranks are uniform.
        width90: Mean width of the central 90% interval, in the unit of the number.
        narrowing90: Mean width of the central 90% interval as a share of its width without any
            measurement.
        crps: Mean continuous ranked probability score, in the unit of the number.
    """

    patients: int
    coverage: Float[np.ndarray, " level"]
    coverage90: float
    rank_test_p: float
    width90: float
    narrowing90: float
    crps: float


def ranks(
    draws: Float[np.ndarray, "patient draw"], truth: Float[np.ndarray, " patient"], *, seed: int = 0
) -> Float[np.ndarray, " patient"]:
    """Return the rank of each truth among its draws, as a share from 0 to 1.

    A random number within the step of the rank makes it continuous, so that in a calibrated method
    it is uniform from 0 to 1. Truths that equal draws get a random rank among them.

    Args:
        draws: Draws for each patient.
        truth: The true values.
        seed: Seed of the random numbers.
    """
    random = np.random.default_rng(seed)
    # A reading that takes few values may be rounded differently in draws and truth.
    near = SAME * np.abs(truth)
    below = (draws < (truth - near)[:, None]).sum(axis=1)
    same = (draws <= (truth + near)[:, None]).sum(axis=1) - below
    return (below + random.random(len(truth)) * (same + 1)) / (draws.shape[1] + 1)


def crps(
    draws: Float[np.ndarray, "patient draw"], truth: Float[np.ndarray, " patient"]
) -> Float[np.ndarray, " patient"]:
    """Return the continuous ranked probability score of each patient.

    It is E|x − truth| − ½ E|x − x'| of independent draws x and x' (Gneiting and Raftery, Journal of
    the American Statistical Association 102, 2007): the absolute error of a method that gives one
    number. The smaller, the better.
    """
    ordered = np.sort(draws, axis=1)
    n = draws.shape[1]
    weight = 2 * np.arange(1, n + 1) - n - 1
    spread = (ordered * weight).sum(axis=1) / (n * (n - 1))
    return np.abs(draws - truth[:, None]).mean(axis=1) - spread


def calibrate(
    draws: Float[np.ndarray, "patient draw"],
    truth: Float[np.ndarray, " patient"],
    before: Float[np.ndarray, " prior_draw"],
    *,
    seed: int = 0,
) -> Calibration:
    """Measure the calibration of one number.

    The rank test is that of Kolmogorov and Smirnov on the ranks of simulation-based calibration
    (Talts et al., "Validating Bayesian inference algorithms with simulation-based calibration",
    2018).

    Args:
        draws: Draws of the posterior for each patient.
        truth: The true values.
        before: Draws of the prior.
        seed: Seed for the ranks.

    Raises:
        ValueError: If there are fewer than two patients or draws, or a number is not finite.
    """
    if len(draws) < 2 or draws.shape[1] < 2 or len(truth) != len(draws):
        raise ValueError(
            f"draws of shape {draws.shape} for {len(truth)} truths: expected at least two draws "
            "for each of at least two patients"
        )
    if not (np.isfinite(draws).all() and np.isfinite(truth).all()):
        raise ValueError("draws or truths that are not finite: leave out patients that failed")
    rank = ranks(draws, truth, seed=seed)
    off = np.abs(2 * rank - 1)
    low, high = np.quantile(draws, [0.05, 0.95], axis=1)
    first, last = np.quantile(before, [0.05, 0.95])
    return Calibration(
        patients=len(truth),
        coverage=np.array([(off <= level).mean() for level in LEVELS]),
        coverage90=float((off <= 0.9).mean()),
        rank_test_p=float(stats.kstest(rank, "uniform").pvalue),
        width90=float((high - low).mean()),
        narrowing90=float((high - low).mean() / (last - first)) if last > first else 1.0,
        crps=float(crps(draws, truth).mean()),
    )


class Tarp(NamedTuple):
    """Expected coverage of regions around random reference points.

    Attributes:
        level: Credibility of the regions.
        coverage: Share of the patients whose truth is within their region, at each level.
        p: p-value of the hypothesis that the shares agree with the levels.
    """

    level: Float[np.ndarray, " level"]
    coverage: Float[np.ndarray, " level"]
    p: float


def tarp(
    draws: Float[np.ndarray, "patient draw number"],
    truth: Float[np.ndarray, "patient number"],
    *,
    seed: int = 0,
) -> Tarp:
    """Test the accuracy of joint posteriors with random points.

    For a random point, the share of the draws that are nearer to it than the truth is uniform if
    and only if the posterior is right (Lemos et al., "Sampling-based accuracy testing of posterior
    estimators for general inference", ICML 2023). Distances are Euclidean after each number is
    scaled to [0, 1] by the range of the truths.

    Args:
        draws: Draws of the posterior for each patient.
        truth: The true values.
        seed: Seed of the reference points.
    """
    low, high = truth.min(axis=0), truth.max(axis=0)
    size = np.where(high > low, high - low, 1.0)
    random = np.random.default_rng(seed)
    point = random.random(truth.shape)

    def distance(values: np.ndarray, point: np.ndarray) -> np.ndarray:
        return np.sqrt((((values - low) / size - point) ** 2).sum(axis=-1))

    near = distance(draws, point[:, None])
    share = ranks(near, distance(truth, point), seed=seed)
    level = np.concatenate([[0.0], LEVELS, [1.0]])
    coverage = np.array([(share <= one).mean() for one in level])
    return Tarp(level, coverage, float(stats.kstest(share, "uniform").pvalue))


def c2st(
    first: Float[np.ndarray, "draw number"],
    second: Float[np.ndarray, "other number"],
    *,
    seed: int = 0,
) -> float:
    """Return how well a classifier tells draws of two distributions apart (C2ST).

    It is the accuracy of a random forest on draws that it has not seen, in five folds: 0.5 if the
    distributions are the same, 1 if they do not overlap (Lopez-Paz and Oquab, "Revisiting
    classifier two-sample tests", ICLR 2017).

    Args:
        first: Draws of one distribution.
        second: As many draws of the other.
        seed: Seed of forest and folds.

    Raises:
        ValueError: If there are fewer than ten draws, or not as many of each.
    """
    if len(first) < 10 or len(first) != len(second):
        raise ValueError(
            f"{len(first)} and {len(second)} draws: expected at least ten, and as many of each"
        )
    values = np.concatenate([first, second])
    label = np.arange(len(values)) >= len(first)
    folds = KFold(5, shuffle=True, random_state=seed)
    forest = RandomForestClassifier(random_state=seed)
    return float(cross_val_score(forest, values, label, cv=folds).mean())
