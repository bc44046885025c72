"""Recording of transients: in cohorts, with gradients, and with independent failures."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtwin.cohorts.draw import draw_splits
from jaxtwin.cohorts.simulate import simulate_cohort
from jaxtwin.models.glucose import TWIN, GlucoseParameters, GlucoseTest
from jaxtwin.models.lung import AIRWAY, Lung, LungParameters
from jaxtwin.physics.base import read
from jaxtwin.physics.periodic import periodic_orbit
from jaxtwin.physics.record import record
from jaxtwin.physics.solve import simulate


@pytest.fixture(scope="module")
def test_of_one():
    return jax.jit(lambda p: record(GlucoseTest(), p))(GlucoseParameters())


@pytest.mark.slow
def test_a_transient_is_that_of_an_adaptive_solver(test_of_one):
    p = jax.tree.map(jnp.asarray, GlucoseParameters())
    assert test_of_one.success
    exact = jax.jit(lambda p, t: simulate(GlucoseTest(), p, t))(p, test_of_one.times)
    np.testing.assert_allclose(test_of_one.outputs.G, exact.outputs.G, atol=0.05)
    np.testing.assert_allclose(test_of_one.outputs.I, exact.outputs.I, atol=0.3)
    # A step ends where insulin begins to flow, and where it stops.
    for jump in (20.0, 23.0):
        assert np.abs(test_of_one.times - jump).min() < 1e-9


def test_phases_are_shares_of_the_duration(test_of_one):
    found = test_of_one.recording(30)
    assert found.waveforms.G.shape == (30,) and float(found.duration) == 180
    G = np.interp(np.arange(30) * 6.0, test_of_one.times, test_of_one.outputs.G)
    np.testing.assert_allclose(found.waveforms.G, G, rtol=1e-9)
    assert test_of_one.outputs.G[0] == found.maximum.G and found.waveforms.G.min() > found.minimum.G


def test_what_repeats_itself_is_its_orbit():
    p = LungParameters()
    got = jax.jit(lambda p: record(Lung(), p))(p)
    orbit = jax.jit(lambda p: periodic_orbit(Lung(), p))(p)
    np.testing.assert_array_equal(got.outputs.V, orbit.outputs.V)


@pytest.mark.slow
def test_a_pulse_shorter_than_a_step_gets_steps_of_its_own():
    """60 mU/kg within six seconds, a seventh of a step, are as good as at once."""
    p = dataclasses.replace(GlucoseParameters(), T_dose=0.1, dose=60.0)
    course = jax.jit(lambda p: record(GlucoseTest(), p))(p)
    assert ((course.times > 20 - 1e-6) & (course.times < 20.1 - 1e-6)).sum() == 8
    exact = jax.jit(lambda p, t: simulate(GlucoseTest(), p, t))(
        jax.tree.map(jnp.asarray, p), course.times
    )
    np.testing.assert_allclose(course.outputs.I, exact.outputs.I, atol=1.0)
    np.testing.assert_allclose(course.outputs.G, exact.outputs.G, atol=0.2)


@pytest.mark.slow
def test_gradients_are_those_of_finite_differences():
    @jax.jit
    def lowest(S_I):
        p = dataclasses.replace(GlucoseParameters(), S_I=S_I)
        return jnp.min(record(GlucoseTest(), p).outputs.G)

    slope = jax.grad(lowest)(4e-4)
    numeric = (lowest(4.01e-4) - lowest(3.99e-4)) / 2e-6
    np.testing.assert_allclose(slope, numeric, rtol=1e-3)
    np.testing.assert_allclose(jax.jvp(lowest, (4e-4,), (1.0,))[1], slope, rtol=1e-6)


@pytest.mark.slow
def test_cohorts_of_transients():
    theta = TWIN.sample(64, seed=0)
    cohort = simulate_cohort(GlucoseTest(), TWIN, theta, phases=60)
    assert cohort.success.all() and not cohort.residual.any()
    one = TWIN.complete(jnp.asarray(cohort.theta[5], float))
    exact = jax.jit(lambda p, t: simulate(GlucoseTest(), p, t))(one, jnp.arange(60) * 3.0)
    np.testing.assert_allclose(cohort.recording.waveforms.G[5], exact.outputs.G, atol=0.3)
    np.testing.assert_array_equal(cohort.recording.duration, np.full(64, 180.0))
    values = cohort.read(("G_min", "G_mean"))
    assert list(values) == ["G_min", "G_mean"]
    np.testing.assert_array_equal(values["G_min"], cohort.recording.minimum.G)
    np.testing.assert_array_equal(values["G_mean"], cohort.recording.waveforms.G.mean(axis=1))
    same = read(GlucoseTest(), cohort.recording, ("G_min", "G_mean"))
    np.testing.assert_array_equal(same["G_mean"], values["G_mean"])
    for ask in (cohort.read, lambda names: read(GlucoseTest(), cohort.recording, names)):
        with pytest.raises(ValueError, match=r"no reading 'EF'.*G_max"):
            ask(("EF",))


def test_a_transient_that_diverges_is_reported():
    """Insulin in a volume of 0; the patient beside it does not notice."""

    @jax.jit
    @jax.vmap
    def outcome(V_I):
        p = dataclasses.replace(GlucoseParameters(), V_I=V_I)
        course = record(GlucoseTest(), p)
        return course.success, course.outputs.G[-1]

    well, G = outcome(jnp.array([0.08, 0.0]))
    assert well.tolist() == [True, False] and jnp.isfinite(G[0])


@pytest.mark.slow
def test_splits_share_no_patient_and_keep_the_limits():
    parts = draw_splits(GlucoseTest(), TWIN, (20, 5, 5), seed=3, phases=20)
    assert [len(part.theta) for part in parts] == [20, 5, 5]
    rows = np.concatenate([part.theta for part in parts])
    assert len(np.unique(rows, axis=0)) == 30
    assert all((part.recording.minimum.G >= 40).all() for part in parts)
    again = draw_splits(GlucoseTest(), TWIN, (20, 5, 5), seed=3, phases=20)
    np.testing.assert_array_equal(again[1].theta, parts[1].theta)
    airways = draw_splits(Lung(), AIRWAY, (3, 3), seed=0, phases=20)  # no limits of its own
    assert airways[0].success.all()
