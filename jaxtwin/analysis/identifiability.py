"""What a few numbers say about a patient's parameters, and what they leave open."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxtwin.forward.base import AbstractForward
from jaxtwin.physics.base import reading

# Points that agree, for quantiles that a few more would not move much; and when to give up.
ENOUGH, MOST_ROUNDS = 50, 16


class Compatible(NamedTuple):
    """The patients of the box who would have been measured alike.

    Attributes:
        points: How many of the points drawn agree with the measurement.
        drawn: How many were drawn.
        intervals: For each parameter, and each reading that was asked about, the central 90% of
            the agreeing points.
        narrowing: For each of them, the width of that interval over the width it has without
            any measurement: near 1 nothing was learnt, near 0 the measurement pins it down. 1 for
            what is the same in the whole box.
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
    """Search the whole box for patients whose numbers agree with those measured.

    Every θ of a Sobol sequence over the box whose numbers lie within the errors is
    kept: a rejection sampler with a uniform prior on the box. No linearisation, and no
    encoder: this is about the measurement itself. The more numbers, the fewer agree: up to
    `MOST_ROUNDS` sequences are drawn until `ENOUGH` points do.

    Args:
        forward: Of the model, on its box.
        measured: By name of a reading, the value and half the width of the interval that counts as
            agreement, in the reading's unit.
        about: Readings that were not measured, and are asked about like the parameters.
        points: How many θ to try at a time.
        seed: Of the sequences.

    Raises:
        ValueError: If an error is not positive, or fewer than ten points agree.
    """
    if not measured or any(not error > 0 for _, error in measured.values()):
        raise ValueError(
            f"measured {dict(measured)}: expected at least one value, each with a positive error"
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
        raise ValueError(
            f"only {found} of {drawn} points of the box have {what}: that is at the "
            "edge of what the model can do; raise `points`, or check the measurement"
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
    """Parameters and readings of points of the box, and which of them agree."""
    theta = forward.box.sample(points, seed=seed)
    recording = forward.predict(theta)

    def column(name: str) -> np.ndarray:
        return np.asarray(reading(forward.system, name).of(recording))

    values = dict(zip(forward.box.names, theta.T, strict=True))
    values |= {name: column(name) for name in about}
    agree = np.ones(points, bool)
    for name, (value, error) in measured.items():
        agree &= np.abs(column(name) - value) <= error
    return values, agree
