"""Is a disease to be seen in numbers that never met a diagnosis?"""

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats

from jaxtwin.analysis.metrics import Interval


def auroc(
    score: Float[np.ndarray, " patient"],
    ill: Bool[np.ndarray, " patient"],
    *,
    level: float = 0.95,
    resamples: int = 2_000,
    seed: int = 0,
) -> Interval:
    """The probability that an ill patient scores higher than one who is not; ties count half.

    The area under the receiver operating characteristic, with its percentile bootstrap interval
    over ill and other patients apart, so that no resample is without either.

    Args:
        score: One number a patient, larger for more likely ill. Patients without one (NaN) are
            left out.
        ill: Who has the disease.
        level: Share of the interval.
        resamples: How many.
        seed: Of the resampling.

    Raises:
        ValueError: If nobody is ill, or everybody.
    """
    known = np.isfinite(score)
    sick, well = score[known & ill], score[known & ~ill]
    if not len(sick) or not len(well):
        raise ValueError(
            f"{len(sick)} ill patients and {len(well)} others with a score: expected some of each"
        )

    def area(a: np.ndarray, b: np.ndarray) -> float:
        return float(stats.mannwhitneyu(a, b).statistic / (len(a) * len(b)))

    random = np.random.default_rng(seed)
    areas = [
        area(random.choice(sick, len(sick)), random.choice(well, len(well)))
        for _ in range(resamples)
    ]
    low, high = np.quantile(areas, [(1 - level) / 2, (1 + level) / 2])
    return Interval(area(sick, well), float(low), float(high))


def outlyingness(
    values: Float[np.ndarray, "patient value"], *, share: float = 0.6, iterations: int = 20
) -> Float[np.ndarray, " patient"]:
    """How far each patient is from the bulk of all, as a Mahalanobis distance.

    Mean and covariance are of the given share of patients nearest to them, found by repeating:
    the concentration step of Rousseeuw and Van Driessen, "A fast algorithm for the minimum
    covariance determinant estimator", Technometrics 41(3), 1999, started at the medians.

    Args:
        values: One row a patient.
        share: Of the patients who count as the bulk.
        iterations: At most.

    Raises:
        ValueError: If there are too few patients for a covariance.
    """
    n, k = values.shape
    bulk = int(np.ceil(share * n))
    if bulk < 2 * k or not np.isfinite(values).all():
        raise ValueError(
            f"{n} patients with {k} values: expected finite ones, and at least "
            f"{int(np.ceil(2 * k / share))} patients"
        )
    spread = stats.median_abs_deviation(values, axis=0)
    scaled = (values - np.median(values, axis=0)) / np.where(spread > 0, spread, 1.0)
    distance = np.linalg.norm(scaled, axis=1)
    inside = np.argsort(distance)[:bulk]
    for _ in range(iterations):
        mean = scaled[inside].mean(axis=0)
        # A small ridge: values that hang together exactly leave no inverse.
        covariance = np.cov(scaled[inside], rowvar=False).reshape(k, k) + 1e-6 * np.eye(k)
        centred = scaled - mean
        distance = np.sqrt(np.sum(centred @ np.linalg.inv(covariance) * centred, axis=1))
        nearest = np.argsort(distance)[:bulk]
        if np.array_equal(np.sort(nearest), np.sort(inside)):
            break
        inside = nearest
    return distance
