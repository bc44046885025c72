"""The protocol of methods: user-defined methods, common behaviour, saving and loading."""

import inspect
import re
import textwrap
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtwin.methods import base
from jaxtwin.methods.base import AbstractMethod, AbstractTrainedMethod, Estimate, Learnt, Sees
from jaxtwin.methods.least_squares import LeastSquares
from jaxtwin.methods.pinn import PINN
from jaxtwin.methods.saving import load_learnt, save_learnt
from jaxtwin.methods.scores import score_readings
from jaxtwin.methods.supervised_curves import SupervisedCurves
from jaxtwin.methods.tasks import Curves, CurveTask
from jaxtwin.physics.solution import Recording
from jaxtwin.training.checkpoint import CheckpointError
from jaxtwin.training.progress import silent
from tests.methods.test_methods import BRIEF, EVERY_METHOD, METHODS, TASK, measured

pytestmark = pytest.mark.filterwarnings("ignore::jaxtwin.methods.tasks.OutOfModelWarning")


def example():
    """The method that the protocol's documentation shows."""
    assert base.__doc__ is not None
    code = re.search(r"    class Nearest.*Learnt\(self, task, answer\)\n", base.__doc__, re.DOTALL)
    names = {
        "AbstractMethod": AbstractMethod,
        "ClassVar": ClassVar,
        "CurveTask": CurveTask,
        "Curves": Curves,
        "Learnt": Learnt,
        "Sees": Sees,
        "__name__": __name__,
    }
    exec(textwrap.dedent(code.group()), names)
    return names["Nearest"]


def test_a_method_of_ones_own():
    """As documented: a patient among those learnt from is found, in noise too."""
    _, training = measured(64, seed=1)
    method = example()()
    learnt = method.learn(TASK, training, training)
    test = training.take(slice(3, 9))
    got = learnt.estimate(test._replace(values=test.values + np.float32(1e-4)))
    np.testing.assert_array_equal(got.recording.maximum.P, test.maximum)
    assert got.theta is None and got.success.all() and (got.misfit < 0.2).all()
    with pytest.raises(ValueError, match="Nearest learns from a cohort: pass training"):
        method.learn(TASK)


class Answering(AbstractMethod[CurveTask, Curves]):
    """Gives whatever it is told to."""

    give: Any
    sees: ClassVar = Sees("curve", labels=False, cohort=False, physics=True)

    def prepare(self, task, training, validation, session) -> Any:
        if self.give is not None:
            return Learnt(self, task, lambda curves: self.give(task, curves), fits=False)
        return None


def middle(task, curves, n=None):
    theta = np.tile(
        np.asarray(task.box.from_unit(jnp.array([0.95, 0.5, 0.5]))), (n or len(curves.values), 1)
    )
    return Estimate(None, theta, np.ones(len(theta), bool), {})


@pytest.mark.parametrize(
    ("give", "words"),
    [
        (lambda task, curves: np.ones(3), "the answer of Answering is of type ndarray: expected"),
        (lambda task, curves: middle(task, curves, 2), r"4 patients has success of shape \(2,\)"),
        (
            lambda task, curves: middle(task, curves)._replace(theta=np.ones((4, 2))),
            r"has θ of shape \(4, 2\): expected \(4, 3\)",
        ),
        (
            lambda task, curves: middle(task, curves)._replace(
                recording=Recording(None, None, np.ones((1, 24)), np.ones(4))
            ),
            r"has recordings of shape \(1,\): expected \(4,\)",
        ),
    ],
)
def test_an_answer_of_another_form_is_refused(give, words, as_a_user):
    _, curves = measured(4)
    with pytest.raises(ValueError, match=words):
        Answering(give).learn(TASK).estimate(curves)


def test_columns_in_another_order_are_warned_of():
    _, curves = measured(4)
    assert Answering(middle).learn(TASK).estimate(curves).theta is not None

    def reversed_columns(task, curves):
        found = middle(task, curves)
        return found._replace(theta=found.theta[:, ::-1])

    with pytest.warns(UserWarning, match="4 of 4 patients have parameters outside the box"):
        Answering(reversed_columns).learn(TASK).estimate(curves)


def test_a_method_that_returns_nothing_is_named():
    with pytest.raises(ValueError, match=r"Answering\.prepare returned NoneType: .*`return`"):
        Answering(None).learn(TASK)


@EVERY_METHOD
def test_every_method_learns_alike(name, tmp_path, capsys, monkeypatch):
    """Without a folder nothing is written; with one, and silent, nothing is shown."""
    monkeypatch.chdir(tmp_path)
    method = METHODS[name]()
    assert list(inspect.signature(method.learn).parameters)[3:] == [
        "seed", "folder", "progress", "resume", "mesh",
    ]  # fmt: skip
    _, curves = measured(8)
    learnt = method.learn(TASK, curves, curves, progress=silent)
    first = learnt.estimate(curves)
    assert not list(tmp_path.iterdir()) and capsys.readouterr().err == ""
    kept = method.learn(TASK, curves, curves, folder=str(tmp_path / "run"), progress=silent)
    again = kept.estimate(curves)
    np.testing.assert_allclose(again.recording.maximum.P, first.recording.maximum.P, rtol=1e-5)
    assert (tmp_path / "run").exists() == method.sees.cohort == bool(learnt.validation)
    with pytest.raises(ValueError, match="resume=True without a folder"):
        method.learn(TASK, curves, curves, resume=True)
    with pytest.raises(ValueError, match=r"expected \[patient, 24\]"):
        learnt.estimate(curves._replace(values=curves.values[:, :9]))


def test_progress_is_shown(capsys):
    _, curves = measured(8)
    METHODS["supervised"]().learn(TASK, curves, curves)
    assert "supervised" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name",
    [
        "pssl",
        "ssl_simulator",
        "supervised",
        pytest.param("neural_ode_shared", marks=pytest.mark.slow),
    ],
)
def test_what_was_learnt_is_saved(name, tmp_path):
    _, curves = measured(8)
    method = METHODS[name]()
    learnt = method.learn(TASK, curves, curves, progress=silent)
    save_learnt(tmp_path / "learnt", learnt)
    assert not list(tmp_path.rglob("*.pkl"))
    loaded = load_learnt(tmp_path / "learnt", method, TASK)
    assert loaded.validation == learnt.validation and loaded.steps == 6
    for a, b in zip(
        *(jax.tree.leaves(one.estimate(curves)) for one in (learnt, loaded)), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    other = METHODS["pssl" if name == "supervised" else "supervised"]()
    with pytest.raises(CheckpointError, match="method is "):
        load_learnt(tmp_path / "learnt", other, TASK)
    noisier = CurveTask(TASK.system, TASK.box, "P", 0.005, samples=24, known="T", noise=0.1)
    with pytest.raises(CheckpointError, match=r"task\.noise is 0\.0?.*, not 0\.1"):
        load_learnt(tmp_path / "learnt", method, noisier)


def test_another_forward_model_or_size_is_not_loaded(tmp_path):
    _, curves = measured(8)
    method = METHODS["pssl"]()
    save_learnt(tmp_path / "learnt", method.learn(TASK, curves, curves, progress=silent))
    with pytest.raises(CheckpointError, match="made_with is Emulator, not Simulator"):
        load_learnt(tmp_path / "learnt", METHODS["ssl_simulator"](), TASK)
    wider = eqx.tree_at(lambda m: m.width, method, 9)
    with pytest.raises(CheckpointError, match="expected float32"):
        load_learnt(tmp_path / "learnt", wider, TASK)


def test_slips_of_methods_are_named(tmp_path, as_a_user):
    with pytest.raises(ValueError, match="a method of type CurveTask and a task of type"):
        load_learnt(tmp_path, TASK, METHODS["pssl"]())
    for make, words in (
        (lambda: LeastSquares(starts=0), "starts of LeastSquares is 0: expected at least 1"),
        (lambda: PINN(steps=-1), "steps of PINN is -1"),
    ):
        with pytest.raises(ValueError, match=words):
            make()
    _, training = measured(4, seed=1)
    with pytest.raises(ValueError, match="width 0 and depth 1: expected a width of at least 1"):
        SupervisedCurves(BRIEF, width=0, depth=1).learn(TASK, training, training)


def test_who_learns_nothing_has_nothing_to_save(tmp_path):
    with pytest.raises(ValueError, match="learns nothing to save"):
        save_learnt(tmp_path / "learnt", METHODS["least_squares"]().learn(TASK))


def test_only_trained_methods_can_be_saved(tmp_path):
    _, curves = measured(4)
    learnt = example()().learn(TASK, curves, curves)
    with pytest.raises(ValueError, match="Nearest is no AbstractTrainedMethod, and only they"):
        save_learnt(tmp_path / "learnt", learnt)


class Line(AbstractTrainedMethod[CurveTask, Curves]):
    """A line from the mean of a curve to its extremes: arrays of one's own, without a network."""

    sees: ClassVar = Sees("curve", labels=True, cohort=True, physics=False)

    def prepare(self, task, training, validation, session):
        inputs = np.stack([training.values.mean(axis=1), np.ones(len(training.values))], axis=1)
        labels = np.stack([np.asarray(training.maximum), np.asarray(training.minimum)], axis=1)
        line = np.linalg.lstsq(inputs, labels)[0]
        return Learnt(self, task, self.ready(task, line), line)

    def untrained(self, task):
        return np.zeros((2, 2))

    def ready(self, task, knowledge):
        def answer(curves):
            slopes, offsets = np.asarray(knowledge)  # JAX's, once they are loaded
            maximum, minimum = np.outer(curves.values.mean(axis=1), slopes).T + offsets[:, None]
            return task.estimate({}, maximum=maximum, minimum=minimum)

        return answer


def test_a_trained_method_of_ones_own_is_saved(tmp_path):
    _, curves = measured(8)
    learnt = Line().learn(TASK, curves, curves)
    save_learnt(tmp_path / "learnt", learnt)
    again = load_learnt(tmp_path / "learnt", Line(), TASK)
    found, loaded = (one.estimate(curves).recording.maximum.P for one in (learnt, again))
    np.testing.assert_allclose(found, loaded, rtol=1e-6)


def test_readings_are_scored_by_name():
    found = TASK.estimate({}, maximum=np.array([1.0, jnp.nan]), minimum=np.zeros(2))
    found = found._replace(readings={"a": np.array([1.0, 2.0]), "b": np.zeros(2)})
    scores = score_readings(found, {"a": np.array([3.0, 3.0])})
    np.testing.assert_array_equal(scores["a_error"], [2.0, np.nan])
    assert set(scores) == {"a_error"}
