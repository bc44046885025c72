"""Trials on disk: the numbers of a trial in memory, resuming, and memory that does not grow."""

import dataclasses
import tracemalloc
from typing import Any

import numpy as np
import pytest
import xarray
import zarr

from jaxtwin.cohorts.simulate import simulate_cohort
from jaxtwin.models.windkessel import Windkessel, WindkesselParameters
from jaxtwin.parameters import Box
from jaxtwin.physics.solution import Event, Reading
from jaxtwin.treatments import (
    AbstractIntervention,
    Drug,
    Nothing,
    StoredTrial,
    change,
    open_trial,
    run_trial,
    run_trial_into,
)

BOX = Box.of(WindkesselParameters, ("SV", "R"), {"R": (0.6, 2.5)})
THETA = BOX.sample(23, seed=1)
traces = []


class Fragile(Windkessel):
    """A circulation that does not survive high pressures."""

    def feasible(self, recording):
        return recording.maximum.P_ao < 180


class SetResistance(AbstractIntervention):
    """R becomes 1.5."""

    def __call__(self, system, p):
        traces.append(None)
        return system, change(p, R=1.5)


ARMS = {"control": Nothing(), "set": SetResistance(), "drug": Drug({"R": -0.2})}
HIGH = {"high": Event("P_ao_mean", -np.inf, 100.0)}
OPTIONS = {"safety": HIGH, "block": 10}


def level(endpoints):
    return np.where(endpoints["P_ao_mean"] > 90, "high", "low").tolist()


def largest(beat):
    return beat.maximum.P_ao


@pytest.fixture(scope="module")
def whole():
    return run_trial(simulate_cohort(Fragile(), BOX, THETA), ARMS, safety=HIGH)


def assert_equal(stored, trial):
    """But for rounding, as blocks of another size are another program."""
    assert stored.arms == trial.arms and stored.units == trial.units
    for arm in trial.arms:
        np.testing.assert_array_equal(stored.success(arm), trial.success[trial.arms.index(arm)])
        assert list(stored.arm(arm)) == list(trial.arm(arm))
        for name, values in trial.arm(arm).items():
            np.testing.assert_allclose(stored.arm(arm)[name], values, rtol=2e-5, err_msg=name)


def arrays(path):
    group: Any = zarr.open_group(path, mode="r")
    return {"theta": group["theta"][:], "success": group["success"][:]} | {
        name: array[:] for name, array in group["endpoints"].arrays()
    }


def assert_same_arrays(path, other):
    found, expected = arrays(path), arrays(other)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


def test_what_is_on_disk_is_the_trial(tmp_path, whole):
    run_trial_into(tmp_path / "trial", Fragile(), BOX, THETA, ARMS, source="a box", **OPTIONS)
    stored = open_trial(tmp_path / "trial")
    assert isinstance(stored, StoredTrial)
    assert (stored.patients, stored.source) == (23, "a box")
    assert repr(stored).startswith(
        "StoredTrial(23 patients in the arms 'control', 'set', 'drug'; endpoints: "
    )
    assert_equal(stored, whole)
    failed = [counts["failed"] for counts in whole.events().values()]
    assert max(failed) > 0  # Some do not survive.
    assert stored.events() == whole.events()
    for found, expected in zip(
        stored.effects("P_ao_mean", control="control", by=level, seed=3),
        whole.effects("P_ao_mean", control="control", by=level, seed=3),
        strict=True,
    ):
        assert found[:5] == expected[:5]
        np.testing.assert_allclose(found.difference, expected.difference, rtol=1e-4)
        np.testing.assert_allclose(found[5:7], expected[5:7], rtol=1e-4)
    # Any reader of Zarr can open it.
    dataset = xarray.open_zarr(tmp_path / "trial", group="endpoints", consolidated=False)
    assert dataset["P_ao_mean"].dims == ("arm", "patient")


class CutShort(Exception):
    pass


def test_a_trial_that_was_cut_short_goes_on(tmp_path):
    blocks = []

    def after(number):
        def progress(starts):
            for i, start in enumerate(starts):
                if i == number:
                    raise CutShort
                blocks.append(start)
                yield start

        return progress

    place = tmp_path / "trial"
    with pytest.raises(CutShort):
        run_trial_into(place, Fragile(), BOX, THETA, ARMS, progress=after(1), **OPTIONS)
    with pytest.raises(ValueError, match=r"13 of 23 patients .* are not simulated yet: call run_t"):
        open_trial(place)
    # Killed while it wrote a block: some arrays have it, the mark is missing.
    zarr.open_group(place, mode="a")["endpoints/P_ao_mean"][:, 10:20] = 7.0
    run_trial_into(place, Fragile(), BOX, THETA, ARMS, progress=after(9), **OPTIONS)
    assert blocks == [0, 10, 20]
    run_trial_into(place, Fragile(), BOX, THETA, ARMS, progress=after(0), **OPTIONS)
    run_trial_into(tmp_path / "unbroken", Fragile(), BOX, THETA, ARMS, **OPTIONS)
    assert_same_arrays(place, tmp_path / "unbroken")


def test_nothing_is_overwritten(tmp_path, as_a_user):
    place = tmp_path / "trial"
    run_trial_into(place, Fragile(), BOX, THETA, ARMS, **OPTIONS)
    before = arrays(place)

    def refused(message, theta=THETA, arms=ARMS, system=None, **options):
        with pytest.raises(ValueError, match=message):
            run_trial_into(place, system or Fragile(), BOX, theta, arms, **OPTIONS | options)

    refused("patients is 23, not 24", theta=BOX.sample(24, seed=1))
    refused("patients 0 to 9 were simulated with other parameters", theta=BOX.sample(23, seed=2))
    refused(r"identity.arms.drug.shares.R is -0.2", arms=ARMS | {"drug": Drug({"R": -0.3})})
    refused(r"arms is \['control', 'set', 'drug'\]", arms=dict(reversed(ARMS.items())))
    refused("class is .*Fragile, not .*Windkessel", system=Windkessel())
    refused("block is 10, not 7", block=7)
    refused("high.high is 100, not 90", safety={"high": Event("P_ao_mean", -np.inf, 90.0)})
    refused("missing", endpoints={"P_ao_mean": Reading("mmHg", largest)})
    refused("block=0: expected a whole number", block=0)
    refused("expected one row per patient", theta=np.ones(3))
    refused("no arms", arms={})
    refused("mesh=8: expected a jax.sharding.Mesh", mesh=8)
    assert arrays(place).keys() == before.keys()
    np.testing.assert_array_equal(arrays(place)["P_ao_mean"], before["P_ao_mean"])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("precious")
    with pytest.raises(ValueError, match="is not empty and contains no trial"):
        run_trial_into(tmp_path / "mine", Fragile(), BOX, THETA, ARMS)
    with pytest.raises(ValueError, match="holds no Zarr group"):
        open_trial(tmp_path / "mine")
    with pytest.raises(FileNotFoundError, match=r"no trial at .*: `run_trial_into` writes one"):
        open_trial(tmp_path / "nowhere")
    zarr.open_group(tmp_path / "other", mode="w")
    with pytest.raises(ValueError, match="has the format None, this version reads"):
        open_trial(tmp_path / "other")
    stored = open_trial(place)
    with pytest.raises(ValueError, match="no arm 'placebo': the trial has control"):
        stored.effects("P_ao_mean", control="placebo")
    with pytest.raises(ValueError, match="no endpoint 'EF': there are"):
        stored.effects("EF", control="control")


def test_endpoints_of_ones_own_have_names(tmp_path):
    endpoints = {"largest": Reading("mmHg", largest)}
    run_trial_into(tmp_path / "trial", Windkessel(), BOX, THETA, ARMS, endpoints)
    trial = run_trial(simulate_cohort(Windkessel(), BOX, THETA), ARMS, endpoints)
    assert_equal(open_trial(tmp_path / "trial"), trial)
    unnamed = {"largest": Reading("mmHg", lambda beat: beat.maximum.P_ao)}
    with pytest.raises(ValueError, match=r"the trial cannot be kept: .*lambda"):
        run_trial_into(tmp_path / "unnamed", Windkessel(), BOX, THETA, ARMS, unnamed)
    assert not (tmp_path / "unnamed").exists()


def test_a_dose_beyond_the_bounds_is_warned_of_once(tmp_path):
    arms = {"control": Nothing(), "drug": Drug({"R": 5.0})}
    with pytest.warns(UserWarning, match=r"R of \d+ of 10 patients 0 to 9, reaching") as told:
        run_trial_into(tmp_path / "trial", Windkessel(), BOX, THETA, arms, **OPTIONS)
    assert len(told) == 1


def test_memory_and_programs_do_not_grow_with_patients(tmp_path):
    """Bytes held at most, beyond θ itself, for four times the patients."""
    peaks, counts = [], []
    for n in (2_000, 8_000):
        theta = np.lib.format.open_memmap(
            tmp_path / f"{n}.npy", mode="w+", dtype=np.float32, shape=(n, 2)
        )
        theta[:] = BOX.sample(n, seed=1)

        def run(name, theta=theta):
            run_trial_into(tmp_path / name, Windkessel(), BOX, theta, ARMS, block=500)

        run(f"first {n}")  # Compiles, and imports.
        traces.clear()
        tracemalloc.start()
        run(f"second {n}")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        peaks.append(peak)
        counts.append(len(traces))
    assert peaks[1] < 1.2 * peaks[0], peaks
    # Traced to see which system an arm has, however many blocks there are.
    assert counts[0] == counts[1] <= 2, counts


def test_an_analysis_reads_what_it_needs(tmp_path, as_a_user):
    run_trial_into(tmp_path / "trial", Windkessel(), BOX, THETA, ARMS, **OPTIONS)
    stored = open_trial(tmp_path / "trial")
    read = []

    class Watched(dict):
        def __getitem__(self, name):
            read.append(name)
            return super().__getitem__(name)

    endpoints = dict(stored.group["endpoints"].arrays())
    group = {"endpoints": Watched(endpoints), "success": stored.group["success"]}
    watched = dataclasses.replace(stored, group=group)
    watched.effects("P_ao_mean", control="control")
    assert read == ["P_ao_mean"] * 3 and len(endpoints) > 1
