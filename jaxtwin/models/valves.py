"""Heart valves: flow as a function of the pressures on both sides."""

import jax.numpy as jnp

from jaxtwin.parameters import Scalar


def ideal_valve(upstream: Scalar, downstream: Scalar, R: Scalar) -> Scalar:
    """Return the flow through a valve without backflow, max(P_1 − P_2, 0)/R [mL/s].

    Args:
        upstream: Pressure upstream of the valve, P_1 [mmHg].
        downstream: Pressure downstream of the valve, P_2 [mmHg].
        R: Resistance of the open valve [mmHg·s/mL].
    """
    return jnp.maximum(upstream - downstream, 0) / R


def leaky_valve(upstream: Scalar, downstream: Scalar, R_open: Scalar, R_closed: Scalar) -> Scalar:
    """Return the flow through a valve that leaks when closed [mL/s].

    (P_1 − P_2)/R_open forwards, (P_1 − P_2)/R_closed backwards. A large R_closed gives a nearly
    ideal valve, a small one regurgitation.

    Args:
        upstream: Pressure upstream of the valve, P_1 [mmHg].
        downstream: Pressure downstream of the valve, P_2 [mmHg].
        R_open: Resistance of the open valve [mmHg·s/mL].
        R_closed: Resistance of the closed valve [mmHg·s/mL].
    """
    difference = upstream - downstream
    return jnp.where(difference > 0, difference / R_open, difference / R_closed)


def orifice_valve(upstream: Scalar, downstream: Scalar, CQ: Scalar, smooth: float = 0.01) -> Scalar:
    """Return the flow through an orifice without backflow, CQ Δp/√(Δp + smooth) [mL/s].

    Δp is max(P_1 − P_2, 0). Well above `smooth` this is CQ √Δp of Shi and Korakianitis, "Numerical
    simulation of cardiovascular dynamics with healthy and diseased heart valves", Journal of
    Biomechanics 39, 2006. A plain root has an infinite slope where the valve opens, at which
    adaptive solvers stall.

    Args:
        upstream: Pressure upstream of the valve, P_1 [mmHg].
        downstream: Pressure downstream of the valve, P_2 [mmHg].
        CQ: Flow coefficient [mL/s/mmHg^½].
        smooth: Pressure difference well below which the flow is linear [mmHg].
    """
    dp = jnp.maximum(upstream - downstream, 0)
    return CQ * dp / jnp.sqrt(dp + smooth)
