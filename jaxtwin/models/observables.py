"""What clinicians read off a beat."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxtwin.physics.solution import Solution


class Observables(NamedTuple):
    """Numbers of one beat of a left ventricle."""

    EDV: Float[Array, ""]
    """End-diastolic volume, the largest of the beat [mL]."""
    ESV: Float[Array, ""]
    """End-systolic volume, the smallest of the beat [mL]."""
    EF: Float[Array, ""]
    """Ejection fraction, 100 (EDV − ESV)/EDV [%]."""
    stroke_volume: Float[Array, ""]
    """EDV − ESV [mL]."""
    stroke_work: Float[Array, ""]
    """Area of the pressure-volume loop [mmHg·mL]."""
    output: Float[Array, ""]
    """Cardiac output: the mean systemic flow [L/min]."""
    P_lv_max: Float[Array, ""]
    """Peak ventricular pressure [mmHg]."""
    P_ao_max: Float[Array, ""]
    """Systolic aortic pressure [mmHg]."""
    P_ao_min: Float[Array, ""]
    """Diastolic aortic pressure [mmHg]."""
    P_ao_mean: Float[Array, ""]
    """Mean aortic pressure [mmHg]."""
    P_la_mean: Float[Array, ""]
    """Mean left-atrial pressure [mmHg]."""


UNITS = {
    "EDV": "mL",
    "ESV": "mL",
    "EF": "%",
    "stroke_volume": "mL",
    "stroke_work": "mmHg·mL",
    "output": "L/min",
    "P_lv_max": "mmHg",
    "P_ao_max": "mmHg",
    "P_ao_min": "mmHg",
    "P_ao_mean": "mmHg",
    "P_la_mean": "mmHg",
}
"""The unit of each observable."""


def ejection_fraction(
    EDV: Float[Array | np.ndarray, "*batch"], ESV: Float[Array | np.ndarray, "*batch"]
) -> Any:
    """Ejection fraction 100 (EDV − ESV)/EDV [%], from volumes in mL."""
    return 100 * (EDV - ESV) / EDV


def ejection_fraction_at_fixed_times(orbit: Solution) -> Float[Array, ""]:
    """EF [%] from the volumes at t = 0 and at t_es = 0.2 + 0.15 T_c, for comparison only.

    The convention of the scripts published with Kuang et al. 2024. It lies below the
    clinical `Observables.EF`, by 3 points on average over the seven-parameter box.
    """
    V = orbit.outputs.V_lv
    t_es = 0.2 + 0.15 * orbit.times[-1]
    return ejection_fraction(V[0], jnp.interp(t_es, orbit.times, V))


def mean_over_time(orbit: Solution, values: Float[Array, " time"]) -> Float[Array, ""]:
    """Mean of a quantity over the period, by the trapezoidal rule."""
    return jnp.trapezoid(values, orbit.times) / (orbit.times[-1] - orbit.times[0])


def observables(orbit: Solution) -> Observables:
    """The observables of a left heart's periodic orbit."""
    out = orbit.outputs
    EDV, ESV = jnp.max(out.V_lv), jnp.min(out.V_lv)
    # The loop is run through anticlockwise (volume on the abscissa), hence the sign.
    work = -jnp.trapezoid(out.P_lv, out.V_lv)
    return Observables(
        EDV=EDV,
        ESV=ESV,
        EF=ejection_fraction(EDV, ESV),
        stroke_volume=EDV - ESV,
        stroke_work=work,
        output=mean_over_time(orbit, out.q_s) * 60 / 1000,
        P_lv_max=jnp.max(out.P_lv),
        P_ao_max=jnp.max(out.P_ao),
        P_ao_min=jnp.min(out.P_ao),
        P_ao_mean=mean_over_time(orbit, out.P_ao),
        P_la_mean=mean_over_time(orbit, out.P_la),
    )
