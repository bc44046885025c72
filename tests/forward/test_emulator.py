"""The emulator: units, errors, saving and loading, and training."""

import dataclasses
import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtwin.cohorts.cohort import Cohort
from jaxtwin.cohorts.simulate import simulate_cohort
from jaxtwin.forward.emulator import (
    Emulator,
    EmulatorError,
    OutsideBoxWarning,
    load_emulator,
    save_emulator,
)
from jaxtwin.forward.learning import emulator_error, train_emulator
from jaxtwin.forward.simulator import Simulator
from jaxtwin.models.left_heart import SEVEN, THREE, LeftHeart, LeftHeartParameters
from jaxtwin.models.lvad import LVAD
from jaxtwin.models.ventricle import VentricleOutputs
from jaxtwin.parameters import Box
from jaxtwin.physics.solution import Recording
from jaxtwin.training import checkpoint
from jaxtwin.training.checkpoint import CheckpointError
from jaxtwin.training.loop import TrainingConfig

CHANNELS = ("V_lv", "P_lv", "q_a")


PHASES = 5


LEARNT = TrainingConfig(600, 64, learning_rate=0.02, clip_norm=10.0, evaluate_every=200)


def blank(box=SEVEN, **options):
    """An emulator without hidden layers, linear in the place in the box, and random."""
    options = {"width": 4, "depth": 0} | options
    random = np.random.default_rng(0)

    def weights(leaf):
        # From NumPy: JAX's initialisers take their time to compile.
        if not isinstance(leaf, jax.ShapeDtypeStruct):
            return leaf
        return jnp.asarray(0.3 * random.normal(size=leaf.shape), leaf.dtype)

    make = functools.partial(Emulator.create, LeftHeart(), box, CHANNELS, PHASES, **options)
    emulator = jax.tree.map(weights, eqx.filter_eval_shape(make, key=jax.random.key(0)))
    ones = jnp.ones_like(emulator.mean)
    return dataclasses.replace(emulator, mean=0 * ones, spread=ones)


@pytest.fixture(scope="module")
def emulator():
    """Linear, with weights that make volumes of a heart and no flow backwards."""
    random = np.random.default_rng(0)
    emulator = blank()
    values = len(CHANNELS) * (2 + PHASES)
    weight = 0.02 * random.normal(size=(values, 7))
    level = 1 + random.uniform(size=(len(CHANNELS), 2 + PHASES))
    level[0, :2] = 0.5, 0.2  # EDV and ESV over V_s
    weight[2 * (2 + PHASES) + 1] = 0  # the least flow through the aortic valve, ...
    level[2, 1] = 0  # ... in every patient
    return eqx.tree_at(
        lambda e: (e.network.layers[0].weight, e.network.layers[0].bias, e.mean, e.spread),
        emulator,
        (
            jnp.asarray(weight, jnp.float32),
            jnp.zeros(values, jnp.float32),
            jnp.asarray(level.reshape(-1), jnp.float32),
            jnp.asarray(random.uniform(0.5, 1.5, size=values), jnp.float32),
        ),
    )


def perfect_cohort(emulator, theta):
    """What the simulator would give if the emulator were perfect."""
    emulated = emulator.predict(theta)
    none = np.zeros(len(theta), np.float32)

    def outputs(channels, missing):
        named = dict(zip(channels.channel_names, map(np.asarray, channels), strict=True))
        return VentricleOutputs(**{n: named.get(n, missing) for n in VentricleOutputs._fields})

    recording = Recording(
        outputs(emulated.maximum, none),
        outputs(emulated.minimum, none),
        outputs(emulated.waveforms, np.zeros((len(theta), PHASES), np.float32)),
        np.asarray(emulated.duration),
    )
    success = np.ones(len(theta), bool)
    theta = theta.astype(np.float32)
    return Cohort(emulator.system, emulator.box, theta, recording, success, none, none)


@pytest.fixture(scope="module")
def cohort(emulator):
    return perfect_cohort(emulator, SEVEN.sample(128, seed=1))


def assert_equal(a, b, rtol=0.0, atol=0.0):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=rtol, atol=atol)


# --- what it gives ----------------------------------------------------------------------------


def test_targets_are_what_a_perfect_network_gives(emulator, cohort):
    u = np.asarray(SEVEN.to_unit(jnp.asarray(cohort.theta)))
    values = jax.vmap(emulator.network)(jnp.asarray(2 * u - 1)) * emulator.spread[None]
    targets = emulator.targets(cohort)
    assert targets.dtype == np.float32 and targets.shape == (128, emulator.mean.size)
    np.testing.assert_allclose(targets, values + emulator.mean[None], atol=1e-5)


def test_the_left_heart_comes_back_from_its_targets():
    """Simulated beats, in the network's units and back; by similarity V_0 and V_d leave no trace
    in those."""
    theta = np.array([[0.9, 60, 2.0, 0.05, 0.02, 0.03, 5], [1.2, 120, 1.0, 0.08, 0.05, 0.1, 10]])
    alike = np.repeat(theta, 2, axis=0)
    alike[1::2, [1, 6]] = 250, 22
    simulated = simulate_cohort(LeftHeart(), SEVEN, alike, phases=PHASES, chunk=4)
    assert simulated.success.all()
    emulator = blank()
    targets = emulator.targets(simulated)
    # V_0 is divided by V_s, which V_0 and E_min make; the beat then depends on the rest alone.
    np.testing.assert_allclose(targets[1::2], targets[::2], rtol=2e-3, atol=2e-3)
    assert 0.05 < np.abs(targets[0]).max() < 20
    for i in range(4):
        perfect = dataclasses.replace(
            emulator, mean=jnp.asarray(targets[i]), spread=0 * emulator.spread
        )
        got = perfect(jnp.asarray(alike[i]))
        true = jax.tree.map(lambda leaf, i=i: leaf[i], simulated.recording)
        for name in CHANNELS:
            for part in ("maximum", "minimum", "waveforms"):
                found, expected = (getattr(getattr(r, part), name) for r in (got, true))
                np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-3)
        np.testing.assert_allclose(got.duration, true.duration, rtol=1e-6)


def test_one_patient_many_patients_and_jit(emulator, cohort):
    theta = jnp.asarray(cohort.theta[:3])
    many = emulator.predict(cohort.theta[:3])
    assert many.waveforms.channel_names == many.maximum.channel_names == CHANNELS
    assert many.maximum.V_lv.shape == (3,) and many.waveforms.q_a.shape == (3, PHASES)
    assert_equal(many.duration, cohort.theta[:3, 0], rtol=1e-6)
    assert_equal(jax.vmap(emulator)(theta), many, rtol=1e-5, atol=1e-4)
    for i in range(3):
        one = jax.tree.map(lambda leaf, i=i: leaf[i], many)
        assert_equal(emulator(theta[i]), one, rtol=1e-5, atol=1e-4)
        assert_equal(eqx.filter_jit(emulator)(theta[i]), one, rtol=1e-5, atol=1e-4)
        EDV, ESV = emulator.read(theta[i], ("EDV", "ESV"))
        assert_equal((EDV, ESV), (one.maximum.V_lv, one.minimum.V_lv), rtol=1e-5)
    # float32 even where θ is not.
    leaves = jax.tree.leaves(emulator(theta[0].astype(jnp.float64)))
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float32")}


def test_gradient_of_the_volumes():
    emulator = blank(depth=2, width=8)
    mean = jnp.full(emulator.mean.size, 0.3, jnp.float32)
    emulator = dataclasses.replace(emulator, mean=mean)
    theta = jnp.asarray(SEVEN.from_unit(jnp.linspace(0.3, 0.6, 7, dtype=jnp.float32)))
    side = np.asarray(SEVEN.high) - np.asarray(SEVEN.low)
    volumes = eqx.filter_jit(lambda theta: jnp.stack(emulator.read(theta, ("EDV", "ESV"))))
    gradient = jax.jacobian(volumes)(theta)
    assert gradient.dtype == jnp.float32
    for i in range(7):
        step = np.zeros(7, np.float32)
        step[i] = 0.02 * side[i]
        difference = (volumes(theta + step) - volumes(theta - step)) / (2 * step[i])
        np.testing.assert_allclose(
            gradient[:, i] * side[i], difference * side[i], atol=0.1, rtol=0.01
        )


def test_predict_warns_outside_of_the_box(emulator):
    theta = SEVEN.sample(4, seed=0)
    emulator.predict(theta)  # warnings are errors here
    emulator.predict(np.array([SEVEN.low, SEVEN.high]))
    theta[2, 0] = 1.8
    with pytest.warns(OutsideBoxWarning, match=r"1 of 4 θ are outside .*'T_c': \[0.4, 1.7\]"):
        emulator.predict(theta)
    emulator(jnp.asarray(theta[0]))
    with pytest.warns(OutsideBoxWarning, match="1 of 1 θ are outside"):
        emulator.read(jnp.asarray(theta[2]), ("EF",))
    within, outside = jnp.asarray(theta[0]), jnp.asarray(theta[2])
    jax.jit(lambda: emulator(within))()
    with pytest.warns(OutsideBoxWarning, match="1 of 1 θ are outside"):
        eqx.filter_jit(lambda e: e(outside))(emulator)


def test_errors_of_an_emulator(emulator, cohort):
    error, table = emulator_error(emulator, cohort)
    assert error.points == 128 and set(error.maximum) == set(CHANNELS)
    values = [*error.maximum.values(), *error.minimum.values(), *error.waveforms.values()]
    np.testing.assert_allclose([*values, *table.values()], 0, atol=1e-4)

    true = cohort.recording
    off = eqx.tree_at(
        lambda recording: (recording.maximum.V_lv, recording.waveforms.P_lv),
        true,
        (true.maximum.V_lv + 3, 1.25 * true.waveforms.P_lv),
    )
    error, table = emulator_error(emulator, dataclasses.replace(cohort, recording=off))
    assert error.maximum["V_lv"] == table["EDV_mean"] == pytest.approx(3, abs=1e-3)
    assert table["ESV_mean"] == pytest.approx(0, abs=1e-3)
    assert error.waveforms["P_lv"] == table["waveform_median"] == pytest.approx(0.2, abs=1e-3)
    EDV, ESV = true.maximum.V_lv, true.minimum.V_lv
    EF_error = 100 * ESV / EDV - 100 * ESV / (EDV + 3)
    assert table["EF_mean"] == pytest.approx(EF_error.mean(), abs=1e-3)
    assert table["EF_worst"] == pytest.approx(EF_error.max(), abs=1e-3)


def test_failed_simulations_are_no_targets(emulator, cohort):
    success = cohort.success.copy()
    success[[3, 7]] = False
    some = dataclasses.replace(cohort, success=success)
    with pytest.raises(ValueError, match=r"2 of 128 simulations failed(.|\n)*leave them out with"):
        emulator.targets(some)
    left = some.take(some.success)
    np.testing.assert_array_equal(emulator.targets(left), emulator.targets(cohort)[success])


def test_many_patients_are_not_one(emulator, as_a_user):
    theta = SEVEN.sample(3, seed=0)
    simulator = Simulator(LeftHeart(), SEVEN, "V_lv", PHASES)
    for forward in (emulator, simulator):
        with pytest.raises(ValueError, match=r"\(3, 7\), and this is .* use predict\(theta\)"):
            forward(theta)
        with pytest.raises(ValueError, match=r"\(7,\): expected one row per patient"):
            forward.predict(theta[0])


# --- learning ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(emulator, cohort, tmp_path_factory):
    folder = tmp_path_factory.mktemp("emulator")
    unseen = perfect_cohort(emulator, SEVEN.sample(64, seed=2))
    arguments = (blank(), cohort, unseen, LEARNT)
    fitted = train_emulator(*arguments, folder=folder, seed=0, resume=False)
    return folder, arguments, fitted


def test_it_learns_what_a_network_can(trained):
    """The truth is linear, and one output of it constant: nothing may be left to learn."""
    _, (_, _, unseen, _), fitted = trained
    assert fitted.validation["loss"] < 1e-4
    error, table = emulator_error(fitted.model, unseen)
    assert table["EDV_mean"] < 0.3 and table["EF_mean"] < 0.3 and table["waveform_median"] < 0.01
    assert error.minimum["q_a"] < 1e-2
    assert fitted.model.network.layers[0].weight.dtype == jnp.float32


def test_a_resumed_training_is_that_of_an_unbroken_one(trained, tmp_path, monkeypatch):
    folder, arguments, fitted = trained
    save, left = checkpoint.save, iter(range(1))

    def until(*args):
        save(*args)
        if next(left, None) is None:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", until)
        with pytest.raises(KeyboardInterrupt):
            train_emulator(*arguments, folder=tmp_path, seed=0, resume=False)
    again = train_emulator(*arguments, folder=tmp_path, seed=0, resume=True)
    assert_equal(eqx.filter(again.model, eqx.is_array), eqx.filter(fitted.model, eqx.is_array))
    assert (again.best_step, again.validation) == (fitted.best_step, fitted.validation)
    log = "metrics.jsonl"
    assert (tmp_path / log).read_text() == (folder / log).read_text()


def test_another_emulator_is_not_resumed(trained):
    folder, (_, cohort, unseen, config), _ = trained
    with pytest.raises(CheckpointError, match="width is 4, not 5"):
        train_emulator(blank(width=5), cohort, unseen, config, folder=folder, seed=0, resume=True)
    with pytest.raises(CheckpointError, match="simulations is "):
        fewer = cohort.take(slice(100))
        train_emulator(blank(), fewer, unseen, config, folder=folder, seed=0, resume=True)


# --- files ------------------------------------------------------------------------------------


@pytest.mark.parametrize("box", [SEVEN, THREE], ids=["seven", "three"])
def test_save_and_load(tmp_path, box):
    emulator = blank(box, depth=1)
    theta = box.sample(8, seed=0)
    error, _ = emulator_error(emulator, perfect_cohort(emulator, theta))
    with pytest.raises(ValueError, match="not measured"):
        save_emulator(tmp_path / "emulator", emulator)
    emulator = dataclasses.replace(emulator, error=error)
    save_emulator(tmp_path / "emulator", emulator)
    loaded = load_emulator(tmp_path / "emulator", LeftHeart())
    assert_equal(loaded.predict(theta), emulator.predict(theta))
    assert loaded.error == error and loaded.box == box and loaded.channels == CHANNELS


def test_fixed_values_are_kept_with_an_emulator(tmp_path):
    bounds = {"T_c": (0.6, 1.2)}
    box = Box.of(LeftHeart.parameters, ("E_max", "T_c"), bounds, fixed={"R_s": 1.3})
    emulator = blank(box)
    error, _ = emulator_error(emulator, perfect_cohort(emulator, box.sample(4, seed=0)))
    save_emulator(tmp_path, dataclasses.replace(emulator, error=error))
    assert load_emulator(tmp_path, LeftHeart()).box == box


def test_an_emulator_of_another_system(tmp_path, emulator, cohort):
    class RightHeart(LeftHeart):
        pass

    error, _ = emulator_error(emulator, cohort)
    save_emulator(tmp_path / "emulator", dataclasses.replace(emulator, error=error))
    with pytest.raises(CheckpointError, match=r"stands for .*\.LeftHeart, not for RightHeart"):
        load_emulator(tmp_path / "emulator", RightHeart())
    with pytest.raises(CheckpointError, match="no checkpoint"):
        load_emulator(tmp_path / "other", LeftHeart())


def test_an_emulator_knows_its_system_and_what_was_held(tmp_path):
    """The speed of a pump, solver steps and fixed parameters: none is in the network's shape."""
    box = Box.of(LeftHeartParameters, ("V_0", "E_max"), fixed={"R_s": 1.3})
    pumped = Emulator.create(LVAD(LeftHeart(), 6_000.0), box, "V_lv", 80, key=jax.random.key(0))
    error = EmulatorError(1, {"V_lv": 0.1}, {"V_lv": 0.1}, {"V_lv": 0.1})
    save_emulator(tmp_path / "pumped", dataclasses.replace(pumped, error=error))
    again = load_emulator(tmp_path / "pumped", LVAD(LeftHeart(), 6_000.0))
    assert again.box == box and again.steps == 480
    with pytest.raises(CheckpointError, match=r"system.speed is 6000, not 12000"):
        load_emulator(tmp_path / "pumped", LVAD(LeftHeart(), 12_000.0))
    with pytest.raises(CheckpointError, match=r"stands for .*LVAD, not for LeftHeart"):
        load_emulator(tmp_path / "pumped", LeftHeart())


@pytest.mark.slow
def test_accuracy_on_the_whole_box(tmp_path):
    channels = ("V_lv", "P_lv", "P_ao", "P_la")
    system = LeftHeart()
    training, unseen = (
        simulate_cohort(system, SEVEN, SEVEN.sample(n, seed=seed))
        for n, seed in ((16_384 + 1024, 0), (4096, 1))
    )
    training = training.take(training.success)
    emulator = Emulator.create(system, SEVEN, channels, 80, key=jax.random.key(0))
    config = TrainingConfig(3500, 512, learning_rate=4e-3, evaluate_every=500)
    fitted = train_emulator(
        emulator, training.take(slice(16_384)), training.take(slice(16_384, None)), config,
        folder=tmp_path, seed=0, resume=False,
    )  # fmt: skip
    _, table = emulator_error(fitted.model, unseen.take(unseen.success))
    assert unseen.success.mean() > 0.999
    assert table["EDV_mean"] < 0.2 and table["ESV_mean"] < 0.2, table
    assert table["EF_mean"] < 0.15 and table["EF_worst"] < 3, table
    assert table["waveform_median"] < 0.01, table
