"""Methods for curves: results on a system with a closed form, and the data each method may use."""

import dataclasses
import json
import warnings
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtwin.cohorts.simulate import simulate_cohort
from jaxtwin.forward.emulator import Emulator
from jaxtwin.forward.simulator import Simulator
from jaxtwin.methods.base import Sees
from jaxtwin.methods.curves import CurveEncoder
from jaxtwin.methods.descent import descend, phase_waves
from jaxtwin.methods.each_patient import each_patient
from jaxtwin.methods.least_squares import LeastSquares
from jaxtwin.methods.measured import Channel
from jaxtwin.methods.neural_ode import ConditionedNeuralODE, DrivenField, NeuralODE
from jaxtwin.methods.pinn import PINN
from jaxtwin.methods.prior import BoxMiddle
from jaxtwin.methods.pssl_curves import CurvePSSL
from jaxtwin.methods.saving import load_learnt, save_learnt
from jaxtwin.methods.supervised_curves import SupervisedCurves
from jaxtwin.methods.tasks import Curves, CurveTask, OutOfModelWarning
from jaxtwin.models.left_heart import SEVEN, LeftHeart
from jaxtwin.models.lvad import LVAD
from jaxtwin.parameters import Box
from jaxtwin.physics.solution import Reading
from jaxtwin.training.checkpoint import CheckpointError
from jaxtwin.training.loop import TrainingConfig, epochs
from jaxtwin.training.progress import silent
from tests.systems import TwoCompartments, Windkessel, pressure, windkessel_exact

BOX = Box.of(Windkessel.parameters, ("T", "R", "C"), {"R": (0.4, 2.0), "C": (0.3, 2.0)})


TASK = CurveTask(
    Windkessel(), BOX, channel="P", hidden=(), samples=24, known=("T",), resolution=0.005
)


SIMULATOR = Simulator(system=Windkessel(), box=BOX, channels=("P",), phases=24)


BRIEF = TrainingConfig(6, 4, evaluate_every=3)


def measured(n, seed=0, noise=0.0, known=True):
    theta = BOX.sample(n, seed=seed)
    P = pressure(theta)
    values = P + noise * np.random.default_rng(seed).normal(size=P.shape)
    columns = [0] if known else []
    curves = Curves(
        values.astype(np.float32),
        theta[:, columns].astype(np.float32),
        P.max(axis=1).astype(np.float32),
        P.min(axis=1).astype(np.float32),
    )
    return theta, curves


def linear_emulator():
    """Untrained; enough to be differentiated."""
    return Emulator.create(Windkessel(), BOX, ("P",), 24, width=4, depth=1, key=jax.random.key(0))


METHODS = {
    "pssl": lambda: CurvePSSL(linear_emulator(), BRIEF, width=8, depth=1),
    "ssl_simulator": lambda: CurvePSSL(SIMULATOR, BRIEF, width=8, depth=1),
    "supervised": lambda: SupervisedCurves(BRIEF, width=8, depth=1),
    "pinn": lambda: PINN(width=8, depth=1, harmonics=2, collocation=8, steps=5),
    "neural_ode": lambda: NeuralODE(width=8, depth=1, steps=5),
    "neural_ode_shared": lambda: ConditionedNeuralODE(width=8, depth=1, config=BRIEF),
    "least_squares": lambda: LeastSquares(starts=2, iterations=4),
    "box_middle": BoxMiddle,
}
COSTLY = ("ssl_simulator", "neural_ode", "neural_ode_shared", "least_squares")
EVERY_METHOD = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in COSTLY else n for n in METHODS]
)


# --- the pieces of all ------------------------------------------------------------------------


def test_each_patients_numbers_depend_on_their_place_alone():
    _, curves = measured(7)

    def draw(patient):
        return jax.random.normal(patient.key), patient.values[3], patient.known[0]

    normal, value, known = each_patient(draw, TASK, curves, seed=5, chunk=64)
    assert len(np.unique(normal)) == 7
    assert np.array_equal(value, curves.values[:, 3]) and np.array_equal(known, curves.known[:, 0])
    again = each_patient(draw, TASK, curves.take(slice(0, 3)), seed=5, chunk=2)[0]
    assert np.array_equal(again, normal[:3])
    assert not np.any(each_patient(draw, TASK, curves, seed=6)[0] == normal)


def test_epochs_show_every_example_once_and_start_anywhere():
    feed = epochs(10, 3, seed=1, start_step=0)
    rows = [next(feed) for _ in range(6)]
    for epoch in (rows[:3], rows[3:]):
        assert len(np.unique(np.concatenate(epoch))) == 9
    later = epochs(10, 3, seed=1, start_step=4)
    assert np.array_equal(next(later), rows[4])
    assert len(next(epochs(2, 16, seed=0, start_step=0))) == 2


# --- what each method may see -----------------------------------------------------------------


@EVERY_METHOD
@pytest.mark.filterwarnings("ignore::jaxtwin.methods.tasks.OutOfModelWarning")
def test_a_method_sees_what_it_says(name):
    """Labels and the cohort are replaced by nonsense where a method says it does not look."""
    method = METHODS[name]()
    _, training = measured(8, seed=1)
    _, validation = measured(4, seed=2)
    _, test = measured(3, seed=3)

    def estimate(training, validation):
        return method.learn(TASK, training, validation).estimate(test)

    def blind(curves):
        return Curves(curves.values, curves.known)

    first = estimate(training, validation)
    largest = first.recording.maximum.P
    assert largest.shape == first.recording.minimum.P.shape == first.success.shape == (3,)
    assert first.success.all()
    assert (first.theta is None) == (not method.sees.physics)
    if first.theta is not None:
        assert BOX.contains(jnp.asarray(first.theta)).all()
        np.testing.assert_allclose(first.theta[:, 0], test.known[:, 0], rtol=1e-6)
    if not method.sees.labels:
        test = blind(test)
        same = estimate(blind(training), blind(validation))
        np.testing.assert_array_equal(same.recording.maximum.P, largest)
    _, others = measured(8, seed=7)
    other = estimate(others, validation)
    assert np.array_equal(other.recording.maximum.P, largest) == (not method.sees.cohort)


def test_a_forward_model_of_another_task_is_refused():
    _, curves = measured(4)
    other = dataclasses.replace(TASK, samples=12)
    fewer = curves._replace(values=curves.values[:, ::2])
    with pytest.raises(ValueError, match="at 24 phases for a task of P at 12"):
        CurvePSSL(SIMULATOR).learn(other, fewer, fewer)
    wider = Box.of(Windkessel.parameters, BOX.names, {"R": (0.4, 2.5), "C": (0.3, 2.0)})
    with pytest.raises(ValueError, match="make both with the same system and box"):
        CurvePSSL(SIMULATOR).learn(dataclasses.replace(TASK, box=wider), curves, curves)


def test_a_system_is_no_forward_model(as_a_user):
    _, curves = measured(4)
    with pytest.raises(ValueError, match=r"of type Windkessel: expected Simulator\(task.system"):
        CurvePSSL(Windkessel(), BRIEF).learn(TASK, curves, curves)


def test_learn_on_a_class_is_refused(as_a_user):
    _, curves = measured(4)
    with pytest.raises(ValueError, match=r"learn got Curves as its task: .*METHOD\(...\)"):
        SupervisedCurves.learn(TASK, curves, curves)


def test_a_forward_model_at_another_speed_is_refused():
    """The same class and box; only a field of the system differs."""
    slow, fast = (LVAD(LeftHeart(), speed) for speed in (6_000.0, 12_000.0))
    simulator = Simulator(system=slow, box=SEVEN, channels=("V_lv",), phases=24)
    with pytest.raises(ValueError, match=r"; system\.speed is 6000, not 12000: make both"):
        CurveTask(fast, SEVEN, "V_lv", 0.2, samples=24).check_forward(simulator)
    again = CurveTask(LVAD(LeftHeart(), 6_000.0), SEVEN, "V_lv", 0.2, samples=24)
    again.check_forward(simulator)


@pytest.mark.slow
def test_channels_are_found_by_name():
    """A forward model of more outputs, in another order, serves as well."""
    box = Box.of(TwoCompartments.parameters, ("T", "k", "x_0"))
    task = CurveTask(TwoCompartments(), box, "x", 0.01, hidden="y", samples=24)
    patients = simulate_cohort(TwoCompartments(), box, box.sample(8, seed=0), phases=24)
    curves, found = task.measure(patients, 0), []
    for channels in (("x", "y"), ("y", "x")):
        forward = Simulator(TwoCompartments(), box, channels, 24)
        learnt = CurvePSSL(forward, BRIEF, width=8, depth=1).learn(task, curves, curves)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OutOfModelWarning)
            found.append(learnt.estimate(curves).recording.waveforms)
    assert found[0].channel_names == found[1].channel_names == ("x", "y")
    np.testing.assert_allclose(found[0].y, found[1].y, rtol=1e-4)
    with pytest.raises(ValueError, match=r"make it with channels=task\.channels"):
        CurvePSSL(Simulator(TwoCompartments(), box, "x", 24)).learn(task, curves, curves)


# --- least squares ----------------------------------------------------------------------------


@pytest.mark.parametrize("known", [True, False], ids=["period known", "period unknown"])
def test_least_squares_finds_the_parameters(known):
    """Of the shape alone, R and C/T are to be found, but not C and T."""
    task = TASK if known else dataclasses.replace(TASK, known=())
    theta, curves = measured(6, seed=4, known=known)
    learnt = LeastSquares(starts=3).learn(task, curves, curves, seed=0)
    got = learnt.estimate(curves)
    assert got.theta is not None and learnt.steps == 0
    np.testing.assert_allclose(got.theta[:, 1], theta[:, 1], rtol=0.02)
    time_constant = got.theta[:, 2] / got.theta[:, 0]
    np.testing.assert_allclose(time_constant, theta[:, 2] / theta[:, 0], rtol=0.05)
    np.testing.assert_allclose(got.recording.waveforms["P"], curves.values, atol=0.02)
    # Without noise, the rest of a curve is as good as all of it; and gaps spoil no other.
    hidden = np.random.default_rng(0).random(curves.values.shape) < 0.3
    values = np.where(hidden, np.float32(np.nan), curves.values)
    values[0] = curves.values[0]
    gaps = learnt.estimate(curves._replace(values=values))
    assert gaps.theta is not None and gaps.success.all()
    np.testing.assert_allclose(gaps.theta[0], got.theta[0], rtol=1e-5)
    np.testing.assert_allclose(gaps.theta[:, 1], theta[:, 1], rtol=0.02)
    time_constant = gaps.theta[:, 2] / gaps.theta[:, 0]
    np.testing.assert_allclose(time_constant, theta[:, 2] / theta[:, 0], rtol=0.05)


# --- Neural ODEs ------------------------------------------------------------------------------


def test_the_field_is_integrated():
    """dz/dφ = 2π cos 2πφ gives sin 2πφ, with Heun's error, which falls as h²."""

    def network(x):
        return 2 * jnp.pi * x[1:2]  # the first wave, a cosine

    exact = np.sin(2 * np.pi * np.arange(41) / 40)
    errors = []
    for n in (40, 80):
        z = DrivenField(network, 1).solve(jnp.zeros(1), jnp.zeros(0), n)
        errors.append(np.abs(z[:: n // 40, 0] - exact).max())
    assert errors[0] < 5e-3 and errors[1] < 0.3 * errors[0]


def test_without_harmonics_the_field_is_blind_to_time():
    assert phase_waves(jnp.array(0.3), 0).shape == (0,)
    field = DrivenField.create(2, 0, 0, 4, 1, key=jax.random.key(0))
    assert isinstance(field.network, eqx.nn.MLP) and field.network.in_size == 2


@pytest.mark.slow
def test_a_neural_ode_follows_its_patient():
    _, curves = measured(3, seed=4)
    learnt = NeuralODE(steps=300).learn(TASK, curves, curves, seed=0)
    got = learnt.estimate(curves)
    size = np.std(curves.values, axis=1)
    error = np.sqrt(np.mean((got.recording.waveforms["P"] - curves.values) ** 2, axis=1))
    assert np.all(error < 0.15 * size)


# --- learning from a cohort -------------------------------------------------------------------


# So brief a training leaves some patients unlike their curves.
@pytest.mark.filterwarnings("ignore::jaxtwin.methods.tasks.OutOfModelWarning")
@pytest.mark.parametrize(
    "name",
    ["ssl_simulator", "supervised", pytest.param("neural_ode_shared", marks=pytest.mark.slow)],
)
def test_what_was_learnt_serves_new_patients(name):
    config = TrainingConfig(300, 32, learning_rate=5e-3, evaluate_every=100)
    method = {
        "ssl_simulator": CurvePSSL(SIMULATOR, config, width=32, depth=2, slack=10.0),
        "supervised": SupervisedCurves(config, width=32, depth=2),
        "neural_ode_shared": ConditionedNeuralODE(width=16, config=config),
    }[name]
    _, training = measured(128, seed=1)
    _, validation = measured(32, seed=2)
    theta, test = measured(32, seed=3)
    learnt = method.learn(TASK, training, validation, seed=0)
    got = learnt.estimate(test)
    assert 0 < learnt.step_seconds < learnt.seconds and learnt.steps == 300
    assert training.maximum is not None
    spread = np.abs(test.maximum - np.median(training.maximum)).mean()
    assert np.abs(got.recording.maximum.P - test.maximum).mean() < 0.3 * spread
    if got.theta is not None:
        assert np.abs(got.theta[:, 1] - theta[:, 1]).mean() < 0.1


def test_training_that_was_cut_short_goes_on(tmp_path):
    _, curves = measured(8)
    method = METHODS["supervised"]()
    options = {"folder": tmp_path / "a", "progress": silent}
    whole = method.learn(TASK, curves, curves, **options)
    again = method.learn(TASK, curves, curves, resume=True, **options)
    for a, b in zip(
        jax.tree.leaves(whole.knowledge), jax.tree.leaves(again.knowledge), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    assert again.validation == whole.validation and set(whole.validation) == {"loss"}
    rows = (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows] == [3, 6]


def test_training_of_other_patients_is_not_gone_on_with(tmp_path):
    method = METHODS["supervised"]()
    method.learn(TASK, measured(8, seed=1)[1], measured(4)[1], folder=tmp_path)
    with pytest.raises(CheckpointError, match="patients is "):
        method.learn(TASK, measured(8, seed=2)[1], measured(4)[1], folder=tmp_path, resume=True)


def test_one_patient_alone_can_be_read():
    _, one = measured(1)
    encoder = CurveEncoder.create(one, 2, width=4, depth=1, key=jax.random.key(0))
    assert np.isfinite(encoder(jnp.asarray(one.known[0]), jnp.asarray(one.values[0]))).all()


@pytest.mark.parametrize("name", ["ssl_simulator", "supervised", "least_squares", "pinn"])
@pytest.mark.filterwarnings("ignore::jaxtwin.methods.tasks.OutOfModelWarning")
def test_a_curve_with_gaps_spoils_no_other(name):
    """Who has some samples gets an estimate; who has none does not, and is named."""
    _, curves = measured(4)
    learnt = METHODS[name]().learn(TASK, curves, curves, progress=silent)
    values = curves.values.copy()
    values[2, 3:5], values[1] = np.nan, np.nan
    with pytest.warns(UserWarning, match=r"nothing was measured in 1 of 4 patients \(patients 1\)"):
        got = learnt.estimate(curves._replace(values=values))
    assert got.success.tolist() == [True, False, True, True]
    assert np.isfinite(got.recording.maximum.P[2])
    whole = learnt.estimate(curves).recording.maximum.P
    np.testing.assert_allclose(got.recording.maximum.P[[0, 3]], whole[[0, 3]], rtol=1e-4)


@pytest.mark.parametrize(
    "name",
    [
        "pssl",
        "pinn",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("least_squares", "neural_ode_shared")),
    ],
)
@pytest.mark.filterwarnings("ignore::jaxtwin.methods.tasks.OutOfModelWarning")
def test_every_patient_may_have_its_own_phases(name):
    """Samples in another order are the same measurement; those of a fit may lie anywhere."""
    _, curves = measured(6)
    order = np.random.default_rng(0).permutation(24)
    phases = np.tile(order / 24, (6, 1))
    mixed = curves._replace(values=np.asarray(curves.values)[:, order], phases=phases)
    learn = METHODS[name]().learn
    found, same = (learn(TASK, c, c, progress=silent).estimate(c) for c in (curves, mixed))
    np.testing.assert_allclose(same.recording.maximum.P, found.recording.maximum.P, rtol=1e-2)
    if name == "least_squares":
        theta = BOX.sample(6, seed=0)
        phases = np.random.default_rng(1).uniform(0, 2, (6, 24))
        values = np.stack([windkessel_exact(t, f) for t, f in zip(theta, phases, strict=True)])
        own = curves._replace(values=values, phases=phases)
        got = LeastSquares(starts=3).learn(TASK).estimate(own)
        np.testing.assert_allclose(got.theta[:, 1:], theta[:, 1:], rtol=0.05)
    with pytest.raises(ValueError, match="at the phases of the task: leave out the phases"):
        Complete().learn(TASK).estimate(mixed)


class Complete(BoxMiddle):
    """A method that says nothing of gaps."""

    sees: ClassVar = Sees("curve", labels=False, cohort=False, physics=True)


def test_a_method_that_cannot_handle_gaps_warns_of_them():
    _, curves = measured(4)
    curves.values[2, 3:5] = np.nan
    with pytest.warns(UserWarning, match=r"1 of 4 curves .*\(patient 2: 2 of 24\), and this meth"):
        Complete().learn(TASK).estimate(curves)
    noise = np.full((4, 24), 0.1)
    with pytest.warns(UserWarning, match="ignores the noise of each sample"):
        Complete().learn(TASK).estimate(measured(4)[1]._replace(noise=noise))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        BoxMiddle().learn(TASK).estimate(curves)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("ssl_simulator", marks=pytest.mark.slow),
        "pssl",
        "supervised",
        pytest.param("neural_ode_shared", marks=pytest.mark.slow),
    ],
)
@pytest.mark.filterwarnings("ignore::jaxtwin.methods.tasks.OutOfModelWarning")
def test_gaps_can_be_learnt_from(name):
    task = dataclasses.replace(TASK, missing=0.3, noise=0.02)
    _, curves = measured(8, noise=0.02)
    hidden = np.random.default_rng(0).random(curves.values.shape) < 0.3
    curves = curves._replace(values=np.where(hidden, np.float32(np.nan), curves.values))
    learnt = METHODS[name]().learn(task, curves, curves, progress=silent)
    got = learnt.estimate(curves)
    assert np.isfinite(learnt.validation["loss"]) and got.success.all()
    arrays = jax.tree.leaves(eqx.filter(learnt.knowledge, eqx.is_array))
    assert all(np.isfinite(leaf).all() for leaf in arrays)
    curves.values[1] = np.nan
    with (
        pytest.warns(UserWarning, match="nothing was measured"),
        pytest.raises(ValueError, match=r"1 of 4 patients to learn from .*\(patients 1\): leave"),
    ):
        METHODS[name]().learn(task, curves.take(slice(4)), curves, progress=silent)


# --- unknown scale, and several channels ------------------------------------------------------


class Gauged(Windkessel):
    """With the highest pressure as a reading."""

    def readings(self):
        return {"highest": Reading("", lambda beat: beat.maximum.P)}


@pytest.mark.slow
def test_a_fit_of_relative_curves_does_not_depend_on_their_unit():
    """The shape gives RC/T; the scale, hence R, is only known from a number beside it."""
    task = CurveTask(
        *(Gauged(), BOX, "P", 0.002),
        samples=24,
        known="T",
        unknown_scale=True,
        beside=(Channel("highest", 0.01),),
    )
    theta, curves = measured(4, seed=4)
    number, none = np.array(curves.maximum)[:, None], np.full((4, 1), np.nan)
    learnt = LeastSquares(starts=2).learn(task)

    def fit(factor, number):
        values = np.float32(factor) * curves.values
        beside = {"highest": Curves(number)}
        return np.asarray(learnt.estimate(Curves(values, curves.known, beside=beside)).theta)

    got, again = (fit(factor, number) for factor in (1.0, 250.0))
    np.testing.assert_allclose(again, got, rtol=1e-3)
    np.testing.assert_allclose(got, theta, rtol=0.03)
    alone, again = (fit(factor, none) for factor in (1.0, 1e-3))
    np.testing.assert_allclose(again, alone, rtol=1e-3)
    lag, true = (t[:, 1] * t[:, 2] / t[:, 0] for t in (alone, theta))
    np.testing.assert_allclose(lag, true, rtol=0.03)
    assert np.abs(alone[:, 1] / theta[:, 1] - 1).max() > 0.1


@pytest.mark.filterwarnings("ignore::jaxtwin.methods.tasks.OutOfModelWarning")
def test_methods_say_what_they_ignore_and_need():
    task = dataclasses.replace(TASK, system=Gauged(), beside=(Channel("highest", 0.01),))
    _, curves = measured(3)
    curves = curves._replace(beside={"highest": Curves(np.array(curves.maximum)[:, None])})
    with pytest.warns(UserWarning, match="PINN ignores what was measured of highest"):
        learnt = METHODS["pinn"]().learn(task)
    assert learnt.ignored == ("highest",)
    with pytest.warns(OutOfModelWarning, match="Check the unit of P, that the"):
        assert learnt.estimate(curves).success.all()
    values = curves.values.copy()
    values[1] = np.nan
    with pytest.warns(UserWarning, match=r"nothing was measured in 1 of 3 patients \(patients 1\)"):
        alone = learnt.estimate(curves._replace(values=values))
    assert alone.success.tolist() == [True, False, True]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert LeastSquares().learn(task).ignored == ()
    with pytest.raises(ValueError, match="NeuralODE needs to know the scale"):
        NeuralODE().learn(dataclasses.replace(TASK, unknown_scale=True))


@pytest.mark.filterwarnings("ignore::jaxtwin.methods.tasks.OutOfModelWarning")
def test_a_network_learns_from_what_patients_have(tmp_path):
    """Some have no curve, others no number; and what was learnt is loaded."""
    task = dataclasses.replace(
        TASK, system=Gauged(), missing=0.2, beside=(Channel("highest", 0.01, missing=0.2),)
    )
    _, curves = measured(8)
    values, number = curves.values.copy(), np.array(curves.maximum)[:, None]
    values[1], number[2:4], values[5, :7] = np.nan, np.nan, np.nan
    curves = curves._replace(values=values, beside={"highest": Curves(number)})
    forward = Emulator.create(Gauged(), BOX, ("P",), 24, width=4, depth=1, key=jax.random.key(0))
    method = CurvePSSL(forward, BRIEF, width=8, depth=1)
    learnt = method.learn(task, curves, curves, progress=silent)
    got = learnt.estimate(curves)
    assert got.success.all() and np.isfinite(got.readings["highest"]).all()
    save_learnt(tmp_path, learnt)
    again = load_learnt(tmp_path, method, task).estimate(curves)
    np.testing.assert_array_equal(got.theta, again.theta)
    with pytest.raises(CheckpointError, match=r"task\.missing"):
        load_learnt(tmp_path, method, dataclasses.replace(task, missing=0.1))


# --- the pieces -------------------------------------------------------------------------------


def test_descent_minimises_and_patients_do_not_disturb_each_other():
    def fit(target):
        return descend(
            lambda x, key: jnp.sum((x - target) ** 2),
            jnp.zeros(2),
            steps=400,
            learning_rate=0.1,
            key=jax.random.key(0),
        )

    targets = jnp.array([[1.0, -2.0], [1e-3, 2e-3], [1e3, -1e3]])
    together = jax.vmap(fit)(targets)
    np.testing.assert_allclose(together[:2], targets[:2], atol=1e-3)
    np.testing.assert_allclose(together[0], fit(targets[0]), atol=1e-12)


def test_the_simulator_as_a_forward_model():
    """The numbers of simulate_cohort; its gradient is tested with the periodic orbit's."""
    forward = Simulator(system=LeftHeart(), box=SEVEN, channels=("V_lv", "P_ao"), phases=60)
    theta = SEVEN.sample(3, seed=0).astype(np.float32)
    got = forward.predict(theta)
    true = simulate_cohort(LeftHeart(), SEVEN, theta, phases=60).recording
    np.testing.assert_allclose(got.maximum.V_lv, true.maximum.V_lv, rtol=1e-5)
    np.testing.assert_allclose(got.waveforms.P_ao, true.waveforms.P_ao, rtol=1e-4)
