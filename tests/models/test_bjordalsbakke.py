"""The closed loop of Bjørdalsbakke et al. against SciPy, and its own laws."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtwin.cohorts.simulate import simulate_cohort
from jaxtwin.models.bjordalsbakke import SYSTEMIC, Bjordalsbakke, BjordalsbakkeParameters
from jaxtwin.physics.base import read
from jaxtwin.physics.periodic import periodic_orbit
from jaxtwin.treatments import AorticRepair, Fluid, Inotrope, Pump
from tests.beats import mean_over_time
from tests.scipy_orbit import hills, settled

SYSTEM = Bjordalsbakke()
K = 1 / np.max(hills(np.linspace(0, 1, 100_001), 0.303, 1.32, 0.508, 21.9))


@eqx.filter_jit
def beat(p):
    orbit = periodic_orbit(SYSTEM, p)
    return orbit, read(SYSTEM, orbit)


def patient(**changes):
    # Arrays, so that all patients share one compilation.
    p = dataclasses.replace(BjordalsbakkeParameters(), **changes)
    return jax.tree.map(lambda x: jnp.asarray(x, float), p)


def by_scipy(p, times):
    """Volume, ventricular, aortic and venous pressure."""
    p = {name: float(value) for name, value in vars(p).items()}

    def elastance(t):
        e = K * hills(t / p["T_c"], 0.303, 1.32, 0.508, 21.9)
        return (p["E_max"] - p["E_min"]) * e + p["E_min"]

    def ejection(t, V, P_sa):
        return np.maximum(elastance(t) * V - P_sa, 0) / (p["Z_ao"] + p["R_a"])

    def rates(t, y):
        V, P_sa, P_sv = y
        q_m = max(P_sv - elastance(t) * V, 0) / p["R_m"]
        q_a, q_s = ejection(t, V, P_sa), (P_sa - P_sv) / p["R_s"]
        return [q_m - q_a, (q_a - q_s) / p["C_s"], (q_s - q_m) / p["C_r"]]

    # Any start with that volume: here most of it in the veins.
    start = [100.0, 60.0, (p["V_0"] - 100.0 - 60.0 * p["C_s"]) / p["C_r"]]
    V, P_sa, P_sv = settled(rates, start, p["T_c"], times=times)
    return V, elastance(times) * V, P_sa + p["Z_ao"] * ejection(times, V, P_sa), P_sv


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"T_c": 0.5, "E_max": 0.7, "V_0": 450.0, "R_s": 1.8},
        {"T_c": 1.4, "R_m": 0.08, "R_a": 0.2, "C_s": 2.0, "Z_ao": 0.1, "C_r": 20.0, "E_min": 0.06},
    ],
)
def test_matches_scipy(changes):
    p = patient(**changes)
    orbit, _ = beat(p)
    expected = by_scipy(p, np.asarray(orbit.times))
    for name, values in zip(("V_lv", "P_lv", "P_ao", "P_la"), expected, strict=True):
        found = np.asarray(getattr(orbit.outputs, name))
        tolerance = 0.1 if name == "V_lv" else 0.3
        assert abs(np.max(found) - np.max(values)) < tolerance, name
        assert abs(np.min(found) - np.min(values)) < tolerance, name
        assert abs(np.mean(found) - np.mean(values)) < 0.1, name


def test_blood_is_conserved_and_mean_flows_agree():
    p = patient(R_s=1.4, V_0=400.0)
    np.testing.assert_allclose(SYSTEM.conserved(SYSTEM.initial_state(p), p), [400.0])
    orbit, found = beat(p)
    (along,) = jax.vmap(SYSTEM.conserved, in_axes=(0, None))(orbit.states, p)
    np.testing.assert_allclose(along, 400.0, rtol=1e-9)
    out = orbit.outputs
    flows = [mean_over_time(orbit, q) * 0.06 for q in (out.q_m, out.q_a, out.q_s)]
    np.testing.assert_allclose(flows, float(found["output"]), rtol=0.01)
    across = found["P_ao_mean"] - found["P_la_mean"]
    np.testing.assert_allclose(across, (p.R_s + p.Z_ao) * found["output"] / 0.06, rtol=0.01)


def test_a_resting_adult():
    p = patient()
    # At rest all compartments have the filling pressure that the paper starts from.
    np.testing.assert_allclose(p.V_0 / (1 / p.E_min + p.C_s + p.C_r), 7.0, atol=0.01)
    _, found = beat(p)
    # No unstressed volume, and a low E_max: the ventricle is large and empties by less than half.
    assert 100 < found["EDV"] < 180 and 45 < found["EF"] < 72
    assert 95 < found["systolic"] < 140 and 55 < found["diastolic"] < 90
    assert 4 < found["output"] < 8 and 2 < found["P_la_mean"] < 14


def test_similarity_law():
    def scaled(p):
        offset, scale = SYSTEM.scaling(p)
        return jax.tree.map(lambda v, o, s: (v - o) / s, beat(p)[0].outputs, offset, scale)

    for a, b in zip(scaled(patient()), scaled(patient(V_0=480.0)), strict=True):
        # As close as two orbits that stop at a tolerance of 3e-5.
        np.testing.assert_allclose(a, b, atol=5e-4 * np.max(np.abs(a)))


@pytest.mark.slow
def test_gradients_are_finite_differences():
    def ef(x):
        p = patient()
        return beat(dataclasses.replace(p, E_max=x[0], V_0=x[1], R_s=x[2], C_r=x[3]))[1]["EF"]

    x = jnp.array([1.5, 318.2, 1.11, 11.0])
    slopes = jax.jit(jax.grad(ef))(x)
    for i, slope in enumerate(slopes):
        step = 3e-4 * x[i] * jnp.eye(4)[i]
        expected = (ef(x + step) - ef(x - step)) / (6e-4 * x[i])
        np.testing.assert_allclose(slope, expected, rtol=0.02, atol=0.02, err_msg=str(i))


@pytest.mark.slow
def test_a_cohort_in_single_precision():
    cohort = simulate_cohort(SYSTEM, SYSTEMIC, SYSTEMIC.sample(64, seed=0))
    assert cohort.recording.waveforms.V_lv.dtype == np.float32 and cohort.success.all()

    def exactly(theta):
        return periodic_orbit(SYSTEM, SYSTEMIC.complete(theta), throw=False).outputs

    exact = eqx.filter_jit(jax.vmap(exactly))(jnp.asarray(cohort.theta, float))
    np.testing.assert_allclose(cohort.recording.maximum.V_lv, exact.V_lv.max(1), atol=0.1)
    np.testing.assert_allclose(cohort.recording.minimum.V_lv, exact.V_lv.min(1), atol=0.1)
    np.testing.assert_allclose(
        cohort.recording.waveforms.P_ao.mean(1), exact.P_ao[:, :-1].mean(1), atol=0.3
    )


@pytest.mark.slow
def test_interventions_and_a_pump():
    p = patient(E_max=0.6, R_a=0.1)
    _, before = beat(p)
    for treatment in (Inotrope(0.3), Fluid(100.0), AorticRepair()):
        _, treated = treatment(SYSTEM, p)
        after = beat(jax.tree.map(lambda x: jnp.asarray(x, float), treated))[1]
        assert after["output"] > before["output"], treatment
    _, filled = Fluid(100.0)(SYSTEM, p)
    np.testing.assert_allclose(filled.V_0, 418.2)
    pumped, _ = Pump(10_000.0)(SYSTEM, p)
    orbit = eqx.filter_jit(lambda p: periodic_orbit(pumped, p))(p)
    (along,) = jax.vmap(pumped.conserved, in_axes=(0, None))(orbit.states, p)
    np.testing.assert_allclose(along, 318.2, rtol=1e-9)
    assert read(SYSTEM, orbit)["output"] > before["output"] + 0.5
