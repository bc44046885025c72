"""The minimal model of glucose against an independent solver and its closed forms."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from jaxtwin.models.glucose import TWIN, GlucoseParameters, GlucoseTest
from jaxtwin.physics.solution import Recording
from jaxtwin.physics.solve import simulate

SYSTEM = GlucoseTest()
TIMES = np.linspace(0.0, 180.0, 181)
DIABETIC = {
    "S_I": 0.6e-4,
    "S_G": 0.015,
    "I_first": 10.0,
    "gamma": 0.001,
    "G_b": 150.0,
    "I_b": 12.0,
}


def parameters(**changes):
    return dataclasses.replace(GlucoseParameters(), **changes)


@jax.jit
def solve(p):
    return simulate(SYSTEM, p, jnp.asarray(TIMES), throw=False)


def outputs(**changes):
    found = solve(parameters(**changes))
    assert found.success
    return jax.tree.map(np.asarray, found.outputs)


def reference(p):
    """The equations written anew, with p_1, p_2 and p_3, in pieces between the doses' ends."""
    p_1, p_3, threshold = p.S_G, p.p_2 * p.S_I, p.G_b + p.h

    def rates(rate):
        def f(t, y):
            G, X, I = y  # noqa: E741
            secreted = p.gamma * max(G - threshold, 0.0) * t
            return [
                -(p_1 + X) * G + p_1 * p.G_b,
                -p.p_2 * X + p_3 * (I - p.I_b),
                -p.n * (I - p.I_b) + secreted + rate,
            ]

        return f

    infusion = 1000 * p.dose / (1000 * p.V_I) / p.T_dose
    y, found = [p.G_b + p.G_bolus, 0.0, p.I_b + p.I_first], []
    for start, end, rate in ((0.0, 20.0, 0.0), (20.0, 23.0, infusion), (23.0, 180.0, 0.0)):
        at = np.arange(start, end + 1)
        part = solve_ivp(
            rates(rate), (start, end), y, t_eval=at, rtol=1e-9, atol=1e-10, method="LSODA"
        )
        found.append(part.y[:, :-1])
        y = part.y[:, -1]
    return np.concatenate([*found, np.array(y)[:, None]], axis=1)


@pytest.mark.parametrize("changes", [{}, DIABETIC, {"dose": 0.0, "h": 10.0}, {"S_I": 10e-4}])
def test_against_an_independent_solver(changes):
    out = outputs(**changes)
    G, X, I = reference(parameters(**changes))  # noqa: E741
    np.testing.assert_allclose(out.G, G, atol=0.05)
    np.testing.assert_allclose(out.X, X, atol=2e-5)
    np.testing.assert_allclose(out.I, I, atol=0.05)


def test_closed_forms():
    """Without insulin's action glucose decays by itself, without a second phase so does insulin."""
    p = parameters()
    G = outputs(S_I=0.0).G
    np.testing.assert_allclose(G, p.G_b + p.G_bolus * np.exp(-p.S_G * TIMES), atol=0.01)
    out = outputs(gamma=0.0)
    rate = p.dose / p.V_I / p.T_dose
    since, after = np.clip(TIMES - 20.0, 0.0, 3.0), np.maximum(TIMES - 23.0, 0.0)
    given = rate / p.n * (1 - np.exp(-p.n * since)) * np.exp(-p.n * after)
    first = p.I_first * np.exp(-p.n * TIMES)
    np.testing.assert_allclose(out.I, p.I_b + first + given, atol=0.01)
    # X is insulin through a first-order lag; here before the dose.
    before = TIMES < 20
    lag = np.exp(-p.p_2 * TIMES) - np.exp(-p.n * TIMES)
    X = p.p_2 * p.S_I * p.I_first / (p.n - p.p_2) * lag
    np.testing.assert_allclose(out.X[before], X[before], atol=1e-6)


@pytest.mark.parametrize("changes", [{}, DIABETIC])
def test_fasting_is_an_equilibrium(changes):
    p = parameters(**changes)
    out = outputs(**{**changes, "G_bolus": 0.0, "I_first": 0.0, "dose": 0.0})
    np.testing.assert_allclose(out.G, p.G_b, rtol=1e-12)
    np.testing.assert_allclose(out.I, p.I_b, rtol=1e-12)
    np.testing.assert_array_equal(out.X, 0.0)


def test_insulin_and_insulin_resistance():
    """More insulin, less glucose; a diabetic's returns later, to whatever it was."""
    low, middle, high = (outputs(dose=dose).G for dose in (0.0, 30.0, 60.0))
    np.testing.assert_allclose(low[:20], high[:20], atol=0.01)
    assert (low[25:] > middle[25:]).all() and (middle[25:] > high[25:]).all()
    half = []
    for changes in ({}, {"S_I": 0.6e-4}, DIABETIC):
        p = parameters(**changes)
        above = (outputs(**changes).G - p.G_b) / p.G_bolus
        half.append(np.argmax(above < 0.5))
    assert half[0] < half[1] < half[2]
    # A healthy adult is back within the hour, below fasting for a while, and not in danger.
    G = outputs(dose=0.0).G
    assert G[70] < 95.0 and 60.0 < G.min() < 85.0


@pytest.mark.slow
def test_gradients():
    """Of glucose after an hour, through the solver, against differences."""

    def glucose(S_I, S_G, dose):
        p = parameters(S_I=S_I, S_G=S_G, dose=dose)
        return simulate(SYSTEM, p, jnp.array([0.0, 30.0, 60.0])).outputs.G[-1]

    at = (4e-4, 0.025, 30.0)
    slopes = jax.jit(jax.grad(glucose, (0, 1, 2)))(*at)
    jitted = jax.jit(glucose)
    for k, slope in enumerate(slopes):
        above, below = ([v * (1 + s * (i == k)) for i, v in enumerate(at)] for s in (1e-2, -1e-2))
        numeric = (jitted(*above) - jitted(*below)) / (2e-2 * at[k])
        np.testing.assert_allclose(slope, numeric, rtol=2e-3)
        assert slope < 0


def test_readings_and_scaling():
    offset, scale = SYSTEM.scaling(parameters())
    out = outputs()
    for value, o, s in zip(out, offset, scale, strict=True):
        assert 0.3 < np.abs((value - o) / s).max() < 3.0
    test = Recording(
        jax.tree.map(np.max, out),
        jax.tree.map(np.min, out),
        jax.tree.map(lambda leaf: leaf[:-1:2], out),
        np.array(180.0),
    )
    values = {name: float(reading.function(test)) for name, reading in SYSTEM.readings().items()}
    assert values["G_max"] == 290.0 and 60.0 < values["G_min"] < 90.0 < values["G_mean"]
    assert values["I_max"] > 258.0 > values["I_mean"] > 8.0


@pytest.mark.slow
def test_the_whole_box_stays_finite_and_positive():
    theta = np.concatenate([TWIN.sample(32, seed=0), [TWIN.low, TWIN.high]])
    found = jax.vmap(lambda theta: solve(TWIN.complete(theta)))(jnp.asarray(theta))
    assert found.success.all()
    assert (found.outputs.G > 0).all() and (found.outputs.I > 0).all()
    assert (found.outputs.X > -1e-9).all()
