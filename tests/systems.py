"""Two small systems, and their closed forms."""

from typing import ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxtwin.parameters import AbstractParameters, Scalar, parameter
from jaxtwin.physics.base import AbstractPeriodicSystem


class ExchangeParameters(AbstractParameters):
    T: Scalar = parameter(2.0, (1.0, 3.0), symbol="T", unit="s", meaning="period")
    k: Scalar = parameter(0.4, (0.1, 1.0), symbol="k", unit="1/s", meaning="rate")
    a: Scalar = parameter(1.5, (0.0, 3.0), symbol="a", unit="mL/s", meaning="amplitude")
    x_0: Scalar = parameter(3.0, (0.0, 9.0), symbol="x_0", unit="mL", meaning="x at t = 0")
    idle: Scalar = parameter(1.0, (0.0, 2.0), symbol="i", unit="", meaning="without effect")


class Exchange(NamedTuple):
    x: Scalar
    y: Scalar


class TwoCompartments(AbstractPeriodicSystem[Exchange, ExchangeParameters, Exchange]):
    """dx/dt = −k(x − y) + a cos ωt = −dy/dt: the total is conserved, and starts as x_0 (1 + k)."""

    parameters: ClassVar = ExchangeParameters

    def vector_field(self, t, state, p):
        flow = -p.k * (state.x - state.y) + p.a * jnp.cos(2 * jnp.pi * t / p.T)
        return Exchange(flow, -flow)

    def initial_state(self, p):
        return Exchange(p.x_0, p.k * p.x_0)

    def outputs(self, t, state, p):
        return state

    def period(self, p):
        return p.T

    def conserved(self, state, p):
        return (state.x + state.y,)


def exchange_exact(theta, tau):
    """x at the fraction tau of the period, for θ = (T, k, a, x_0)."""
    T, k, a, x_0 = theta
    w, phase = 2 * jnp.pi / T, 2 * jnp.pi * tau
    swing = (2 * k * jnp.cos(phase) + w * jnp.sin(phase)) / (4 * k**2 + w**2)
    return x_0 * (1 + k) / 2 + a * swing


class LeakyParameters(AbstractParameters):
    T: Scalar = parameter(2.0, (1.0, 3.0), symbol="T", unit="s", meaning="period")
    R: Scalar = parameter(1.2, (0.1, 2.0), symbol="R", unit="", meaning="resistance")
    C: Scalar = parameter(0.7, (0.1, 2.0), symbol="C", unit="", meaning="compliance")


class Leaky(NamedTuple):
    P: Scalar


class Windkessel(AbstractPeriodicSystem[Leaky, LeakyParameters, Leaky]):
    """C dP/dt = 1 + cos ωt − P/R: nothing is conserved, and the start (0) is forgotten."""

    parameters: ClassVar = LeakyParameters

    def vector_field(self, t, state, p):
        return Leaky((1 + jnp.cos(2 * jnp.pi * t / p.T) - state.P / p.R) / p.C)

    def initial_state(self, p):
        return Leaky(0.0 * p.R)

    def outputs(self, t, state, p):
        return state

    def period(self, p):
        return p.T


def windkessel_exact(theta, tau):
    """P at the fraction tau of the period, for θ = (T, R, C)."""
    T, R, C = theta
    lag, phase = 2 * jnp.pi * R * C / T, 2 * jnp.pi * tau
    return R * (1 + (jnp.cos(phase) + lag * jnp.sin(phase)) / (1 + lag**2))


def pressure(theta, samples=24):
    """The Windkessel's periodic solution at θ = (T, R, C), [*patient, phase]."""
    T, R, C = np.asarray(theta, float).T[..., None]
    tau = np.arange(samples) / samples
    T, R, C, tau = np.broadcast_arrays(T, R, C, tau)
    return np.asarray(windkessel_exact((T, R, C), tau))
