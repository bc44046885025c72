"""Identifiability: which parameters of a patient a few measured numbers determine."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import equinox as eqx
import numpy as np

from jaxtwin.analysis.information import information_bits
from jaxtwin.forward.base import AbstractForward
from jaxtwin.parameters import NormalPrior
from jaxtwin.physics.base import reading

# Number of agreeing points sufficient for stable quantiles, and the number of rounds tried.
ENOUGH, MOST_ROUNDS = 50, 16


class IncompatibleError(ValueError):
    """Error for a measurement that hardly any patient of the box could have."""


class Compatible(NamedTuple):
    """Patients of the box that are compatible with a measurement.

    Attributes:
        points: Number of drawn points that agree with the measurement.
        drawn: Number of points drawn.
        intervals: Central 90% interval of the agreeing points for each parameter and for each
            reading in `about`, in its unit.
        medians: Their medians.
        narrowing: Width of each interval relative to its width without any measurement: near 1,
            the measurement says nothing; near 0, it determines the value. 1 for a
            value that is the same in the whole box.
        information_bits: What the measurement tells about each, see `information_bits`.
    """

    points: int
    drawn: int
    intervals: dict[str, tuple[float, float]]
    medians: dict[str, float]
    narrowing: dict[str, float]
    information_bits: dict[str, float]


def compatible_patients(
    forward: AbstractForward,
    measured: Mapping[str, tuple[float, float]],
    *,
    about: Sequence[str] = (),
    prior: NormalPrior | None = None,
    points: int = 65_536,
    seed: int = 0,
) -> Compatible:
    """Search the whole box for patients whose readings agree with the measured ones.

    This is a rejection sampler: it keeps every θ of a Sobol sequence whose readings lie within the
    errors. With a prior, half of the θ are drawn from it and the others from the whole box, and
    they are weighted so that together they are distributed as the prior: so even a patient whom
    the prior hardly expects has compatible ones. It uses neither a linearisation nor an encoder,
    so the result depends on the measurement and the prior alone. Fewer points agree with more
    measured readings, so up to `MOST_ROUNDS` sequences are drawn until `ENOUGH` points agree.

    Args:
        forward: Simulator or emulator of the model.
        measured: Value and error by name of a reading, in its unit; a point agrees if its reading
            is within the error of the value.
        about: Names of unmeasured readings for which to return intervals.
        prior: Distribution of θ among the patients; by default uniform on the box.
        points: Number of θ to try per round.
        seed: Seed for the Sobol sequences.

    Raises:
        ValueError: If an error is missing or not positive.
        IncompatibleError: If fewer than ten points agree.
    """
    pairs = all(np.shape(pair) == (2,) for pair in measured.values())
    if not measured or not pairs or any(not error > 0 for _, error in measured.values()):
        raise ValueError(
            f"measured {dict(measured)}: expected at least one value, each with a positive error, "
            'such as {"EF": (60.0, 5.0)}'
        )
    before: _Points | None = None
    kept: list[_Points] = []
    rounds = 0
    while rounds < MOST_ROUNDS and (not kept or _joined(kept).effective < ENOUGH):
        tried, agree = _draw(forward, measured, about, prior, points, seed + rounds)
        before = before or tried
        kept.append(tried.take(agree))
        rounds += 1
    assert before is not None
    after, drawn = _joined(kept), rounds * points
    found = len(after.weights)
    if found < 10:
        what = ", ".join(
            f"{name} {value:.4g} ± {e:.2g} {reading(forward.system, name).unit}"
            for name, (value, e) in measured.items()
        )
        raise IncompatibleError(
            f"only {found} of {drawn} points of the box have {what}: expected at least 10; check "
            "the measurement, which the model can hardly reproduce, or raise `points` (here "
            f"{rounds} rounds of {points})"
        )
    random = np.random.default_rng(seed)
    return summarise(after.resampled(random), before.resampled(random), found, drawn)


def summarise(
    values: Mapping[str, np.ndarray], before: Mapping[str, np.ndarray], points: int, drawn: int
) -> Compatible:
    """Summarise draws of the patients who are compatible with a measurement.

    Args:
        values: Draws of each parameter and reading, by name; NaN is left out.
        before: Draws without any measurement.
        points: Number of different points among the draws.
        drawn: Number of points drawn to find them.
    """
    intervals, medians, narrowing, bits = {}, {}, {}, {}
    for name, found in values.items():
        own, others = (x[np.isfinite(x)] for x in (np.asarray(found), np.asarray(before[name])))
        low, median, high = np.quantile(own, (0.05, 0.5, 0.95)).tolist()
        first, last = np.quantile(others, (0.05, 0.95)).tolist()
        intervals[name], medians[name] = (low, high), median
        narrowing[name] = (high - low) / (last - first) if last > first else 1.0
        bits[name] = information_bits(own, others)
    return Compatible(points, drawn, intervals, medians, narrowing, bits)


class _Points(NamedTuple):
    """Points of a box: parameters and readings by name, and what each point counts."""

    values: dict[str, np.ndarray]
    weights: np.ndarray

    @property
    def effective(self) -> float:
        """Number of points of equal weight that would be worth as much."""
        total = self.weights.sum()
        return float(total**2 / (self.weights**2).sum()) if total > 0 else 0.0

    def take(self, mask: np.ndarray) -> "_Points":
        return _Points({n: v[mask] for n, v in self.values.items()}, self.weights[mask])

    def resampled(self, random: np.random.Generator) -> dict[str, np.ndarray]:
        """Return as many points of equal weight, some of them several times."""
        if np.ptp(self.weights) == 0:
            return self.values
        n = len(self.weights)
        place = (np.arange(n) + random.random()) / n
        share = np.cumsum(self.weights) / self.weights.sum()
        chosen = np.searchsorted(share, place).clip(max=n - 1)
        return {name: x[chosen] for name, x in self.values.items()}


def _joined(parts: Sequence[_Points]) -> _Points:
    return _Points(
        {name: np.concatenate([part.values[name] for part in parts]) for name in parts[0].values},
        np.concatenate([part.weights for part in parts]),
    )


_read = eqx.filter_jit(
    lambda system, names, recording: {n: reading(system, n).function(recording) for n in names}
)


def _draw(
    forward: AbstractForward,
    measured: Mapping[str, tuple[float, float]],
    about: Sequence[str],
    prior: NormalPrior | None,
    points: int,
    seed: int,
) -> tuple[_Points, np.ndarray]:
    """Return points of the box, and which of them agree."""
    box = forward.box
    weights = np.ones(points)
    if prior is None:
        theta = box.sample(points, seed=seed)
    else:
        half = points // 2
        expected, others = prior.sample(box, half, seed=seed), box.sample(points - half, seed=seed)
        theta = np.concatenate([expected, others]).astype(others.dtype)
        # The balance heuristic (Veach and Guibas, SIGGRAPH 1995): no weight exceeds 2.
        density = prior.density(box, theta)
        weights = np.maximum(2 * density / (density + 1), 1e-9)
    recording = forward.predict(theta)

    names = tuple(dict.fromkeys((*about, *measured)))
    columns = {n: np.asarray(v) for n, v in _read(forward.system, names, recording).items()}
    values = dict(zip(box.names, theta.T, strict=True))
    values |= {name: columns[name] for name in about}
    agree = np.ones(points, bool)
    for name, (value, error) in measured.items():
        agree &= np.abs(columns[name] - value) <= error
    return _Points(values, weights), agree
