"""What the first twin of a process costs: programs and imports, counted."""

import functools
import subprocess
import sys

import equinox as eqx
import jax
import numpy as np
import pytest

import jaxtwin as jt
from jaxtwin.commands.curve_task import CUFF, curve_task
from jaxtwin.forward.emulator import Emulator
from jaxtwin.inference.neural import NeuralPosterior
from jaxtwin.methods.base import Learnt
from jaxtwin.methods.pssl_curves import CurvePSSL
from jaxtwin.models.left_heart import NINE
from jaxtwin.physics.compilation import compiled
from jaxtwin.training import checkpoint
from jaxtwin.twin.echo import as_curves, estimate
from jaxtwin.twin.simulation import TOGETHER, simulate_patients
from tests.programs import programs
from tests.test_echo_twin import CURVE

HEART = jt.models.LeftHeart()
TASK = curve_task(NINE, beside=CUFF)
HEAVY = (
    *("matplotlib", "scipy.stats", "scipy.signal", "scipy.optimize", "pandas", "xarray"),
    *("grain", "pydicom", "optimistix", "diffrax", "blackjax", "sklearn", "zarr", "imageio"),
)


def test_a_twin_needs_no_heavy_library():
    """Each takes a tenth of a second or more to import; figures and training need them."""
    code = (
        "import sys; import jaxtwin.commands.twin, jaxtwin.twin.echo, jaxtwin.twin.report, "
        "jaxtwin.data.recording, jaxtwin.imaging.examples; "
        f"print([m for m in {HEAVY} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_networks_are_rebuilt_and_loaded_without_a_program(tmp_path):
    method = NeuralPosterior(width=8)
    eqx.clear_caches()
    with programs() as made:
        blank = eqx.filter_eval_shape(method.untrained, TASK)
    assert made == []
    flow = jax.tree.map(
        lambda x: np.ones(x.shape, x.dtype) if isinstance(x, jax.ShapeDtypeStruct) else x, blank
    )
    checkpoint.save(tmp_path / "flow", flow, {"kind": "flow"})
    with programs() as made:
        loaded = checkpoint.load(tmp_path / "flow", blank)
    assert made == []
    for one, other in zip(jax.tree.leaves(loaded), jax.tree.leaves(flow), strict=True):
        if isinstance(other, np.ndarray):
            assert isinstance(one, jax.Array)
            np.testing.assert_array_equal(one, other)


def learnt(method, knowledge):
    return Learnt(method, TASK, method.ready(TASK, knowledge))


@pytest.fixture(autouse=True, scope="module")
def compiler_options():
    """The first program that is compiled quickly asks which options there are."""
    compiled(lambda x: x)(np.zeros(1))


def test_an_estimate_is_two_programs():
    """The networks and the misfit; all else is for NumPy."""
    sizes = {"width": 8, "depth": 1}
    make = functools.partial(Emulator.create, HEART, NINE, TASK.channels, TASK.samples, **sizes)
    method = CurvePSSL(forward=make(key=jax.random.key(0)), width=8)
    encoder = method.untrained(TASK)
    with programs() as made:
        found = estimate(learnt(method, encoder), [CURVE], {"systolic": np.array([118.0])})
    assert found.theta is not None and found.misfit is not None
    assert len(made) <= 2, made


def test_draws_and_their_beats_are_a_program_each():
    method = NeuralPosterior(width=8)
    flow = learnt(method, method.untrained(TASK))
    # The periods are 20 for the posterior of a twin.
    curves = as_curves(TASK, [CURVE._replace(period=0.8 + 0.01 * k) for k in range(3)])
    with programs() as made:
        posterior = flow.posterior(curves, draws=7)
    # Two make the random key.
    assert posterior.success.all() and len(made) <= 3, made
    theta = posterior.theta.reshape(-1, 9)
    with programs() as made:
        simulate_patients(HEART, NINE, np.tile(theta[:1], (TOGETHER, 1)), TASK.channels, 80)
    assert "_simulated" in " ".join(made)
    with programs() as made:
        beats = simulate_patients(HEART, NINE, np.tile(theta, (3, 1)), TASK.channels, 80)
    assert made == [] and len(beats.success) == 63


def test_patients_are_simulated_as_by_a_cohort():
    theta = np.array(NINE.sample(6, seed=1), np.float32)
    beats = simulate_patients(HEART, NINE, theta, ("V_lv",), 80)
    cohort = jt.simulate_cohort(HEART, NINE, theta, phases=80)
    np.testing.assert_array_equal(beats.success, cohort.success)
    V = np.asarray(cohort.recording.waveforms.V_lv)
    np.testing.assert_allclose(beats.waveforms["V_lv"], V, atol=2e-4 * V.max())
    for name, values in cohort.read(["EDV", "EF", "systolic", "stroke_work"]).items():
        np.testing.assert_allclose(beats.recorded[name], values, rtol=1e-3)
    solution, readings = beats.first()
    assert bool(solution.success) and readings["EDV"] == pytest.approx(beats.readings["EDV"][0])
    others = beats.others()
    assert others.success.shape == (1, 5) and others.waveforms["V_lv"].shape == (1, 5, 80)
    np.testing.assert_array_equal(others.readings["EF"][0], beats.recorded["EF"][1:])


def test_numbers_of_a_failed_draw_are_nan():
    theta = np.array(NINE.sample(3, seed=1), np.float32)
    beats = simulate_patients(HEART, NINE, theta, ("V_lv",), 80)
    failed = beats._replace(success=np.array([True, False, True])).others()
    assert np.isnan(failed.readings["EF"][0, 0]) and np.isfinite(failed.readings["EF"][0, 1])
    assert np.isnan(failed.waveforms["V_lv"][0, 0]).all()
