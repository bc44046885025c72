"""The left heart against an independent solver, a separate formula, and its own laws."""

import json
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtwin.models.elastance import double_hill
from jaxtwin.models.left_heart import SEVEN, LeftHeart, LeftHeartParameters
from jaxtwin.physics.base import read
from jaxtwin.physics.iteration import NewtonIteration
from jaxtwin.physics.periodic import periodic_orbit
from tests.references import left_heart_radau

REFERENCES = Path(__file__).parents[1] / "references"
ROWS = json.loads((REFERENCES / "left_heart.json").read_text())["rows"]
RADAU = json.loads((REFERENCES / "left_heart_radau.json").read_text())
HEART = LeftHeart()
BOTH_PRECISIONS = pytest.mark.parametrize("x64", [True, False], ids=["float64", "float32"])


@eqx.filter_jit
def beats(p):
    """Orbits and readings of a batch of patients, with the quantities conserved in each."""

    def one(p):
        orbit = periodic_orbit(HEART, p, throw=False)
        offset, scale = HEART.scaling(p)
        scaled = jax.tree.map(lambda v, o, s: (v - o) / s, orbit.outputs, offset, scale)
        (start,) = HEART.conserved(HEART.initial_state(p), p)
        (along,) = jax.vmap(HEART.conserved, in_axes=(0, None))(orbit.states, p)
        return orbit, read(LeftHeart(), orbit), scaled, along / start

    return jax.vmap(one)(p)


def patients(n=64, **changes):
    """A batch of n: the given columns, and the defaults for the rest."""
    defaults = {name: spec.default for name, spec in LeftHeartParameters.specs().items()}
    columns = {name: np.broadcast_to(v, n) for name, v in (defaults | changes).items()}
    batch = jax.tree.map(lambda x: x, LeftHeartParameters())
    names = tuple(columns)
    return eqx.tree_at(
        lambda p: [getattr(p, name) for name in names],
        batch,
        [jnp.asarray(columns[name], float) for name in names],
    )


def seven(theta):
    """The patients of a table of the seven parameters."""
    return patients(len(theta), **dict(zip(SEVEN.names, np.transpose(theta), strict=True)))


def box_patients():
    return seven(SEVEN.sample(64, seed=1))


@pytest.fixture(scope="module")
def box():
    """64 patients spread over the box."""
    p = box_patients()
    return p, *beats(p)


def reference_patients():
    table = {"T_c": "Tc", "V_0": "V0", "E_max": "Emax", "E_min": "Emin", "R_m": "Rm", "R_a": "Ra"}
    columns = {
        name: np.resize([row["theta"][key] for row in ROWS], 64) for name, key in table.items()
    }
    return patients(**columns)


def check_against(found, reference, *, worst_volume):
    """Volumes within 0.05 mL (median) and worst_volume, pressures within 0.1 and 0.5 mmHg."""
    for name, expected in reference.items():
        error = np.abs(np.asarray(found[name]) - expected)
        volume = name in ("EDV", "ESV")
        median, worst = (0.05, worst_volume) if volume else (0.1, 0.5)
        if name == "output":
            median, worst = 0.005, 0.02  # L/min
        assert np.median(error) < median, (name, np.median(error))
        assert np.max(error) < worst, (name, np.max(error), int(np.argmax(error)))


@BOTH_PRECISIONS
def test_matches_the_independent_solver_of_six_patients(x64):
    with jax.enable_x64(x64):
        orbit, found, _, _ = beats(reference_patients())
        assert np.all(orbit.success)
    found = jax.tree.map(lambda x: np.asarray(x)[: len(ROWS)], found)
    assert found["EDV"].dtype == (np.float64 if x64 else np.float32)
    keys = {
        "EDV": "V_max",
        "ESV": "V_min",
        "P_lv_max": "Plv_max",
        "systolic": "Pao_max",
        "diastolic": "Pao_min",
        "P_ao_mean": "Pao_mean",
        "P_la_mean": "Pla_mean",
        "output": "output_L_per_min",
    }
    expected = {n: np.array([row["value"][key] for row in ROWS]) for n, key in keys.items()}
    for name in ("EDV", "ESV"):
        expected[name] += 10.0  # The references leave V_d out.
    check_against(found, expected, worst_volume=0.1 if x64 else 0.2)


@BOTH_PRECISIONS
def test_matches_the_independent_solver_all_over_the_box(x64):
    theta, expected = RADAU["theta"], RADAU["values"]
    assert np.shape(theta) == (256, 7) and max(RADAU["residual"]) <= 1e-7
    with jax.enable_x64(x64):
        orbit, found, _, _ = beats(seven(theta))
        assert np.all(orbit.success)
        # Each says how far it is from periodic.
        assert np.all(orbit.stats.residual <= NewtonIteration().tolerance)
    names = {"P_ao_max": "systolic", "P_ao_min": "diastolic"}
    expected = {names.get(n, n): np.array(v) for n, v in expected.items()}
    check_against(found, expected, worst_volume=0.1 if x64 else 0.2)


@pytest.mark.parametrize("row", [3, 100, 250])
def test_stored_values_are_what_the_script_computes(row):
    # At a looser tolerance, to be quick.
    again = left_heart_radau.periodic_beat(RADAU["theta"][row], 1e-7, 1e-6)
    for name, values in RADAU["values"].items():
        np.testing.assert_allclose(again[name], values[row], rtol=0, atol=2e-3, err_msg=name)


def test_converges_all_over_the_box(box):
    _, orbit, _, _, _ = box
    assert np.all(orbit.success)
    assert np.all(orbit.stats.beats <= 20)


def test_stressed_volume_is_conserved(box):
    *_, relative_volume = box
    assert relative_volume.shape == (64, 241)
    np.testing.assert_allclose(relative_volume, 1, rtol=1e-9)


def test_mean_flows_agree(box):
    # Periodic, without a pump: mitral = aortic = systemic flow, and stroke volume × rate.
    p, orbit, found, _, _ = box
    np.testing.assert_allclose(found["stroke_volume"] * 0.06 / p.T_c, found["output"], rtol=0.01)
    mean = jax.vmap(jnp.trapezoid)(orbit.outputs.q_m, orbit.times) / p.T_c * 0.06
    np.testing.assert_allclose(mean, found["output"], rtol=0.02)


def test_physiologic_order(box):
    _, orbit, found, _, _ = box
    assert np.all((found["EDV"] > found["ESV"]) & (found["ESV"] > 0))
    assert np.all((found["EF"] > 0) & (found["EF"] < 100))
    assert np.all(
        (found["systolic"] > found["P_ao_mean"]) & (found["P_ao_mean"] > found["diastolic"])
    )
    assert np.all(
        (found["P_lv_max"] > found["systolic"]) & (found["diastolic"] > found["P_la_mean"])
    )
    assert np.all(found["stroke_work"] > 0)
    assert np.all((orbit.outputs.q_m >= 0) & (orbit.outputs.q_a >= 0))
    both_open = (orbit.outputs.q_m > 0) & (orbit.outputs.q_a > 0)
    assert not np.any(both_open)


def test_similarity_law(box):
    # Another filling, unstressed volume and starting pressure: the same beat, scaled.
    p, orbit, _, scaled, _ = box
    other = eqx.tree_at(
        lambda p: (p.V_0, p.V_d, p.P_0), p, (0.5 * p.V_0 + 30, p.V_d + 3, 0.6 * p.P_0)
    )
    other_orbit, _, other_scaled, _ = beats(other)
    assert np.max(np.abs(orbit.outputs.V_lv - other_orbit.outputs.V_lv)) > 10
    for name in ("V_lv", "P_lv", "P_ao", "P_la", "q_s"):
        a, b = getattr(scaled, name), getattr(other_scaled, name)
        # As close as two orbits that stop at a tolerance of 3e-5.
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-4 * np.max(np.abs(a)), err_msg=name)


def elastance_by_powers(t, T_c, E_max, E_min):
    t_n = (t % T_c) / (0.2 + 0.15 * T_c)
    rise = (t_n / 0.7) ** 1.9 / (1 + (t_n / 0.7) ** 1.9)
    return (E_max - E_min) * 1.55 * rise / (1 + (t_n / 1.17) ** 21.9) + E_min


@pytest.mark.parametrize("T_c", [0.4, 1.0, 1.7])
def test_elastance_matches_its_formula(T_c):
    t = np.linspace(0, 2.5 * T_c, 501)
    found = double_hill_at(t, T_c)
    np.testing.assert_allclose(found, elastance_by_powers(t, T_c, 2.0, 0.06), rtol=1e-12)
    assert found[0] == 0.06


def test_elastance_peaks_near_end_systole():
    for T_c in (0.4, 1.0, 1.7):
        t_es = 0.2 + 0.15 * T_c
        t = np.linspace(0, T_c, 2001)
        E = double_hill_at(t, T_c)
        assert abs(t[np.argmax(E)] - t_es) < 0.1 * t_es
        np.testing.assert_allclose(np.max(E), 2.0, rtol=0.01)


def double_hill_at(t, T_c):
    return np.asarray(jax.vmap(lambda t: double_hill(t, T_c, 2.0, 0.06))(jnp.asarray(t)))


@BOTH_PRECISIONS
def test_elastance_gradient_is_finite_where_the_beat_begins(x64):
    with jax.enable_x64(x64):
        gradient = jax.jit(jax.grad(double_hill, argnums=(0, 1, 2, 3)))
        for t in (0.0, 1.0, 1e-9, 0.999999):
            values = np.array(gradient(t, 1.0, 2.0, 0.06))
            assert np.all(np.isfinite(values))
        # At t = 0 the ventricle is passive: E = E_min whatever else.
        np.testing.assert_allclose(gradient(0.0, 1.0, 2.0, 0.06), [0, 0, 0, 1], atol=1e-9)
