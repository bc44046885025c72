"""The three-state left heart, and its pump, against SciPy and their own laws."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtwin.cohorts.simulate import simulate_cohort
from jaxtwin.models.ferreira import NINE, Ferreira, FerreiraParameters
from jaxtwin.models.lvad import LVAD
from jaxtwin.physics.base import read
from jaxtwin.physics.periodic import periodic_orbit
from tests.beats import mean_over_time
from tests.scipy_orbit import hills, settled

SYSTEM = Ferreira()
PUMP = LVAD(SYSTEM, 10_000.0)


@eqx.filter_jit
def beat(p):
    orbit = periodic_orbit(SYSTEM, p)
    return orbit, read(SYSTEM, orbit)


@eqx.filter_jit
def pumped_beat(p):
    orbit = periodic_orbit(PUMP, p)
    return orbit, read(PUMP, orbit)


def patient(**changes):
    # Arrays, so that all patients share one compilation.
    p = dataclasses.replace(FerreiraParameters(), **changes)
    return jax.tree.map(lambda x: jnp.asarray(x, float), p)


def by_scipy(p, times, *, speed=None):
    """Volume, ventricular, aortic and atrial pressure, and the flow of a pump."""
    p = {name: float(value) for name, value in vars(p).items()}
    R = p["R_a"] + p["R_c"]

    def elastance(t):
        e = 1.55 * hills(t / (0.2 + 0.15 * p["T_c"]), 0.7, 1.9, 1.17, 21.9)
        return (p["E_max"] - p["E_min"]) * e + p["E_min"]

    def rates(t, y):
        V, P_la, P_a, Q = y
        P_lv = elastance(t) * V
        q_m, q_a = max(P_la - P_lv, 0) / p["R_m"], max(P_lv - P_a, 0) / R
        q_s = (P_a - P_la) / p["R_s"]
        dQ = 0.0
        if speed is not None:
            head = P_lv - P_a - p["R_c"] * q_a + 9.9025e-7 * speed**2
            dQ = (head - (0.4314 + 3.5 * max(1.0 - P_lv, 0)) * Q) / 0.0524
        return [q_m - q_a - Q, (q_s - q_m) / p["C_r"], (q_a + Q - q_s) / p["C_s"], dQ]

    start = [p["V_0"], p["V_0"] * p["E_min"], p["P_0"], 0.0]
    V, P_la, P_a, Q = settled(rates, start, p["T_c"], times=times)
    P_lv = elastance(times) * V
    P_ao = P_a + p["R_c"] * np.maximum(P_lv - P_a, 0) / R
    return V + p["V_d"], P_lv, P_ao, P_la, Q


def check(out, expected):
    names = ("V_lv", "P_lv", "P_ao", "P_la")
    for name, values in zip(names, expected, strict=False):
        found, tolerance = np.asarray(getattr(out, name)), 0.1 if name == "V_lv" else 0.3
        assert abs(np.max(found) - np.max(values)) < tolerance, name
        assert abs(np.min(found) - np.min(values)) < tolerance, name
        assert abs(np.mean(found) - np.mean(values)) < 0.1, name


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"T_c": 0.5, "E_max": 0.7, "V_0": 220.0, "E_min": 0.04, "R_s": 1.6},
        {"T_c": 1.4, "R_m": 0.08, "R_a": 0.2, "C_s": 0.7, "V_0": 100.0},
    ],
)
def test_matches_scipy(changes):
    p = patient(**changes)
    orbit, _ = beat(p)
    check(orbit.outputs, by_scipy(p, np.asarray(orbit.times)))


@pytest.mark.slow
def test_a_pump_matches_scipy_raises_output_and_keeps_the_blood():
    p = patient(E_max=0.7, V_0=200.0)
    orbit, found = pumped_beat(p)
    V, P_lv, P_ao, P_la, Q = by_scipy(p, np.asarray(orbit.times), speed=10_000.0)
    check(orbit.outputs, (V, P_lv, P_ao, P_la))
    np.testing.assert_allclose(np.mean(orbit.outputs.Q_p), np.mean(Q), atol=0.5)
    assert len(jax.tree.leaves(orbit.states)) == 4
    (start,) = PUMP.conserved(PUMP.initial_state(p), p)
    (along,) = jax.vmap(PUMP.conserved, in_axes=(0, None))(orbit.states, p)
    np.testing.assert_allclose(along, float(start), rtol=1e-9)
    without = beat(p)[1]
    assert found["output"] > without["output"] + 0.5 and found["EDV"] < without["EDV"]
    mean = mean_over_time(orbit, orbit.outputs.q_a + orbit.outputs.Q_p) * 0.06
    np.testing.assert_allclose(mean, found["output"], rtol=0.01)


def test_blood_is_conserved_and_mean_flows_agree():
    p = patient(R_s=1.4)
    orbit, found = beat(p)
    (start,) = SYSTEM.conserved(SYSTEM.initial_state(p), p)
    (along,) = jax.vmap(SYSTEM.conserved, in_axes=(0, None))(orbit.states, p)
    np.testing.assert_allclose(along, float(start), rtol=1e-9)
    out = orbit.outputs
    flows = [mean_over_time(orbit, q) * 0.06 for q in (out.q_m, out.q_a, out.q_s)]
    np.testing.assert_allclose(flows, float(found["output"]), rtol=0.01)
    # The pressure across the circulation is its resistance times the mean flow.
    across = found["P_ao_mean"] - found["P_la_mean"]
    np.testing.assert_allclose(across, (p.R_s + p.R_c) * found["output"] / 0.06, rtol=0.01)


def test_a_resting_adult():
    _, found = beat(patient())
    assert 100 < found["EDV"] < 160 and 50 < found["EF"] < 72
    assert 95 < found["systolic"] < 140 and 60 < found["diastolic"] < 90
    assert 4 < found["output"] < 8 and 4 < found["P_la_mean"] < 14


def test_similarity_law():
    def scaled(p):
        offset, scale = SYSTEM.scaling(p)
        return jax.tree.map(lambda v, o, s: (v - o) / s, beat(p)[0].outputs, offset, scale)

    others = scaled(patient(V_0=210.0, V_d=20.0, P_0=50.0))
    for a, b in zip(scaled(patient()), others, strict=True):
        # As close as two orbits that stop at a tolerance of 3e-5.
        np.testing.assert_allclose(a, b, atol=5e-4 * np.max(np.abs(a)))


@pytest.mark.slow
def test_gradients_are_finite_differences():
    def ef(x):
        p = patient()
        return beat(dataclasses.replace(p, E_max=x[0], V_0=x[1], R_s=x[2], C_s=x[3]))[1]["EF"]

    x = jnp.array([2.0, 140.0, 1.0, 1.33])
    slopes = jax.jit(jax.grad(ef))(x)
    for i, slope in enumerate(slopes):
        step = 3e-4 * x[i] * jnp.eye(4)[i]
        expected = (ef(x + step) - ef(x - step)) / (6e-4 * x[i])
        np.testing.assert_allclose(slope, expected, rtol=0.02, atol=0.02, err_msg=str(i))


@pytest.mark.slow
def test_a_cohort_in_single_precision():
    cohort = simulate_cohort(SYSTEM, NINE, NINE.sample(64, seed=0))
    assert cohort.recording.waveforms.V_lv.dtype == np.float32 and cohort.success.all()

    def exactly(theta):
        return periodic_orbit(SYSTEM, NINE.complete(theta), throw=False).outputs

    exact = eqx.filter_jit(jax.vmap(exactly))(jnp.asarray(cohort.theta, float))
    np.testing.assert_allclose(cohort.recording.maximum.V_lv, exact.V_lv.max(1), atol=0.1)
    np.testing.assert_allclose(cohort.recording.minimum.V_lv, exact.V_lv.min(1), atol=0.1)
    np.testing.assert_allclose(
        cohort.recording.waveforms.P_ao.mean(1), exact.P_ao[:, :-1].mean(1), atol=0.3
    )
