"""Identifiability: which parameters of a patient a few measured numbers determine."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxtwin.forward.base import AbstractForward
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
        narrowing: Width of each interval relative to its width without any measurement: near 1,
            the measurement says nothing; near 0, it determines the value. 1 for a
            value that is the same in the whole box.
    """

    points: int
    drawn: int
    intervals: dict[str, tuple[float, float]]
    narrowing: dict[str, float]


def compatible_patients(
    forward: AbstractForward,
    measured: Mapping[str, tuple[float, float]],
    *,
    about: Sequence[str] = (),
    points: int = 65_536,
    seed: int = 0,
) -> Compatible:
    """Search the whole box for patients whose readings agree with the measured ones.

    This is a rejection sampler with a uniform prior on the box: it keeps every θ of a Sobol
    sequence whose readings lie within the errors. It uses neither a linearisation nor an encoder,
    so the result depends on the measurement alone. Fewer points agree with more measured readings,
    so up to `MOST_ROUNDS` sequences are drawn until `ENOUGH` points agree.

    Args:
        forward: Simulator or emulator of the model.
        measured: Value and error by name of a reading, in its unit; a point agrees if its reading
            is within the error of the value.
        about: Names of unmeasured readings for which to return intervals.
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
    prior: dict[str, np.ndarray] = {}
    kept: list[dict[str, np.ndarray]] = []
    found = rounds = 0
    while found < ENOUGH and rounds < MOST_ROUNDS:
        values, agree = _draw(forward, measured, about, points, seed + rounds)
        prior = prior or values
        kept.append({name: value[agree] for name, value in values.items()})
        found, rounds = found + int(agree.sum()), rounds + 1
    drawn = rounds * points
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
    intervals, narrowing = {}, {}
    for name, before in prior.items():
        low, high = np.quantile(np.concatenate([part[name] for part in kept]), (0.05, 0.95))
        prior_low, prior_high = np.quantile(before, (0.05, 0.95))
        intervals[name] = (float(low), float(high))
        width = prior_high - prior_low
        narrowing[name] = float((high - low) / width) if width > 0 else 1.0
    return Compatible(found, drawn, intervals, narrowing)


def _draw(
    forward: AbstractForward,
    measured: Mapping[str, tuple[float, float]],
    about: Sequence[str],
    points: int,
    seed: int,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return parameters and readings of points of the box, and which points agree."""
    theta = forward.box.sample(points, seed=seed)
    recording = forward.predict(theta)

    def column(name: str) -> np.ndarray:
        return np.asarray(reading(forward.system, name).function(recording))

    values = dict(zip(forward.box.names, theta.T, strict=True))
    values |= {name: column(name) for name in about}
    agree = np.ones(points, bool)
    for name, (value, error) in measured.items():
        agree &= np.abs(column(name) - value) <= error
    return values, agree
