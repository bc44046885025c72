"""Tasks for curves: accepted and rejected inputs, and warnings about poor fits."""

import dataclasses
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxtwin.cohorts.simulate import simulate_cohort
from jaxtwin.forward.emulator import Emulator
from jaxtwin.forward.simulator import Simulator
from jaxtwin.methods.clips import ClipTask
from jaxtwin.methods.least_squares import LeastSquares
from jaxtwin.methods.pinn import PINN
from jaxtwin.methods.supervised_curves import SupervisedCurves
from jaxtwin.methods.tasks import Curves, CurveTask, OutOfModelWarning
from jaxtwin.models.left_heart import SEVEN, LeftHeart
from jaxtwin.models.lvad import LVAD
from jaxtwin.parameters import Box, NormalPrior
from tests.systems import Windkessel

BOX = Box.of(Windkessel.parameters, ("T", "R", "C"), {"R": (0.4, 2.0), "C": (0.3, 2.0)})
TASK = CurveTask(Windkessel(), BOX, "P", 0.005, samples=24, known="T")
HEART = CurveTask(LeftHeart(), SEVEN, "V_lv", 0.2, "P_lv", known="T_c")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"known": ("T", "R", "C")}, "and not all"),
        ({"known": ("Q",)}, "some of the free ones, T, R, C"),
        ({"known": ("T", "T")}, "each once"),
        ({"noise": -1.0}, "noise -1.0"),
        ({"noise": float("nan")}, "noise nan"),
        ({"samples": 1}, "1 samples"),
        ({"samples": 50}, "expected a divisor of 240"),
        ({"hidden": "Q"}, "all out of P"),
        ({"hidden": "P"}, "each output once"),
    ],
)
def test_impossible_tasks_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(TASK, **change)


@pytest.mark.parametrize(
    "make",
    [
        lambda system, box: CurveTask(system, box, "V_lv", 0.2),
        ClipTask,
        lambda system, box: Simulator(system, box, "V_lv"),
        lambda system, box: Emulator.create(system, box, "V_lv", 80, key=jax.random.key(0)),
    ],
    ids=["curves", "clips", "simulator", "emulator"],
)
def test_a_box_of_another_model_is_refused(make):
    with pytest.raises(ValueError, match="a box of LeakyParameters for LeftHeart, whose"):
        make(LeftHeart(), BOX)


def test_one_name_is_one_name():
    """Not the letters it is made of."""
    assert HEART.hidden == ("P_lv",) and HEART.known == ("T_c",)
    assert CurveTask(LeftHeart(), SEVEN, "V_lv", 0.2, ("P_lv",), known=("T_c",)) == HEART


def test_known_parameters_are_put_in_their_places():
    raw = jnp.array([3.0, 0.0, 0.0])
    theta = TASK.theta(raw, jnp.array([1.25]))
    np.testing.assert_allclose(theta, [1.25, 1.2, 1.15])
    gradient = jax.jacobian(TASK.theta)(raw, jnp.array([1.25]))
    assert np.all(gradient[:, 0] == 0) and gradient[1, 1] > 0


def test_the_prior_on_raw_parameters_is_nearly_uniform_on_the_box():
    """Its density, carried over to the box, is even to a tenth over the middle three quarters."""
    u = np.linspace(0.125, 0.875, 31)
    raw = np.log(u / (1 - u))
    log_density = [
        -float(TASK.surprise(jnp.array([r]), jnp.zeros(0))) - np.log(v * (1 - v))
        for r, v in zip(raw, u, strict=True)
    ]
    assert np.ptp(log_density) < 0.35


def test_a_prior_judges_the_unknown_parameters_beside_the_known_ones():
    random = np.random.default_rng(0)
    raw = random.normal(size=(500, 1)) + 0.3 * random.normal(size=(500, 3))
    task = dataclasses.replace(
        TASK, prior=NormalPrior.of(BOX, np.asarray(BOX.bound(jnp.asarray(raw))))
    )
    high = BOX.bound(jnp.full(3, 1.0))[:1]

    def best(known):
        surprise = jax.jit(lambda r: task.surprise(jnp.array([5.0, r, r]), known))
        return min(np.linspace(-2, 2, 41), key=surprise)

    assert best(high) == pytest.approx(0.9, abs=0.15)
    assert best(BOX.bound(jnp.full(3, -1.0))[:1]) == pytest.approx(-0.9, abs=0.15)
    check_grads(
        lambda r: task.surprise(jnp.asarray(r), high), (jnp.full(3, 0.3),), order=1, modes=["rev"]
    )
    # On a face of the box the known one is at infinity.
    assert np.isfinite(task.surprise(jnp.zeros(3), jnp.array([BOX.low[0]])))


def test_a_fit_has_the_most_probable_of_the_patients_who_would_be_measured_alike():
    """Of a pressure far noisier than its size, the prior alone tells what R and C are."""
    task = dataclasses.replace(TASK, noise=1e3)
    theta = np.array([[1.5, 1.6, 0.6]], np.float32)
    random = np.random.default_rng(0)
    patients = theta * np.exp(random.normal(0, 0.05, size=(40, 3))).astype(np.float32)
    told = dataclasses.replace(task, prior=NormalPrior.of(BOX, patients))
    cohort = simulate_cohort(Windkessel(), BOX, theta, phases=24)
    measured = task.measure(cohort, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutOfModelWarning)
        found = LeastSquares(starts=2).learn(told).estimate(measured).theta
        even = LeastSquares(starts=2).learn(task).estimate(measured).theta
    assert found is not None and even is not None
    np.testing.assert_allclose(found, theta, rtol=0.05)
    assert abs(even[0, 1] - 1.6) > 0.2


def test_a_prior_of_another_box_is_refused():
    prior = NormalPrior((0.0,) * 2, ((1.0, 0.0), (0.0, 1.0)))
    with pytest.raises(ValueError, match="a prior of 2 parameters for a box of T, R, C"):
        dataclasses.replace(TASK, prior=prior)


# --- measurements -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hearts():
    return simulate_cohort(LeftHeart(), SEVEN, SEVEN.sample(4, seed=1), phases=60)


def test_a_seed_is_a_generator(hearts):
    noisy = dataclasses.replace(HEART, noise=3.0)
    a, b = noisy.measure(hearts, 0), noisy.measure(hearts, np.random.default_rng(0))
    np.testing.assert_array_equal(a.values, b.values)
    assert not np.array_equal(a.values, noisy.measure(hearts, 1).values)


def test_patients_of_something_else_are_not_measured(hearts):
    with pytest.raises(ValueError, match="patients of LeftHeart for a task of LVAD: system"):
        dataclasses.replace(HEART, system=LVAD(LeftHeart(), 6_000.0)).measure(hearts, 0)
    with pytest.raises(ValueError, match="with phases=30"):
        dataclasses.replace(HEART, samples=30).measure(hearts, 0)
    wider = Box.of(LeftHeart.parameters, SEVEN.names, {"V_d": (0.0, 30.0)})
    with pytest.raises(ValueError, match="in the task's box"):
        dataclasses.replace(HEART, box=wider).measure(hearts, 0)
    failed = dataclasses.replace(hearts, success=np.array([True, False, True, True]))
    with pytest.raises(ValueError, match="1 of 4 simulations failed"):
        HEART.measure(failed, 0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda c: c._replace(known=1000 * c.known),
            r"known T_c of patient 0 is .* to \S+ s \(heart period\)",
        ),
        (lambda c: c._replace(known=np.nan * c.known), "known T_c of patient 0 is nan"),
        (lambda c: c._replace(known=None), "one column for each of T_c"),
        (lambda c: c._replace(known=c.known[:2]), "one row for each of 4 curves"),
        (lambda c: c._replace(values=c.values[:, :50]), r"\(4, 50\): expected \[patient, 60\]"),
        (lambda c: c._replace(values=c.values[0]), r"values\[None\]"),
        (lambda c: c._replace(maximum=c.maximum[:1]), r"maximum of shape \(1,\)"),
    ],
    ids=["ms", "nan", "nothing known", "too few", "50 samples", "no batch", "labels"],
)
def test_curves_of_another_kind_are_named(hearts, change, words):
    curves = HEART.measure(hearts, 0)
    with pytest.raises(ValueError, match=words):
        LeastSquares().learn(HEART).estimate(change(curves))


def test_labels_are_asked_for_where_they_are_needed():
    values, known = np.ones((6, 24)), np.ones((6, 1))
    assert TASK.check(Curves(values, known)).maximum is None
    with pytest.raises(ValueError, match="no labels, and this method learns from them"):
        SupervisedCurves().learn(TASK, Curves(values, known), Curves(values, known))


@pytest.mark.parametrize(
    "wrong", [np.ones((2, 24)), simulate_cohort], ids=["array", "something else"]
)
def test_what_is_no_curves_is_refused(wrong, as_a_user):
    with pytest.raises(ValueError, match=r"of type \w+: expected Curves\(values, known\); task.me"):
        TASK.check(wrong)


def test_a_recording_of_all_outputs_makes_an_estimate(hearts):
    made = HEART.estimate_from(hearts.recording, hearts.theta, hearts.success)
    assert made.recording.waveforms.channel_names == ("V_lv", "P_lv")
    assert "EF" in made.readings and made.to_dataset(HEART).sizes["patient"] == 4
    curves = HEART.measure(hearts, 0)
    assert (HEART.judge(curves, made).misfit < 0.01).all()


def test_an_answer_that_is_not_finite_has_failed():
    curve = np.ones((3, 24))
    curve[1, 2] = np.nan
    made = TASK.estimate({"P": curve}, maximum=np.array([1.0, 1, np.inf]), minimum=np.ones(3))
    assert made.success.tolist() == [True, False, False]


# --- misfits ----------------------------------------------------------------------------------


def found_at(task, patients, curves):
    """The estimate of a method that finds the truth."""
    own = {name: getattr(patients.recording.waveforms, name) for name in task.channels}
    return task.judge(task.check(curves), task.estimate(own, theta=patients.theta))


@pytest.mark.parametrize("noise", [0.0, 1.0, 3.0, 6.0])
def test_a_good_fit_is_no_reason_to_warn(noise):
    task = dataclasses.replace(HEART, noise=noise)
    patients = simulate_cohort(LeftHeart(), SEVEN, SEVEN.sample(128, seed=2), phases=60)
    got = found_at(task, patients, task.measure(patients, 0))
    assert got.misfit.max() < 1.2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "noise"),
    [(lambda v: v / 1000, 0.0), (lambda v: np.roll(v, -24, axis=1), 6.0)],
    ids=["litres", "from end systole on"],
)
def test_a_misfit_is_warned_of_for_each_patient(change, noise):
    """A fit through the simulator, of a curve that is not of its kind beside one that is."""
    task = dataclasses.replace(HEART, noise=noise)
    theta = np.array([[0.9, 140.0, 2.5, 0.05, 0.01, 0.05, 10.0]] * 2)
    curves = task.measure(simulate_cohort(LeftHeart(), SEVEN, theta, phases=60), 0)
    values = np.stack([curves.values[0], change(curves.values)[1]])
    learnt = LeastSquares(starts=4, iterations=15).learn(task)
    with pytest.warns(OutOfModelWarning, match=r"1 of 2 curves.*patient 1: "):
        got = learnt.estimate(curves._replace(values=values))
    assert got.misfit[0] < 1 < 1.5 < got.misfit[1] and got.success.all()


def test_extremes_alone_are_judged():
    values = np.tile(np.linspace(0, 1, 24), (2, 1))
    curves = Curves(values, np.ones((2, 1)))
    task = dataclasses.replace(TASK, noise=0.1)
    good = task.estimate({}, maximum=np.array([1.1, 1.0]), minimum=np.zeros(2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (task.judge(curves, good).misfit < 1).all()
    bad = task.estimate({}, maximum=np.array([1.0, 3.0]), minimum=np.zeros(2))
    with pytest.warns(OutOfModelWarning, match="1 of 2"):
        task.judge(curves, bad)


def test_a_curve_is_comparable_wherever_it_starts():
    task = CurveTask(LeftHeart(), SEVEN, "V_lv", 0.2, samples=60, unknown_start=True)
    phase = np.arange(60) / 60
    curve = 100 + 40 * np.cos(2 * np.pi * phase + 0.7) + 9 * np.sin(6 * np.pi * phase)
    same = [task.comparable(jnp.asarray(np.roll(curve, k))) for k in (0, 7, 31)]
    np.testing.assert_allclose(same[1], same[0], atol=1e-9)
    np.testing.assert_allclose(same[2], same[0], atol=1e-9)
    first = np.fft.rfft(same[0])[1]
    assert first.real > 0 and abs(first.imag) < 1e-9
    np.testing.assert_allclose(
        np.sort(np.abs(np.fft.rfft(same[0]))), np.sort(np.abs(np.fft.rfft(curve))), atol=1e-9
    )
    known = dataclasses.replace(task, unknown_start=False)
    np.testing.assert_array_equal(known.comparable(jnp.asarray(curve)), curve)
    assert known.describe() == {k: v for k, v in task.describe().items() if k != "unknown_start"}
    check_grads(
        lambda x: task.comparable(jnp.asarray(x)),
        (jnp.asarray(curve),),
        order=1,
        modes=["fwd", "rev"],
    )


def test_methods_that_need_the_start_say_so():
    task = CurveTask(LeftHeart(), SEVEN, "V_lv", 0.2, samples=60, unknown_start=True)
    with pytest.raises(ValueError, match="PINN needs to know where in the beat"):
        PINN().learn(task)


@pytest.mark.slow
@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_least_squares_fits_a_curve_of_unknown_start(missing):
    task = CurveTask(
        LeftHeart(), SEVEN, "V_lv", 0.2, samples=60, known=("T_c",), unknown_start=True
    )
    theta = np.array([[0.9, 150.0, 2.0, 0.05, 0.01, 0.005, 12.0]], np.float32)
    patient = simulate_cohort(LeftHeart(), SEVEN, theta, phases=60)
    curves = task.measure(patient, 0)
    values = np.roll(patient.recording.waveforms.V_lv, 17, axis=1)
    hidden = np.random.default_rng(0).random(values.shape) < missing
    turned = curves._replace(values=np.where(hidden, np.nan, values))
    found = LeastSquares(starts=2).learn(task).estimate(turned)
    true = patient.read(["EDV", "EF"])
    assert found.readings["EDV"] == pytest.approx(true["EDV"], abs=1.0)
    assert found.readings["EF"] == pytest.approx(true["EF"], abs=1.0)
