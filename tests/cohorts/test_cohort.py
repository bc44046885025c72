"""Cohorts: patients do not depend on each other, and results are reproducible."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtwin.cohorts.batching import map_patients
from jaxtwin.cohorts.simulate import simulate_cohort
from jaxtwin.models.left_heart import SEVEN, LeftHeart
from jaxtwin.models.ventricle import CLINICAL, VentricleOutputs
from jaxtwin.parameters import Box
from jaxtwin.physics.periodic import periodic_orbit
from jaxtwin.physics.solution import RESULTS
from tests.cohorts.tank import (
    BOX,
    LEAKING,
    SplitTank,
    Tank,
    TankParameters,
    arrays,
    assert_equal,
    simulate,
    traces,
)


@pytest.fixture(scope="module")
def seven():
    return simulate(LEAKING.sample(7, seed=1))


def test_the_closed_form(seven):
    """A first-order lag: amplitude 50 k/√(k² + ω²) about 100, later by atan(ω/k)."""
    T, k, V_d = seven.theta.T.astype(np.float64)[:, :, None]
    assert seven.success.all()
    omega, phase = 2 * np.pi / T, np.arange(8) / 8
    size = 50 * k / np.hypot(k, omega)
    V = V_d + 100 + size * np.sin(2 * np.pi * phase - np.arctan2(omega, k))
    np.testing.assert_allclose(seven.recording.waveforms.V_lv, V, atol=0.02)
    np.testing.assert_allclose(seven.recording.maximum.V_lv, (V_d + 100 + size)[:, 0], atol=0.02)
    np.testing.assert_allclose(seven.recording.minimum.V_lv, (V_d + 100 - size)[:, 0], atol=0.02)


def test_shapes_and_dtypes(seven):
    assert isinstance(seven.recording.maximum, VentricleOutputs)
    assert seven.recording.waveforms.V_lv.shape == (7, 8)
    assert seven.recording.maximum.P_ao.shape == seven.recording.duration.shape == (7,)
    np.testing.assert_array_equal(seven.recording.duration, seven.theta[:, 0])
    for leaf in arrays(seven):
        assert isinstance(leaf, np.ndarray) and leaf.dtype in (np.float32, np.bool_)


def test_chunks_do_not_show(seven):
    """Seven patients fill one chunk of four and three lanes of another; alone, one fills four."""
    whole = simulate_cohort(Tank(), BOX, seven.theta, chunk=7, phases=8)
    for a, b in zip(arrays(whole), arrays(seven), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    for i in (0, 3, 6):
        assert_equal(simulate(seven.theta[i : i + 1]), seven.take([i]))
    backwards = simulate(seven.theta[::-1].copy())
    assert_equal(backwards, seven.take(np.arange(7)[::-1]))


def test_one_bad_patient_spoils_no_other(seven):
    theta = seven.theta.copy()
    for bad in (2, 6):  # within its chunk, and repeated as padding
        theta[bad, 1] = -30
    cohort = simulate(theta)
    assert not cohort.success[[2, 6]].any()
    good = np.setdiff1d(np.arange(7), [2, 6])
    assert_equal(cohort.take(good), seven.take(good))
    limits = CLINICAL | {"EDV": (0.0, np.inf), "P_la_mean": (-1.0, np.inf)}
    assert np.array_equal(cohort.within(limits), cohort.success)


def test_cohorts_of_any_size_compile_once(seven):
    simulate(seven.theta)
    count = len(traces)
    assert count > 0
    for n in (1, 3, 7):  # Each with a new system and a new box.
        simulate_cohort(
            Tank(), Box.of(TankParameters, BOX.names), seven.theta[:n], chunk=4, phases=8
        )
    assert len(traces) == count


def test_waveforms_between_the_times_of_an_uneven_grid(seven):
    uneven = simulate_cohort(SplitTank(), BOX, seven.theta, chunk=4, phases=8)
    for name in ("V_lv", "q_s"):
        a, b = getattr(uneven.recording.waveforms, name), getattr(seven.recording.waveforms, name)
        np.testing.assert_allclose(a, b, rtol=1e-3)


def test_contexts_of_the_caller_hold_in_every_chunk(seven):
    parts = []

    def keep(chunks):
        parts.extend(chunks)
        return parts

    def dtype(theta):
        return jnp.zeros(())

    with jax.enable_x64(False):
        map_patients(dtype, seven.theta, chunk=2, progress=keep)
    map_patients(dtype, seven.theta, chunk=2, progress=keep)
    assert [part.dtype for part in parts[:4]] == [np.float32] * 4
    assert parts[-1].dtype == np.float64


def test_a_fixed_period_in_float32(seven):
    """Then the period is a Python number, and θ says what to compute in."""
    box = Box.of(TankParameters, ("V_d",))
    cohort = simulate_cohort(Tank(), box, seven.theta[:, 2:], chunk=4, phases=8)
    assert cohort.success.all() and cohort.recording.waveforms.V_lv.dtype == np.float32


def test_gradients_of_many_patients(seven):
    """Of the mean volume, which is 100 + V_d whatever else."""

    def mean(theta):
        orbit = periodic_orbit(Tank(), BOX.complete(theta), throw=False)
        return jnp.mean(orbit.outputs.V_lv[:-1])

    gradient = map_patients(jax.grad(mean), seven.theta, chunk=4)
    assert gradient.dtype == np.float32
    np.testing.assert_allclose(gradient, np.tile([0, 0, 1], (7, 1)), atol=2e-3)
    with pytest.raises(ValueError, match="one row per patient"):
        map_patients(mean, seven.theta[:0])


@pytest.mark.slow
def test_no_point_of_the_box_fails():
    cohort = simulate_cohort(LeftHeart(), SEVEN, SEVEN.sample(65_536, seed=0))
    assert cohort.failures() == ""
    assert cohort.residual.max() <= 3e-5
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(cohort.recording))


def test_failures_name_the_patients_and_their_parameters(seven):
    assert seven.failures() == ""
    theta = seven.theta.copy()
    theta[[2, 6], 1] = -30
    cohort = simulate(theta)
    assert np.isnan(cohort.residual[[2, 6]]).all()
    assert np.all(cohort.take([0, 1, 3, 4, 5]).residual <= 3e-5)
    with pytest.raises(RuntimeError, match="2 of 7 simulations failed"):
        simulate(theta, throw=True)

    T, k, V_d = theta[4]
    for result, reason in (
        (RESULTS.step_not_solved, "the equations of an implicit step were not solved: more steps"),
        (RESULTS.max_beats_reached, "still changed after `max_beats` beats, by 1.0e-02 in the la"),
        (None, "the reason is not known (the last beat changed by 1.0e-02)"),
    ):
        cohort.success[4], cohort.residual[4] = False, 0.01
        for item in jax.tree.leaves(result):
            jax.tree.leaves(cohort.result)[0][4] = item
        changed = cohort if result else dataclasses.replace(cohort, result=None)
        lines = changed.failures(limit=2).splitlines()
        assert reason in lines[2]
        assert lines[2].startswith(f"  patient 4 (T={T:.6g} s, k={k:.6g} 1/s, V_d={V_d:.6g} mL): ")
        assert lines[::3] == ["3 of 7 simulations failed:", "  and 1 more"]
        assert lines[1] == (
            f"  patient 2 (T={theta[2, 0]:.6g} s, k=-30 1/s, V_d={theta[2, 2]:.6g} mL): "
            "the solution became infinite or not a number"
        )
        assert changed.take([4]).failures().endswith(lines[2].split(": ", 1)[1])


def test_progress_sees_every_chunk(seven):
    seen = []

    def progress(chunks):
        assert len(chunks) == 2
        for chunk in chunks:
            seen.append(chunk)
            yield chunk

    assert_equal(simulate(seven.theta, progress=progress), seven)
    assert len(seen) == 2


def test_errors(seven):
    with pytest.raises(ValueError, match="chunk=0: expected at least one"):
        simulate_cohort(Tank(), BOX, seven.theta, chunk=0)
    with pytest.raises(ValueError, match="7 phases of 240 solver steps: expected a divisor"):
        simulate_cohort(Tank(), BOX, seven.theta, phases=7)
    for value, shown in ((np.nan, "nan"), (3.0, "3")):
        theta = seven.theta.copy()
        theta[4, 0] = value
        with pytest.raises(ValueError, match=rf"T = {shown} s \(1 of 7\) is outside the box"):
            simulate(theta)
