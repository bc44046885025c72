"""A swing whose parts tests replace by broken ones."""

from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp

from jaxtwin.parameters import AbstractParameters, Scalar, parameter
from jaxtwin.physics.base import AbstractPeriodicSystem
from jaxtwin.physics.solution import Reading


class Swing(NamedTuple):
    x: Scalar
    v: Scalar


class Named(NamedTuple):
    x: Scalar


class SwingParameters(AbstractParameters):
    k: Scalar = parameter(4.0, (1.0, 9.0), "1/s²", "stiffness")
    T: Scalar = parameter(2.0, (1.0, 3.0), "s", "period")
    t_s: Scalar = parameter(0.7, (0.3, 0.9), "s", "end of a push")


class Oscillator(AbstractPeriodicSystem[Swing, SwingParameters, Swing]):
    """A driven and damped swing; its parts are replaced by broken ones."""

    field: Any = None
    start: Any = None
    every: Any = None
    jumps: Any = None
    seen: Any = None
    read: Any = None
    kept: Any = None
    size: Any = None
    names: Any = None
    bands: Any = None
    possible: Any = None
    parameters: ClassVar = SwingParameters

    def vector_field(self, t, state, p):
        if self.field is not None:
            return self.field(t, state, p)
        return Swing(state.v, jnp.cos(2 * jnp.pi * t / p.T) - p.k * state.x - 0.5 * state.v)

    def initial_state(self, p):
        return Swing(1.0, 0.0 * p.k) if self.start is None else self.start(p)

    def outputs(self, t, state, p):
        return state if self.seen is None else self.seen(state)

    def period(self, p):
        return p.T if self.every is None else self.every(p)

    def readings(self):
        if self.names is not None:
            return self.names
        return {} if self.read is None else {"r": Reading("", self.read)}

    def limits(self):
        return {} if self.bands is None else self.bands

    def feasible(self, recording):
        return super().feasible(recording) if self.possible is None else self.possible(recording)

    def discontinuities(self, p):
        return () if self.jumps is None else self.jumps(p)

    def conserved(self, state, p):
        return () if self.kept is None else self.kept(state, p)

    def scaling(self, p):
        return self.size or (Swing(0.0, 0.0), Swing(1.0, 1.0))


def pushed(force):
    """A driven and damped swing with one more force, of x and the parameters (and t)."""

    def field(t, s, p):
        more = force(t, p) if force is push else force(s.x, p)
        return Swing(s.v, jnp.cos(2 * jnp.pi * t / p.T) - p.k * s.x - 0.5 * s.v - more)

    return field


def push(t, p):
    return jnp.where(t - p.T * jnp.floor(t / p.T) <= p.t_s, 1.0, 0.0)
