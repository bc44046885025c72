"""Vital signs measured with a clip: heart period and blood pressure."""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float

VitalName = Literal["period", "systolic", "diastolic"]


class Vitals(NamedTuple):
    """Vital signs of one patient; NaN if not measured."""

    period: float = math.nan
    """Heart period [s]."""
    systolic: float = math.nan
    """Systolic blood pressure [mmHg]."""
    diastolic: float = math.nan
    """Diastolic blood pressure [mmHg]."""


UNKNOWN = Vitals()
"""Vital signs of a patient without any measurement."""

VITAL_COLUMNS: dict[VitalName, str] = {
    "period": "HeartPeriod",
    "systolic": "SystolicPressure",
    "diastolic": "DiastolicPressure",
}
"""Optional columns of a data set's table."""

PLAUSIBLE: dict[VitalName, tuple[float, float]] = {
    "period": (0.2, 3.0),
    "systolic": (40.0, 300.0),
    "diastolic": (10.0, 200.0),
}
"""Plausible range of each vital sign; values outside it are rejected as errors."""

USUAL: dict[VitalName, tuple[float, float]] = {
    "period": (0.85, 0.2),
    "systolic": (120.0, 20.0),
    "diastolic": (75.0, 12.0),
}
"""Approximate mean and standard deviation among adults, used to standardise vital signs."""

CUFF_ERROR = 5.0
"""Standard deviation of the cuff's error [mmHg]. Validated cuffs are allowed 8, and a mean error
of 5: Stergiou et al., "A universal standard for the validation of blood pressure measuring
devices", Hypertension 71(3), 2018."""
PERIOD_ERROR = 0.01
"""Standard deviation of the period's error [s]."""


def pick_vitals(vitals: Any, names: Sequence[VitalName]) -> list[Any]:
    """Select some vital signs from an array whose last axis has the fields of `Vitals`."""
    return [vitals[..., Vitals._fields.index(name)] for name in names]


def check_vitals(vitals: Float[np.ndarray, "patient vital"], names: Sequence[VitalName]) -> None:
    """Raise a ValueError if one of the vital signs is missing for any patient."""
    for name, values in zip(names, pick_vitals(vitals, names), strict=True):
        if missing := int(np.sum(~np.isfinite(values))):
            raise ValueError(
                f"{missing} of {len(values)} clips have no {name}, which this model needs: fill in "
                f"the column {VITAL_COLUMNS[name]} of FileList.csv, leave those clips out, or "
                "train a model without it"
            )


def simulate_vitals(
    period: Float[np.ndarray, " patient"],
    P_ao_max: Float[np.ndarray, " patient"],
    P_ao_min: Float[np.ndarray, " patient"],
    *,
    seed: int,
) -> dict[VitalName, Float[np.ndarray, " patient"]]:
    """Simulate measurements on simulated patients, with measurement errors.

    The cuff is assumed to measure aortic pressure, because the circuit has no arm.

    Args:
        period: True heart period [s].
        P_ao_max: True systolic aortic pressure [mmHg].
        P_ao_min: True diastolic aortic pressure [mmHg].
        seed: Seed for the measurement errors.
    """
    random = np.random.default_rng(seed)

    def cuff(pressure: np.ndarray) -> np.ndarray:
        return pressure + CUFF_ERROR * random.normal(size=len(pressure))

    return {
        "period": period + PERIOD_ERROR * random.normal(size=len(period)),
        "systolic": cuff(P_ao_max),
        "diastolic": cuff(P_ao_min),
    }
