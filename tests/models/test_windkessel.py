"""The windkessel against its closed forms."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtwin.cohorts.simulate import simulate_cohort
from jaxtwin.models.windkessel import THREE_ELEMENTS, Windkessel, WindkesselParameters
from jaxtwin.physics.periodic import periodic_orbit
from jaxtwin.physics.solve import simulate

SYSTEM = Windkessel()


def closed_form(t, p):
    """Pressure in the compliance: response to the half sine, repeated every beat."""
    tau, w = p.R * p.C, np.pi / p.T_e
    a = p.SV * np.pi / (2 * p.T_e) / p.C

    def during(s):  # from rest
        return (
            a
            / (1 / tau**2 + w**2)
            * (np.sin(w * s) / tau - w * np.cos(w * s) + w * np.exp(-s / tau))
        )

    end = during(p.T_e) * np.exp(-(p.T_c - p.T_e) / tau)
    start = end / (1 - np.exp(-p.T_c / tau))
    after = during(p.T_e) * np.exp(-(t - p.T_e) / tau)
    return start * np.exp(-t / tau) + np.where(t < p.T_e, during(np.minimum(t, p.T_e)), after)


@pytest.mark.parametrize("changes", [{}, {"T_c": 0.5, "R": 2.0, "C": 0.5}, {"C": 3.0, "Z": 0.0}])
def test_the_periodic_pressure_is_the_closed_form(changes):
    p = dataclasses.replace(WindkesselParameters(), **changes)
    orbit = jax.jit(lambda p: periodic_orbit(SYSTEM, p))(p)
    P = closed_form(np.asarray(orbit.times), p)
    flow = np.asarray(orbit.outputs.q_a)
    np.testing.assert_allclose(orbit.outputs.P_ao, P + p.Z * flow, rtol=1e-4, atol=0.01)
    np.testing.assert_allclose(np.trapezoid(flow, orbit.times), p.SV, rtol=1e-3)
    # What flows in flows out: the mean pressure is R SV/T_c.
    mean = np.trapezoid(orbit.outputs.q_s, orbit.times) * p.R / p.T_c
    np.testing.assert_allclose(mean, p.R * p.SV / p.T_c, rtol=1e-3)


def test_it_is_forgotten_where_it_started():
    """Against the transient from any start: the difference decays with R C."""
    p = WindkesselParameters()
    times = jnp.linspace(0.0, 3.0, 301)
    start = SYSTEM.initial_state(p)
    P = np.asarray(simulate(SYSTEM, p, times).outputs.q_s) * p.R
    periodic = closed_form(np.asarray(times) % p.T_c, p)
    gap = (start.P - periodic[0]) * np.exp(-np.asarray(times) / (p.R * p.C))
    np.testing.assert_allclose(P - periodic, gap, atol=0.02)


def test_gradients_and_a_cohort_in_single_precision():
    p = WindkesselParameters()

    def systolic(R, C):
        return jnp.max(periodic_orbit(SYSTEM, dataclasses.replace(p, R=R, C=C)).outputs.P_ao)

    slopes = jax.grad(systolic, (0, 1))(1.0, 1.5)
    step = 1e-4
    np.testing.assert_allclose(
        slopes,
        [
            (systolic(1.0 + step, 1.5) - systolic(1.0 - step, 1.5)) / (2 * step),
            (systolic(1.0, 1.5 + step) - systolic(1.0, 1.5 - step)) / (2 * step),
        ],
        rtol=1e-3,
    )
    cohort = simulate_cohort(SYSTEM, THREE_ELEMENTS, THREE_ELEMENTS.sample(64, seed=0))
    assert cohort.success.all()
    for i in range(64):
        one = THREE_ELEMENTS.complete(jnp.asarray(cohort.theta[i], float))
        P = closed_form(np.arange(80) / 80 * one.T_c, one)
        flow = cohort.recording.waveforms.q_a[i]
        np.testing.assert_allclose(cohort.recording.waveforms.P_ao[i], P + one.Z * flow, rtol=2e-3)
