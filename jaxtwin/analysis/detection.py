"""Is a disease to be seen in numbers that never met a diagnosis?

Three ways to ask without labels: one number alone (`auroc`), being unlike the bulk
(`outlyingness`), falling into groups (`memberships`); and a classifier that was told the diagnoses
(`probabilities`), for what there was to be found.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from sklearn.covariance import MinCovDet
from sklearn.linear_model import LogisticRegression
from sklearn.mixture import GaussianMixture
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from threadpoolctl import threadpool_limits

from jaxtwin.analysis.metrics import Interval

Table = Float[np.ndarray, "patient value"]
Reference = Float[np.ndarray, "other value"]


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
    apart, so that no resample is without either.

    Args:
        scores: One number a patient, larger for more likely ill, from each seed. Patients without
            one (NaN) in any seed are left out.
        ill: Who has the disease.
        level: Share of the interval.
        resamples: How many.
        seed: Of the resampling.

    Raises:
        ValueError: If nobody is ill, or everybody.
    """
    known = np.isfinite(scores).all(axis=0)
    sick, well = scores[:, known & ill], scores[:, known & ~ill]
    n, m = sick.shape[1], well.shape[1]
    if not n or not m:
        raise ValueError(f"{n} ill patients and {m} others with a score: expected some of each")
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
    drawn = np.take_along_axis(areas, seeds, axis=0).mean(axis=0)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(means.mean()), float(low), float(high))


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
    scaler = _scaler(reference)
    bulk = MinCovDet(support_fraction=share, random_state=0).fit(scaler.transform(reference))
    return np.sqrt(bulk.mahalanobis(scaler.transform(values)))


def memberships(values: Table, reference: Reference, groups: int, *, seed: int = 0) -> np.ndarray:
    """How likely each patient belongs to each of some groups, found without diagnoses.

    The groups are the components of a mixture of Gaussians, fitted to the reference.

    Args:
        values: One row a patient.
        reference: The patients among whom groups are sought.
        groups: How many.
        seed: Of the fit's starts.

    Returns:
        Probabilities, [patient, group], the groups in no order that means anything.

    Raises:
        ValueError: If the reference has too few patients.
    """
    _check(reference, 4 * groups)
    scaler = _scaler(reference)
    # The ridge keeps a group of a few patients from collapsing onto them.
    mixture = GaussianMixture(groups, reg_covar=1e-3, n_init=5, max_iter=500, random_state=seed)
    # Its matrices are small: threads would only wait for each other.
    with threadpool_limits(1):
        return mixture.fit(scaler.transform(reference)).predict_proba(scaler.transform(values))


def probabilities(
    values: Table, reference: Reference, diagnosis: Sequence[str]
) -> dict[str, Float[np.ndarray, " patient"]]:
    """How likely each patient has each diagnosis, by a classifier that was told the reference's.

    Logistic regression on the values, their squares and products.

    Args:
        values: One row a patient.
        reference: Other patients.
        diagnosis: The reference's, one a patient.

    Raises:
        ValueError: If there are fewer than two diagnoses.
    """
    if len(set(diagnosis)) < 2:
        raise ValueError(f"diagnoses {sorted(set(diagnosis))}: expected at least two")
    classifier = make_pipeline(
        StandardScaler(),
        PolynomialFeatures(2, include_bias=False),
        StandardScaler(),
        LogisticRegression(max_iter=5_000),
    )
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


def _scaler(reference: Reference) -> StandardScaler:
    return StandardScaler().fit(reference)
