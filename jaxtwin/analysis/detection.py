"""Detection of disease from numbers that were obtained without diagnoses.

Three scores need no labels: a single number (`auroc`), the distance from the bulk of the patients
(`outlyingness`) and membership in groups (`memberships`). A classifier trained on the diagnoses
(`probabilities`) gives an upper reference.
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
"""Smallest number of ill patients, and of others, for which an interval is given: with five, a
nominal 95% interval would cover the true value in only eight cases out of ten."""
# Largest number of columns for which the classifier also uses their squares and products.
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
    """Compute the area under the receiver operating characteristic with a bootstrap interval.

    This is the probability that an ill patient has a higher score than one who is not ill, where
    ties count half. It is averaged over the seeds of the method that gave the scores. The
    percentile bootstrap resamples seeds, ill patients and other patients separately, so every
    resample contains both kinds of patient. With fewer than `FEWEST` patients of either kind the
    interval is NaN, because the bootstrap is unreliable.

    Args:
        scores: Score of each patient for each seed; higher means more likely ill.
        ill: Whether each patient has the disease.
        level: Coverage of the interval.
        resamples: Number of bootstrap resamples.
        seed: Seed for the resampling.

    Raises:
        ValueError: If no patient or every patient is ill, or a score is not finite.
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
    """Compute by how much the area of one score exceeds that of another on the same patients.

    Both scores are resampled with the same patients, so that variation between patients cancels.

    Args:
        scores: Score of each patient for each seed, as in `auroc`.
        others: Another score of the same patients.
        ill: Whether each patient has the disease.
        level: Coverage of the interval.
        resamples: Number of bootstrap resamples.
        seed: Seed for the resampling.
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
    """Return the mean area over seeds, and the mean area of each bootstrap resample."""
    sick, well = scores[:, ill], scores[:, ~ill]
    n, m = sick.shape[1], well.shape[1]
    if not n or not m or not np.isfinite(scores).all():
        raise ValueError(
            f"{n} ill patients and {m} others, {int(np.sum(~np.isfinite(scores)))} scores not "
            "finite: expected patients of both kinds, and a finite score for each"
        )
    random = np.random.default_rng(seed)
    # Counts of each patient in each resample, so that the resample's area is a weighted mean.
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
    """Compute each patient's Mahalanobis distance from the bulk of the reference.

    Mean and covariance are those of the given share of the reference that lies closest together
    (Rousseeuw and Van Driessen, "A fast algorithm for the minimum covariance determinant
    estimator", Technometrics 41(3), 1999), so that ill patients in the reference do not affect
    them.

    Args:
        values: One row per patient.
        reference: One row per reference patient, most of whom should be healthy.
        share: Share of the reference that counts as the bulk.

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
    """Compute the probability that each patient belongs to each of several unsupervised groups.

    The groups are the components of a Gaussian mixture fitted to the reference. Their number, up
    to `MOST_GROUPS`, minimises the Bayesian information criterion.

    Args:
        values: One row per patient.
        reference: One row per patient to whom the mixture is fitted.
        seed: Seed for the starting points of the fit.

    Returns:
        Probabilities; the order of the groups is arbitrary.

    Raises:
        ValueError: If the reference has too few patients.
    """
    _check(reference, 4 * MOST_GROUPS)
    scaler = StandardScaler().fit(reference)
    known = scaler.transform(reference)
    # The matrices are too small to benefit from threads.
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
    """Compute the probability of each diagnosis with a classifier trained on the reference.

    Logistic regression on the values, their squares and products, or on the values alone if there
    are more than `WIDE` of them. The regularisation is chosen by cross-validation on the
    reference, or is C = 0.1 if a diagnosis is too rare for that.

    Args:
        values: One row per patient.
        reference: One row per reference patient.
        diagnosis: Diagnosis of each reference patient.

    Raises:
        ValueError: If there are fewer than two diagnoses.
    """
    if len(set(diagnosis)) < 2:
        raise ValueError(f"diagnoses {sorted(set(diagnosis))}: expected at least two")
    counts = [list(diagnosis).count(name) for name in set(diagnosis)]
    products = [PolynomialFeatures(2, include_bias=False), StandardScaler()]
    # Every fold must contain every diagnosis, which is impossible for a very rare one.
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
            f"{n} reference patients with {k} values: expected finite values and at least {least} "
            "patients"
        )
