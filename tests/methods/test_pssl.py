"""P-SSL: an encoder learns θ from volumes alone, through a frozen emulator."""

import dataclasses
import functools
import itertools
import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtwin.data import echonet
from jaxtwin.data.base import ClipFormat
from jaxtwin.data.cache import ClipCache
from jaxtwin.data.echonet import Record
from jaxtwin.data.loading import Batch
from jaxtwin.data.vitals import Vitals
from jaxtwin.encoders.create import create_encoder
from jaxtwin.forward.emulator import Emulator
from jaxtwin.methods import clips as clip_measurements
from jaxtwin.methods.clip_training import discrepancy, head, predict, shift
from jaxtwin.methods.clips import Clips, ClipTask
from jaxtwin.methods.pssl_clips import PSSL, load_pssl
from jaxtwin.methods.saving import load_learnt, save_learnt
from jaxtwin.methods.supervised_clips import SupervisedClips
from jaxtwin.models.left_heart import LeftHeart, LeftHeartParameters
from jaxtwin.parameters import Box
from jaxtwin.training.checkpoint import CheckpointError
from jaxtwin.training.loop import TrainingConfig
from jaxtwin.training.progress import silent
from jaxtwin.twin import build_twin

FORMAT = ClipFormat(frames=8, size=32)
BOX = Box.of(LeftHeartParameters, ("V_0", "E_max", "V_d"))
# Long enough that it learns whichever way a processor rounds.
CONFIG = TrainingConfig(120, 8, learning_rate=1e-3, evaluate_every=60)


@pytest.fixture(scope="module")
def emulator():
    """Linear in the place in the box: ESV/V_s falls with contractility."""
    make = functools.partial(Emulator.create, LeftHeart(), BOX, ("V_lv",), 2, width=1, depth=0)
    emulator = eqx.filter_eval_shape(make, key=jax.random.key(0))
    weight = np.zeros((4, 3), np.float32)
    weight[1, 1] = -0.1
    return eqx.tree_at(
        lambda e: (e.network.layers[0].weight, e.network.layers[0].bias, e.mean, e.spread),
        emulator,
        (
            jnp.asarray(weight),
            jnp.asarray([0.4, 0.2, 0.3, 0.3], jnp.float32),
            jnp.zeros(4, jnp.float32),
            jnp.ones(4, jnp.float32),
        ),
    )


@pytest.fixture(scope="module")
def cache(emulator, tmp_path_factory):
    """Beating discs: the largest area shows EDV, the smallest ESV. Eight to train on."""
    folder = tmp_path_factory.mktemp("clips")
    theta = jnp.asarray(BOX.sample(16, seed=0))
    EDV, ESV = (
        np.asarray(leaf) for leaf in jax.vmap(lambda t: emulator.read(t, ("EDV", "ESV")))(theta)
    )
    rows, columns = np.mgrid[:32, :32] - 15.5
    beat = (1 + np.cos(2 * np.pi * np.arange(10) / 8)) / 2
    clips = []
    for i in range(16):
        area = 2 * (ESV[i] + (EDV[i] - ESV[i]) * beat)[:, None, None]
        clips.append(200 / (1 + np.exp((np.pi * (rows**2 + columns**2) - area) / 40)))
    records = tuple(
        Record(
            f"c{i}", folder / f"c{i}.avi", float(EDV[i]), float(ESV[i]), 50.0, 16.0, 10,
            "TRAIN" if i < 8 else "VAL",
        )
        for i in range(16)
    )  # fmt: skip
    return ClipCache(records, (), FORMAT, [clip.astype(np.uint8) for clip in clips])


@pytest.fixture(scope="module")
def task():
    return ClipTask(LeftHeart(), BOX, FORMAT)


def first_weights(format, size, *, beside, key):
    """From NumPy: JAX's initialisers take their time to compile."""
    make = functools.partial(create_encoder, "tubelet", format, size, beside=beside, key=key)
    random = np.random.default_rng(0)

    def weights(leaf):
        if not isinstance(leaf, jax.ShapeDtypeStruct):
            return leaf
        scale = np.sqrt(leaf.shape[-1] / leaf.size)
        return jnp.asarray(scale * random.normal(size=leaf.shape), leaf.dtype)

    return jax.tree.map(weights, eqx.filter_eval_shape(make))


@pytest.fixture(scope="module")
def method(emulator):
    return PSSL(forward=emulator, encoder=first_weights, config=CONFIG)


def split(cache, name):
    return Clips.from_split(cache, name)


def learn(method, task, cache, folder=None, **options):
    parts = split(cache, "TRAIN"), split(cache, "VAL")
    return method.learn(task, *parts, folder=folder, progress=silent, **options)


@pytest.fixture(scope="module")
def learnt(method, task, cache, tmp_path_factory):
    """Trained where reading θ raises: only measurements may be looked at."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(echonet, "read_theta", lambda *_: pytest.fail("θ must not be seen"))
        return folder, learn(method, task, cache, folder)


def arrays(tree):
    return jax.tree.leaves(eqx.filter(tree, eqx.is_array))


def volumes(EDV, ESV):
    return EDV, ESV, 100 * (EDV - ESV) / EDV


# --- what is measured -------------------------------------------------------------------------


def test_measured(cache):
    """EF is that of the volumes; the table's rounded one is not read."""
    clips = Clips(cache, np.array([3, 1]))
    found, records = clips.measured(), [cache.records[3], cache.records[1]]
    assert len(clips) == 2 and clips.records == records
    np.testing.assert_allclose(found["EDV"], [r.edv for r in records], rtol=1e-6)
    np.testing.assert_allclose(
        found["EF"], [100 * (r.edv - r.esv) / r.edv for r in records], rtol=1e-5
    )
    assert np.isnan(found["systolic"]).all()


def test_clips_of_another_kind_are_named(as_a_user, cache, task):
    with pytest.raises(ValueError, match=r"make the task with format=cache\.format"):
        dataclasses.replace(task, format=ClipFormat()).check(split(cache, "VAL"))
    with pytest.raises(ValueError, match=r"for one clip, clip\[None\]"):
        Clips.from_arrays(np.zeros((8, 32, 32), np.uint8), FORMAT)
    with pytest.raises(ValueError, match=r"clips of type float64: .* from 0 to 255 as uint8"):
        Clips.from_arrays(np.zeros((2, 8, 32, 32)), FORMAT)
    alone = Clips.from_arrays(np.zeros((2, 8, 32, 32), np.uint8), FORMAT)
    assert task.check(alone) is alone
    with pytest.raises(ValueError, match="2 of 2 clips have no EDV and ESV"):
        task.check(alone, labels=True)
    with pytest.raises(ValueError, match="1 vitals for 2 clips"):
        Clips.from_arrays(np.zeros((2, 8, 32, 32), np.uint8), FORMAT, [Vitals()])
    with pytest.raises(ValueError, match="vitals pulse: expected some of period"):
        ClipTask(LeftHeart(), BOX, FORMAT, "pulse")
    assert ClipTask(LeftHeart(), BOX, FORMAT, "period").vitals == ("period",)


# --- the loss ---------------------------------------------------------------------------------

SPREAD = (jnp.array(20.0), jnp.array(10.0), jnp.array(5.0))


def test_no_discrepancy_at_the_truth():
    true = volumes(jnp.array([100.0, 80.0]), jnp.array([40.0, 60.0]))
    assert discrepancy(true, true, SPREAD) == 0
    gradient = jax.grad(lambda got: discrepancy(got, true, SPREAD))(true)
    assert all(np.all(leaf == 0) for leaf in gradient)


@pytest.mark.parametrize(("error", "loss"), [(0.1, 0.02), (-0.1, 0.02), (0.25, 0.125), (2, 1.875)])
def test_discrepancy_is_quadratic_then_linear(error, loss):
    """error²/(2·¼) within a quarter of the spread, |error| − ⅛ beyond."""
    true = volumes(jnp.array([100.0]), jnp.array([40.0]))
    got = tuple(t + error * s for t, s in zip(true, SPREAD, strict=True))
    assert float(discrepancy(got, true, SPREAD)) == pytest.approx(loss, rel=1e-6)
    slope = jax.grad(lambda EDV: discrepancy((EDV, *got[1:]), true, SPREAD))(got[0])
    assert float(slope[0]) == pytest.approx(np.clip(4 * error, -1, 1) / 20 / 3, rel=1e-6)


def test_shift():
    clip = np.zeros((2, 32, 32), np.uint8)
    clip[:, 15:17, 15:17] = 7
    keys = jax.random.split(jax.random.key(0), 200)
    moved = np.asarray(jax.vmap(lambda key: shift(jnp.asarray(clip), key))(keys))
    assert moved.dtype == np.uint8 and moved.shape == (200, 2, 32, 32)
    assert np.all(moved.sum(axis=(2, 3)) == 28)
    assert np.array_equal(moved[:, 0], moved[:, 1])  # all frames alike
    for axis in (2, 3):
        first = moved.any(axis=(1, 5 - axis)).argmax(axis=1)
        assert set(first) == set(range(9, 22))  # up to six pixels either way


# --- training ---------------------------------------------------------------------------------


def loss_of(method, task, knowledge, clips):
    got, true = predict(method, task, knowledge, clips).readings, clips.measured()
    got, true = ([values[name] for name in task.measured] for values in (got, true))
    return float(discrepancy(got, true, [jnp.asarray(values.std()) for values in true]))


def test_it_learns(method, task, cache, learnt):
    folder, result = learnt
    start = eqx.tree_at(
        lambda k: k.encoder,
        result.knowledge,
        first_weights(FORMAT, 3, beside=0, key=jax.random.key(0)),
    )
    training = split(cache, "TRAIN")
    before, after = (loss_of(method, task, k, training) for k in (start, result.knowledge))
    assert after < 0.4 * before
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [60, 120]
    assert rows[1]["train_loss"] < rows[0]["train_loss"]
    assert set(result.validation) == {"loss", "EDV_error", "ESV_error", "EF_error"}
    for a, b in zip(arrays(start.encoder), arrays(result.knowledge.encoder), strict=True):
        assert b.dtype == jnp.float32 and not np.array_equal(a, b)


def test_validation_errors_are_those_of_the_estimates(cache, learnt):
    _, result = learnt
    validation = split(cache, "VAL")
    got, true = result.estimate(validation).readings, validation.measured()
    for name in ("EDV", "ESV", "EF"):
        error = np.abs(got[name] - true[name]).mean()
        assert result.validation[f"{name}_error"] == pytest.approx(error, rel=1e-5)


def test_no_parameter_and_no_listed_ejection_fraction_is_read(cache):
    """What reaches the loss is a clip and two volumes; the table's rounded EF does not."""
    assert Batch._fields == ("clip", "edv", "esv", "vitals")
    assert not {field.name for field in dataclasses.fields(Record)} & set(BOX.names)
    records = tuple(dataclasses.replace(record, ef=1.0) for record in cache.records)
    other = dataclasses.replace(cache, records=records)
    numbers = [split(c, "VAL").measured() for c in (cache, other)]
    assert all(
        np.array_equal(a, b, equal_nan=True)
        for a, b in zip(*map(dict.values, numbers), strict=True)
    )


@pytest.mark.slow
def test_a_resumed_training_is_that_of_an_unbroken_one(
    method, task, cache, learnt, tmp_path, monkeypatch
):
    folder, result = learnt
    draw = clip_measurements.batches

    def until(*arguments):
        yield from itertools.islice(draw(*arguments), 80)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(clip_measurements, "batches", until)
        learn(method, task, cache, tmp_path)
    again = learn(method, task, cache, tmp_path, resume=True)
    for a, b in zip(arrays(again.knowledge), arrays(result.knowledge), strict=True):
        assert np.array_equal(a, b)
    assert (tmp_path / "metrics.jsonl").read_text() == (folder / "metrics.jsonl").read_text()


def test_other_clips_are_not_gone_on_with(method, task, cache, learnt):
    records = (dataclasses.replace(cache.records[0], edv=99.0), *cache.records[1:])
    with pytest.raises(CheckpointError, match="clips is "):
        learn(method, task, dataclasses.replace(cache, records=records), learnt[0], resume=True)


# --- use --------------------------------------------------------------------------------------


def test_estimates(task, cache, learnt):
    _, result = learnt
    clips = np.stack([cache.clip(i)[:8] for i in range(8)])
    got = result.estimate(Clips.from_arrays(clips, FORMAT))
    assert got.theta.shape == (8, 3) and got.success.all()
    assert np.all(BOX.contains(jnp.asarray(got.theta)))
    EDV, ESV, EF = (got.readings[name] for name in ("EDV", "ESV", "EF"))
    np.testing.assert_allclose(EF, 100 * (EDV - ESV) / EDV, rtol=1e-5)
    np.testing.assert_allclose(got.recording.maximum.V_lv, EDV)
    encoder, clip = result.knowledge.encoder, jnp.asarray(clips[3])
    raw = head(encoder, task, encoder.features(clip), jnp.zeros(3))
    np.testing.assert_allclose(BOX.bound(raw), got.theta[3], rtol=1e-4)
    order = np.array([5, 2, 7, 0, 1, 3, 4, 6, 6, 4, 3, 1, 0, 7, 2, 5])
    cached = result.estimate(Clips(cache, order))
    np.testing.assert_allclose(cached.theta, got.theta[order], rtol=1e-4)
    np.testing.assert_allclose(cached.features, got.features[order], rtol=1e-4, atol=1e-5)


def test_clips_of_the_kind_are_familiar(cache, learnt):
    _, result = learnt
    familiarity = result.knowledge.familiarity
    features = result.estimate(split(cache, "VAL")).features
    assert np.mean(familiarity.recognises(jnp.asarray(features))) >= 7 / 8
    noise = np.random.default_rng(0).integers(0, 255, (8, 8, 32, 32)).astype(np.uint8)
    features = result.estimate(Clips.from_arrays(noise, FORMAT)).features
    assert not np.any(familiarity.recognises(jnp.asarray(features)))


def test_save_and_load(cache, emulator, learnt, tmp_path):
    _, result = learnt
    save_learnt(tmp_path / "encoder", result)
    with pytest.raises(ValueError, match="none of jaxtwin's: pass the function"):
        load_pssl(tmp_path / "encoder", emulator)
    loaded = load_pssl(tmp_path / "encoder", emulator, first_weights)
    assert loaded.validation == result.validation and loaded.task == result.task
    a, b = (one.estimate(split(cache, "VAL")) for one in (result, loaded))
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)
    for x, y in zip(arrays(loaded.knowledge), arrays(result.knowledge), strict=True):
        assert np.array_equal(x, y)


@pytest.mark.parametrize(
    "box",
    [
        Box.of(LeftHeartParameters, ("V_0", "E_max", "V_d"), {"V_0": (0.0, 281.0)}),
        Box.of(LeftHeartParameters, ("V_0", "E_max")),
        Box.of(LeftHeartParameters, ("E_max", "V_0", "V_d")),
    ],
    ids=["wider", "fewer", "in another order"],
)
def test_an_emulator_of_another_box(task, learnt, tmp_path, box):
    save_learnt(tmp_path / "encoder", learnt[1])
    other = Emulator.create(LeftHeart(), box, ("V_lv",), 2, depth=0, key=jax.random.key(0))
    with pytest.raises(CheckpointError, match="was trained in the box"):
        load_pssl(tmp_path / "encoder", other, first_weights)
    with pytest.raises(ValueError, match="make both with the same system and box"):
        PSSL(forward=other).size(task)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda i, record: dataclasses.replace(record, split="TRAIN"), "and 0 VAL clips"),
        (
            lambda i, record: dataclasses.replace(record, split="VAL" if i else "TRAIN"),
            "1 TRAIN and",
        ),
        (lambda i, record: dataclasses.replace(record, edv=100.0, esv=50.0), "nothing to learn"),
    ],
    ids=["no validation", "one clip to train on", "all alike"],
)
def test_what_cannot_be_learnt_is_refused_at_once(method, task, cache, change, words):
    records = tuple(change(i, record) for i, record in enumerate(cache.records))
    with pytest.raises(ValueError, match=words):
        learn(method, task, dataclasses.replace(cache, records=records))


# --- supervised -------------------------------------------------------------------------------


def test_supervised_regression_of_clips(task, cache, tmp_path, as_a_user):
    """The same protocol, without physics: three numbers, saved and loaded."""
    method = SupervisedClips(encoder=first_weights, config=dataclasses.replace(CONFIG, steps=60))
    result = learn(method, task, cache)
    got = result.estimate(split(cache, "VAL"))
    assert got.theta is None and got.recording is None and got.success.all()
    assert set(got.readings) == {"EDV", "ESV", "EF"}
    save_learnt(tmp_path / "learnt", result)
    again = load_learnt(tmp_path / "learnt", method, task).estimate(split(cache, "VAL"))
    np.testing.assert_array_equal(got.readings["EF"], again.readings["EF"])
    with pytest.raises(ValueError, match="make a task without vitals"):
        method.size(dataclasses.replace(task, vitals="period"))
    with pytest.raises(ValueError, match="gives no parameters of a patient"):
        build_twin(result, cache.clip(0)[:8])
    with pytest.raises(ValueError, match=r"learnt is of type ndarray: expected build_twin\(learnt"):
        build_twin(cache.clip(0), result)
