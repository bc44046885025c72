"""Cohorts on many devices and many hosts agree with those on one device."""

import jax
import numpy as np
import pytest

from jaxtwin.cohorts.simulate import simulate_cohort
from jaxtwin.models.left_heart import SEVEN, LeftHeart
from jaxtwin.treatments import Nothing, Pump
from jaxtwin.treatments.trials import run_trial
from tests.processes import hosts, run
from tests.spread_cohort import arrays


@pytest.fixture(scope="module")
def alone():
    theta = SEVEN.sample(44, seed=2)
    with jax.enable_x64(False):  # As in the other processes.
        return arrays(simulate_cohort(LeftHeart(), SEVEN, theta, phases=8, chunk=2))


def assert_same(found, expected):
    assert len(found) == len(expected)
    *found, residual = found
    *expected, _ = expected  # Rounding alone.
    assert np.all(residual <= 3e-5)
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        # But for rounding, as it is another program; a valve's flow is a small difference of
        # pressures over a small resistance.
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-4 * np.max(np.abs(b)))


@pytest.fixture(scope="module")
def trial():
    cohort = simulate_cohort(
        LeftHeart(), SEVEN, SEVEN.sample(44, seed=2)[:20], source="20 points of the box"
    )
    with jax.enable_x64(False):
        return run_trial(cohort, {"control": Nothing(), "pump": Pump(9_000.0)})


def assert_same_trial(path, trial):
    with np.load(path) as found:
        np.testing.assert_array_equal(found["success"], trial.success)
        for name, values in trial.values.items():
            scale = np.nanmax(np.abs(values)) + 1e-6
            np.testing.assert_allclose(found[name], values, rtol=0, atol=2e-3 * scale, err_msg=name)


@pytest.mark.slow
def test_eight_devices(tmp_path, alone, trial):
    (found,) = run("spread_cohort", tmp_path, [], devices=8)
    assert_same(found, alone)
    assert_same_trial(tmp_path / "trial-0.npz", trial)


@pytest.mark.slow
def test_two_hosts(tmp_path, alone, trial):
    for found in run("spread_cohort", tmp_path, *hosts(2), devices=2):
        assert_same(found, alone)
    for i in range(2):
        assert_same_trial(tmp_path / f"trial-{i}.npz", trial)
