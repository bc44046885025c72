"""Cohorts: patients do not depend on each other, and results are reproducible."""

import dataclasses
import subprocess
import sys
from typing import ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtwin.cohorts.batching import _factorises, map_patients
from jaxtwin.cohorts.cohort import Cohort
from jaxtwin.cohorts.draw import draw_cohort, draw_splits
from jaxtwin.cohorts.simulate import simulate_cohort, simulate_patient
from jaxtwin.forward.learning import learn_emulator
from jaxtwin.forward.simulator import Simulator
from jaxtwin.models.left_heart import SEVEN, LeftHeart
from jaxtwin.models.ventricle import CLINICAL, READINGS, VentricleOutputs
from jaxtwin.parameters import AbstractParameters, Box, Scalar, parameter
from jaxtwin.physics.base import AbstractPeriodicSystem
from jaxtwin.physics.periodic import periodic_orbit
from jaxtwin.physics.solution import RESULTS, Recording
from jaxtwin.training.settings import TrainingConfig

traces = []


class TankParameters(AbstractParameters):
    T: Scalar = parameter(1.0, (0.5, 2.0), symbol="T", unit="s", meaning="period")
    k: Scalar = parameter(2.0, (-30.0, 5.0), symbol="k", unit="1/s", meaning="leak")
    V_d: Scalar = parameter(50.0, (0.0, 100.0), symbol="V_d", unit="mL", meaning="offset")


class Volume(NamedTuple):
    V: Scalar


def outputs(value, **values):
    return VentricleOutputs(**{name: values.get(name, value) for name in VentricleOutputs._fields})


class Tank(AbstractPeriodicSystem[Volume, TankParameters, VentricleOutputs]):
    """dV/dt = −k V + k (100 + 50 sin ωt): periodic for k > 0, growing without end for k < 0."""

    parameters: ClassVar = TankParameters

    def vector_field(self, t, state, p):
        traces.append(None)
        return Volume(p.k * (100 + 50 * jnp.sin(2 * jnp.pi * t / p.T) - state.V))

    def initial_state(self, p):
        return Volume(90 + 0 * p.k)

    def outputs(self, t, state, p):
        return outputs(0 * state.V, V_lv=state.V + p.V_d, q_s=100 + 0 * t, P_ao=80 + 0 * t)

    def period(self, p):
        return p.T

    def conserved(self, state, p):
        return ()

    def scaling(self, p):
        return outputs(0 * p.k), outputs(100 + 0 * p.k)

    def readings(self):
        return READINGS

    def limits(self):
        return CLINICAL


class SplitTank(AbstractPeriodicSystem[Volume, TankParameters, VentricleOutputs]):
    """The same tank; that something jumps at a third of the period is only said."""

    parameters: ClassVar = TankParameters
    tank: Tank = Tank()

    def vector_field(self, t, state, p):
        return self.tank.vector_field(t, state, p)

    def discontinuities(self, p):
        return (0.3337 * p.T,)

    def initial_state(self, p):
        return self.tank.initial_state(p)

    def outputs(self, t, state, p):
        return self.tank.outputs(t, state, p)

    def period(self, p):
        return self.tank.period(p)

    def conserved(self, state, p):
        return self.tank.conserved(state, p)

    def scaling(self, p):
        return self.tank.scaling(p)


BOX = Box.of(TankParameters, ("T", "k", "V_d"))
LEAKING = Box.of(TankParameters, ("T", "k", "V_d"), {"k": (0.5, 5.0)})


def simulate(theta, **options):
    return simulate_cohort(Tank(), BOX, theta, chunk=4, phases=8, **options)


@pytest.fixture(scope="module")
def seven():
    return simulate(LEAKING.sample(7, seed=1))


def arrays(cohort):
    """All that is known of the patients, one by one."""
    parts = (cohort.theta, cohort.recording, cohort.success, cohort.residual, cohort.error)
    return jax.tree.leaves(parts)


def assert_equal(a, b):
    assert a.system == b.system and a.box == b.box
    for x, y in zip(arrays(a), arrays(b), strict=True):
        np.testing.assert_array_equal(x, y)
        assert x.dtype == y.dtype


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


def healthy(**changes):
    """One patient within all limits, but for the changes."""
    values = {"EDV": 120.0, "ESV": 50.0, "P_ao": 90.0, "P_la": 10.0, "q_s": 80.0} | changes
    one = np.ones(1, np.float32)
    beat = np.array([[0.5, 1.5]], np.float32)  # of mean 1
    recording = Recording(
        outputs(0 * one, V_lv=values["EDV"] * one),
        outputs(0 * one, V_lv=values["ESV"] * one),
        outputs(0 * beat, **{name: values[name] * beat for name in ("P_ao", "P_la", "q_s")}),
        one,
    )
    success = np.array([values.get("success", True)])
    return Cohort(Tank(), BOX, np.zeros((1, 3), np.float32), recording, success, 0 * one, 0 * one)


@pytest.mark.parametrize(
    ("changes", "held"),
    [
        ({}, True),
        ({"EDV": 39.0, "ESV": 20.0}, False),
        ({"EDV": 301.0}, False),
        ({"ESV": 109.0}, False),  # EF 9
        ({"ESV": 107.0}, True),  # EF 11
        ({"ESV": 23.0}, False),  # EF 81
        ({"P_ao": 49.0}, False),
        ({"P_ao": 131.0}, False),
        ({"P_la": -1.0}, False),
        ({"P_la": 31.0}, False),
        ({"q_s": 33.0}, False),  # 1.98 L/min
        ({"q_s": 34.0}, True),
        ({"q_s": 167.0}, False),  # 10.02 L/min
        ({"success": False}, False),
        ({"EDV": np.nan}, False),
    ],
)
def test_limits(changes, held):
    assert healthy(**changes).within(CLINICAL).tolist() == [held]


HALF = CLINICAL | {"EDV": (150.0, 300.0), "EF": (0.0, 100.0)}
"""The tank's EDV is V_d + 100 and some, so these hold for a little over half of the box."""


def test_cohorts_are_drawn_reproducibly():
    cohort = draw_cohort(Tank(), LEAKING, 9, seed=2, limits=HALF, phases=8)
    again = draw_cohort(Tank(), LEAKING, 9, seed=2, limits=HALF, phases=8)
    assert_equal(again, cohort)
    assert len(cohort) == 9 and cohort.within(HALF).all()
    assert again.accepted == cohort.accepted and 0.4 < cohort.accepted < 1

    fewer = draw_cohort(Tank(), LEAKING, 4, seed=2, limits=HALF, phases=8)
    assert_equal(fewer, cohort.take(slice(4)))
    theta = LEAKING.sample(18, seed=2).astype(np.float32)
    places = [np.flatnonzero((theta == row).all(axis=1)).item() for row in cohort.theta]
    assert places == sorted(places) and places != list(range(9))

    other = draw_cohort(Tank(), LEAKING, 9, seed=3, limits=HALF, phases=8)
    assert not np.array_equal(other.theta, cohort.theta)


def test_limits_that_few_hearts_meet():
    rare = HALF | {"EDV": (195.0, 300.0)}
    cohort = draw_cohort(Tank(), LEAKING, 9, seed=2, limits=rare, phases=8)
    assert len(cohort) == 9 and cohort.accepted < 0.5  # more was drawn than at first
    never = HALF | {"EDV": (300.0, 400.0)}
    with pytest.raises(ValueError, match=r"only 0 of 72 points .* widen the limits"):
        draw_cohort(Tank(), LEAKING, 9, seed=2, limits=never, phases=8)


ONE_STEP = TrainingConfig(steps=1, batch_size=4, evaluate_every=1)


def test_failed_simulations_are_not_left_out_in_silence(tmp_path):
    box = Box.of(TankParameters, ("T", "k", "V_d"), {"k": (-8.0, 5.0)})
    with pytest.warns(
        UserWarning,
        match=r"\d+ of \d+ simulations \(\d+.\d%\) failed and are left out.*main reason.*infinite",
    ):
        draw_splits(Tank(), box, [3, 2, 1], seed=2, limits={}, phases=8)
    with pytest.warns(UserWarning, match=r"\d+ of 80 simulations .* failed and are left out"):
        learn_emulator(
            tmp_path, Tank(), box, ("V_lv",), phases=8, simulations=64, unseen=8, training=ONE_STEP
        )


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: draw_cohort(Tank(), LEAKING, 1e1, seed=0), "n=10.0: expected a whole number"),
        (lambda: draw_cohort(Tank(), LEAKING, 0, seed=0), "n=0: expected a whole number"),
        (lambda: draw_splits(Tank(), LEAKING, [3, 2.0], seed=0), "size=2.0: expected a whole"),
        (lambda: draw_cohort(LEAKING, Tank(), 3, seed=0), r"\(Box, Tank, ...\): expected a system"),
        (
            lambda: simulate_cohort(BOX, Tank(), [[1, 2, 3]]),
            r"\(Box, Tank, ...\): expected a system",
        ),
        (lambda: simulate_cohort(Tank(), BOX, [[1, 2, 3]], phases=60.0), "phases=60.0: expected"),
        (
            lambda: draw_cohort(Tank(), LEAKING, 3, seed=0, limits={"EF": (80, 20)}),
            r"limits of EF are \(80, 20\): expected \(low, high\) with low < high",
        ),
        (lambda: healthy().within({"EDV": 100}), "limits of EDV are 100: expected"),
        (lambda: draw_cohort(Tank(), LEAKING, 3, seed=0, limits=[1, 2]), "expected them by name"),
    ],
)
def test_slips_are_named_before_anything_is_simulated(draw, message, as_a_user):
    with pytest.raises(ValueError, match=message):
        draw()


def inverse(theta):
    return jnp.linalg.inv(3 * jnp.eye(3) + theta[:1, None])


def test_factorisations_are_found_wherever_they_are():
    rows = np.ones((4, 3))
    assert _factorises(inverse, rows)
    assert _factorises(lambda t: jax.lax.fori_loop(0, 3, lambda i, x: inverse(x)[0], t), rows)
    assert _factorises(jax.grad(lambda t: jnp.linalg.cholesky(jnp.eye(3) + t[0])[0, 0]), rows)
    assert not _factorises(lambda t: jnp.eye(3) @ t, rows)
    assert not _factorises(eqx.Partial(simulate_patient, Tank(), BOX, 8, 240), rows)


WAITING = """
import jax.numpy as jnp, numpy as np
from jaxtwin.cohorts.batching import map_patients

def function(theta):
    matrix = 3 * jnp.eye(67, 7) + theta[:1, None] + jnp.arange(469).reshape(67, 7) ** 0.5
    return jnp.linalg.qr(matrix)[0][0]

theta = np.random.default_rng(0).random((8_000, 7), np.float32)
for _ in range(20):
    map_patients(function, theta, chunk=1_000)
"""


@pytest.mark.slow
def test_batches_of_factorisations_end():
    """As many executions as cores, each waiting for the others' threads, soon did not."""
    subprocess.run([sys.executable, "-c", WAITING], check=True, timeout=120)


def test_a_precision_that_jax_would_not_compute_in_is_named():
    with jax.enable_x64(False):
        assert BOX.sample(2, seed=0).dtype == np.float32
        with pytest.raises(ValueError, match="θ is in float64, and JAX's x64 mode is off"):
            map_patients(jnp.sum, np.ones((2, 3)))


def test_points_outside_the_box_of_a_forward_model_are_named():
    forward = Simulator(Tank(), BOX, "V_lv", 8)
    theta = BOX.sample(2, seed=0)
    theta[1, 0] = 1e3
    with pytest.raises(ValueError, match="is outside the box"):
        map_patients(forward, theta)
