"""The four-chamber heart against an independent solver, its own laws, and clinical expectations."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from jaxtwin.cohorts.simulate import simulate_cohort
from jaxtwin.models.elastance import cosine_activation
from jaxtwin.models.four_chambers import (
    BOTH_SIDES,
    HEALTHY_LUNGS,
    FourChamberParameters,
    FourChambers,
)
from jaxtwin.models.lvad import LVAD
from jaxtwin.physics.periodic import periodic_orbit
from jaxtwin.physics.solution import Recording
from jaxtwin.treatments import Fluid, Inotrope, MitralRepair, Vasodilator, combine

HEARTS = FourChambers()
RIGID = {"E_s": 1e6, "E_s_min": 1e6}
HYPERTENSIVE = HEALTHY_LUNGS | {"R_pa": 0.6}
OTHER_SIZE = {"V_0": 1600.0, "V_d": 20.0, "V_d_rv": 3.0, "V_d_la": 9.0, "V_d_ra": 0.0}
PATIENTS = {
    "published": {},
    "failing": HEALTHY_LUNGS | {"T_c": 1.2, "E_max": 0.8, "E_min": 0.12, "R_s": 1.2},
    "soft": {"T_c": 0.5, "R_pa": 0.6, "C_pa": 2.0, "E_max_rv": 1.2, "E_s": 5.0, "E_s_min": 0.15},
    "rigid": RIGID,
    "healthy": HEALTHY_LUNGS,
    "hypertensive": HYPERTENSIVE,
    "rigid, healthy": HEALTHY_LUNGS | RIGID,
    "rigid, hypertensive": HYPERTENSIVE | RIGID,
    "other size": OTHER_SIZE,
}
THETA = BOTH_SIDES.sample(64, seed=0)


def parameters(**changes):
    """One patient, every number an array."""
    defaults = {name: spec.default for name, spec in FourChamberParameters.specs().items()}
    return FourChamberParameters(**{n: jnp.asarray(v) for n, v in (defaults | changes).items()})


@pytest.fixture(scope="module")
def settled():
    """The orbits of PATIENTS, and of 64 points of the box after them."""
    drawn = [dict(zip(BOTH_SIDES.names, row, strict=True)) for row in THETA]
    rows = [parameters(**changes) for changes in (*PATIENTS.values(), *drawn)]
    batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows)
    orbit = eqx.filter_jit(jax.vmap(lambda p: periodic_orbit(HEARTS, p, throw=False)))(batch)
    assert np.all(orbit.success) and np.max(orbit.stats.beats) <= 5
    return batch, orbit


@pytest.fixture(scope="module")
def beat(settled):
    """From a name of PATIENTS to the patient's orbit, as NumPy arrays."""
    _, orbit = settled
    names = list(PATIENTS)
    return lambda name: jax.tree.map(lambda leaf: np.asarray(leaf)[names.index(name)], orbit)


def mean(orbit, values):
    return np.trapezoid(values, orbit.times) / orbit.times[-1]


def reference(changes, *, beats=60, septum=True, complete=False):
    """States and chamber pressures of a settled beat, from the paper's equations anew.

    Complete: with the inertances and the leaks that the model leaves out.
    """
    p = dataclasses.replace(FourChamberParameters(), **changes)
    R = np.array([p.R_s, p.R_sv, p.R_pa, p.R_pv])
    C = np.array([p.C_sa, p.C_sv, p.C_pa, p.C_pv])
    L = np.array([5e-3, 5e-4, 5e-4, 5e-4])

    def active(t, start, rise, fall):
        s = (t / p.T_c - start) % 1.0
        if s < rise:
            return (1 - np.cos(np.pi * s / rise)) / 2
        return (1 + np.cos(np.pi * (s - rise) / fall)) / 2 if s < rise + fall else 0.0

    def pressures(t, y):
        a, b = active(t, 0.0, p.f_vc, p.f_vr), active(t, p.f_as, p.f_ac, p.f_ar)
        left, right = p.E_min + (p.E_max - p.E_min) * a, p.E_min_rv + (p.E_max_rv - p.E_min_rv) * a
        P_la = (p.E_min_la + (p.E_max_la - p.E_min_la) * b) * y[0]
        P_ra = (p.E_min_ra + (p.E_max_ra - p.E_min_ra) * b) * y[2]
        if not septum:
            return P_la, left * y[1], P_ra, right * y[3]
        # Both free walls and the septum as three linear equations for P_lv, P_rv and V_s.
        wall = p.E_s_min + (p.E_s - p.E_s_min) * a
        matrix = [[1.0, 0.0, left], [0.0, 1.0, -right], [1.0, -1.0, -wall]]
        P_lv, P_rv, _ = np.linalg.solve(matrix, [left * y[1], right * y[3], 0.0])
        return P_la, P_lv, P_ra, P_rv

    def valve(drop, resistance):
        return drop / resistance if drop > 0 else drop / 75006.2 if complete else 0.0

    def rates(t, y):
        P_la, P_lv, P_ra, P_rv = pressures(t, y)
        P_ao, P_sv, P_pa, P_pv = y[4:8]
        m, a = valve(P_la - P_lv, p.R_m), valve(P_lv - P_ao, p.R_a)
        tri, pul = valve(P_ra - P_rv, p.R_t), valve(P_rv - P_pa, p.R_p)
        drops = np.array([P_ao - P_sv, P_sv - P_ra, P_pa - P_pv, P_pv - P_la])
        s, sv, pa, pv = y[8:] if complete else drops / R
        vessels = np.array([a - s, s - sv, pul - pa, pa - pv]) / C
        inert = (drops - R * y[8:]) / L if complete else []
        return np.array([pv - m, m - a, sv - tri, tri - pul, *vessels, *inert])

    # The paper's first state, with this patient's stressed volume.
    volumes = np.array([61.0, 115, 61, 135, 96, 1800, 350, 384]) * p.V_0 / 3002
    y = np.concatenate([volumes[:4], volumes[4:] / C, np.zeros(4 if complete else 0)])
    times = np.linspace(0, p.T_c, 241)

    def integrate(y):
        return solve_ivp(
            rates, (0, p.T_c), y, "LSODA", times, rtol=1e-8, atol=1e-8, max_step=p.T_c / 30
        )

    found = integrate(y)
    for _ in range(beats - 1):
        y = found.y[:, -1]
        found = integrate(y)
    assert np.max(np.abs(found.y[:, -1] - y)) < 0.02
    P = np.transpose([pressures(t, y) for t, y in zip(found.t, found.y.T, strict=True)])
    return found.y[:8], P


def differences(orbit, expected):
    """The largest in volumes [mL] and in pressures [mmHg], over the beat."""
    states, chambers = expected
    out, found = orbit.outputs, np.stack(orbit.states)
    P = np.stack([out.P_la, out.P_lv, out.P_ra, out.P_rv])
    volume = np.max(np.abs(found - states)[:4])
    return volume, max(np.max(np.abs(found - states)[4:]), np.max(np.abs(P - chambers)))


@pytest.mark.parametrize("name", ["published", "failing", "soft"])
def test_matches_the_independent_solver(beat, name):
    volume, pressure = differences(beat(name), reference(PATIENTS[name]))
    assert volume < 0.1 and pressure < 0.1


@pytest.mark.slow
def test_what_is_left_out_hardly_matters(beat):
    """Inertances and leaks; the most is where the aortic valve opens."""
    expected = reference({}, complete=True)
    volume, pressure = differences(beat("published"), expected)
    assert volume < 0.6 and pressure < 1.0
    out, (states, chambers) = beat("published").outputs, expected
    for found, there in ((out.P_ao, states[4]), (out.P_pa, states[6]), (out.P_rv, chambers[3])):
        assert abs(found.max() - there.max()) < 0.3 and abs(found.min() - there.min()) < 0.3
    for found, there in ((out.V_lv - 5, states[1]), (out.V_rv - 10, states[3])):
        assert abs(found.max() - there.max()) < 0.2 and abs(found.min() - there.min()) < 0.2


def test_volume_is_conserved_and_flows_agree(settled):
    p, orbit = settled
    along = jax.vmap(jax.vmap(HEARTS.conserved, (0, None)))(orbit.states, p)
    np.testing.assert_allclose(*np.broadcast_arrays(along[0], p.V_0[:, None]), rtol=1e-12)
    out, strokes = orbit.outputs, {}
    for V, q in (("V_lv", "q_m"), ("V_lv", "q_a"), ("V_rv", "q_t"), ("V_rv", "q_p")):
        strokes[V] = np.ptp(getattr(out, V), axis=1)
        through = np.trapezoid(getattr(out, q), orbit.times, axis=1)
        np.testing.assert_allclose(through, strokes[V], rtol=0.02)
    systemic = np.trapezoid(out.q_s, orbit.times, axis=1)
    np.testing.assert_allclose(strokes["V_lv"], strokes["V_rv"], rtol=5e-3)
    np.testing.assert_allclose(strokes["V_lv"], systemic, rtol=5e-3)


def check(orbit, P_pa, P_rv_max):
    """An adult at rest, but for the pulmonary artery's and the right ventricle's pressures."""
    out = orbit.outputs
    assert 50 < 100 * np.ptp(out.V_lv) / np.max(out.V_lv) < 70
    assert 110 < np.max(out.P_ao) < 130 and 65 < np.min(out.P_ao) < 85
    assert 4.5 < mean(orbit, out.q_s) * 0.06 < 6.5
    assert 2 < mean(orbit, out.P_ra) < 8 and 5 < mean(orbit, out.P_la) < 12
    np.testing.assert_allclose([np.max(out.P_pa), np.min(out.P_pa)], P_pa, atol=0.5)
    assert abs(np.max(out.P_rv) - P_rv_max) < 0.5 and 0 < np.min(out.P_rv) < 8


def test_an_adult_at_rest(beat):
    """The published lungs are hypertensive; see the class."""
    check(beat("published"), (40.5, 34.6), 43.4)
    check(beat("healthy"), (22.9, 11.7), 24.8)


def test_the_septum_as_measured_or_rigid(beat):
    state = HEARTS.initial_state(parameters())

    def gains(t, p):
        """Of each ventricle's pressure on the other's, at constant volume of the other."""

        def pressures(V_lv, V_rv):
            out = HEARTS.outputs(t, state._replace(V_lv=V_lv, V_rv=V_rv), p)
            return jnp.stack([out.P_lv, out.P_rv])

        by_left, by_right = jax.jacobian(pressures, (0, 1))(state.V_lv, state.V_rv)
        return float(by_left[1] / by_left[0]), float(by_right[0] / by_right[1])

    p = parameters()
    diastole, systole = gains(jnp.asarray(0.0), p), gains(p.f_vc * p.T_c, p)
    # From left to right as Dickstein et al. 1997 measured.
    assert 0.035 < systole[0] < 0.073 and 0.067 < diastole[0] < 0.186
    np.testing.assert_allclose([systole[1], diastole[1]], [0.16, 0.14], atol=0.01)
    assert max(gains(p.f_vc * p.T_c, parameters(**RIGID))) < 1e-5
    volume, pressure = differences(beat("rigid"), reference(RIGID, septum=False))
    assert volume < 0.1 and pressure < 0.1
    # The free walls' default elastances: the same beat, with the septum to the right.
    bowed, straight = beat("published").outputs, beat("rigid").outputs
    assert 4 < bowed.V_lv.max() - straight.V_lv.max() < 7
    assert 4 < straight.V_rv.max() - bowed.V_rv.max() < 7
    for name in ("P_ao", "P_pa", "P_lv", "P_rv"):
        assert abs(getattr(bowed, name).max() - getattr(straight, name).max()) < 0.3
    flows = [mean(beat(name), beat(name).outputs.q_s) * 0.06 for name in ("published", "rigid")]
    assert abs(flows[0] - flows[1]) < 0.02


def test_pulmonary_hypertension_moves_the_septum_and_empties_the_left_heart(beat):
    before, after = beat("healthy").outputs, beat("hypertensive").outputs
    assert after.P_rv.max() > 1.5 * before.P_rv.max()
    assert after.V_rv.max() > before.V_rv.max() + 20
    assert after.V_s[0] < before.V_s[0] - 5 and after.V_s.min() < 0
    assert after.V_lv.max() < before.V_lv.max() - 10
    # Part of that is the septum's: behind a rigid one the left ventricle loses less.
    lost = before.V_lv.max() - after.V_lv.max()
    rigid = [beat(f"rigid, {name}").outputs.V_lv.max() for name in ("healthy", "hypertensive")]
    assert lost > rigid[0] - rigid[1] + 3


def test_similarity_law(beat):
    scaled = []
    for name in ("published", "other size"):
        offset, scale = HEARTS.scaling(parameters(**PATIENTS[name]))
        out = beat(name).outputs
        scaled.append(jax.tree.map(lambda v, o, s: (v - o) / s, out, offset, scale))
        for leaf in scaled[-1]:
            assert 0.2 < np.max(np.abs(leaf)) < 8
    for a, b in zip(*scaled, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-4 * np.max(np.abs(a)))


@pytest.mark.slow
def test_gradients_are_those_of_finite_differences():
    names = ("V_0", "E_max_rv", "R_pa", "E_s_min")

    def found(values):
        changed = dict(zip(names, values, strict=True))
        out = periodic_orbit(HEARTS, parameters(**changed), throw=False).outputs
        got = out.V_lv[0], out.V_rv[0], out.V_s[100], out.P_pa[100], out.P_ra[200]
        return jnp.stack(got), jnp.stack(got)

    at = jax.jit(jax.jacfwd(found, has_aux=True))
    values = jnp.array([2900.0, 0.7, 0.2, 0.5])
    slopes, _ = at(values)
    for j, value in enumerate(values):
        step = 1e-2 * value * jnp.eye(len(values))[j]
        expected = (at(values + step)[1] - at(values - step)[1]) / (0.02 * value)
        np.testing.assert_allclose(slopes[:, j], expected, rtol=0.01, atol=0.01)


@pytest.mark.slow
def test_a_cohort_in_single_precision_and_its_readings(settled):
    _, orbit = settled
    cohort = simulate_cohort(HEARTS, BOTH_SIDES, THETA)
    assert cohort.success.all() and cohort.recording.waveforms.P_pa.dtype == np.float32
    for name in ("V_lv", "V_rv", "P_ao", "P_pa", "P_rv", "P_ra", "V_s"):
        exact = np.asarray(getattr(orbit.outputs, name))[len(PATIENTS) :, :-1:3]
        error = np.abs(getattr(cohort.recording.waveforms, name) - exact)
        # The valve's opening moves by less than a step.
        assert np.max(error) < 2e-3 * np.max(np.abs(exact)), name
    recording = Recording(
        cohort.recording.maximum, cohort.recording.minimum, cohort.recording.waveforms, THETA[:, 0]
    )
    values = {
        n: np.asarray(reading.function(recording)) for n, reading in HEARTS.readings().items()
    }
    assert {"EDV", "EF", "P_la_mean", "RVEDV", "RVESV", "RVEF", "P_pa_mean"} < set(values)
    assert all(value.shape == (64,) for value in values.values())
    assert np.all(values["RVEDV"] > values["RVESV"]) and np.all(values["RVEF"] < 100)
    assert np.all(values["P_pa_mean"] > values["P_la_mean"])
    stroke = (values["EDV"] - values["ESV"]) * 0.06 / THETA[:, 0]
    np.testing.assert_allclose(stroke, values["output"], rtol=0.01)


@pytest.mark.slow
def test_a_pump_and_other_interventions(beat):
    failing = parameters(**PATIENTS["failing"])
    pumped = LVAD(HEARTS, 9_000.0)
    orbit = jax.jit(lambda p: periodic_orbit(pumped, p, throw=False))(failing)
    assert orbit.success
    output = [mean(one, np.asarray(one.outputs.q_s)) * 0.06 for one in (beat("failing"), orbit)]
    assert output[1] > 1.05 * output[0]
    # Unloaded, the left ventricle lets the septum come over.
    assert np.mean(orbit.outputs.V_s) < np.mean(beat("failing").outputs.V_s) - 1
    assert np.max(orbit.outputs.V_lv) < np.max(beat("failing").outputs.V_lv) - 10

    system, p = combine(Fluid(200.0), Inotrope(0.5), Vasodilator(-0.2), MitralRepair())(
        HEARTS, failing
    )
    (volume,) = system.conserved(system.initial_state(p), p)
    np.testing.assert_allclose(volume, 2600.0)
    np.testing.assert_allclose([p.E_max, p.R_s, p.R_m], [1.2, 0.96, 0.005])


def test_the_activation_is_that_of_the_paper():
    """Half cosines of the C library, and their slopes."""
    T, start, contraction, relaxation = 0.8, 0.1, 0.27, 0.13
    t = np.linspace(0.0, 2 * T, 801)
    s = (t - start) % T
    up = 0.5 * (1 - np.cos(np.pi * s / contraction))
    down = 0.5 * (1 + np.cos(np.pi * (s - contraction) / relaxation))
    during = np.where(s < contraction, up, down)
    expected = np.where(s < contraction + relaxation, during, 0.0)

    def activation(t):
        return cosine_activation(t, T, start, contraction, relaxation)

    np.testing.assert_allclose(jax.vmap(activation)(t), expected, atol=1e-15)
    inside = (s > 1e-6) & (np.abs(s - contraction) > 1e-6)
    rates = [np.pi / contraction * np.sin(np.pi * s / contraction)]
    rates.append(-np.pi / relaxation * np.sin(np.pi * (s - contraction) / relaxation))
    slope = np.where(s < contraction, *rates) * (s < contraction + relaxation) / 2
    np.testing.assert_allclose(jax.vmap(jax.grad(activation))(t)[inside], slope[inside], atol=1e-12)
