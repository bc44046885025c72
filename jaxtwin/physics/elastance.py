"""Time-varying elastance curves of the ventricle."""

import jax.numpy as jnp

from jaxtwin.parameters import Scalar


def double_hill(t: Scalar, T_c: Scalar, E_max: Scalar, E_min: Scalar) -> Scalar:
    """The double-Hill elastance E(t) [mmHg/mL], with t = 0 at end diastole.

    With t_n = (t mod T_c) / (0.2 + 0.15 T_c), g = (t_n/0.7)^1.9 and h = (t_n/1.17)^21.9,

        E = (E_max − E_min) · 1.55 · g/(1 + g) · 1/(1 + h) + E_min.

    Simaan et al. 2009, equations 1 – 3. Peak elastance is near t = 0.2 + 0.15 T_c.

    Args:
        t: Time [s].
        T_c: Heart period [s].
        E_max: Peak elastance [mmHg/mL]; the curve's own peak is within 1% of it.
        E_min: Passive elastance [mmHg/mL].
    """
    # Not jnp.mod: the remainder of floats is a library call, which keeps XLA from vectorising
    # the solver's whole step over patients.
    t_n = (t - T_c * jnp.floor(t / T_c)) / (0.2 + 0.15 * T_c)
    # A power with a real exponent differentiates through a logarithm, which is -inf at 0.
    # The floor keeps it finite; there both g and its derivative are far below rounding.
    t_n = jnp.maximum(t_n, 1e-12)
    log_t_n = jnp.log(t_n)
    g = jnp.exp(1.9 * (log_t_n - jnp.log(0.7)))
    h = jnp.exp(21.9 * (log_t_n - jnp.log(1.17)))
    return (E_max - E_min) * 1.55 * g / ((1 + g) * (1 + h)) + E_min
