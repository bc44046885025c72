"""The one-compartment lung against its closed form."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from jaxtwin.cohorts.simulate import simulate_cohort
from jaxtwin.models.lung import AIRWAY, Lung, LungParameters
from jaxtwin.physics.periodic import periodic_orbit
from jaxtwin.physics.solution import Recording

SYSTEM = Lung()


def closed_form(t, p):
    """Volume of the settled breath: two exponentials of the time constant RC."""
    tau, swing = p.R * p.C, p.C * p.P_i
    rest = p.C * p.PEEP
    # End of expiration x and of inspiration y, above rest: each decays towards its own plateau.
    a, b = np.exp(-p.T_i / tau), np.exp(-(p.T - p.T_i) / tau)
    y = swing * (1 - a) / (1 - a * b)
    x = y * b
    filling = swing + (x - swing) * np.exp(-t / tau)
    emptying = y * np.exp(-(t - p.T_i) / tau)
    return rest + np.where(t < p.T_i, filling, emptying)


@pytest.mark.parametrize(
    ("changes", "share"),
    # The last one's time constant is three of the solver's steps.
    [({}, 2e-4), ({"R": 40.0, "C": 0.1}, 2e-4), ({"R": 3.0, "C": 0.015}, 3e-3)],
)
def test_the_settled_breath_is_the_closed_form(changes, share):
    """Within a share of what the volume would swing if there were time."""
    p = dataclasses.replace(LungParameters(), **changes)
    orbit = jax.jit(lambda p: periodic_orbit(SYSTEM, p))(p)
    V = closed_form(np.asarray(orbit.times), p)
    np.testing.assert_allclose(orbit.outputs.V, V, atol=share * p.C * p.P_i)
    np.testing.assert_allclose(orbit.outputs.P_alv, V / p.C, atol=share * p.P_i)


def test_an_obstructed_lung_does_not_empty():
    """Air trapping: with a time constant of 4 s volume stays above that of PEEP."""
    obstructed = dataclasses.replace(LungParameters(), R=40.0, C=0.1)
    orbit = jax.jit(lambda p: periodic_orbit(SYSTEM, p))(obstructed)
    assert float(orbit.outputs.P_alv[0]) > obstructed.PEEP + 1.0


@pytest.mark.slow
def test_gradients_cohort_and_report():
    p = LungParameters()

    def tidal(R, C):
        V = periodic_orbit(SYSTEM, dataclasses.replace(p, R=R, C=C)).outputs.V
        return jnp.max(V) - jnp.min(V)

    slopes = jax.grad(tidal, (0, 1))(20.0, 0.06)
    for slope, step, (dR, dC) in zip(slopes, (1e-2, 1e-4), ((1, 0), (0, 1)), strict=True):
        numeric = tidal(20.0 + dR * step, 0.06 + dC * step) - tidal(
            20.0 - dR * step, 0.06 - dC * step
        )
        np.testing.assert_allclose(slope, numeric / (2 * step), rtol=1e-3)
    cohort = simulate_cohort(SYSTEM, AIRWAY, AIRWAY.sample(64, seed=0))
    assert cohort.success.all()
    for i in range(64):
        one = AIRWAY.complete(jnp.asarray(cohort.theta[i], float))
        V = closed_form(np.arange(80) / 80 * p.T, one)
        np.testing.assert_allclose(
            cohort.recording.waveforms.V[i], V, atol=2e-3 * float(one.C * p.P_i)
        )


def test_muscles_breathe_as_well():
    """Against the transient of an independent solver, run until it has settled."""
    p = dataclasses.replace(LungParameters(), R=3.0, C=0.1, P_i=0.0, PEEP=0.0, P_mus=6.0)
    T, T_e = p.T, p.T - p.T_i

    def rising(t):
        return 6.0 * t * (T - t) / (p.T_i * T_e)

    def falling(t):
        return 6.0 * np.expm1(5 * (T - t) / T_e) / np.expm1(5.0)

    np.testing.assert_allclose([rising(p.T_i), falling(p.T_i)], 6.0)
    V, breath = 0.0, []
    for _ in range(12):
        breath = []
        for pull, span in ((rising, (0.0, p.T_i)), (falling, (p.T_i, T))):
            rate = lambda t, V, pull=pull: (pull(t) - V / p.C) / p.R  # noqa: E731
            part = solve_ivp(rate, span, [V], dense_output=True, rtol=1e-9, atol=1e-12)
            breath.append(part.sol)
            V = part.y[0, -1]
    orbit = jax.jit(lambda p: periodic_orbit(SYSTEM, p))(p)
    times = np.asarray(orbit.times)
    expected = np.where(times < p.T_i, *(part(times)[0] for part in breath))
    np.testing.assert_allclose(orbit.outputs.V, expected, atol=1e-4)
    # It draws in air by a pressure below that at the mouth.
    assert float(orbit.outputs.P_alv.min()) < -1.0 and float(orbit.outputs.P_aw.max()) == 0.0


def test_readings():
    """Of one patient and of many."""
    cohort = simulate_cohort(SYSTEM, AIRWAY, AIRWAY.sample(8, seed=1))
    p = LungParameters()
    many = Recording(
        cohort.recording.maximum,
        cohort.recording.minimum,
        cohort.recording.waveforms,
        np.full(8, p.T, cohort.theta.dtype),
    )
    one = jax.tree.map(lambda leaf: leaf[3], many)
    readings = SYSTEM.readings()
    assert list(readings) == ["V_T", "q_max", "ventilation", "P_alv_mean"]
    values = {name: reading.function(many) for name, reading in readings.items()}
    for name, reading in readings.items():
        np.testing.assert_allclose(reading.function(one), values[name][3], rtol=1e-6)
    V = closed_form(np.arange(240) / 240 * p.T, AIRWAY.complete(jnp.asarray(cohort.theta[3])))
    np.testing.assert_allclose(values["V_T"][3], np.ptp(V), rtol=0.01)
    np.testing.assert_allclose(values["ventilation"], 15 * values["V_T"], rtol=1e-6)
    # No net flow, so no net pressure drop over the airway.
    mean = p.PEEP + p.P_i * p.T_i / p.T
    np.testing.assert_allclose(values["P_alv_mean"], mean, rtol=0.01)
