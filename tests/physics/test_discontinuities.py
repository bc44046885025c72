"""Steps end where the drive switches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtwin.physics.beat import BeatMap
from jaxtwin.physics.iteration import BeatIteration
from jaxtwin.physics.periodic import periodic_orbit
from jaxtwin.physics.sdirk import SDIRK2
from tests.systems import Leaky, LeakyParameters, Windkessel

TIGHT = BeatIteration(tolerance=1e-12, max_beats=60)


class SwitchedWindkessel(Windkessel):
    """C dP/dt = u − P/R, where the flow u is 1 until the fraction `on` of the period, then 0."""

    on: float
    declared: tuple[float, ...]

    def vector_field(self, t, state, p):
        return Leaky((jnp.where(t % p.T < self.on * p.T, 1.0, 0.0) - state.P / p.R) / p.C)

    def discontinuities(self, p):
        return tuple(fraction * p.T for fraction in self.declared)


def test_a_declared_discontinuity_restores_the_order():
    T, R, C, on = 2.0, 1.2, 0.7, 0.3137
    peak = R * (1 - np.exp(-on * T / (R * C))) / (1 - np.exp(-T / (R * C)))

    def error(steps, *declared):
        system = SwitchedWindkessel(on, declared)
        orbit = periodic_orbit(system, LeakyParameters(T, R, C), steps=steps, method=TIGHT)
        return abs(orbit.outputs.P.max() - peak), orbit

    coarse, orbit = error(100, on)
    assert coarse < 1e-4 < error(100)[0]
    assert 3.5 < coarse / error(200, on)[0] < 4.5
    # The peak is a sample of the grid, which still has 100 steps and increases.
    assert orbit.times.shape == (101,) and np.all(np.diff(orbit.times) > 0)
    np.testing.assert_allclose(orbit.times[jnp.argmax(orbit.outputs.P)], on * T, rtol=1e-12)


@pytest.mark.parametrize(
    "at", [(0.004, 0.001), (1.9999, 0.5), (0.5, 0.5001, 0.5002), (1.0, 1.0)], ids=str
)
@pytest.mark.parametrize("number", [4, 40, 240])
def test_every_discontinuity_has_a_time_of_its_own(at, number):
    system = SwitchedWindkessel(0.5, tuple(jump / 2.0 for jump in at))
    times = BeatMap(system, LeakyParameters(T=2.0), SDIRK2(), number).times()
    assert times.shape == (number + 1,) and times[0] == 0.0
    np.testing.assert_allclose(times[-1], 2.0, rtol=1e-12)
    assert np.all(np.diff(times) >= 0)
    for jump in at:
        assert np.min(np.abs(times - jump)) < 1e-12
    if len(set(at)) == len(at):
        assert np.all(np.diff(times) > 0)


def test_more_discontinuities_than_steps():
    with pytest.raises(ValueError, match="2 steps a period, and 2 discontinuities"):
        BeatMap(SwitchedWindkessel(0.5, (0.2, 0.5)), LeakyParameters(), SDIRK2(), 2).times()


def test_gradient_across_a_declared_discontinuity():
    def peak(T):
        p = LeakyParameters(T, 1.2, 0.7)
        system = SwitchedWindkessel(0.3137, (0.3137,))
        return periodic_orbit(system, p, steps=400, method=TIGHT).outputs.P.max()

    def exact(T):
        rate = 1 / (1.2 * 0.7)
        return 1.2 * (1 - jnp.exp(-0.3137 * T * rate)) / (1 - jnp.exp(-T * rate))

    np.testing.assert_allclose(jax.jit(jax.grad(peak))(2.0), jax.grad(exact)(2.0), atol=1e-5)
