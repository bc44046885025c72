"""Heart valves: the flow through them, from the pressures on both sides."""

import jax.numpy as jnp

from jaxtwin.parameters import Scalar


def ideal_valve(upstream: Scalar, downstream: Scalar, R: Scalar) -> Scalar:
    """The flow through a valve that lets nothing back, max(P_1 − P_2, 0)/R [mL/s].

    Args:
        upstream: Pressure before the valve, P_1 [mmHg].
        downstream: Pressure behind it, P_2 [mmHg].
        R: Resistance of the open valve [mmHg·s/mL].
    """
    return jnp.maximum(upstream - downstream, 0) / R


def leaky_valve(upstream: Scalar, downstream: Scalar, R_open: Scalar, R_closed: Scalar) -> Scalar:
    """The flow through a valve that leaks when closed [mL/s].

    (P_1 − P_2)/R_open forwards, (P_1 − P_2)/R_closed backwards: with a large R_closed nearly
    ideal, with a smaller one regurgitant.

    Args:
        upstream: Pressure before the valve, P_1 [mmHg].
        downstream: Pressure behind it, P_2 [mmHg].
        R_open: Resistance of the open valve [mmHg·s/mL].
        R_closed: Resistance of the closed valve [mmHg·s/mL].
    """
    difference = upstream - downstream
    return jnp.where(difference > 0, difference / R_open, difference / R_closed)


def orifice_valve(upstream: Scalar, downstream: Scalar, CQ: Scalar, smooth: float = 0.01) -> Scalar:
    """The flow through an orifice that lets nothing back, CQ Δp/√(Δp + smooth) [mL/s].

    With Δp = max(P_1 − P_2, 0): CQ √Δp of Shi and Korakianitis, "Numerical simulation of
    cardiovascular dynamics with healthy and diseased heart valves", Journal of Biomechanics 39,
    2006, for pressures well above `smooth`. A plain root has an infinite slope where the valve
    opens, at which solvers with a step-size control come to a halt.

    Args:
        upstream: Pressure before the valve, P_1 [mmHg].
        downstream: Pressure behind it, P_2 [mmHg].
        CQ: Flow coefficient [mL/s/mmHg^½].
        smooth: Pressure far below which the flow is linear [mmHg].
    """
    dp = jnp.maximum(upstream - downstream, 0)
    return CQ * dp / jnp.sqrt(dp + smooth)
