"""What two volumes say about a patient's parameters, and what they leave open."""

from typing import NamedTuple

import numpy as np

from jaxtwin.forward import AbstractForward


class Compatible(NamedTuple):
    """The patients of the box who would have been measured alike.

    Attributes:
        points: How many of the points drawn agree with the measurement.
        drawn: How many were drawn.
        intervals: For each parameter, and for the pressures P_lv_max and P_ao_mean, the
            central 90% of the agreeing points.
        narrowing: For each of them, the width of that interval over the width it has without
            any measurement: near 1 nothing was learnt, near 0 the measurement pins it down.
    """

    points: int
    drawn: int
    intervals: dict[str, tuple[float, float]]
    narrowing: dict[str, float]


def compatible_patients(
    forward: AbstractForward,
    EDV: float,
    ESV: float,
    *,
    EDV_error: float,
    ESV_error: float,
    points: int = 65_536,
    seed: int = 0,
) -> Compatible:
    """Search the whole box for patients whose volumes agree with those measured.

    Every θ of a Sobol sequence over the box whose volumes lie within the errors is
    kept: a rejection sampler with a uniform prior on the box. No linearisation, and no
    encoder: this is about the measurement itself.

    Args:
        forward: Of the model, on its box.
        EDV: End-diastolic volume [mL].
        ESV: End-systolic volume [mL].
        EDV_error: Half the width of the interval that counts as agreement [mL].
        ESV_error: Likewise.
        points: How many θ to try.
        seed: Of the sequence.

    Raises:
        ValueError: If an error is not positive, or fewer than ten points agree.
    """
    if not (EDV_error > 0 and ESV_error > 0):
        raise ValueError(f"errors of {EDV_error} and {ESV_error} mL: expected positive numbers")
    theta = forward.box.sample(points, seed=seed)
    emulation = forward.predict(theta)
    channel = forward.channels.index
    maximum, minimum = np.asarray(emulation.maximum), np.asarray(emulation.minimum)
    P_ao = np.asarray(emulation.waveforms[:, channel("P_ao")])
    values = {
        **dict(zip(forward.box.names, theta.T, strict=True)),
        "P_lv_max": maximum[:, channel("P_lv")],
        "P_ao_mean": P_ao.mean(axis=1),
    }
    agree = (np.abs(maximum[:, channel("V_lv")] - EDV) <= EDV_error) & (
        np.abs(minimum[:, channel("V_lv")] - ESV) <= ESV_error
    )
    if agree.sum() < 10:
        raise ValueError(
            f"only {agree.sum()} of {points} points of the box have EDV {EDV:.0f} ± "
            f"{EDV_error:.1f} and ESV {ESV:.0f} ± {ESV_error:.1f} mL: the volumes are at the "
            "edge of what the model can do; raise `points`, or check the measurement"
        )
    intervals, narrowing = {}, {}
    for name, value in values.items():
        low, high = np.quantile(value[agree], (0.05, 0.95))
        prior_low, prior_high = np.quantile(value, (0.05, 0.95))
        intervals[name] = (float(low), float(high))
        narrowing[name] = float((high - low) / (prior_high - prior_low))
    return Compatible(int(agree.sum()), points, intervals, narrowing)
