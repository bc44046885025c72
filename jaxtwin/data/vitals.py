"""What an electrode and an arm cuff say beside a clip."""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float

VitalName = Literal["period", "systolic", "diastolic"]


class Vitals(NamedTuple):
    """Of one patient; NaN where nobody measured."""

    period: float = math.nan
    """Heart period [s]."""
    systolic: float = math.nan
    """Systolic blood pressure [mmHg]."""
    diastolic: float = math.nan
    """Diastolic blood pressure [mmHg]."""


UNKNOWN = Vitals()
"""Of a patient on whom nobody measured anything."""

VITAL_COLUMNS: dict[VitalName, str] = {
    "period": "HeartPeriod",
    "systolic": "SystolicPressure",
    "diastolic": "DiastolicPressure",
}
"""Columns of a data set's table that may be there."""

PLAUSIBLE: dict[VitalName, tuple[float, float]] = {
    "period": (0.2, 3.0),
    "systolic": (40.0, 300.0),
    "diastolic": (10.0, 200.0),
}
"""Anything beyond is a slip."""

USUAL: dict[VitalName, tuple[float, float]] = {
    "period": (0.85, 0.2),
    "systolic": (120.0, 20.0),
    "diastolic": (75.0, 12.0),
}
"""About the mean and the spread among adults: divided by them, vitals are of order one."""

CUFF_ERROR = 5.0
"""Standard deviation of a cuff's error [mmHg]. A validated one is allowed 8, and 5 on average:
Stergiou et al., "A universal standard for the validation of blood pressure measuring devices",
Hypertension 71(3), 2018."""
PERIOD_ERROR = 0.01
"""Standard deviation of the period's error [s]."""


def pick_vitals(vitals: Any, names: Sequence[VitalName]) -> list[Any]:
    """Some columns of a table of vitals, an array with the fields of `Vitals` last."""
    return [vitals[..., Vitals._fields.index(name)] for name in names]


def check_vitals(vitals: Float[np.ndarray, "patient vital"], names: Sequence[VitalName]) -> None:
    """Raise a ValueError if a patient has none of some vital."""
    for name, values in zip(names, pick_vitals(vitals, names), strict=True):
        if missing := int(np.sum(~np.isfinite(values))):
            raise ValueError(
                f"{missing} of {len(values)} clips have no {name}, which this model needs: fill "
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
    """What would be measured on simulated patients, with the instruments' errors.

    The cuff is taken to be at the aorta: the circuit has no arm.

    Args:
        period: True heart period [s].
        P_ao_max: True systolic aortic pressure [mmHg].
        P_ao_min: True diastolic aortic pressure [mmHg].
        seed: Of the errors.
    """
    random = np.random.default_rng(seed)

    def cuff(pressure: np.ndarray) -> np.ndarray:
        return pressure + CUFF_ERROR * random.normal(size=len(pressure))

    return {
        "period": period + PERIOD_ERROR * random.normal(size=len(period)),
        "systolic": cuff(P_ao_max),
        "diastolic": cuff(P_ao_min),
    }
