"""The residuals of PINNs, and their networks."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtwin.methods.pinn import PINN, StateNetwork, residuals, state_scales
from jaxtwin.methods.tasks import CurveTask
from jaxtwin.models.left_heart import SEVEN, LeftHeart
from jaxtwin.parameters import Box
from jaxtwin.physics.periodic import periodic_orbit
from tests.methods.test_methods import BOX, TASK, measured
from tests.systems import TwoCompartments, Windkessel


def shown_to(residual_system, box, theta, factor=1.0):
    """Residuals of a system's own periodic orbit, with one parameter changed by a factor."""
    task = CurveTask(
        residual_system,
        box,
        channel=residual_system.outputs(
            0.0, residual_system.initial_state(box.parameters()), box.parameters()
        )._fields[0],
        resolution=0.2,
    )
    scales = state_scales(task)
    orbit = periodic_orbit(residual_system, box.complete(jnp.asarray(theta)), steps=1920)
    table = jnp.stack(jax.tree.leaves(orbit.states), axis=1)
    phases = orbit.times / orbit.times[-1]
    z = (table - scales.mean[None]) / scales.spread[None]

    def states(phase):
        return jax.vmap(lambda column: jnp.interp(phase, phases, column), in_axes=1)(z)

    changed = np.array(theta)
    changed[1] *= factor
    p = box.complete(jnp.asarray(changed))
    between = (phases[:-1] + phases[1:]) / 2
    return np.asarray(
        jax.vmap(lambda f: residuals(task, scales, states, p, f, preconditioned=True))(between)
    )


@pytest.mark.parametrize(
    ("system", "box"),
    [(Windkessel(), BOX), pytest.param(LeftHeart(), SEVEN, marks=pytest.mark.slow)],
    ids=["windkessel", "left heart"],
)
def test_residuals_vanish_on_the_simulators_own_orbit_and_nowhere_else(system, box):
    theta = np.array(box.sample(4, seed=3)[2])
    # The median: where a valve opens, the orbit's interpolation has no derivative.
    right = np.median(np.abs(shown_to(system, box, theta)), axis=0)
    wrong = np.median(np.abs(shown_to(system, box, theta, 1.2)), axis=0)
    assert right.max() < 2e-3
    assert wrong.max() > 20 * right.max()


def test_the_conserved_quantity_is_a_residual():
    box = Box.of(TwoCompartments.parameters, ("T", "k", "x_0"))
    right = shown_to(TwoCompartments(), box, [2.0, 0.4, 3.0])
    assert right.shape[1] == 3 and np.abs(right).max() < 2e-3


def test_a_pinn_finds_the_parameters():
    theta, curves = measured(4, seed=4)
    method = PINN(width=16, depth=2, harmonics=2, collocation=16, steps=2_000)
    got = method.learn(TASK, curves, curves, seed=0).estimate(curves)
    assert got.theta is not None
    np.testing.assert_allclose(got.theta[:, 1:], theta[:, 1:], rtol=0.06)
    np.testing.assert_allclose(got.recording.waveforms["P"], curves.values, atol=0.05)


def test_its_states_are_periodic():
    network = eqx.nn.MLP(4, 3, 8, 1, key=jax.random.key(0))
    model = StateNetwork(network, jnp.zeros(2), 2)
    np.testing.assert_allclose(model(jnp.array(0.0)), model(jnp.array(1.0)), atol=1e-12)
    slopes = [jax.jacfwd(model)(jnp.array(x)) for x in (0.0, 1.0)]
    np.testing.assert_allclose(*slopes, atol=1e-10)
