"""What solving reports: success, the reason of a failure, and how far off the numbers may be."""

import dataclasses

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtwin.models.glucose import GlucoseParameters, GlucoseTest
from jaxtwin.models.left_heart import LeftHeart, LeftHeartParameters
from jaxtwin.physics.periodic import periodic_orbit
from jaxtwin.physics.record import record
from jaxtwin.physics.solution import RESULTS
from jaxtwin.physics.solve import simulate
from tests.korakianitis import Loop, LoopParameters, State
from tests.slopes import by_both_modes
from tests.systems import Leaky, LeakyParameters, Windkessel


@pytest.mark.slow
def test_gradients_of_a_circuit_with_orifice_valves():
    """Of 14 states, nonlinear within a step: against central differences, in both modes."""

    def pressure(E_lv):
        p = dataclasses.replace(LoopParameters(), E_lv=E_lv)
        orbit = periodic_orbit(Loop(), p, steps=480, throw=False)
        return orbit.outputs.P_sas.mean(), (orbit.success, orbit.stats.left)

    at = jax.jit(lambda E_lv: by_both_modes(pressure, E_lv))
    _, (success, left), forward, back = at(2.5)
    numeric = (at(2.501)[0] - at(2.499)[0]) / 0.002
    assert success and left < 1e-11
    np.testing.assert_allclose(back, numeric, rtol=1e-3)
    np.testing.assert_allclose(forward, numeric, rtol=1e-3)


class Undeclared(LeftHeart):
    def conserved(self, state, p):
        return ()


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_conserved_quantity_that_is_not_declared(dtype):
    p = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), LeftHeartParameters())
    orbit = periodic_orbit(Undeclared(), p, throw=False)
    assert orbit.result == RESULTS.undetermined and not orbit.success
    assert periodic_orbit(LeftHeart(), p, throw=False).success


class Inflating(Windkessel):
    """The outflow has the wrong sign: Newton finds an orbit that every simulation leaves."""

    def vector_field(self, t, state, p):
        return Leaky((1 + jnp.cos(2 * jnp.pi * t / p.T) + state.P / p.R) / p.C)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_an_unstable_orbit(dtype):
    p = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), LeakyParameters(C=7.0))
    orbit = periodic_orbit(Inflating(), p, throw=False)
    assert orbit.result == RESULTS.unstable and orbit.states.P.mean() < 0
    assert periodic_orbit(Windkessel(), p, throw=False).success


def test_too_few_steps_are_not_accurate():
    few = periodic_orbit(LeftHeart(), LeftHeartParameters(), steps=24, throw=False)
    assert few.result == RESULTS.inaccurate and few.stats.error > 0.03
    many = periodic_orbit(LeftHeart(), LeftHeartParameters())
    fine = periodic_orbit(LeftHeart(), LeftHeartParameters(), steps=1920)
    true = max(
        float(np.abs(a - b[::8]).max() / max(np.ptp(b), np.abs(b).max() / 10))
        for a, b in zip(many.states, fine.states, strict=True)
    )
    assert true / 2 < many.stats.error < 5 * true
    assert not periodic_orbit(
        LeftHeart(), LeftHeartParameters(), steps=240, accuracy=1e-4, throw=False
    ).success


def orbit_loss(T_c, R_s):
    p = dataclasses.replace(LeftHeartParameters(), T_c=T_c, R_s=R_s)
    orbit = periodic_orbit(LeftHeart(), p, steps=96, accuracy=1.0, throw=False)
    return jnp.where(orbit.success, orbit.outputs.P_ao.mean(), 0.0), orbit.success


def transient_loss(S_I, V_I):
    p = dataclasses.replace(GlucoseParameters(), S_I=S_I, V_I=V_I)
    course = record(GlucoseTest(), p)
    return jnp.where(course.success, course.outputs.G.mean(), 0.0), course.success


@pytest.mark.slow
@pytest.mark.parametrize(
    "loss, x, bad",
    [
        (orbit_loss, 1.0, (1.0, 0.0)),
        (transient_loss, 5e-4, (0.08, 0.0)),
    ],
)
def test_a_failed_patient_spoils_no_gradient_of_a_batch(loss, x, bad):
    """0 · NaN is NaN: so the tangents of a failure are 0, in both modes."""

    @jax.jit
    def slopes(x, patients):
        def total(x):
            values, success = jax.vmap(loss, in_axes=(None, 0))(x, patients)
            return values.sum(), success

        return by_both_modes(total, x)[1:]

    success, forward, back = slopes(x, jnp.array(bad))
    assert success.tolist() == [True, False]
    # Twice the patient that succeeds.
    success, *twice = slopes(x, jnp.array([bad[0], bad[0]]))
    assert success.all() and np.isfinite(twice).all()
    np.testing.assert_allclose([forward, back], np.array(twice) / 2, rtol=1e-9)


@pytest.mark.parametrize("loss, x", [(orbit_loss, (1.0, 1.0)), (transient_loss, (5e-4, 0.08))])
def test_second_derivatives_are_refused(loss, x):
    with pytest.raises(NotImplementedError, match="finite differences of the gradient"):
        jax.hessian(lambda a: loss(a, x[1])[0])(x[0])


class BareRoot(Loop):
    """Its rates have an infinite slope where a valve opens, and are NaN beyond in the slopes."""

    def vector_field(self, t, state, p):
        rate = -jnp.sign(state.V_lv - 400) * jnp.sqrt(jnp.abs(state.V_lv - 400)) * 1e3
        return State(*(0.0 * v for v in state))._replace(V_lv=rate)


@pytest.mark.slow
def test_a_solver_that_stalls_says_where_and_what():
    few = {"times": jnp.linspace(0.0, 1.0, 5), "max_steps": 200, "solver": dfx.Kvaerno5()}
    with pytest.raises(RuntimeError, match=r"BareRoot was solved up to t = .*'V_lv'.*regularise"):
        simulate(BareRoot(), LoopParameters(), **few)
    assert not simulate(BareRoot(), LoopParameters(), **few, throw=False).success


def test_recordings_need_phases_that_divide_the_steps():
    orbit = periodic_orbit(LeftHeart(), LeftHeartParameters())
    assert orbit.recording(60).waveforms.P_ao.shape == (60,)
    with pytest.raises(ValueError, match="7 phases of a solution with 240 steps"):
        orbit.recording(7)
