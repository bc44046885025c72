"""Could a model have produced a measurement at all?

A posterior answers whatever it is shown. Three checks tell whether the answer means anything: do
draws of the posterior reproduce the measurement, does the flow's summary of it resemble those of
the model's own patients, and do its largest and smallest values lie where the prior has patients?
The first two are calibrated on patients of the prior, so that their p-values are uniform there
however good the flow is.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial.distance import cdist, pdist

from jaxtwin.cohorts.cohort import Cohort
from jaxtwin.cohorts.simulate import check_whole, simulate_cohort
from jaxtwin.inference.distribution import FlowDistribution, flow_of
from jaxtwin.inference.importance import log_likelihoods
from jaxtwin.inference.observing import TaskObservation, noise_of
from jaxtwin.methods.base import Learnt
from jaxtwin.methods.tasks import Curves, CurveTask

TOGETHER = 100
"""Number of patients whose draws are simulated together."""
RESAMPLES = 1_000
"""Number of groups of the model's own patients that a group is compared with."""
FARTHEST = 3.0
"""Distance from the prior's mean, in standard deviations, up to which the prior has patients; and
distance of a patient's numbers from the measured ones, in errors, up to which they agree."""
SMALLEST_SHARE = 1_000 / 5e5
"""Smallest share of the prior's patients that has to agree with what was measured."""
SCALES = (0.5, 1.0, 2.0)
"""Widths of the kernels, as multiples of the median distance of two patients."""


class Checked(NamedTuple):
    """What was found of some measurements.

    Attributes:
        predictive: p-value of the posterior-predictive check: share of the model's own patients
            whose measurement is reproduced as badly by the draws of their posterior. The sharpest
            of the three.
        features: p-value of the features: share of the model's own patients whose summary is as
            unusual.
        prior: Whether the prior has patients with such numbers; see `ModelCheck.within_prior`.
    """

    predictive: Float[np.ndarray, " patient"]
    features: Float[np.ndarray, " patient"]
    prior: Bool[np.ndarray, " patient"]


class ModelCheck(NamedTuple):
    """Checks of whether a model could have produced a measurement; made by `ModelCheck.fit`.

    Attributes:
        learnt: What `NeuralPosterior` or `VariationalPSSL` learnt.
        draws: Number of draws of each posterior.
        discrepancies: Smallest squared errors of the model's own patients, in increasing order.
        mean: Mean of the features of the model's own patients.
        whitening: Matrix that makes these features uncorrelated with variance one.
        known: Whitened features of some of these patients, which others are compared with.
        unseen: Whitened features of the others.
        width: Median distance of two patients' whitened features.
        numbers: Largest and smallest value, and numbers beside the curve, of patients of the prior.
        alike: Kernel between any two of the unseen patients, which every group is compared with.
        near: Mean kernel between each of them and the known ones.
    """

    learnt: Learnt[CurveTask, Curves]
    draws: int
    discrepancies: Float[np.ndarray, " unseen"]
    mean: Float[np.ndarray, " feature"]
    whitening: Float[np.ndarray, "feature kept"]
    known: Float[np.ndarray, "known kept"]
    unseen: Float[np.ndarray, "unseen kept"]
    width: float
    numbers: Float[np.ndarray, "prior number"]
    alike: Float[np.ndarray, "unseen unseen"]
    near: Float[np.ndarray, " unseen"]

    @classmethod
    def fit(
        cls,
        learnt: Learnt[CurveTask, Curves],
        *,
        patients: int = 2_000,
        prior: int = 50_000,
        draws: int = 200,
        seed: int = 0,
    ) -> "ModelCheck":
        """Measure patients of the prior, and note how they look to the checks.

        Args:
            learnt: What `NeuralPosterior` or `VariationalPSSL` learnt.
            patients: Number of patients of the prior. The features of half of them are compared
                with those of the other half.
            prior: Number of patients of the prior for `within_prior`.
            draws: Number of draws of each posterior.
            seed: Seed of all random numbers.

        Raises:
            ValueError: If it is no flow, or there are fewer than 100 patients that can be
                simulated.
        """
        check_whole(patients=patients, prior=prior, draws=draws)
        task = learnt.task
        flow = flow_of(learnt, task)
        cohort = _draw(task, patients, seed)
        if len(cohort) < 100:
            raise ValueError(
                f"{len(cohort)} of {patients} patients of the prior can be simulated: a check "
                "needs at least 100 to compare with"
            )
        measured = task.check(task.measure(cohort, seed))
        half = len(cohort) // 2
        features = flow.features(measured).astype(float)
        mean, whitening = _whiten(features[:half])
        features = (features - mean) @ whitening
        unseen = measured.take(slice(half, None))
        check = cls(
            learnt,
            draws,
            np.zeros(0),
            mean,
            whitening,
            features[:half],
            features[half:],
            float(np.median(pdist(features[: min(half, 1_000)]))),
            _numbers(task, task.check(task.measure(_draw(task, prior, seed + 1), seed + 1))),
            np.zeros((0, 0)),
            np.zeros(0),
        )
        return check._replace(
            discrepancies=np.sort(check.discrepancy(unseen)),
            alike=check._kernel(check.unseen, check.unseen),
            near=check._near(check.unseen),
        )

    def __call__(self, measurements: Curves) -> Checked:
        """Check measurements of some patients.

        A patient in whom nothing was measured has p-values of NaN.

        Raises:
            ValueError: If the measurements do not belong to the task.
        """
        task = self.learnt.task
        checked = task.check(measurements)
        usable = task.usable(checked)
        own = np.sort(_unusual(self.unseen))
        found = (
            _share_above(self.discrepancies, self.discrepancy(checked)),
            _share_above(own, _unusual(self.features(checked))),
        )
        return Checked(
            *(np.where(usable, p, np.nan) for p in found),
            prior=self.within_prior(checked),
        )

    def discrepancy(self, measurements: Curves) -> Float[np.ndarray, " patient"]:
        """Return the smallest squared error of a posterior's draws, in units of the noise.

        For the model's own patients it is distributed nearly as χ² with the number of samples less
        the number of parameters. It is infinite if no draw can be simulated.

        Args:
            measurements: Checked measurements.
        """
        found = []
        for start in range(0, len(measurements.values), TOGETHER):
            some = measurements.take(slice(start, start + TOGETHER))
            theta = self._flow.sample(some, self.draws, start, None).theta
            found.append(-2 * log_likelihoods(self.learnt.task, some, theta).max(axis=1))
        return np.concatenate(found)

    def features(self, measurements: Curves) -> Float[np.ndarray, "patient kept"]:
        """Return the flow's whitened summaries of checked measurements."""
        return (self._flow.features(measurements).astype(float) - self.mean) @ self.whitening

    def group(self, measurements: Curves, *, seed: int = 0) -> float:
        """Return the p-value of the hypothesis that a group comes from the model.

        Its statistic is the squared maximum mean discrepancy (MMD) between the group's features and
        those of the model's own patients (Gretton et al., "A kernel two-sample test", Journal of
        Machine Learning Research 13, 2012; of summaries: Schmitt et al., "Detecting model
        misspecification in amortized Bayesian inference with neural networks", GCPR 2023). It is
        compared with groups of the same size of the model's own patients. Groups of other patients
        of the model differ, too: another mixture of healthy and ill is noticed.

        Args:
            measurements: Measurements of the group, at least two patients.
            seed: Seed of the groups.

        Raises:
            ValueError: If the measurements do not belong to the task, there are fewer than two
                patients or more than the model's own, or nothing was measured in one.
        """
        task = self.learnt.task
        checked = task.check(measurements)
        n = len(checked.values)
        if not 2 <= n <= len(self.unseen) or not task.usable(checked).all():
            raise ValueError(
                f"a group of {n} patients, {task.usable(checked).sum()} of them measured: expected "
                f"2 to {len(self.unseen)}, all measured"
            )
        # The part of MMD² that is the same for all groups is left out.
        random = np.random.default_rng(seed)
        within, near = self.alike, self.near
        own = np.empty(RESAMPLES)
        for i in range(RESAMPLES):
            chosen = random.choice(len(self.unseen), n, replace=False)
            own[i] = _mmd(within[np.ix_(chosen, chosen)], near[chosen])
        features = self.features(checked)
        found = _mmd(self._kernel(features, features), self._near(features))
        return float(_share_above(np.sort(own), np.array([found]))[0])

    def within_prior(self, measurements: Curves) -> Bool[np.ndarray, " patient"]:
        """Return whether the prior has patients with the measured numbers.

        The numbers are the largest and the smallest measured value of the curve, and what is
        measured beside it. Each has to lie within three standard deviations of its mean under the
        prior, and at least one patient of the prior in 500 has to have all of them within three
        errors (Ferrario et al., 2026). Says nothing about the shape of a curve.

        Args:
            measurements: Checked measurements.
        """
        task = self.learnt.task
        numbers, errors = _numbers(task, measurements), _errors(task)
        mean, spread = np.nanmean(self.numbers, axis=0), np.nanstd(self.numbers, axis=0)
        there = np.isfinite(numbers)
        near = (np.abs(numbers - mean) <= FARTHEST * spread) | ~there
        share = np.array(
            [
                np.mean(
                    ((np.abs(self.numbers - row) <= FARTHEST * errors) | ~np.isfinite(row)).all(1)
                )
                for row in numbers
            ]
        )
        return near.all(axis=1) & (share >= SMALLEST_SHARE) & there.any(axis=1)

    @property
    def _flow(self) -> FlowDistribution:
        return flow_of(self.learnt, self.learnt.task)

    def _kernel(self, a: np.ndarray, b: np.ndarray) -> Float[np.ndarray, "a b"]:
        square = cdist(a, b, "sqeuclidean") / self.width**2
        return np.mean([np.exp(-0.5 * square / scale**2) for scale in SCALES], axis=0)

    def _near(self, features: np.ndarray) -> Float[np.ndarray, " patient"]:
        """Return the mean kernel between each patient and the model's own."""
        return self._kernel(features, self.known).mean(axis=1)


def _unusual(features: np.ndarray) -> Float[np.ndarray, " patient"]:
    """Return the squared Mahalanobis distance of whitened features, divided by their number."""
    return np.mean(features**2, axis=1)


def _draw(task: CurveTask, n: int, seed: int) -> Cohort:
    """Draw patients of a task's prior, and leave out those that cannot be simulated."""
    theta = TaskObservation().patients(task, n, seed=2**21 + seed)
    cohort = simulate_cohort(task.system, task.box, theta, phases=task.samples)
    return cohort.take(np.flatnonzero(cohort.success))


def _whiten(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean, and a matrix to uncorrelated features of variance one."""
    mean = features.mean(axis=0)
    _, sizes, directions = np.linalg.svd(features - mean, full_matrices=False)
    kept = sizes > 1e-3 * sizes[0]
    return mean, directions[kept].T / sizes[kept] * np.sqrt(len(features))


def _share_above(own: np.ndarray, found: np.ndarray) -> Float[np.ndarray, " patient"]:
    """Return p-values: the share of the model's own statistics that are at least as large."""
    above = len(own) - np.searchsorted(own, found, side="left")
    return (1 + above) / (1 + len(own))


def _mmd(within: np.ndarray, near: np.ndarray) -> float:
    return float(within.mean() - 2 * near.mean())


def _numbers(task: CurveTask, measurements: Curves) -> Float[np.ndarray, "patient number"]:
    """Return the extremes of checked curves, and the numbers beside them; NaN where none is."""
    curve, *beside = task.parts(np.asarray(task.rows(measurements).values))
    return _with_extremes(np.asarray(curve), beside)


def _errors(task: CurveTask) -> Float[np.ndarray, " number"]:
    own, *beside = task.measured_channels
    numbers = [noise_of(channel) for channel in beside if len(channel.phases) == 1]
    return np.array([noise_of(own), noise_of(own), *numbers])


def _with_extremes(curve: np.ndarray, beside: list) -> Float[np.ndarray, "patient number"]:
    """Return the extremes of the curves, and the numbers beside them; NaN where none is."""
    there = np.isfinite(curve)
    some = there.any(axis=1)
    largest = np.where(there, curve, -np.inf).max(axis=1)
    smallest = np.where(there, curve, np.inf).min(axis=1)
    columns = [np.where(some, largest, np.nan), np.where(some, smallest, np.nan)]
    columns += [np.asarray(part)[:, 0] for part in beside if part.shape[1] == 1]
    return np.stack(columns, axis=1).astype(float)
