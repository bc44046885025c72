"""P-SSL: an encoder learns θ from volumes alone, through an emulator that stays as it is."""

import dataclasses
import functools
import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtwin.methods.pssl import PSSL, load_pssl, save_pssl

from jaxtwin.data import echonet
from jaxtwin.data.base import ClipFormat
from jaxtwin.data.cache import ClipCache
from jaxtwin.data.echonet import Record
from jaxtwin.data.loading import Batch
from jaxtwin.encoders.create import create_encoder
from jaxtwin.forward.emulator import Emulator
from jaxtwin.methods import clips as clip_methods
from jaxtwin.methods.clips import (
    Measured,
    cached_measurements,
    discrepancy,
    measured,
    predict,
    predict_cached,
    shift,
    train_on_clips,
)
from jaxtwin.models.left_heart import LeftHeart, LeftHeartParameters
from jaxtwin.parameters import Box
from jaxtwin.training.checkpoint import CheckpointError
from jaxtwin.training.loop import TrainingConfig

FORMAT = ClipFormat(frames=8, size=32)
BOX = Box.of(LeftHeartParameters, ("V_0", "E_max", "V_d"))
# Long enough that it learns whichever way a processor rounds.
CONFIG = TrainingConfig(120, 8, learning_rate=1e-3, evaluate_every=60)
DESCRIPTION = {"data": "discs"}


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
    frames = np.concatenate(clips).astype(np.uint8)
    return ClipCache(records, (), FORMAT, frames, np.arange(17) * 10)


@pytest.fixture(scope="module")
def untrained(emulator):
    make = functools.partial(create_encoder, "tubelet", FORMAT, 3, key=jax.random.key(0))
    random = np.random.default_rng(0)

    def weights(leaf):
        # From NumPy: JAX's initialisers take their time to compile.
        if not isinstance(leaf, jax.ShapeDtypeStruct):
            return leaf
        size = np.sqrt(leaf.shape[-1] / leaf.size)
        return jnp.asarray(size * random.normal(size=leaf.shape), leaf.dtype)

    encoder = jax.tree.map(weights, eqx.filter_eval_shape(make))
    return PSSL(encoder=encoder, forward=emulator, format=FORMAT, name="tubelet")


def train(model, cache, folder, config=CONFIG, **options):
    options = {"description": DESCRIPTION, "seed": 0, "resume": False} | options
    return train_on_clips(model, cache, config, folder=folder, **options)


@pytest.fixture(scope="module")
def fitted(untrained, cache, tmp_path_factory):
    """Trained where reading θ raises: only measurements may be looked at."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(echonet, "read_theta", lambda *_: pytest.fail("θ must not be seen"))
        return folder, train(untrained, cache, folder)


def arrays(tree):
    return jax.tree.leaves(eqx.filter(tree, eqx.is_array))


# --- the loss ---------------------------------------------------------------------------------


def test_measured():
    numbers = measured(np.array([100.0, 80.0]), np.array([40.0, 60.0]))
    assert numbers.EF.tolist() == [60, 25]


def test_no_discrepancy_at_the_truth():
    true = measured(jnp.array([100.0, 80.0]), jnp.array([40.0, 60.0]))
    spread = Measured(jnp.array(20.0), jnp.array(10.0), jnp.array(5.0))
    assert discrepancy(true, true, spread) == 0
    gradient = jax.grad(lambda got: discrepancy(got, true, spread))(true)
    assert all(np.all(leaf == 0) for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize(("error", "loss"), [(0.1, 0.02), (-0.1, 0.02), (0.25, 0.125), (2, 1.875)])
def test_discrepancy_is_quadratic_then_linear(error, loss):
    """error²/(2·¼) within a quarter of the spread, |error| − ⅛ beyond."""
    true = measured(jnp.array([100.0]), jnp.array([40.0]))
    spread = Measured(jnp.array(20.0), jnp.array(10.0), jnp.array(5.0))
    got = jax.tree.map(lambda t, s: t + error * s, true, spread)
    assert float(discrepancy(got, true, spread)) == pytest.approx(loss, rel=1e-6)
    slope = jax.grad(lambda EDV: discrepancy(got._replace(EDV=EDV), true, spread))(got.EDV)
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


def test_it_learns(untrained, cache, fitted):
    folder, result = fitted
    training = cache.split("TRAIN")
    true = cached_measurements(cache, training)
    spread = jax.tree.map(jnp.std, true)

    def loss(model):
        got = predict_cached(model, cache, training)
        return float(discrepancy(measured(got.EDV, got.ESV), true, spread))

    assert loss(result.model) < 0.4 * loss(untrained)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [60, 120]
    assert rows[1]["train_loss"] < rows[0]["train_loss"]
    assert set(result.validation) == {"loss", "EDV_error", "ESV_error", "EF_error"}


def test_the_encoder_changes_and_the_emulator_does_not(untrained, fitted):
    model = fitted[1].model
    for before, after in zip(arrays(untrained.encoder), arrays(model.encoder), strict=True):
        assert after.dtype == jnp.float32 and not np.array_equal(before, after)
    for before, after in zip(arrays(untrained.forward), arrays(model.forward), strict=True):
        assert before.dtype == after.dtype and np.array_equal(before, after)


def test_validation_errors_are_those_of_the_model(cache, fitted):
    result = fitted[1]
    validation = cache.split("VAL")
    got, true = (
        predict_cached(result.model, cache, validation),
        cached_measurements(cache, validation),
    )
    for name in ("EDV", "ESV", "EF"):
        error = np.abs(getattr(got, name) - getattr(true, name)).mean()
        assert result.validation[f"{name}_error"] == pytest.approx(error, rel=1e-5)


def test_no_parameter_and_no_listed_ejection_fraction_is_read(cache):
    """What reaches the loss is a clip and two volumes; the table's rounded EF does not."""
    assert Batch._fields == ("clip", "edv", "esv", "vitals")
    assert not {field.name for field in dataclasses.fields(Record)} & set(BOX.names)
    records = tuple(dataclasses.replace(record, ef=1.0) for record in cache.records)
    other = dataclasses.replace(cache, records=records)
    indices = cache.split("VAL")
    numbers = [cached_measurements(c, indices) for c in (cache, other)]
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, *numbers)))


def test_a_resumed_training_is_that_of_an_unbroken_one(
    untrained, cache, fitted, tmp_path, monkeypatch
):
    folder, result = fitted
    draw = clip_methods.batches

    def until(cache, indices, size, seed, step):
        yield from (
            b for b, _ in zip(draw(cache, indices, size, seed, step), range(40), strict=False)
        )
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(clip_methods, "batches", until)
        train(untrained, cache, tmp_path)
    again = train(untrained, cache, tmp_path, resume=True)
    for a, b in zip(arrays(again.model), arrays(result.model), strict=True):
        assert np.array_equal(a, b)
    assert (tmp_path / "metrics.jsonl").read_text() == (folder / "metrics.jsonl").read_text()


def test_another_configuration_is_not_resumed(untrained, cache, fitted):
    with pytest.raises(CheckpointError, match="data: kept discs, now squares"):
        train(untrained, cache, fitted[0], resume=True, description={"data": "squares"})


# --- use --------------------------------------------------------------------------------------


def test_predictions(cache, fitted):
    model = fitted[1].model
    clips = np.stack([cache.clip(i)[:8] for i in range(8)])
    got = predict(model, clips)
    assert got.theta.shape == (8, 3) and got.EDV.shape == (8,)
    assert np.all(BOX.contains(jnp.asarray(got.theta)))
    np.testing.assert_allclose(got.EF, 100 * (got.EDV - got.ESV) / got.EDV, rtol=1e-5)
    np.testing.assert_allclose(
        model.answer(model.encoder(jnp.asarray(clips[3])))[0], got.theta[3], rtol=1e-4
    )
    order = np.array([5, 2, 7, 0, 1, 3, 4, 6, 6, 4, 3, 1, 0, 7, 2, 5])
    in_batches = predict_cached(model, cache, order, batch_size=8)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b[order], rtol=1e-4, atol=1e-5), in_batches, got
    )


def test_clips_of_the_kind_are_familiar(cache, fitted):
    model = fitted[1].model
    features = predict_cached(model, cache, cache.split("VAL")).features
    assert np.mean(model.familiarity.recognises(jnp.asarray(features))) >= 7 / 8
    noise = np.random.default_rng(0).integers(0, 255, (8, 8, 32, 32)).astype(np.uint8)
    features = predict(model, noise).features
    assert not np.any(model.familiarity.recognises(jnp.asarray(features)))


def test_save_and_load(untrained, cache, emulator, fitted, tmp_path):
    model, validation = fitted[1].model, fitted[1].validation
    with pytest.raises(ValueError, match="not trained"):
        save_pssl(tmp_path / "encoder", untrained, {})
    save_pssl(tmp_path / "encoder", model, validation)
    loaded, kept = load_pssl(tmp_path / "encoder", emulator)
    assert kept == validation
    assert (loaded.format, loaded.name, loaded.box) == (FORMAT, "tubelet", BOX)
    indices = cache.split("VAL")
    got, again = (predict_cached(m, cache, indices) for m in (model, loaded))
    for a, b in zip(got, again, strict=True):
        assert np.array_equal(a, b)
    for a, b in zip(arrays(loaded.familiarity), arrays(model.familiarity), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize(
    "box",
    [
        Box.of(LeftHeartParameters, ("V_0", "E_max", "V_d"), {"V_0": (0.0, 281.0)}),
        Box.of(LeftHeartParameters, ("V_0", "E_max")),
        Box.of(LeftHeartParameters, ("E_max", "V_0", "V_d")),
    ],
    ids=["wider", "fewer", "in another order"],
)
def test_an_emulator_of_another_box(fitted, tmp_path, box):
    save_pssl(tmp_path / "encoder", fitted[1].model, {})
    other = Emulator.create(LeftHeart(), box, ("V_lv",), 2, depth=0, key=jax.random.key(0))
    with pytest.raises(CheckpointError, match="was trained in the box"):
        load_pssl(tmp_path / "encoder", other)


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
def test_what_cannot_be_learnt_is_refused_at_once(untrained, cache, tmp_path, change, words):
    records = tuple(change(i, record) for i, record in enumerate(cache.records))
    with pytest.raises(ValueError, match=words):
        train(untrained, dataclasses.replace(cache, records=records), tmp_path)
