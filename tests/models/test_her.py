"""The ventricle with leaky valves against SciPy, and its own laws."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtwin.cohorts.simulate import simulate_cohort
from jaxtwin.models.her import REGURGITANT, TIGHT, Her, HerParameters
from jaxtwin.models.lvad import LVAD
from jaxtwin.physics.base import read
from jaxtwin.physics.periodic import periodic_orbit
from tests.beats import mean_over_time
from tests.scipy_orbit import hills, settled

SYSTEM = Her()


@eqx.filter_jit
def beat(p):
    orbit = periodic_orbit(SYSTEM, p)
    return orbit, read(SYSTEM, orbit)


def patient(**changes):
    # Arrays, so that all patients share one compilation.
    p = dataclasses.replace(HerParameters(), **changes)
    return jax.tree.map(lambda x: jnp.asarray(x, float), p)


def by_scipy(p, times):
    """Volume, ventricular and aortic pressure, and mitral and aortic flow."""
    p = {name: float(value) for name, value in vars(p).items()}

    def elastance(t):
        e = 1.55 * hills(t / (0.2 + 0.15 * p["T_c"]), 0.7, 1.9, 1.17, 21.9)
        return (p["E_max"] - p["E_min"]) * e + p["E_min"]

    def flows(t, V, P_ao):
        mitral, aortic = p["P_la"] - elastance(t) * V, elastance(t) * V - P_ao
        return (
            mitral / np.where(mitral > 0, p["R_m"], p["R_m_closed"]),
            aortic / np.where(aortic > 0, p["R_a"], p["R_a_closed"]),
        )

    def rates(t, y):
        V, P_ao, P_a, Q = y
        q_m, q_a = flows(t, V, P_ao)
        return [
            q_m - q_a,
            (q_a - Q) / p["C_a"],
            (Q - P_a / p["R_s"]) / p["C_s"],
            (P_ao - P_a - p["R_c"] * Q) / p["L_s"],
        ]

    V, P_ao, _, _ = settled(rates, [120.0, 90.0, 90.0, 0.0], p["T_c"], times=times)
    return V + p["V_d"], elastance(times) * V, P_ao, *flows(times, V, P_ao)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"T_c": 0.5, "E_max": 0.8, "P_la": 18.0, "R_m_closed": 2.0, "R_s": 1.8},
        {"T_c": 1.4, "R_m": 0.08, "R_a": 0.2, "C_s": 0.7, "R_a_closed": 2.0, "E_max": 3.0},
    ],
)
def test_matches_scipy(changes):
    p = patient(**changes)
    orbit, _ = beat(p)
    V, P_lv, P_ao, q_m, q_a = by_scipy(p, np.asarray(orbit.times))
    out = orbit.outputs
    for name, values in (("V_lv", V), ("P_lv", P_lv), ("P_ao", P_ao)):
        found, tolerance = np.asarray(getattr(out, name)), 0.1 if name == "V_lv" else 0.3
        assert abs(np.max(found) - np.max(values)) < tolerance, name
        assert abs(np.min(found) - np.min(values)) < tolerance, name
        assert abs(np.mean(found) - np.mean(values)) < 0.1, name
    for found, values in ((out.q_m, q_m), (out.q_a, q_a)):
        back = np.mean(np.minimum(found, 0))
        np.testing.assert_allclose(back, np.mean(np.minimum(values, 0)), rtol=0.02, atol=0.02)


@pytest.mark.parametrize("changes", [{}, {"R_m_closed": 3.0, "R_a_closed": 5.0}])
def test_what_flows_in_flows_out(changes):
    p = patient(**changes)
    orbit, found = beat(p)
    out = orbit.outputs
    flows = [mean_over_time(orbit, q) * 0.06 for q in (out.q_m, out.q_a)]
    np.testing.assert_allclose(flows, float(found["output"]), rtol=0.01)
    # Over a beat nothing is spent on compliances and inertance.
    total = (p.R_s + p.R_c) * found["output"] / 0.06
    np.testing.assert_allclose(found["P_ao_mean"], total, rtol=0.01)


@pytest.mark.parametrize(("valve", "flow"), [("R_m_closed", "q_m"), ("R_a_closed", "q_a")])
def test_a_leak_lets_blood_back_and_costs_output(valve, flow):
    tight = beat(patient())
    leaking = [beat(patient(**{valve: R})) for R in (10.0, 2.0)]
    back = [
        float(-mean_over_time(orbit, jnp.minimum(getattr(orbit.outputs, flow), 0)))
        for orbit, _ in (tight, *leaking)
    ]
    output = [float(found["output"]) for _, found in (tight, *leaking)]
    assert back[0] < 0.1 and back[1] > 1 and back[2] > 3 * back[1]
    assert output[0] > output[1] > output[2] and output[2] < 0.95 * output[0]
    # The ventricle moves more than what arrives.
    orbit, found = leaking[-1]
    assert found["stroke_volume"] * 0.06 / orbit.times[-1] > 1.1 * found["output"]


def test_a_failing_heart_at_rest():
    # Whom an assist device is for: a low ejection fraction and output at a normal pressure.
    orbit, found = beat(patient())
    assert 100 < found["EDV"] < 160 and 30 < found["EF"] < 45
    assert 95 < found["systolic"] < 140 and 55 < found["diastolic"] < 90
    assert 3 < found["output"] < 5 and np.all(np.asarray(orbit.outputs.P_la) == 10.0)


def test_similarity_law():
    def scaled(p):
        offset, scale = SYSTEM.scaling(p)
        return jax.tree.map(lambda v, o, s: (v - o) / s, beat(p)[0].outputs, offset, scale)

    leak = {"R_m_closed": 5.0}
    others = scaled(patient(P_la=15.0, V_d=20.0, **leak))
    for a, b in zip(scaled(patient(**leak)), others, strict=True):
        # As close as two orbits that stop at a tolerance of 3e-5.
        np.testing.assert_allclose(a, b, atol=5e-4 * np.max(np.abs(a)))


@pytest.mark.slow
def test_gradients_are_finite_differences():
    def ef(x):
        p = dataclasses.replace(patient(), E_max=x[0], P_la=x[1], R_m_closed=x[2], R_a_closed=x[3])
        return beat(p)[1]["EF"]

    x = jnp.array([1.52, 10.0, 4.0, 6.0])
    slopes = jax.jit(jax.grad(ef))(x)
    for i, slope in enumerate(slopes):
        step = 3e-4 * x[i] * jnp.eye(4)[i]
        expected = (ef(x + step) - ef(x - step)) / (6e-4 * x[i])
        np.testing.assert_allclose(slope, expected, rtol=0.02, atol=0.02, err_msg=str(i))


@pytest.mark.slow
@pytest.mark.parametrize("box", [TIGHT, REGURGITANT], ids=["tight", "regurgitant"])
def test_a_cohort_in_single_precision(box):
    cohort = simulate_cohort(SYSTEM, box, box.sample(64, seed=0))
    assert cohort.recording.waveforms.V_lv.dtype == np.float32 and cohort.success.all()

    def exactly(theta):
        return periodic_orbit(SYSTEM, box.complete(theta), throw=False).outputs

    exact = eqx.filter_jit(jax.vmap(exactly))(jnp.asarray(cohort.theta, float))
    np.testing.assert_allclose(cohort.recording.maximum.V_lv, exact.V_lv.max(1), atol=0.1)
    np.testing.assert_allclose(cohort.recording.minimum.V_lv, exact.V_lv.min(1), atol=0.1)
    np.testing.assert_allclose(
        cohort.recording.waveforms.P_ao.mean(1), exact.P_ao[:, :-1].mean(1), atol=0.3
    )


@pytest.mark.slow
def test_with_a_pump():
    weak = patient(E_max=0.6)
    orbit = eqx.filter_jit(lambda p: periodic_orbit(LVAD(SYSTEM, 10_000.0), p))(weak)
    found = read(SYSTEM, orbit)
    mean = mean_over_time(orbit, orbit.outputs.q_a + orbit.outputs.Q_p) * 0.06
    np.testing.assert_allclose(found["output"], mean, rtol=0.01)
    assert found["output"] > beat(weak)[1]["output"] + 0.5
