"""Time-varying elastance of heart chambers: activation and elastance curves."""

import functools

import jax
import jax.numpy as jnp

from jaxtwin.parameters import Scalar


def double_hill(t: Scalar, T_c: Scalar, E_max: Scalar, E_min: Scalar) -> Scalar:
    """Return the double-Hill elastance E(t) [mmHg/mL], with t = 0 at end diastole.

    With t_n = (t mod T_c) / (0.2 + 0.15 T_c), g = (t_n/0.7)^1.9 and h = (t_n/1.17)^21.9,

        E = (E_max − E_min) · 1.55 · g/(1 + g) · 1/(1 + h) + E_min.

    Simaan et al. 2009, equations 1–3. The elastance peaks near t = 0.2 + 0.15 T_c.

    Args:
        t: Time [s].
        T_c: Heart period [s].
        E_max: Peak elastance [mmHg/mL]; the peak of the curve is within 1% of it.
        E_min: Passive elastance [mmHg/mL].
    """
    t_n = phase_of(t, T_c) / (0.2 + 0.15 * T_c)
    return (E_max - E_min) * 1.55 * hill_pair(t_n, 0.7, 1.9, 1.17, 21.9) + E_min


def phase_of(t: Scalar, period: Scalar) -> Scalar:
    """Return the time since the start of the current period, t mod T, in [0, T)."""
    # jnp.mod of floats is a library call, which would keep XLA from vectorising the solver step
    # over patients.
    return t - period * jnp.floor(t / period)


def hill_pair(t_n: Scalar, rise: float, n_rise: float, fall: float, n_fall: float) -> Scalar:
    """Return the product of a rising and a falling Hill function, without normalisation.

    g/(1 + g) · 1/(1 + h) with g = (t_n/rise)^n_rise and h = (t_n/fall)^n_fall; Stergiopulos,
    Meister and Westerhof, American Journal of Physiology 270, 1996.

    Args:
        t_n: Time since the start of contraction, in any unit.
        rise: Time at which the rising function is one half, in the unit of t_n.
        n_rise: Exponent of the rising function.
        fall: Time at which the falling function is one half, in the unit of t_n.
        n_fall: Exponent of the falling function.
    """
    # A power with a real exponent differentiates through a logarithm, which is -inf at 0.
    # The floor keeps it finite, at a point where g and its derivative are far below rounding.
    log_t_n = jnp.log(jnp.maximum(t_n, 1e-12))
    g = jnp.exp(n_rise * (log_t_n - jnp.log(rise)))
    h = jnp.exp(n_fall * (log_t_n - jnp.log(fall)))
    return g / ((1 + g) * (1 + h))


@functools.cache
def hill_pair_peak(rise: float, n_rise: float, fall: float, n_fall: float) -> float:
    """Return the maximum of `hill_pair` over time."""
    # In float64 and outside any trace, because the cached number serves all precisions.
    with jax.ensure_compile_time_eval(), jax.enable_x64(True):
        times = jnp.linspace(0.0, 2.0 * max(rise, fall), 100_001)
        values = jax.vmap(lambda t_n: hill_pair(t_n, rise, n_rise, fall, n_fall))(times)
        return float(jnp.max(values))


def hill_activation(t_n: Scalar, rise: float, n_rise: float, fall: float, n_fall: float) -> Scalar:
    """Return `hill_pair`, with the same arguments, normalised to a maximum of 1."""
    return hill_pair(t_n, rise, n_rise, fall, n_fall) / hill_pair_peak(rise, n_rise, fall, n_fall)


def cosine_activation(
    t: Scalar, T_c: Scalar, start: Scalar, contraction: Scalar, relaxation: Scalar
) -> Scalar:
    """Return an activation of two half cosines, between 0 and 1.

    With s = (t − start) mod T_c, it rises as (1 − cos(π s/contraction))/2, then falls as
    (1 + cos(π (s − contraction)/relaxation))/2, and is 0 for the rest of the beat. Regazzoni et
    al., Journal of Computational Physics 457, 2022.

    Args:
        t: Time [s].
        T_c: Heart period [s].
        start: Start of contraction [s].
        contraction: Duration of contraction [s].
        relaxation: Duration of relaxation [s]; contraction + relaxation must be less than T_c.
    """
    s = phase_of(t - start, T_c)
    falling = (contraction + relaxation - s) / relaxation
    return _half_cosine(jnp.clip(jnp.minimum(s / contraction, falling), 0.0, 1.0))


def _half_cosine(x: Scalar) -> Scalar:
    """Return (1 − cos πx)/2 = sin²(πx/2) for x from 0 to 1.

    From the Taylor series of the sine, whose first term left out is below 3e-16. XLA calls a
    function of the C library for each cosine on a CPU: in four chambers, these took as long as
    half a beat.
    """
    angle = 0.5 * jnp.pi * x
    square = angle * angle
    sine = jnp.ones_like(x)
    for n in range(19, 1, -2):
        sine = 1 - square * sine / (n * (n - 1))
    return square * sine * sine
