"""Is a disease to be seen in numbers that never met a diagnosis?

Three ways to ask without labels: one number alone (`auroc`), being unlike the bulk
(`outlyingness`), falling into groups (`memberships`); and a classifier that was told the diagnoses
(`probabilities`), for what there was to be found.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from sklearn.covariance import MinCovDet
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.mixture import GaussianMixture
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from threadpoolctl import threadpool_limits

from jaxtwin.analysis.metrics import Interval

Table = Float[np.ndarray, "patient value"]
Reference = Float[np.ndarray, "other value"]

FEWEST = 10
"""Ill patients, and others, below which an interval is not given: with five it would hold the truth
in eight cases of ten and say nineteen of twenty."""
# A table of more columns is classified by them alone, without squares and products.
WIDE = 16
MOST_GROUPS = 8


def auroc(
    scores: Float[np.ndarray, "seed patient"],
    ill: Bool[np.ndarray, " patient"],
    *,
    level: float = 0.95,
    resamples: int = 2_000,
    seed: int = 0,
) -> Interval:
    """The probability that an ill patient scores higher than one who is not; ties count half.

    The area under the receiver operating characteristic, its mean over the seeds of what made the
    scores, with the percentile bootstrap interval over seeds and over ill and other patients
    apart, so that no resample is without either. Of fewer than `FEWEST` patients of a kind the
    bootstrap knows too little: the interval is NaN.

    Args:
        scores: One number a patient, larger for more likely ill, from each seed.
        ill: Who has the disease.
        level: Share of the interval.
        resamples: How many.
        seed: Of the resampling.

    Raises:
        ValueError: If nobody is ill, or everybody, or a score is NaN.
    """
    mean, drawn = _areas(scores, ill, resamples, seed)
    return _interval(mean, drawn, ill, level)


def auroc_difference(
    scores: Float[np.ndarray, "seed patient"],
    others: Float[np.ndarray, "other_seed patient"],
    ill: Bool[np.ndarray, " patient"],
    *,
    level: float = 0.95,
    resamples: int = 2_000,
    seed: int = 0,
) -> Interval:
    """How much larger the area of one score is than another's, on the same patients.

    Both are drawn anew with the same patients, so that what is hard about them cancels.

    Args:
        scores: As in `auroc`.
        others: Another score of the same patients.
        ill: Who has the disease.
        level: Share of the interval.
        resamples: How many.
        seed: Of the resampling.
    """
    mean, drawn = _areas(scores, ill, resamples, seed)
    other, also = _areas(others, ill, resamples, seed)
    return _interval(mean - other, drawn - also, ill, level)


def _areas(
    scores: Float[np.ndarray, "seed patient"],
    ill: Bool[np.ndarray, " patient"],
    resamples: int,
    seed: int,
) -> tuple[float, Float[np.ndarray, " resample"]]:
    """The mean area over seeds, and those of patients and seeds drawn anew."""
    sick, well = scores[:, ill], scores[:, ~ill]
    n, m = sick.shape[1], well.shape[1]
    if not n or not m or not np.isfinite(scores).all():
        raise ValueError(
            f"{n} ill patients and {m} others, {int(np.sum(~np.isfinite(scores)))} scores not "
            "finite: expected some of each, and a score of everybody"
        )
    random = np.random.default_rng(seed)
    # How often each patient is drawn: an area of a resample is then a weighted mean.
    of_sick = random.multinomial(n, np.full(n, 1 / n), resamples) / n
    of_well = random.multinomial(m, np.full(m, 1 / m), resamples) / m
    areas, means = np.empty((len(scores), resamples)), np.empty(len(scores))
    for k, (a, b) in enumerate(zip(sick, well, strict=True)):
        above = 0.5 * (1 + np.sign(a[:, None] - b))
        areas[k] = np.sum((of_sick @ above) * of_well, axis=1)
        means[k] = above.mean()
    seeds = random.integers(len(scores), size=(len(scores), resamples))
    return float(means.mean()), np.take_along_axis(areas, seeds, axis=0).mean(axis=0)


def _interval(
    mean: float, drawn: np.ndarray, ill: Bool[np.ndarray, " patient"], level: float
) -> Interval:
    if min(ill.sum(), (~ill).sum()) < FEWEST:
        return Interval(mean, np.nan, np.nan)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean, float(low), float(high))


def outlyingness(values: Table, reference: Reference, *, share: float = 0.6) -> np.ndarray:
    """How far each patient is from the bulk of the reference, as a Mahalanobis distance.

    Mean and covariance are of the given share of the reference that lies closest together
    (Rousseeuw and Van Driessen, "A fast algorithm for the minimum covariance determinant
    estimator", Technometrics 41(3), 1999), so that the ill do not hide themselves.

    Args:
        values: One row a patient.
        reference: Patients of the same kind, most of them alike.
        share: Of the reference that counts as the bulk.

    Raises:
        ValueError: If the reference has too few patients for a covariance.
    """
    _check(reference, int(np.ceil(2 * reference.shape[1] / share)))
    scaler = StandardScaler().fit(reference)
    bulk = MinCovDet(support_fraction=share, random_state=0).fit(scaler.transform(reference))
    return np.sqrt(bulk.mahalanobis(scaler.transform(values)))


def memberships(
    values: Table, reference: Reference, *, seed: int = 0
) -> Float[np.ndarray, "patient group"]:
    """How likely each patient belongs to each of some groups, found without diagnoses.

    The groups are the components of a mixture of Gaussians, fitted to the reference; how many
    there are, up to `MOST_GROUPS`, is the number with the lowest Bayesian information criterion.

    Args:
        values: One row a patient.
        reference: The patients among whom groups are sought.
        seed: Of the fit's starts.

    Returns:
        Probabilities; the groups are in no order that means anything.

    Raises:
        ValueError: If the reference has too few patients.
    """
    _check(reference, 4 * MOST_GROUPS)
    scaler = StandardScaler().fit(reference)
    known = scaler.transform(reference)
    # Its matrices are small: threads would only wait for each other.
    with threadpool_limits(1):
        mixtures = [
            # The ridge keeps a group of a few patients from collapsing onto them.
            GaussianMixture(n, reg_covar=1e-3, n_init=3, max_iter=500, random_state=seed).fit(known)
            for n in range(1, MOST_GROUPS + 1)
        ]
        best = min(mixtures, key=lambda mixture: mixture.bic(known))
        return best.predict_proba(scaler.transform(values))


def probabilities(
    values: Table, reference: Reference, diagnosis: Sequence[str]
) -> dict[str, Float[np.ndarray, " patient"]]:
    """How likely each patient has each diagnosis, by a classifier that was told the reference's.

    Logistic regression on the values, their squares and products; on the values alone where there
    are more than `WIDE` of them. How much it is held back is chosen by cross-validation among the
    reference's patients, unless somebody's diagnosis is too rare for that (C = 0.1 then).

    Args:
        values: One row a patient.
        reference: Other patients.
        diagnosis: The reference's, one a patient.

    Raises:
        ValueError: If there are fewer than two diagnoses.
    """
    if len(set(diagnosis)) < 2:
        raise ValueError(f"diagnoses {sorted(set(diagnosis))}: expected at least two")
    counts = [list(diagnosis).count(name) for name in set(diagnosis)]
    products = [PolynomialFeatures(2, include_bias=False), StandardScaler()]
    # Folds hold every diagnosis; of one that too few have, none can.
    strength = LogisticRegression(C=0.1, max_iter=2_000)
    if min(counts) >= 5:
        options: dict[str, Any] = {
            "Cs": np.logspace(-3, 1, 5),
            "cv": 5,
            "scoring": "neg_log_loss",
            "max_iter": 2_000,
            "l1_ratios": (0.0,),
            "use_legacy_attributes": False,
        }
        strength = LogisticRegressionCV(**options)
    classifier = make_pipeline(
        StandardScaler(), *(products if values.shape[1] <= WIDE else []), strength
    )
    with threadpool_limits(1):
        classifier.fit(reference, list(diagnosis))
        columns = classifier.predict_proba(values).T
    return dict(zip(classifier.classes_.tolist(), columns, strict=True))


def _check(reference: Reference, least: int) -> None:
    n, k = reference.shape
    if n < least or not np.isfinite(reference).all():
        raise ValueError(
            f"{n} reference patients with {k} values: expected finite ones, and at least {least} "
            "patients"
        )
