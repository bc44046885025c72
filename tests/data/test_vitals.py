"""Vital signs: simulation, use as inputs of the encoder, and their part in the loss."""

import dataclasses
import functools
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtwin.data.base import ClipFormat
from jaxtwin.data.cache import ClipCache
from jaxtwin.data.echonet import Record
from jaxtwin.data.vitals import UNKNOWN, Vitals, simulate_vitals
from jaxtwin.forward.emulator import Emulator
from jaxtwin.methods.clips import Clips, ClipTask
from jaxtwin.methods.pssl_clips import PSSL, load_pssl
from jaxtwin.methods.saving import save_learnt
from jaxtwin.models.left_heart import LeftHeart, LeftHeartParameters
from jaxtwin.parameters import Box
from jaxtwin.training.progress import silent
from jaxtwin.training.settings import TrainingConfig
from jaxtwin.twin import build_twin, describe, load_twin, summary

FORMAT = ClipFormat(frames=8, size=32)
BOX = Box.of(LeftHeartParameters, ("T_c", "V_0"))


def test_the_instruments_err_as_much_as_they_say():
    truth = (np.linspace(0.5, 1.5, 4_000), np.full(4_000, 120.0), np.full(4_000, 80.0))
    vitals = simulate_vitals(*truth, seed=0)
    for (name, values), true, error in zip(vitals.items(), truth, (0.01, 5.0, 5.0), strict=True):
        np.testing.assert_allclose(np.std(values - true), error, rtol=0.05, err_msg=name)
        assert abs(np.mean(values - true)) < 4 * error / np.sqrt(4_000)
    # Each pressure has an error of its own.
    errors = vitals["systolic"] - truth[1], vitals["diastolic"] - truth[2]
    assert abs(np.corrcoef(*errors)[0, 1]) < 0.06


@pytest.fixture(scope="module")
def emulator():
    """Whatever θ: volumes and pressures go with the stressed volume alone."""
    make = functools.partial(
        Emulator.create, LeftHeart(), BOX, ("V_lv", "P_lv", "P_ao"), 2, width=1, depth=0
    )
    emulator = eqx.filter_eval_shape(make, key=jax.random.key(0))
    return eqx.tree_at(
        lambda e: (e.network.layers[0].weight, e.network.layers[0].bias, e.mean, e.spread),
        emulator,
        (
            jnp.zeros((12, 2), jnp.float32),
            jnp.asarray([0.4, 0.2, 0.3, 0.3, 2.4, 0.1, 2, 2, 2.4, 1.6, 2.0, 2.0], jnp.float32),
            jnp.zeros(12, jnp.float32),
            jnp.ones(12, jnp.float32),
        ),
    )


@pytest.fixture(scope="module")
def cache(emulator):
    """One and the same clip of everybody: only the vitals tell patients apart."""
    theta = BOX.sample(48, seed=1)
    numbers = [
        np.asarray(leaf)
        for leaf in jax.vmap(
            lambda t: emulator.read(t, ("EDV", "ESV", "period", "systolic", "diastolic"))
        )(jnp.asarray(theta))
    ]
    np.testing.assert_allclose(numbers[2], theta[:, 0], rtol=1e-6)
    records = tuple(
        Record(
            f"c{i}", Path("nowhere.avi"), edv, esv, 50.0, 16.0, 8, "TRAIN" if i < 32 else "VAL",
            Vitals(*vitals),
        )
        for i, (edv, esv, *vitals) in enumerate(np.array(numbers, float).T.tolist())
    )  # fmt: skip
    clip = np.random.default_rng(0).integers(0, 255, (8, 32, 32)).astype(np.uint8)
    return ClipCache(records, (), FORMAT, [clip] * 48)


def learn(emulator, cache, vitals):
    config = TrainingConfig(150, 16, learning_rate=3e-3, evaluate_every=50)
    task = ClipTask(LeftHeart(), BOX, FORMAT, vitals)
    parts = (Clips.from_split(cache, name) for name in ("TRAIN", "VAL"))
    return PSSL(forward=emulator, config=config).learn(task, *parts, progress=silent)


@pytest.mark.slow
def test_they_are_seen_and_compared(emulator, cache, tmp_path):
    """From equal clips nothing can be told but the mean; from the vitals, every patient."""
    errors = {}
    held = Clips.from_split(cache, "VAL")
    for vitals in ((), ("period", "diastolic")):
        learnt = learn(emulator, cache, vitals)
        got, true = learnt.estimate(held), held.measured()
        assert got.theta is not None
        errors[vitals] = np.abs(got.theta[:, 0] - true["period"]).mean()
        assert set(got.readings) == {"EDV", "ESV", "EF", *vitals}
        if vitals:
            np.testing.assert_allclose(got.readings["period"], got.theta[:, 0], rtol=1e-5)
            error = np.abs(got.readings["diastolic"] - true["diastolic"]).mean()
            assert learnt.validation["diastolic_error"] == pytest.approx(error, rel=1e-4)
            check_saving(learnt, emulator, cache, tmp_path)
    assert errors["period", "diastolic"] < 0.1 < 0.2 < errors[()]


def check_saving(learnt, emulator, cache, folder):
    save_learnt(folder / "encoder", learnt)
    loaded = load_pssl(folder / "encoder", emulator)
    assert loaded.task.vitals == ("period", "diastolic")
    clips = np.stack([cache.clip(i) for i in range(4)])
    vitals = [cache.records[i].vitals for i in range(4)]
    a, b = (x.estimate(Clips.from_arrays(clips, FORMAT, vitals)) for x in (loaded, learnt))
    np.testing.assert_array_equal(a.theta, b.theta)
    twin = build_twin(loaded, clips[0], vitals[0])
    low, high = twin.compatible.intervals["T_c"]
    error = learnt.validation["period_error"]
    assert vitals[0].period - error <= low < high <= vitals[0].period + error
    assert twin.compatible.narrowing["T_c"] < 0.3
    assert twin.emulated["period"] == pytest.approx(twin.readings["period"], rel=1e-4)
    written = describe(twin)
    assert set(written["simulated"]) == set(LeftHeart().readings())
    assert written["simulated"]["P_ao_mean"]["narrowing"] == twin.compatible.narrowing["P_ao_mean"]
    assert "T_c" in summary(twin) and "re-simulated" in summary(twin)
    twin.save(folder / "twin")
    kept = load_twin(folder / "twin", LeftHeart())
    assert summary(kept) == summary(twin) and describe(kept) == written
    assert kept.to_dataset().identical(twin.to_dataset())
    frame = a.to_dataframe(loaded.task)
    np.testing.assert_array_equal(frame.diastolic, a.readings["diastolic"])
    with pytest.raises(ValueError, match="1 of 1 clips have no period"):
        build_twin(loaded, clips[0])
    # The pressure that is not asked for is not needed.
    fewer = [v._replace(systolic=np.nan) for v in vitals]
    found = loaded.estimate(Clips.from_arrays(clips, FORMAT, fewer))
    np.testing.assert_array_equal(found.theta, a.theta)
    with pytest.raises(ValueError, match="4 of 4 clips have no period"):
        loaded.estimate(Clips.from_arrays(clips, FORMAT))


def test_a_patient_without_them_is_named_before_training(emulator, cache):
    records = list(cache.records)
    records[40] = dataclasses.replace(records[40], vitals=UNKNOWN)
    with pytest.raises(ValueError, match=r"1 of 16 clips have no systolic.*SystolicPressure"):
        learn(emulator, dataclasses.replace(cache, records=tuple(records)), "systolic")


def test_a_forward_model_without_pressure(emulator):
    without = dataclasses.replace(emulator, channels=("V_lv", "P_lv", "P_la"))
    with pytest.raises(ValueError, match="systolic is read off P_ao"):
        without.read(jnp.array([1.0, 140.0]), ("systolic",))
