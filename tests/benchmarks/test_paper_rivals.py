"""The paper's methods in PyTorch: training steps, written for timing, reduce the loss."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.paper import PAPER, beat, circuit_rates, cnn3d, neural_ode, pinn
from benchmarks.rivals import Missing
from jaxtwin.models.left_heart import LeftHeart, LeftHeartParameters, LeftHeartState


def losses(make, steps):
    try:
        step = make()
    except Missing as missing:
        pytest.skip(str(missing))
    values = np.array([step() for _ in range(steps)])
    assert np.isfinite(values).all()
    return values


def test_the_beat_is_the_circuits():
    """Its states, in the paper's order, keep the stressed volume, and its volume comes back."""
    times, states = beat(60)
    assert times.shape == (60,) and states.shape == (60, 5)
    assert times[0] == 0 and times[-1] == pytest.approx(1)
    np.testing.assert_allclose(states[0], states[-1], rtol=1e-3, atol=0.1)
    V, P_la, P_a, P_ao, Q = states.T
    stressed = V + 4.4 * P_la + 1.33 * P_a + 0.08 * P_ao
    np.testing.assert_allclose(stressed, stressed[0], rtol=1e-3)
    assert 40 < np.ptp(V) < 120 and P_ao.mean() > P_la.mean() and Q.max() > 100


def test_the_pinns_circuit_is_the_simulators():
    heart, p = LeftHeart(), LeftHeartParameters()
    times, states = beat(60)
    named = LeftHeartState(*jnp.asarray(states.T))
    expected = jax.vmap(lambda t, y: heart.vector_field(t, y, p))(
        jnp.asarray(times[:-1]), jax.tree.map(lambda x: x[:-1], named)
    )
    parameters = {name: float(value) for name, value in vars(p).items()}
    found = circuit_rates(parameters, times, states.T, lambda u: np.maximum(u, 0))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a[:-1], b, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
def test_neural_ode_learns():
    values = losses(neural_ode, 5)
    assert values[-1] < 0.95 * values[0]


@pytest.mark.slow
def test_pinn_learns():
    """Heart at rest, all states 0, obeys the equations: the first step leaves it and pays."""
    values = losses(pinn, 12)
    assert values[1] > values[0]
    assert values[-3:].max() < 0.2 * values[1]


@pytest.mark.slow
def test_cnn3d_learns():
    values = losses(lambda: cnn3d(batch=4, frames=16, size=32), 8)
    assert values[-1] < 0.5 * values[0]


@pytest.mark.slow
def test_a_step_is_the_same_every_time():
    def make():
        return cnn3d(batch=2, frames=16, size=32)

    np.testing.assert_allclose(losses(make, 2), losses(make, 2), rtol=1e-4)


@pytest.mark.parametrize("name", sorted(PAPER))
def test_without_torch_it_says_what_to_install(monkeypatch, name):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(Missing, match="bench"):
        PAPER[name]()
