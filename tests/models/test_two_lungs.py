"""The two-compartment lung against its closed form, an independent solver and its symmetries."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.linalg import expm

from jaxtwin.cohorts.simulate import simulate_cohort
from jaxtwin.models.lung import Lung, LungParameters
from jaxtwin.models.two_lungs import COMPARTMENTS, TwoLungs, TwoLungsParameters
from jaxtwin.physics.periodic import periodic_orbit
from jaxtwin.physics.solution import Recording

SYSTEM = TwoLungs()
ORBIT = jax.jit(lambda p: periodic_orbit(SYSTEM, p))
ALONE = {
    "P_i": 0.0,
    "PEEP": 0.0,
    "P_mus": 6.0,
    "R_c": 2.0,
    "R_1": 2.0,
    "R_2": 12.0,
    "C_1": 0.05,
    "C_2": 0.04,
}


def parameters(**changes):
    return dataclasses.replace(TwoLungsParameters(), **changes)


def resistances(p):
    """The pressure from mouth to alveoli by both flows."""
    return np.array([[p.R_c + p.R_1, p.R_c], [p.R_c, p.R_c + p.R_2]], float)


def closed_form(times, p):
    """Volumes and flows of the settled breath of a ventilator, [2, time] each."""
    M, C = resistances(p), np.array([p.C_1, p.C_2], float)
    A = -np.linalg.solve(M, np.diag(1 / C))
    full, empty = C * (p.PEEP + p.P_i), C * p.PEEP
    fill, drain = expm(A * p.T_i), expm(A * (p.T - p.T_i))
    # start = empty + drain (end − empty), end = full + fill (start − full)
    jump = full - empty
    start = empty + np.linalg.solve(np.eye(2) - drain @ fill, drain @ (jump - fill @ jump))
    end = full + fill @ (start - full)
    V = [
        full + expm(A * t) @ (start - full)
        if t < p.T_i
        else empty + expm(A * (t - p.T_i)) @ (end - empty)
        for t in times
    ]
    V = np.transpose(V)
    P = p.PEEP + np.where(times < p.T_i, p.P_i, 0.0)
    return V, np.linalg.solve(M, P - V / C[:, None])


def recording(orbit, p):
    at = jnp.arange(80) / 80 * p.T
    out = orbit.outputs
    return Recording(
        jax.tree.map(jnp.max, out),
        jax.tree.map(jnp.min, out),
        jax.tree.map(lambda leaf: jnp.interp(at, orbit.times, leaf), out),
        jnp.asarray(p.T),
    )


@pytest.mark.parametrize(
    "changes", [{}, {"R_2": 90.0, "C_2": 0.05, "T": 2.5}, {"R_c": 15.0, "R_1": 2.0, "C_1": 0.04}]
)
def test_the_settled_breath_is_the_closed_form(changes):
    p = parameters(**changes)
    orbit = ORBIT(p)
    out = orbit.outputs
    V, q = closed_form(np.asarray(orbit.times), p)
    swing, flow = float(p.C_1 * p.P_i), float(p.P_i / (p.R_c + p.R_1))
    np.testing.assert_allclose([out.V_1, out.V_2], V, atol=4e-4 * swing)
    np.testing.assert_allclose([out.q_1, out.q_2], q, atol=1e-3 * flow)
    np.testing.assert_allclose(out.V, V.sum(axis=0), atol=4e-4 * swing)
    np.testing.assert_allclose(out.q, q.sum(axis=0), atol=1e-3 * flow)
    np.testing.assert_allclose([out.P_1 * p.C_1, out.P_2 * p.C_2], V, atol=4e-4 * swing)


def test_muscles_against_an_independent_solver():
    """From rest until it has settled; the muscles pull on both compartments alike."""
    p = parameters(**ALONE)
    M, C, T_e = resistances(p), np.array([p.C_1, p.C_2]), p.T - p.T_i

    def rate(t, V):
        if t < p.T_i:
            pull = p.P_mus * t * (p.T - t) / (p.T_i * T_e)
        else:
            pull = p.P_mus * np.expm1(5 * (p.T - t) / T_e) / np.expm1(5.0)
        return np.linalg.solve(M, pull - V / C)

    V, breath = np.zeros(2), []
    for _ in range(12):
        breath = []
        for span in ((0.0, p.T_i), (p.T_i, p.T)):
            part = solve_ivp(rate, span, V, dense_output=True, rtol=1e-8, atol=1e-11)
            breath.append(part.sol)
            V = part.y[:, -1]
    orbit = ORBIT(p)
    times = np.asarray(orbit.times)
    expected = np.where(times < p.T_i, *(part(times) for part in breath))
    np.testing.assert_allclose(
        [orbit.outputs.V_1, orbit.outputs.V_2], expected, atol=2e-4 * expected.max()
    )


@pytest.mark.parametrize("changes", [{}, {"P_i": 0.0, "PEEP": 0.0, "P_mus": 6.0}])
def test_equal_time_constants_make_one_compartment(changes):
    p = parameters(R_1=8.0, C_1=0.04, R_2=16.0, C_2=0.02, **changes)
    R = p.R_c + p.R_1 * p.R_2 / (p.R_1 + p.R_2)
    one = dataclasses.replace(LungParameters(), R=R, C=p.C_1 + p.C_2, **changes)
    orbit, single = ORBIT(p), periodic_orbit(Lung(), one)
    np.testing.assert_allclose(orbit.outputs.V, single.outputs.V, atol=1e-7)
    np.testing.assert_allclose(orbit.outputs.q, single.outputs.q, atol=1e-7)
    np.testing.assert_allclose(orbit.outputs.P_1, orbit.outputs.P_2, atol=1e-5)
    assert float(SYSTEM.readings()["pendelluft"].function(recording(orbit, p))) < 1e-3


def test_the_slow_compartment_lags():
    """Pendelluft, and air that is trapped; both by the closed form."""
    p = parameters(R_c=20.0, R_1=3.0, R_2=60.0)
    orbit = ORBIT(p)
    readings = {
        name: float(reading.function(recording(orbit, p)))
        for name, reading in SYSTEM.readings().items()
    }
    times = np.linspace(0.0, p.T, 4001)[:-1]
    V, q = closed_form(times, p)
    opposite = q[0] * q[1] < 0
    swung = 1000 * np.where(opposite, np.abs(q).min(axis=0), 0.0).mean() * p.T
    assert swung > 4.0
    # The slow one fills after the fast one has begun to empty.
    assert q[1][times > p.T_i][0] > 0 > q[0][times > p.T_i][0]
    np.testing.assert_allclose(readings["pendelluft"], swung, rtol=0.01)
    np.testing.assert_allclose(readings["P_2_end"], V[1, 0] / p.C_2, rtol=1e-3)
    assert readings["P_2_end"] > p.PEEP + 1.0
    swings = np.ptp(V, axis=1)
    np.testing.assert_allclose(readings["share_2"], 100 * swings[1] / swings.sum(), rtol=1e-3)
    np.testing.assert_allclose(readings["V_T"], np.ptp(V.sum(axis=0)), rtol=1e-3)


@pytest.mark.slow
def test_what_the_mouth_does_not_tell():
    """Two families of patients with the same flow at the mouth; see the class."""
    p = parameters()
    flow = np.asarray(ORBIT(p).outputs.q)
    exchanged = parameters(R_1=p.R_2, C_1=p.C_2, R_2=p.R_1, C_2=p.C_1)
    np.testing.assert_allclose(ORBIT(exchanged).outputs.q, flow, atol=1e-7)
    assert COMPARTMENTS.high[0] <= COMPARTMENTS.low[2]  # The box holds only one of them.

    S, C = p.R_1 + p.R_2, p.C_1 + p.C_2
    a, b = p.R_1 / S, p.C_1 / C
    shape, spread = b * (1 - b), (1 - a - b) ** 2 / (b * (1 - b))
    b2 = 0.4
    shape2 = b2 * (1 - b2)
    S2 = shape * S / shape2
    a2 = 1 - b2 - np.sqrt(spread * shape2)
    R_c2 = p.R_c + a * (1 - a) * S - a2 * (1 - a2) * S2
    other = parameters(R_c=R_c2, R_1=a2 * S2, R_2=(1 - a2) * S2, C_1=b2 * C, C_2=(1 - b2) * C)
    assert abs(R_c2 - p.R_c) > 0.1
    np.testing.assert_allclose(ORBIT(other).outputs.q, flow, atol=1e-6)
    # With R_c known it is told: another R_2 gives another flow.
    assert np.abs(ORBIT(parameters(R_2=33.0)).outputs.q - flow).max() > 1e-3


@pytest.mark.slow
def test_gradients_cohort_and_report():
    p = parameters()

    @jax.jit
    def read(R_2, C_1):
        out = periodic_orbit(SYSTEM, dataclasses.replace(p, R_2=R_2, C_1=C_1)).outputs
        return jnp.max(out.V) - jnp.min(out.V) + 0.1 * out.P_2[0]

    slopes = jax.grad(read, (0, 1))(30.0, 0.025)
    for slope, (dR, dC) in zip(slopes, ((1e-2, 0.0), (0.0, 1e-5)), strict=True):
        numeric = read(30.0 + dR, 0.025 + dC) - read(30.0 - dR, 0.025 - dC)
        np.testing.assert_allclose(slope, numeric / (2 * (dR + dC)), rtol=1e-3)
    cohort = simulate_cohort(SYSTEM, COMPARTMENTS, COMPARTMENTS.sample(64, seed=0))
    assert cohort.success.all()
    assert cohort.recording.waveforms.V.dtype == np.float32
    for i in range(64):
        one = COMPARTMENTS.complete(jnp.asarray(cohort.theta[i], float))
        V, _ = closed_form(np.arange(80) / 80 * one.T, one)
        for name, expected in zip(("V_1", "V_2"), V, strict=True):
            # The fastest has a time constant of one solver step.
            np.testing.assert_allclose(
                getattr(cohort.recording.waveforms, name)[i], expected, atol=0.01
            )
