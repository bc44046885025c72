"""The ejection fraction: its definition, a convention to compare with, and its clinical levels."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxtwin.physics.solution import Solution


def ejection_fraction(
    EDV: Float[Array | np.ndarray, "*batch"] | float,
    ESV: Float[Array | np.ndarray, "*batch"] | float,
) -> Any:
    """Ejection fraction 100 (EDV − ESV)/EDV [%].

    Args:
        EDV: End-diastolic volume, the largest of the beat [mL].
        ESV: End-systolic volume, the smallest of the beat [mL].
    """
    return 100 * (EDV - ESV) / EDV


def ejection_fraction_at_fixed_times(beat: Solution[Any, Any]) -> Float[Array, ""]:
    """Ejection fraction [%] from V_lv at t = 0 and at t_es = 0.2 + 0.15 T_c, for comparison only.

    The convention of the scripts published with Kuang et al. 2024. It lies below the reading EF,
    by 3 points on average over the left heart's seven-parameter box.
    """
    V = beat.outputs.V_lv
    t_es = 0.2 + 0.15 * beat.times[-1]
    return ejection_fraction(V[0], jnp.interp(t_es, beat.times, V))


def ef_level(readings: Mapping[str, Float[np.ndarray, " patient"]]) -> list[str]:
    """Reduced (at most 40%), mildly reduced or preserved (at least 50%) ejection fraction.

    Bozkurt et al., "Universal definition and classification of heart failure", Journal of Cardiac
    Failure 27(4), 2021.

    Args:
        readings: The patients' readings, EF among them.

    Returns:
        One of the three words per patient, to divide a trial's patients by.
    """
    return [
        "reduced" if value <= 40 else "preserved" if value >= 50 else "mildly reduced"
        for value in readings["EF"]
    ]
