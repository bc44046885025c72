"""Cohorts whose readings are distributed as those of a clinic's patients.

Of a clinic little is known: quantiles of a few readings, and how some of them go together. Of all
distributions over a box that agree with it, `draw_population` draws from the one nearest, in
relative entropy, to the box's own, which is uniform in the coordinates u of the box. So what the
clinic does not tell stays as open as the box leaves it. Relative to the box's own, the density is
exp(λ·f), where f are the indicators of the readings' bins and the products of their ranks, and λ
gives them the clinic's means (Csiszár, "I-divergence geometry of probability distributions and
minimization problems", Annals of Probability 3(1), 1975). It is found by importance sampling in
rounds, each with a proposal fitted to the weighted patients of the last (Cappé, Guillin, Marin and
Robert, "Population Monte Carlo", Journal of Computational and Graphical Statistics 13(4), 2004).
"""

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxtwin.cohorts.batching import Progress
from jaxtwin.cohorts.cohort import Cohort, check_limits, warn_of_failures
from jaxtwin.cohorts.simulate import check_box, check_whole, simulate_cohort
from jaxtwin.parameters import Box
from jaxtwin.physics.base import AbstractRecordedSystem

_PROBABILITIES = np.array(
    [0.01, 0.025, 0.05, *np.linspace(0.1, 0.9, 9).tolist(), 0.95, 0.975, 0.99]
)
"""Where the distribution of each reading is prescribed."""

_EXTREME = 3.5
"""Normal score of the smallest and the largest value: one in 4,000 patients is beyond it."""

_SLACK = 1e-4
"""Weight of |λ|²/2: how far means may be missed where the box has no such patients."""

_LEFT = 1e-6
"""Gradient at which the search for λ ends: how far means may be missed for lack of steps."""

_GROUPS, _DEGREES, _SPREAD = 6, 8, 1.4
"""Number of multivariate t distributions in a proposal, their degrees of freedom, and their scale
relative to the patients' covariance: heavier tails than the density that they stand for."""


_MOST_FAILED = 1e-3
"""Fraction of the points whose simulation may fail without a warning: points far from all of the
population are tried too."""


class Marginal(NamedTuple):
    """Distribution of one reading among a clinic's patients.

    Attributes:
        quantiles: Values of the reading by their probability; those of probability 0 and 1 are the
            smallest and the largest.
        source: Where it was measured.
    """

    quantiles: Mapping[float, float]
    source: str

    @property
    def limits(self) -> tuple[float, float]:
        """Smallest and largest value."""
        return float(self.quantiles[0]), float(self.quantiles[1])

    def rank(self, values: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        """Return the fraction of the clinic's patients that is below each value."""
        from scipy.stats import norm

        fine = np.linspace(-_EXTREME, _EXTREME, 2_001)
        return norm.cdf(np.interp(values, self._at_score(fine), fine))

    def quantile(
        self, probabilities: Sequence[float] | Float[np.ndarray, " probability"]
    ) -> Float[np.ndarray, " probability"]:
        """Return the value below which each fraction of the clinic's patients is."""
        from scipy.stats import norm

        return self._at_score(np.clip(norm.ppf(probabilities), -_EXTREME, _EXTREME))

    def _at_score(self, scores: Float[np.ndarray, " score"]) -> Float[np.ndarray, " score"]:
        """Return the values at these normal scores, by monotone cubic interpolation."""
        from scipy.interpolate import PchipInterpolator
        from scipy.stats import norm

        known = np.clip(norm.ppf(list(self.quantiles)), -_EXTREME, _EXTREME)
        return PchipInterpolator(known, list(self.quantiles.values()))(scores)


@dataclasses.dataclass(frozen=True)
class Population:
    """What is known of a clinic's patients.

    Attributes:
        name: Name, for reports.
        marginals: Distribution of each reading, by its name.
        correlations: Spearman's rank correlations of pairs of these readings.

    Raises:
        ValueError: If quantiles do not increase from probability 0 to 1, or a correlation is of
            other readings, or not between −1 and 1.
    """

    name: str
    marginals: Mapping[str, Marginal]
    correlations: Mapping[tuple[str, str], float] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        for name, marginal in self.marginals.items():
            p, values = list(marginal.quantiles), list(marginal.quantiles.values())
            rising = all(np.all(np.diff(side) > 0) for side in (p, values))
            if not p or p[0] != 0 or p[-1] != 1 or not rising:
                raise ValueError(
                    f"quantiles of {name}, {dict(marginal.quantiles)}: expected increasing values "
                    "by increasing probability, the first of 0 (the smallest), the last of 1"
                )
        for pair, value in self.correlations.items():
            if not set(pair) <= set(self.marginals) or len(set(pair)) != 2 or not abs(value) < 1:
                raise ValueError(
                    f"rank correlation {value} of {' and '.join(pair)}: expected a number between "
                    f"-1 and 1 of two of {', '.join(self.marginals)}"
                )

    @property
    def limits(self) -> dict[str, tuple[float, float]]:
        """Smallest and largest value of each reading."""
        return {name: marginal.limits for name, marginal in self.marginals.items()}

    def _features(
        self, values: Mapping[str, Float[np.ndarray, " patient"]]
    ) -> tuple[Float[np.ndarray, "patient feature"], Float[np.ndarray, " feature"]]:
        """Return functions f of the readings, and their means in the clinic."""
        ranks = {
            name: marginal.rank(np.asarray(values[name], float))
            for name, marginal in self.marginals.items()
        }
        columns = [rank[:, None] < _PROBABILITIES for rank in ranks.values()]
        # Ranks are uniform, with variance 1/12.
        columns += [
            12 * ((ranks[a] - 0.5) * (ranks[b] - 0.5))[:, None] for a, b in self.correlations
        ]
        means = [*[_PROBABILITIES] * len(ranks), np.array(list(self.correlations.values()))]
        return np.concatenate(columns, axis=1).astype(float), np.concatenate(means)


def draw_population(
    system: AbstractRecordedSystem,
    box: Box,
    population: Population,
    n: int,
    *,
    seed: int,
    points: int | None = None,
    rounds: int = 4,
    phases: int = 80,
    progress: Progress = iter,
) -> Cohort[Any]:
    """Draw n different patients of a box whose readings are distributed as a population's.

    Points whose simulation fails, that are not feasible (`AbstractRecordedSystem.feasible`) or
    outside the population's limits are left out.

    Args:
        system: The model.
        box: The free parameters; wide enough for all of the population.
        population: What is known of the patients.
        n: Number of patients.
        seed: Seed for all draws.
        points: Number of points that are simulated in each round; by default the power of two
            from 20 n up, at least 4,096.
        rounds: Number of rounds; the first draws uniformly in the box, the last is drawn from.
        phases: Number of phases of the recordings, see `simulate_cohort`.
        progress: Wrapper for the iterable of chunks of each round, see `map_patients`.

    Returns:
        The patients, in random order. `accepted` is the effective number of different patients
        in the last round, 1/Σw² of the weights w, as a fraction of its points.

    Raises:
        ValueError: If the system has no such reading, no point of a round is within the
            population's limits, fewer than n of the last are, or an argument is invalid.

    Warns:
        UserWarning: If the effective number of different patients is below 2 n, so that common
            patients are drawn too rarely, or more than one in 1,000 simulations of the last round
            failed.
    """
    check_box(system, box)
    check_whole(n=n, rounds=rounds)
    if points is None:
        points = 1 << max((20 * n - 1).bit_length(), 12)
    check_whole(points=points)
    check_limits(system, population.limits)
    random = np.random.default_rng(seed)
    # Uniform in the box is logistic in raw coordinates.
    raw, density = random.logistic(size=(points, len(box.names))), None
    done = 0
    while True:
        done += 1
        last = done == rounds
        theta = np.asarray(box.bound(jnp.asarray(raw, jnp.float32)))
        simulated = simulate_cohort(system, box, theta, phases=phases, progress=progress)
        held = simulated.within(population.limits)
        held &= np.asarray(system.feasible(simulated.recording))
        if held.sum() < (n if last else 1):
            raise ValueError(
                f"only {held.sum()} of {points} points of the box are within the limits of "
                f"{population.name}, {population.limits}: choose more points, or another box"
            )
        cohort, raw = simulated.take(held), raw[held]
        own = -(np.logaddexp(0, raw) + np.logaddexp(0, -raw)).sum(1)
        drawn = own if density is None else density.logpdf(raw)
        features, means = population._features(cohort.read(population.marginals))
        weights = _tilted(features, means, own - drawn)
        if last:
            break
        density = _Proposal(raw, weights, random)
        raw = density.sample(points, random)
    if np.mean(~simulated.success) > _MOST_FAILED:
        warn_of_failures(simulated)
    effective = 1 / np.sum(weights**2)
    if effective < 2 * n:
        more = 2 ** int(np.ceil(np.log2(2 * n / effective * points)))
        warnings.warn(
            f"{n} patients of {population.name} from {points} points that are worth "
            f"{effective:.0f} of its patients, so that common ones are drawn too rarely: choose "
            f"points={more}, or fewer patients",
            stacklevel=2,
        )
    chosen = _without_replacement(weights, n, random)
    return dataclasses.replace(
        cohort.take(chosen), source=population.name, accepted=float(effective / points)
    )


def compare_population(
    population: Population, cohort: Cohort[Any], probabilities: Sequence[float]
) -> dict[str, dict[str, list[float]]]:
    """Return quantiles of each reading in a clinic and in a cohort, side by side.

    Args:
        population: What is known of the clinic's patients.
        cohort: Simulated patients; failed ones are left out.
        probabilities: Probabilities of the quantiles.

    Returns:
        By reading, `clinic` and `cohort`: its values at these probabilities.
    """
    values = cohort.read(population.marginals)
    return {
        name: {
            "clinic": marginal.quantile(probabilities).tolist(),
            "cohort": np.quantile(values[name][cohort.success], probabilities).tolist(),
        }
        for name, marginal in population.marginals.items()
    }


def _tilted(
    features: Float[np.ndarray, "patient feature"],
    means: Float[np.ndarray, " feature"],
    log_weights: Float[np.ndarray, " patient"],
) -> Float[np.ndarray, " patient"]:
    """Return w_i exp(λ·f_i), normalised, with the λ that gives the features these means.

    It minimises the convex log Σ w_i exp(λ·(f_i − means)) + _SLACK |λ|²/2.
    """
    from scipy.optimize import minimize  # Imported here because it takes long.

    centred = features - means

    def tilted(multipliers: np.ndarray) -> tuple[np.ndarray, float]:
        exponent = log_weights + centred @ multipliers
        w = np.exp(exponent - exponent.max())
        return w / w.sum(), float(exponent.max() + np.log(w.sum()))

    def objective(multipliers: np.ndarray) -> tuple[float, np.ndarray]:
        w, value = tilted(multipliers)
        slack = _SLACK * multipliers
        return value + float(slack @ multipliers) / 2, w @ centred + slack

    def hessian(multipliers: np.ndarray) -> np.ndarray:
        w, _ = tilted(multipliers)
        mean = w @ centred
        return (centred.T * w) @ centred - np.outer(mean, mean) + _SLACK * np.eye(len(mean))

    # With second derivatives some ten evaluations are enough, instead of a few hundred.
    found = minimize(
        objective,
        np.zeros(len(means)),
        jac=True,
        hess=hessian,
        method="trust-exact",
        options={"gtol": _LEFT, "maxiter": 1_000},
    )
    return tilted(found.x)[0]


class _Proposal:
    """A mixture of multivariate t distributions that stands for weighted patients."""

    def __init__(self, raw: np.ndarray, weights: np.ndarray, random: np.random.Generator):
        from scipy.cluster.vq import kmeans2, whiten
        from scipy.stats import multivariate_t

        chosen = raw[random.choice(len(raw), 4_000, p=weights)]
        _, label = kmeans2(whiten(chosen), _GROUPS, minit="++", rng=random)
        groups = [chosen[label == k] for k in range(_GROUPS)]
        # A covariance needs more patients than it has entries; all in one group always are.
        groups = [group for group in groups if len(group) > 4 * raw.shape[1]]
        # The covariance of few different patients may be singular.
        small = 1e-2 * np.eye(raw.shape[1])
        self.shares = np.array([len(group) for group in groups]) / sum(map(len, groups))
        t: Any = multivariate_t  # Annotated as if its shape matrix were a number.
        self.parts = [
            t(group.mean(0), _SPREAD * np.atleast_2d(np.cov(group.T)) + small, df=_DEGREES)
            for group in groups
        ]

    def logpdf(self, raw: np.ndarray) -> Float[np.ndarray, " point"]:
        parts = [
            np.log(share) + part.logpdf(raw)
            for share, part in zip(self.shares, self.parts, strict=True)
        ]
        return np.logaddexp.reduce(parts)

    def sample(self, n: int, random: np.random.Generator) -> Float[np.ndarray, "point free"]:
        counts: list[int] = random.multinomial(n, self.shares).tolist()
        return np.concatenate(
            [
                part.rvs(count, random_state=random).reshape(count, -1)
                for part, count in zip(self.parts, counts, strict=True)
                if count
            ]
        )


def _without_replacement(
    weights: Float[np.ndarray, " patient"], n: int, random: np.random.Generator
) -> np.ndarray:
    """Return n different patients in random order, each as probable as its weight.

    Systematic sampling; a patient whose weight is above 1/n is drawn once.
    """
    order = random.permutation(len(weights))
    share = n * weights[order]
    while share.max() > 1 + 1e-9:
        certain = share >= 1
        share = np.where(certain, 1.0, share * (n - certain.sum()) / share[~certain].sum())
    steps = np.cumsum(share)
    places = np.searchsorted(steps, (np.arange(n) + random.uniform()) * steps[-1] / n)
    return random.permutation(order[places])
