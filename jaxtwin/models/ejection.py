"""The ejection fraction: its definition, an alternative convention and its clinical levels."""

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
    """Return the ejection fraction 100 (EDV − ESV)/EDV [%].

    Args:
        EDV: End-diastolic volume, the largest in the beat [mL].
        ESV: End-systolic volume, the smallest in the beat [mL].
    """
    return 100 * (EDV - ESV) / EDV


def ejection_fraction_at_fixed_times(beat: Solution[Any, Any]) -> Float[Array, ""]:
    """Return the ejection fraction [%] from V_lv at t = 0 and at t_es = 0.2 + 0.15 T_c.

    This is the convention of the scripts published with Kuang et al. 2024, kept for comparison
    only. It is lower than the reading EF, by 3 points on average over the left heart's
    seven-parameter box.
    """
    V = beat.outputs.V_lv
    t_es = 0.2 + 0.15 * beat.times[-1]
    return ejection_fraction(V[0], jnp.interp(t_es, beat.times, V))


def ef_level(readings: Mapping[str, Float[np.ndarray, " patient"]]) -> list[str]:
    """Classify ejection fractions as reduced, mildly reduced or preserved.

    An EF of at most 40% is reduced, one of at least 50% preserved: Bozkurt et al., "Universal
    definition and classification of heart failure", Journal of Cardiac Failure 27(4), 2021.

    Args:
        readings: Readings of the patients by name, including EF [%].

    Returns:
        "reduced", "mildly reduced" or "preserved" for each patient. Usable as the subgroups of a
        trial.
    """
    return [
        "reduced" if value <= 40 else "preserved" if value >= 50 else "mildly reduced"
        for value in readings["EF"]
    ]
