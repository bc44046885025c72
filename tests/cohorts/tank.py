"""A tank with a closed form, for tests of cohorts."""

from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxtwin.cohorts.simulate import simulate_cohort
from jaxtwin.models.ventricle import CLINICAL, READINGS, VentricleOutputs
from jaxtwin.parameters import AbstractParameters, Box, Scalar, parameter
from jaxtwin.physics.base import AbstractPeriodicSystem

traces = []


class TankParameters(AbstractParameters):
    T: Scalar = parameter(1.0, (0.5, 2.0), symbol="T", unit="s", meaning="period")
    k: Scalar = parameter(2.0, (-30.0, 5.0), symbol="k", unit="1/s", meaning="leak")
    V_d: Scalar = parameter(50.0, (0.0, 100.0), symbol="V_d", unit="mL", meaning="offset")


class Volume(NamedTuple):
    V: Scalar


def outputs(value, **values):
    return VentricleOutputs(**{name: values.get(name, value) for name in VentricleOutputs._fields})


class Tank(AbstractPeriodicSystem[Volume, TankParameters, VentricleOutputs]):
    """dV/dt = −k V + k (100 + 50 sin ωt): periodic for k > 0, growing without end for k < 0."""

    parameters: ClassVar = TankParameters

    def vector_field(self, t, state, p):
        traces.append(None)
        return Volume(p.k * (100 + 50 * jnp.sin(2 * jnp.pi * t / p.T) - state.V))

    def initial_state(self, p):
        return Volume(90 + 0 * p.k)

    def outputs(self, t, state, p):
        return outputs(0 * state.V, V_lv=state.V + p.V_d, q_s=100 + 0 * t, P_ao=80 + 0 * t)

    def period(self, p):
        return p.T

    def conserved(self, state, p):
        return ()

    def scaling(self, p):
        return outputs(0 * p.k), outputs(100 + 0 * p.k)

    def readings(self):
        return READINGS

    def limits(self):
        return CLINICAL


class SplitTank(AbstractPeriodicSystem[Volume, TankParameters, VentricleOutputs]):
    """The same tank; that something jumps at a third of the period is only said."""

    parameters: ClassVar = TankParameters
    tank: Tank = Tank()

    def vector_field(self, t, state, p):
        return self.tank.vector_field(t, state, p)

    def discontinuities(self, p):
        return (0.3337 * p.T,)

    def initial_state(self, p):
        return self.tank.initial_state(p)

    def outputs(self, t, state, p):
        return self.tank.outputs(t, state, p)

    def period(self, p):
        return self.tank.period(p)

    def conserved(self, state, p):
        return self.tank.conserved(state, p)

    def scaling(self, p):
        return self.tank.scaling(p)


BOX = Box.of(TankParameters, ("T", "k", "V_d"))


LEAKING = Box.of(TankParameters, ("T", "k", "V_d"), {"k": (0.5, 5.0)})


def simulate(theta, **options):
    return simulate_cohort(Tank(), BOX, theta, chunk=4, phases=8, **options)


def arrays(cohort):
    """All that is known of the patients, one by one."""
    parts = (cohort.theta, cohort.recording, cohort.success, cohort.residual, cohort.error)
    return jax.tree.leaves(parts)


def assert_equal(a, b):
    assert a.system == b.system and a.box == b.box
    for x, y in zip(arrays(a), arrays(b), strict=True):
        np.testing.assert_array_equal(x, y)
        assert x.dtype == y.dtype
