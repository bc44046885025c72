"""Trials, emulators and methods take any model: lungs and transients as well as hearts."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from jaxtwin.cohorts.draw import draw_splits
from jaxtwin.cohorts.simulate import simulate_cohort
from jaxtwin.forward.learning import learn_emulator
from jaxtwin.forward.simulator import Simulator
from jaxtwin.methods.least_squares import LeastSquares
from jaxtwin.methods.neural_ode import ConditionedNeuralODE, NeuralODE
from jaxtwin.methods.pinn import PINN
from jaxtwin.methods.pssl_curves import CurvePSSL
from jaxtwin.methods.scores import score_curves
from jaxtwin.methods.tasks import CurveTask
from jaxtwin.models.glucose import GlucoseParameters, GlucoseTest
from jaxtwin.models.lung import AIRWAY, Lung, LungParameters, LungState
from jaxtwin.parameters import Box
from jaxtwin.physics.base import AbstractPeriodicSystem
from jaxtwin.physics.solution import Reading
from jaxtwin.training.loop import TrainingConfig
from jaxtwin.treatments import Drug, Nothing, Settings, combine
from jaxtwin.treatments.optimise import optimise_intervention
from jaxtwin.treatments.trials import run_trial

SENSITIVITY = Box.of(GlucoseParameters, ("S_G", "S_I"))
BRIEF = TrainingConfig(300, 32, learning_rate=5e-3, evaluate_every=100)


# --- trials -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lungs():
    # Half of any resistance is within the declared bounds.
    box = Box.of(LungParameters, AIRWAY.names, {"R": (4.0, 50.0)})
    return simulate_cohort(Lung(), box, box.sample(16, seed=0), source="16 points of the box")


@pytest.mark.slow
def test_a_trial_of_lungs(lungs):
    arms = {
        "as before": Nothing(),
        "pressure": Settings({"P_i": 18.0}),  # instead of 15
        "bronchodilator": Drug({"R": -0.4}),
        "both": combine(Settings({"P_i": 18.0}), Drug({"R": -0.4})),
    }
    trial = run_trial(lungs, arms)
    assert trial.success.all() and set(trial.values) == set(Lung().readings())
    V_T = trial.values["V_T"]
    np.testing.assert_allclose(V_T[1], V_T[0] * 18 / 15, rtol=1e-3)  # linear in the pressure
    np.testing.assert_allclose(V_T[3], V_T[2] * 18 / 15, rtol=1e-3)
    assert (V_T[2] > V_T[0]).all()
    effect = trial.effects("V_T", control="as before")[1]
    assert effect.arm == "bronchodilator" and effect.patients == 16 and effect.difference.low > 0


def test_interventions_name_what_is_missing(lungs):
    with pytest.raises(ValueError, match="LungParameters has no R_s"):
        run_trial(lungs, {"drug": Drug({"R_s": -0.5})})
    with pytest.raises(ValueError, match="expected a number above -1"):
        Drug({"R": -1.0})


@pytest.mark.slow
def test_a_trial_of_insulin():
    cohort = simulate_cohort(
        GlucoseTest(), SENSITIVITY, SENSITIVITY.sample(8, seed=0), source="points of a box"
    )
    trial = run_trial(cohort, {"none": Settings({"dose": 0.0}), "dose": Settings({"dose": 60.0})})
    assert trial.success.all()
    assert trial.effects("G_mean", control="none")[0].difference.high < 0
    assert (trial.values["I_max"][1] >= trial.values["I_max"][0]).all()


def test_a_dose_by_gradient():
    """Tidal volume is linear in the pressure: 0.5 L is met where it should be."""
    before = simulate_cohort(Lung(), AIRWAY, np.array([[10.0, 0.05]]))
    V_T = float(before.recording.maximum.V[0] - before.recording.minimum.V[0])  # of 15 cmH2O
    best = optimise_intervention(
        Lung(),
        LungParameters(),
        lambda doses: Settings({"P_i": doses[0]}),
        [(5.0, 30.0)],
        maximise="ventilation",
        within={"V_T": (0.0, 0.5)},
    )
    assert best.feasible
    np.testing.assert_allclose(best.doses[0], 15 * 0.5 / V_T, rtol=2e-2)


class Silent(AbstractPeriodicSystem):
    """A lung of which nobody reads anything."""

    parameters = LungParameters
    lung: Lung = Lung()

    def vector_field(self, t, state, p):
        return LungState(self.outputs(t, state, p).q)

    def outputs(self, t, state, p):
        return self.lung.outputs(t, state, p)

    def initial_state(self, p):
        return self.lung.initial_state(p)

    def period(self, p):
        return p.T


def test_without_readings_endpoints_are_asked_for(lungs):
    silent = dataclasses.replace(lungs, system=Silent())
    with pytest.raises(ValueError, match="Silent has no readings: add them"):
        run_trial(silent, {"none": Nothing()})
    largest = {"V": Reading("L", lambda breath: breath.maximum.V)}
    trial = run_trial(silent, {"none": Nothing()}, largest)
    assert (trial.values["V"] > 0).all()


def test_default_units_are_ones():
    offset, scale = Silent().scaling(LungParameters())
    assert set(offset) == {0.0} and set(scale) == {1.0}
    assert type(offset) is type(scale) and offset._fields == ("V", "q", "P_aw", "P_alv")


# --- learning ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_from_a_transient_to_twins(tmp_path):
    """Emulator, P-SSL and fit find S_G and S_I from glucose alone."""
    system, box = GlucoseTest(), SENSITIVITY
    sizes = {"phases": 30, "simulations": 512, "unseen": 64, "training": BRIEF}
    emulator, errors = learn_emulator(tmp_path, system, box, ("G",), **sizes)
    assert errors["failed_simulations"] == 0 and errors["waveform_median"] < 0.02
    assert errors["G_min_mean"] < 3.0 and "I_max_mean" not in errors  # of its channels alone
    again, kept = learn_emulator(tmp_path, system, box, ("G",), **sizes)
    assert kept == errors and again.error == emulator.error
    with pytest.raises(ValueError, match="choose another folder"):
        learn_emulator(tmp_path, system, box, ("I",), **sizes)

    task = CurveTask(system, box, "G", resolution=0.5, samples=30, noise=2.0)
    parts = draw_splits(system, box, (128, 16, 8), seed=1, limits={}, phases=30)
    training, validation, test = (task.measure(p, np.random.default_rng(0)) for p in parts)
    for method, worst in ((CurvePSSL(emulator, BRIEF), 0.12), (LeastSquares(starts=2), 0.06)):
        learnt = method.learn(task, training, validation, folder=tmp_path, seed=0)
        scores = score_curves(task, learnt.estimate(test), parts[2])
        assert scores["theta"].mean() < worst and scores["G_resimulated"].mean() < 6.0
    for method in (PINN(), NeuralODE(), ConditionedNeuralODE()):
        with pytest.raises(ValueError, match="only curves that repeat themselves"):
            method.learn(task, training, validation, folder=tmp_path, seed=0)


def test_noise_is_added_to_curves_and_not_to_labels():
    task = CurveTask(Lung(), AIRWAY, "q", resolution=0.004, known=("C",), noise=0.1)
    patients = simulate_cohort(Lung(), AIRWAY, AIRWAY.sample(64, seed=0), phases=60)
    curves = task.measure(patients, np.random.default_rng(0))
    noise = curves.values - patients.recording.waveforms.q
    assert abs(noise.std() - 0.1) < 0.005
    np.testing.assert_array_equal(curves.known[:, 0], patients.theta[:, 1])
    np.testing.assert_array_equal(curves.maximum, patients.recording.maximum.q)
    quiet = dataclasses.replace(task, noise=0.05).measure(patients, np.random.default_rng(0))
    np.testing.assert_allclose(quiet.values - patients.recording.waveforms.q, noise / 2, atol=1e-6)


def test_readings_of_a_forward_model():
    forward = Simulator(system=Lung(), box=AIRWAY, channels=("V",))
    V_T, ventilation = forward.read(jnp.array([10.0, 0.05]), ("V_T", "ventilation"))
    np.testing.assert_allclose(ventilation, V_T * 60 / 4.0, rtol=1e-6)
    with pytest.raises(ValueError, match=r"q_max is read off q, and only V are recorded: add"):
        forward.read(jnp.array([10.0, 0.05]), ("q_max",))
    with pytest.raises(ValueError, match="Lung has no reading 'EF'"):
        forward.read(jnp.array([10.0, 0.05]), ("EF",))
