"""The open loop of Stergiopulos et al. against SciPy, and its own laws."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtwin.cohorts.simulate import simulate_cohort
from jaxtwin.models.elastance import hill_activation
from jaxtwin.models.lvad import LVAD
from jaxtwin.models.stergiopulos import COUPLING, Stergiopulos, StergiopulosParameters
from jaxtwin.physics.base import read
from jaxtwin.physics.periodic import periodic_orbit
from jaxtwin.treatments import (
    AorticRepair,
    Inotrope,
    MitralRepair,
    RateControl,
    Vasodilator,
)
from tests.beats import mean_over_time
from tests.scipy_orbit import hills, settled

SYSTEM = Stergiopulos()
PEAK = np.max(hills(np.linspace(0, 2, 200_001), 0.708, 1.32, 1.187, 21.9))


@eqx.filter_jit
def beat(p):
    orbit = periodic_orbit(SYSTEM, p)
    return orbit, read(SYSTEM, orbit)


def patient(**changes):
    # Arrays, so that all patients share one compilation.
    p = dataclasses.replace(StergiopulosParameters(), **changes)
    return jax.tree.map(lambda x: jnp.asarray(x, float), p)


def by_scipy(p, times):
    """Volume, ventricular and aortic pressure."""
    p = {name: float(value) for name, value in vars(p).items()}

    def elastance(t):
        e = hills(t / (p["t_p"] * p["T_c"]), 0.708, 1.32, 1.187, 21.9) / PEAK
        return (p["E_max"] - p["E_min"]) * e + p["E_min"]

    def ejection(t, V, P):
        return np.maximum(elastance(t) * V - P, 0) / (p["R_a"] + p["R_c"])

    def rates(t, y):
        V, P = y
        q_m = max(p["P_v"] - elastance(t) * V, 0) / p["R_m"]
        q_a = ejection(t, V, P)
        return [q_m - q_a, (q_a - P / p["R_s"]) / p["C_s"]]

    V, P = settled(rates, [100.0, 80.0], p["T_c"], times=times)
    return V + p["V_d"], elastance(times) * V, P + p["R_c"] * ejection(times, V, P)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"T_c": 0.5, "E_max": 0.8, "P_v": 14.0, "t_p": 0.48, "R_s": 1.8},
        {"T_c": 1.4, "t_p": 0.32, "R_m": 0.08, "R_a": 0.2, "C_s": 0.7, "R_c": 0.1},
    ],
)
def test_matches_scipy(changes):
    p = patient(**changes)
    orbit, _ = beat(p)
    times = np.asarray(orbit.times)
    V, P_lv, P_ao = by_scipy(p, times)
    out = orbit.outputs
    for found, expected, tolerance in ((out.V_lv, V, 0.1), (out.P_ao, P_ao, 0.3)):
        assert abs(np.max(found) - np.max(expected)) < tolerance
        assert abs(np.min(found) - np.min(expected)) < tolerance
    assert abs(np.max(out.P_lv) - np.max(P_lv)) < 0.3
    np.testing.assert_allclose(np.mean(out.P_ao), np.mean(P_ao), atol=0.1)
    # At every time as well, more loosely: a valve that opens a quarter step late shows.
    np.testing.assert_allclose(out.V_lv, V, atol=0.3)


def test_what_flows_in_flows_out():
    p = patient(R_c=0.1)
    orbit, found = beat(p)
    out = orbit.outputs
    q_m, q_a, q_s = (mean_over_time(orbit, q) for q in (out.q_m, out.q_a, out.q_s))
    np.testing.assert_allclose([q_m, q_a], float(q_s), rtol=0.01)
    np.testing.assert_allclose(found["stroke_volume"] / p.T_c, q_s, rtol=0.01)
    # Mean aortic pressure: total resistance times mean flow.
    np.testing.assert_allclose(found["P_ao_mean"], (p.R_s + p.R_c) * q_s, rtol=0.01)


def test_a_healthy_adult():
    orbit, found = beat(patient())
    assert 100 < found["EDV"] < 160 and 50 < found["EF"] < 72
    assert 100 < found["systolic"] < 140 and 60 < found["diastolic"] < 90
    assert 4 < found["output"] < 8 and np.all(np.asarray(orbit.outputs.P_la) == 7.5)


def test_elastance_peaks_at_its_time_and_at_one():
    t_n = jnp.linspace(0, 2, 4001)
    e = np.asarray(jax.vmap(lambda t: hill_activation(t, 0.708, 1.32, 1.187, 21.9))(t_n))
    np.testing.assert_allclose(np.max(e), 1, atol=1e-6)
    np.testing.assert_allclose(t_n[np.argmax(e)], 1, atol=0.02)
    np.testing.assert_allclose(1 / PEAK, 1.672, atol=0.002)  # Quoted with the exponents.


def test_similarity_law():
    def scaled(p):
        offset, scale = SYSTEM.scaling(p)
        return jax.tree.map(lambda v, o, s: (v - o) / s, beat(p)[0].outputs, offset, scale)

    for a, b in zip(scaled(patient()), scaled(patient(P_v=11.0, V_d=30.0)), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4 * np.max(np.abs(a)))


@pytest.mark.slow
def test_gradients_are_finite_differences():
    def ef(x):
        p = patient()
        return beat(dataclasses.replace(p, E_max=x[0], P_v=x[1], R_s=x[2], t_p=x[3]))[1]["EF"]

    x = jnp.array([2.31, 7.5, 1.05, 0.428])
    slopes = jax.jit(jax.grad(ef))(x)
    for i, slope in enumerate(slopes):
        step = 3e-4 * x[i] * jnp.eye(4)[i]
        expected = (ef(x + step) - ef(x - step)) / (6e-4 * x[i])
        np.testing.assert_allclose(slope, expected, rtol=0.02, atol=0.02, err_msg=str(i))


@pytest.mark.slow
def test_a_cohort_in_single_precision():
    theta = COUPLING.sample(64, seed=0)
    cohort = simulate_cohort(SYSTEM, COUPLING, theta)
    assert cohort.recording.waveforms.V_lv.dtype == np.float32 and cohort.success.all()
    p = jax.vmap(COUPLING.complete)(jnp.asarray(cohort.theta, float))
    exact = eqx.filter_jit(jax.vmap(lambda p: periodic_orbit(SYSTEM, p, throw=False).outputs))(
        eqx.tree_at(lambda p: p.R_a, p, jnp.zeros(64))
    )
    np.testing.assert_allclose(cohort.recording.maximum.V_lv, exact.V_lv.max(1), atol=0.1)
    np.testing.assert_allclose(cohort.recording.minimum.V_lv, exact.V_lv.min(1), atol=0.1)
    np.testing.assert_allclose(
        cohort.recording.waveforms.P_ao.mean(1), exact.P_ao[:, :-1].mean(1), atol=0.3
    )


@pytest.mark.slow
def test_interventions_and_a_pump():
    p = patient(R_m=0.05, R_a=0.1)
    _, before = beat(p)
    for treatment, better in (
        (Inotrope(0.3), lambda o: o["EF"] > before["EF"]),
        (Vasodilator(-0.3), lambda o: o["output"] > before["output"]),
        (MitralRepair(), lambda o: o["EDV"] > before["EDV"]),
        (AorticRepair(), lambda o: o["systolic"] > before["systolic"]),
        (RateControl(100.0), lambda o: o["output"] > before["output"]),
    ):
        _, treated = treatment(SYSTEM, p)
        after = beat(jax.tree.map(lambda x: jnp.asarray(x, float), treated))[1]
        assert better(after), treatment
    weak = patient(E_max=0.6)
    pumped = eqx.filter_jit(lambda p: periodic_orbit(LVAD(SYSTEM, 10_000.0), p))(weak)
    mean = mean_over_time(pumped, pumped.outputs.q_a + pumped.outputs.Q_p) * 0.06
    np.testing.assert_allclose(read(SYSTEM, pumped)["output"], mean, rtol=0.01)
    assert mean > beat(weak)[1]["output"] + 0.5
