"""The chain of compartments by which growth is measured: its closed form, and its work."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.first_answer import count
from benchmarks.growth import ChainParameters, chain, seconds
from jaxtwin.parameters import Box
from jaxtwin.physics.beat import BeatMap
from jaxtwin.physics.periodic import periodic_orbit
from jaxtwin.physics.sdirk import SDIRK2

BOX = Box.of(ChainParameters, ("T", "R", "C"))


@pytest.mark.parametrize("n", [1, 5])
def test_mean_pressure_is_that_of_the_mean_flow(n):
    """All n resistances lie between the first compartment and the veins."""
    p = ChainParameters(T=0.8, R=1.2, C=0.7)
    orbit = periodic_orbit(chain(n), p)
    mean = jnp.trapezoid(orbit.states[0], orbit.times) / 0.8
    np.testing.assert_allclose(mean, 5 + 1.2 * 200 / np.pi, rtol=1e-3)


def test_work_grows_linearly_with_the_states():
    def operations(n):
        p = jax.tree.map(jnp.asarray, ChainParameters())
        beats = BeatMap(chain(n), p, SDIRK2(), 240)
        steps = beats.steps()
        x = jax.tree.map(lambda leaf: leaf[0], steps.xs)
        y = beats.initial_state()
        return count(jax.make_jaxpr(lambda y: steps.step(steps.constants, y, x))(y).jaxpr)

    assert operations(32) < 2.1 * operations(16)


def test_an_orbit_that_is_not_found_is_no_measurement():
    with pytest.raises(RuntimeError, match="2 of 2 orbits were not found"):
        seconds(chain(1), BOX, 2, 1, 1)
