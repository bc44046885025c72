"""The pump against an independent solver, and its own laws."""

import json
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtwin.models.left_heart import SEVEN, LeftHeart, LeftHeartParameters
from jaxtwin.models.lvad import LVAD, PumpParameters
from jaxtwin.parameters import Scalar
from jaxtwin.physics.adjoint import DirectAdjoint, ImplicitAdjoint
from jaxtwin.physics.base import read
from jaxtwin.physics.iteration import BeatIteration, NewtonIteration
from jaxtwin.physics.periodic import periodic_orbit
from tests.references import lvad_radau
from tests.slopes import by_both_modes

ROWS = json.loads((Path(__file__).parents[1] / "references" / "lvad_radau.json").read_text())[
    "rows"
]
BOTH_PRECISIONS = pytest.mark.parametrize(
    "x64", [pytest.param(True, marks=pytest.mark.slow), False], ids=["float64", "float32"]
)


@eqx.filter_jit
def beats(theta, speed):
    """Orbits with a pump, for a batch of patients and speeds."""

    def one(theta, speed):
        system, p = LVAD(LeftHeart(), speed), SEVEN.complete(theta)
        orbit = periodic_orbit(system, p, throw=False)
        (start,) = system.conserved(system.initial_state(p), p)
        (along,) = jax.vmap(system.conserved, in_axes=(0, None))(orbit.states, p)
        return orbit, read(system, orbit), along / start

    return jax.vmap(one)(theta, speed)


@BOTH_PRECISIONS
def test_matches_the_independent_solver_from_back_flow_to_suction(x64):
    assert max(row["residual"] for row in ROWS) < 2e-7
    hearts = [lvad_radau.HEARTS[row["heart"]] for row in ROWS]
    with jax.enable_x64(x64):
        theta, speed = jnp.asarray(hearts, float), jnp.asarray([row["speed"] for row in ROWS])
        orbit, found, volume = beats(theta, speed)
        assert np.all(orbit.success)
        np.testing.assert_allclose(volume, 1, rtol=1e-9 if x64 else 1e-4)
    for name, values, tolerance in (
        ("V_max", found["EDV"], 0.1),
        ("V_min", found["ESV"], 0.1),
        ("Q_p_mean", found["pump_flow"], 0.05),
        ("output", found["output"], 0.05),
        ("Q_p_min", found["pump_flow_min"], 0.05),
        ("P_ao_mean", found["P_ao_mean"], 0.1),
    ):
        scale = 0.06 if name == "Q_p_min" else 1
        expected = scale * np.array([row[name] for row in ROWS])
        error = np.abs(np.asarray(values) - expected)
        assert np.max(error) < tolerance, (name, np.max(error), ROWS[int(np.argmax(error))])
    sucked = np.array([row["speed"] for row in ROWS]) == 17_000
    suction = np.asarray(found["suction"]) > 0
    assert not np.any(suction & ~sucked) and np.sum(suction) >= 2


def test_stored_values_are_what_the_script_computes():
    row = ROWS[6]
    again = lvad_radau.periodic_beat(lvad_radau.HEARTS[row["heart"]], row["speed"], 1e-7, 1e-6)
    for name in lvad_radau.QUANTITIES:
        np.testing.assert_allclose(again[name], row[name], rtol=0, atol=5e-3, err_msg=name)


@pytest.mark.slow
def test_output_is_the_valve_and_the_pump():
    # As many as there are rows: compiled already.
    theta = np.repeat(SEVEN.sample(8, seed=2), 3, axis=0)[: len(ROWS)]
    speed = np.tile([8_000.0, 11_000.0, 14_000.0], 8)[: len(ROWS)]
    orbit, found, _ = beats(jnp.asarray(theta), jnp.asarray(speed))
    assert np.all(orbit.success)
    valve = jax.vmap(jnp.trapezoid)(orbit.outputs.q_a, orbit.times) / theta[:, 0] * 0.06
    np.testing.assert_allclose(valve + found["pump_flow"], found["output"], rtol=0, atol=0.05)
    # Stroke volume × rate is not the output once the pump drains the ventricle.
    wrong = found["stroke_volume"] * 0.06 / theta[:, 0]
    assert np.max(np.abs(wrong - found["output"])) > 1
    # Where the valve stays shut the pump carries all of it.
    shut = np.asarray(found["valve_open"]) == 0
    assert shut.any() and not shut.all()
    np.testing.assert_allclose(found["pump_flow"][shut], found["output"][shut], atol=0.02)


def test_a_pump_that_nothing_flows_through_changes_nothing():
    p = LeftHeartParameters()
    blocked = LVAD(LeftHeart(), 9_000.0, PumpParameters(R_p=1e7))
    with_pump = read(blocked, periodic_orbit(blocked, p))
    without = read(LeftHeart(), periodic_orbit(LeftHeart(), p, steps=LVAD.steps))
    for name, value in without.items():
        np.testing.assert_allclose(with_pump[name], value, rtol=1e-5, err_msg=name)
    assert 0 < with_pump["pump_flow"] < 1e-3


@pytest.mark.slow
def test_gradients_with_respect_to_speed_and_parameters():
    """Against central differences, in both modes; float32's own noise allows less."""

    def outputs(x):
        system = LVAD(LeftHeart(), 1e4 * x[0])
        orbit = periodic_orbit(system, SEVEN.complete(x[1:]), steps=240, throw=False)
        found = read(system, orbit, ("output", "P_ao_mean", "pump_flow"))
        return jnp.stack(list(found.values())), ()

    at = jax.jit(lambda x: by_both_modes(outputs, x))
    x = np.array([1.0, *lvad_radau.HEARTS["failing"]])
    step = 1e-4
    ends = ((at(x + move)[0], at(x - move)[0]) for move in step * np.eye(8))
    numeric = np.stack([(above - below) / (2 * step) for above, below in ends], axis=1)
    scale = np.max(np.abs(numeric), axis=1, keepdims=True)
    for dtype, tolerance in ((np.float64, 2e-3), (np.float32, 1e-2)):
        with jax.enable_x64(dtype == np.float64):
            _, _, forward, reverse = jax.tree.map(np.asarray, at(x.astype(dtype)))
        assert forward.dtype == reverse.dtype == dtype
        for gradient in (forward, reverse):
            np.testing.assert_allclose(gradient / scale, numeric / scale, atol=tolerance)
        assert np.all(forward[:, 0] > 0)


@pytest.mark.slow
def test_implicit_gradient_is_that_of_many_beats():
    def output(speed, adjoint):
        system = LVAD(LeftHeart(), speed)
        orbit = periodic_orbit(system, LeftHeartParameters(), adjoint=adjoint, throw=False)
        return read(system, orbit)["output"]

    gradient = jax.jit(jax.grad(output), static_argnums=1)
    np.testing.assert_allclose(
        gradient(10_000.0, ImplicitAdjoint()), gradient(10_000.0, DirectAdjoint(25)), rtol=1e-4
    )


class Pulsed(eqx.Module):
    """More speed in systole."""

    amplitude: Scalar

    def __call__(self, phase):
        return 10_000 * (1 + self.amplitude * jnp.sin(2 * jnp.pi * phase))


@pytest.mark.slow
def test_a_speed_may_change_within_the_beat():
    p = LeftHeartParameters()

    @eqx.filter_jit
    def beat(speed):
        system = LVAD(LeftHeart(), speed)
        return read(system, periodic_orbit(system, p))

    def pulse_pressure(speed):
        return float(beat(speed)["pulse_pressure"])

    steady = pulse_pressure(10_000.0)
    np.testing.assert_allclose(pulse_pressure(Pulsed(jnp.asarray(0.0))), steady, rtol=1e-6)
    assert pulse_pressure(Pulsed(jnp.asarray(0.2))) > steady + 1


@pytest.mark.slow
def test_the_onset_of_suction_is_not_unstable():
    """Beats settle, but a deviation of the blood volume remains.

    A change of the arterial pressure by its size, 183 mmHg, leaves ten times the 16 mL of the
    emptied ventricle.
    """
    theta = (1.1708, 137.71, 1.19058, 0.0751775, 0.01388439, 0.09402277, 17.58542)
    p = SEVEN.complete(jnp.asarray(theta))
    for method in (NewtonIteration(), BeatIteration(1e-8, max_beats=10)):
        assert periodic_orbit(LVAD(LeftHeart(), 16_325.0), p, method=method).success


@pytest.mark.parametrize(
    ("theta", "speed"),
    [
        ((1.17, 137.7, 1.19, 0.0752, 0.0139, 0.094, 17.6), 17_000.0),
        ((0.551, 131.0, 1.594, 0.0963, 0.0339, 0.0593, 13.55), 16_500.0),
        ((1.43, 118.1, 3.02, 0.0845, 0.0174, 0.1358, 9.68), 16_500.0),
    ],
)
def test_a_beat_with_suction_settles_in_float32(theta, speed):
    """Defects allowed in the steps once added up to more than the tolerance on the beat."""
    with jax.enable_x64(False):
        p = SEVEN.complete(jnp.asarray(theta, jnp.float32))
        p = eqx.tree_at(lambda p: p.R_s, p, jnp.float32(0.75))
        orbit = periodic_orbit(LVAD(LeftHeart(), speed), p)
    assert orbit.success and orbit.stats.beats <= 4
