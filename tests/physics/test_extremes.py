"""Gradients of extremes: those of the place where the extreme is, whatever the compiler does."""

from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtwin.parameters import AbstractParameters, Scalar, parameter
from jaxtwin.physics.base import AbstractPeriodicSystem
from jaxtwin.physics.record import record
from jaxtwin.physics.solution import largest


class VesselParameters(AbstractParameters):
    R: Scalar = parameter(600.0, (200.0, 1500.0))
    k: Scalar = parameter(0.15, (0.05, 0.3))


class VesselState(NamedTuple):
    V: Scalar


class VesselOutputs(NamedTuple):
    P: Scalar
    q: Scalar


class Vessel(AbstractPeriodicSystem[VesselState, VesselParameters, VesselOutputs]):
    """Its outflow is a quotient of sums: a compiler rounds it in more ways than one."""

    parameters: ClassVar = VesselParameters

    def outputs(self, t, state, p):
        P = (6.0 + 0.006 * p.R) * jnp.exp(p.k * state.V)
        return VesselOutputs(P, (P - 6.0) / p.R)

    def vector_field(self, t, state, p):
        w = 2 * jnp.pi / 0.9
        drive = 0.7 * w / 3 * (jnp.sin(w * t) + jnp.sin(2 * w * t))
        return VesselState(0.006 - self.outputs(t, state, p).q + drive)

    def initial_state(self, p):
        return VesselState(0.0 * p.k)

    def period(self, p):
        return 0.9 + 0.0 * p.k


@pytest.mark.parametrize("mode", [jax.jacrev, jax.jacfwd])
def test_extremes_have_the_gradient_of_their_place(mode):
    def outputs(R):
        return record(Vessel(), VesselParameters(R=R))

    def extremes(R):
        found = outputs(R).recording()
        largest, smallest, curves = found.maximum, found.minimum, found.waveforms
        return jnp.stack([largest.q, smallest.q, largest.P, smallest.P, curves.q.mean()])

    R = jnp.linspace(587.0, 613.0, 9)
    q = outputs(R[4]).outputs.q
    first, last = int(jnp.argmax(q)), int(jnp.argmin(q))

    def there(R):
        q = outputs(R).outputs.q
        return jnp.stack([q[first], q[last]])

    got, expected = jax.jit(jax.vmap(mode(extremes)))(R), jax.jit(jax.vmap(mode(there)))(R)
    np.testing.assert_allclose(got[:, :2], expected, rtol=0.02)


def test_the_largest_value_and_its_slope():
    x = jnp.array([[1.0, 3.0, 3.0], [2.0, 0.0, -1.0]])
    np.testing.assert_array_equal(largest(x), [3.0, 2.0])
    slopes = jax.grad(lambda x: largest(x).sum())(x)
    np.testing.assert_array_equal(slopes, [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
