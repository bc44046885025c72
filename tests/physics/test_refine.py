"""An accuracy is met by as many steps as it needs, for each patient."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtwin.cohorts.simulate import simulate_cohort
from jaxtwin.parameters import Box
from jaxtwin.physics.periodic import periodic_orbit
from jaxtwin.physics.record import record
from jaxtwin.physics.refine import MOST, refinement
from jaxtwin.physics.solution import RESULTS
from tests.korakianitis import Loop, LoopParameters
from tests.systems import LeakyParameters, Windkessel, windkessel_exact

P = LeakyParameters(T=1.0, R=1.2, C=0.4)
BOX = Box.of(LeakyParameters, ("T", "R", "C"))


class Coarse(Windkessel):
    """Too few steps for 0.1%."""

    steps = 24


def error_of(orbit, p):
    """Largest error, relative to the range of the pressure."""
    exact = windkessel_exact((p.T, p.R, p.C), orbit.times / p.T)
    return jnp.max(jnp.abs(orbit.states.P - exact)) / jnp.ptp(exact)


@pytest.mark.parametrize("accuracy", [1e-2, 1e-3, 1e-4])
def test_an_accuracy_is_met(accuracy):
    orbit = periodic_orbit(Coarse(), P, accuracy=accuracy)
    assert orbit.success and orbit.stats.error <= accuracy
    assert error_of(orbit, P) <= accuracy
    # With a quarter of the steps, it was not: the error of a smooth drive is of order 2, not 1.5.
    number = len(orbit.times) - 1
    fewer = periodic_orbit(Coarse(), P, steps=number // 4, accuracy=accuracy, throw=False)
    assert fewer.result == RESULTS.inaccurate or number == Coarse.steps


def test_a_given_number_of_steps_is_kept():
    found = record(Coarse(), P, steps=24, accuracy=1e-4)
    assert len(found.times) == 25 and found.result == RESULTS.inaccurate


def test_in_a_program_the_number_of_steps_is_the_systems():
    found = jax.jit(lambda p: record(Coarse(), p, accuracy=1e-4))(P)
    assert len(found.times) == 25 and found.result == RESULTS.inaccurate


def test_more_steps_than_allowed():
    assert record(Coarse(), P, accuracy=1e-9).result == RESULTS.inaccurate
    with pytest.raises(RuntimeError, match="discretisation error"):
        periodic_orbit(Coarse(), P, accuracy=1e-9)


def test_a_gradient_is_that_of_the_steps_taken():
    def highest(R, **options):
        p = dataclasses.replace(P, R=R)
        orbit = periodic_orbit(Coarse(), p, accuracy=1e-3, throw=False, **options)
        return orbit.states.P.max()

    number = len(periodic_orbit(Coarse(), P, accuracy=1e-3).times) - 1
    R = jnp.array(P.R)
    found, there = jax.grad(highest)(R), jax.grad(lambda R: highest(R, steps=number))(R)
    np.testing.assert_allclose(found, there, rtol=1e-9)
    assert abs(there - jax.grad(lambda R: highest(R, steps=24))(R)) > 1e-6


@pytest.mark.parametrize("accuracy", [0.0, -1.0, np.nan])
def test_accuracies_are_positive(accuracy):
    with pytest.raises(ValueError, match="expected a positive number"):
        record(Coarse(), P, accuracy=accuracy)


def test_accuracies_are_above_rounding():
    with pytest.raises(ValueError, match="expected at least 1e-05"):
        simulate_cohort(Coarse(), BOX, BOX.sample(4, seed=0), phases=24, accuracy=1e-6)
    with jax.enable_x64(False), pytest.raises(ValueError, match="float64 resolves more"):
        record(Coarse(), LeakyParameters(*map(np.float32, (1.0, 1.2, 0.4))), accuracy=1e-6)


def test_steps_follow_from_the_error():
    assert refinement(0.011, 0.01) == 2
    assert refinement(0.01 * 2**1.4, 0.01) == 2
    assert refinement(0.01 * 2**1.6, 0.01) == 4
    assert refinement(1.0, 1e-9) == MOST
    assert refinement(np.nan, 0.01) == 2


def test_only_inaccurate_patients_are_simulated_again():
    theta = BOX.sample(64, seed=1)
    rough = simulate_cohort(Coarse(), BOX, theta, phases=24, steps=24)
    accuracy = float(np.median(rough.error))
    cohort = simulate_cohort(Coarse(), BOX, theta, phases=24, accuracy=accuracy)
    assert cohort.success.all() and (cohort.error <= accuracy).all()
    again = rough.error > accuracy
    kept, first = (c.recording.waveforms.P for c in (cohort, rough))
    np.testing.assert_array_equal(kept[~again], first[~again])
    assert (kept[again] != first[again]).any(axis=1).all()
    for i in np.flatnonzero(again)[:3]:
        p = BOX.complete(jnp.asarray(cohort.theta[i]))
        alone = record(Coarse(), p, accuracy=accuracy).recording(24)
        np.testing.assert_allclose(kept[i], alone.waveforms.P, rtol=2e-5, atol=2e-5)


class Stiff(Loop):
    """Fewer steps than its author gave it."""

    steps = 240


@pytest.mark.slow
@pytest.mark.parametrize("accuracy", [0.02, 0.005])
def test_a_stiff_circuit(accuracy):
    """Fourteen states, three of which are a thousand times faster than the others."""
    names = tuple(name for name, spec in LoopParameters.specs().items() if spec.bounds)
    box = Box.of(LoopParameters, names)
    theta = box.sample(32, seed=0)
    cohort = simulate_cohort(Stiff(), box, theta, phases=60, accuracy=accuracy)
    exact = simulate_cohort(Stiff(), box, theta, phases=60, steps=16 * 240, accuracy=1.0)
    assert cohort.success.all() and (cohort.error <= accuracy).all()

    def errors(name):
        found, there = (getattr(c.recording.waveforms, name) for c in (cohort, exact))
        return np.abs(found - there).max(axis=1) / np.ptp(there, axis=1)

    assert max(errors(name).max() for name in ("V_lv", "V_rv", "P_sat", "P_pat")) <= accuracy
    # The fastest states are those of the arteries' roots: there the estimate may be half the error.
    fast = np.array([errors(name) for name in ("P_sas", "P_pas")])
    assert np.median(fast) <= accuracy and fast.max() <= 3 * accuracy
