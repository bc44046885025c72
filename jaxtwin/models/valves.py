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
