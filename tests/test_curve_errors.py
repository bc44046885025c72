"""Errors of clips' volume curves: what is drawn is what the likelihood expects."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxtwin as jt
from jaxtwin.data.vitals import CUFF_ERROR
from jaxtwin.imaging.calibration import Ridge
from jaxtwin.methods.interpolation import comparable
from jaxtwin.methods.measured import Channel
from jaxtwin.models.left_heart import SEVEN, LeftHeart
from jaxtwin.twin.curve_errors import ClipObservation

N = 60
TASK = jt.CurveTask(
    LeftHeart(), SEVEN, "V_lv", 0.5, samples=N, known="T_c", noise=3.0, unknown_start=True
)
SPREAD = 0.1
PATTERN = np.cos(4 * np.pi * np.arange(N) / N)


def observation(root, sizes=(1.0,)):
    """Errors around the true curve: the regression is the identity."""
    same = Ridge(np.zeros(N + 2), np.ones(N + 2), np.eye(N + 2, N + 1), np.zeros(N + 1))
    clips = max(len(root), len(sizes))
    root = np.concatenate([root, np.zeros((clips - len(root), N + 1))])
    rest = (np.resize(sizes, clips), np.zeros(clips), SEVEN.sample(2, seed=0))
    return ClipObservation(same, root, *rest)


@pytest.fixture(scope="module")
def patient():
    """One patient's recording, the true curve as it can be compared, and the period."""
    cohort = jt.simulate_cohort(TASK.system, SEVEN, SEVEN.sample(1, seed=3), phases=N, throw=True)
    recording = jax.tree.map(lambda x: jnp.asarray(x, float)[0], cohort.recording)
    curve = comparable(jnp.asarray(recording.waveforms.V_lv))
    return recording, curve, jnp.asarray(cohort.theta[0, [SEVEN.names.index("T_c")]], float)


def likelihood(errors, patient, values, task=TASK):
    recording, _, T_c = patient
    noise = jnp.concatenate([jnp.full(N, 3.0), jnp.full(len(values) - N, CUFF_ERROR)])
    return errors.log_likelihood(task, recording, T_c, values, noise)


def test_volumes_of_a_poor_regression_stay_possible_and_likelihoods_finite(patient):
    # Errors of exp(300): a regression on a few clips, of a patient unlike all of them.
    errors = observation(300 * np.eye(N + 1))
    _, curve, T_c = patient
    keys = jax.random.split(jax.random.key(0), 64)
    rows, _ = jax.vmap(lambda key: errors(TASK, curve, T_c, key))(keys)
    largest = np.asarray(rows).max(axis=1)
    assert np.isfinite(rows).all() and (largest >= 0.99).all() and (largest <= 1_001).all()
    assert (largest > 900).any() and (np.asarray(rows) == 0).any()
    assert np.isfinite([likelihood(errors, patient, row) for row in rows[:4]]).all()


def test_a_wrong_size_is_as_unlikely_as_its_error_says(patient):
    errors = observation(SPREAD * np.eye(1, N + 1, N))
    _, curve, _ = patient
    off = np.array([0.05, -0.2])
    drop = likelihood(errors, patient, curve) - np.array(
        [likelihood(errors, patient, curve * np.exp(x)) for x in off]
    )
    # The largest sample is a little less than the largest of the curve between its samples.
    np.testing.assert_allclose(drop, off**2 / (2 * SPREAD**2), atol=0.05)


def test_a_wrong_shape_is_as_unlikely_as_its_error_says(patient):
    errors = observation(SPREAD * np.append(PATTERN, 0.0)[None])
    _, curve, _ = patient
    drop = likelihood(errors, patient, curve) - np.array(
        [likelihood(errors, patient, curve * np.exp(x * PATTERN)) for x in (0.1, -0.2)]
    )
    np.testing.assert_allclose(drop, (0.5, 2.0), rtol=0.02)


def test_what_is_drawn_is_as_likely_as_expected(patient):
    random = np.random.default_rng(0)
    root = 0.05 * random.normal(size=(5, N + 1)) / np.sqrt(5)
    errors = observation(root)
    recording, curve, T_c = patient
    exact = jnp.asarray(recording.waveforms.V_lv)

    @jax.jit
    @jax.vmap
    def drop(key):
        values, known = errors(TASK, exact, T_c, key)
        return likelihood(errors, (recording, curve, known), values)

    lost = likelihood(errors, patient, curve) - drop(jax.random.split(jax.random.key(0), 2_000))
    # Half a chi-squared variable with one degree of freedom for each clip of the root.
    assert abs(2 * lost.mean() - 5) < 4 * np.sqrt(10 / 2_000) + 0.1
    assert abs((2 * lost > 11.07).mean() - 0.05) < 0.02
    narrow = observation(root / 1.5)
    again = likelihood(narrow, patient, curve) - jax.vmap(
        lambda key: likelihood(narrow, patient, errors(TASK, exact, T_c, key)[0])
    )(jax.random.split(jax.random.key(0), 500))
    assert (2 * again > 11.07).mean() > 0.25


def test_clips_with_larger_errors_have_heavier_tails(patient):
    _, curve, _ = patient
    root = SPREAD * np.eye(1, N + 1, N)
    alike, mixed = observation(root), observation(root, (0.5, 0.5, 2.0))
    far = curve * np.exp(0.4)
    assert likelihood(mixed, patient, far) > likelihood(alike, patient, far) + 2


def test_a_cuff_counts_and_a_missing_one_does_not(patient):
    recording, curve, _ = patient
    task = dataclasses.replace(
        TASK,
        hidden=("P_ao",),
        beside=(Channel("systolic", resolution=1.0, noise=CUFF_ERROR, missing=0.5),),
    )
    errors = observation(SPREAD * np.eye(1, N + 1, N))
    true = float(jnp.max(recording.waveforms.P_ao))
    found = []
    for value in (true, true + 2 * CUFF_ERROR, np.nan):
        values = jnp.append(curve, value)
        noise = jnp.append(jnp.full(N, 3.0), jnp.inf if np.isnan(value) else CUFF_ERROR)
        T_c = patient[2]
        found.append(errors.log_likelihood(task, recording, T_c, values, noise))
    assert abs(found[0] - found[1] - 2) < 0.1
    assert abs(found[0] - found[2]) < 0.01


def test_gradients_are_finite(patient):
    recording, curve, T_c = patient
    errors = observation(SPREAD * np.eye(2, N + 1, N - 1), (0.7, 1.3))

    def of(volume):
        told = recording.waveforms._replace(V_lv=volume)
        seen = eqx.tree_at(lambda recording: recording.waveforms, recording, told)
        return errors.log_likelihood(TASK, seen, T_c, curve, jnp.full(N, 3.0))

    for dtype in (jnp.float32, jnp.float64):
        gradient = jax.grad(of)(jnp.asarray(recording.waveforms.V_lv * 1.1, dtype))
        assert gradient.dtype == dtype and np.isfinite(gradient).all() and (gradient != 0).any()
