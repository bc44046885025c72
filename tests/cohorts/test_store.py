"""Cohorts on disk: the same numbers as in memory, and resuming of interrupted runs."""

from typing import Any

import numpy as np
import pytest
import zarr

from jaxtwin.cohorts.simulate import simulate_cohort
from jaxtwin.cohorts.store import read_cohort, simulate_into
from jaxtwin.models.left_heart import SEVEN, THREE, LeftHeart
from jaxtwin.parameters import Box
from tests.cohorts.tank import LEAKING, Tank, TankParameters, assert_equal

THETA = LEAKING.sample(23, seed=3)
OPTIONS = {"phases": 8, "chunk": 4, "block": 10}


@pytest.fixture(scope="module")
def whole():
    return simulate_cohort(Tank(), LEAKING, THETA, phases=8, chunk=4)


def test_what_is_read_is_what_was_simulated(tmp_path, whole):
    simulate_into(tmp_path / "tanks", Tank(), LEAKING, THETA, **OPTIONS)
    assert_equal(read_cohort(tmp_path / "tanks", Tank()), whole)
    part = read_cohort(tmp_path / "tanks", Tank(), slice(5, 21))
    assert_equal(part, whole.take(slice(5, 21)))
    # Any reader of Zarr can open it.
    group = zarr.open_group(tmp_path / "tanks", mode="r")
    assert group["waveforms/V_lv"].shape == (23, 8)
    box: Any = group.attrs["box"]
    assert box["k"] == [0.5, 5.0]


def test_rows_are_a_slice_of_a_cohort_that_is_there(tmp_path, as_a_user):
    with pytest.raises(FileNotFoundError, match=r"no cohort at .*tanks: `simulate_into`"):
        read_cohort(tmp_path / "tanks", Tank())
    simulate_into(tmp_path / "tanks", Tank(), LEAKING, THETA, **OPTIONS)
    with pytest.raises(ValueError, match="rows=3: expected a slice"):
        read_cohort(tmp_path / "tanks", Tank(), 3)


class CutShort(Exception):
    pass


def test_why_a_simulation_failed_is_kept(tmp_path):
    theta = THETA.copy()
    theta[3, 1] = -30
    box = Box.of(TankParameters, ("T", "k", "V_d"))
    simulate_into(tmp_path / "tanks", Tank(), box, theta, **OPTIONS)
    said = read_cohort(tmp_path / "tanks", Tank()).failures()
    assert said == simulate_cohort(Tank(), box, theta, phases=8, chunk=4).failures()
    assert said.endswith("): the solution became infinite or not a number")
    group: Any = zarr.open_group(tmp_path / "tanks", mode="a")
    group["result"].attrs["sentences"] = ["of another version"]
    assert read_cohort(tmp_path / "tanks", Tank()).result is None


def test_a_run_that_was_cut_short_goes_on(tmp_path, whole):
    place, blocks = tmp_path / "tanks", []

    def after(number):
        def progress(starts):
            for i, start in enumerate(starts):
                if i == number:
                    raise CutShort
                blocks.append(start)
                yield start

        return progress

    with pytest.raises(CutShort):
        simulate_into(place, Tank(), LEAKING, THETA, progress=after(1), **OPTIONS)
    with pytest.raises(ValueError, match=r"13 of 23 patients .* are not simulated yet"):
        read_cohort(place, Tank())
    assert_equal(read_cohort(place, Tank(), slice(0, 10)), whole.take(slice(0, 10)))
    # Killed while it wrote a block: some arrays have it, the mark is missing.
    zarr.open_group(place, mode="a")["maximum/V_lv"][10:20] = 7.0
    simulate_into(place, Tank(), LEAKING, THETA, progress=after(9), **OPTIONS)
    assert blocks == [0, 10, 20]
    assert_equal(read_cohort(place, Tank()), whole)


def test_theta_may_lie_on_disk(tmp_path, whole):
    np.save(tmp_path / "theta.npy", THETA)
    theta = np.load(tmp_path / "theta.npy", mmap_mode="r")
    simulate_into(tmp_path / "tanks", Tank(), LEAKING, theta, **OPTIONS)
    assert_equal(read_cohort(tmp_path / "tanks", Tank()), whole)


def test_nothing_is_overwritten(tmp_path, whole):
    place = tmp_path / "tanks"
    simulate_into(place, Tank(), LEAKING, THETA, **OPTIONS)
    with pytest.raises(ValueError, match="phases is 8, not 16"):
        simulate_into(place, Tank(), LEAKING, THETA, **OPTIONS | {"phases": 16})
    with pytest.raises(ValueError, match="patients is 23, not 24"):
        simulate_into(place, Tank(), LEAKING, LEAKING.sample(24, seed=3), **OPTIONS)
    with pytest.raises(ValueError, match="patients 0 to 9 were simulated with other parameters"):
        simulate_into(place, Tank(), LEAKING, LEAKING.sample(23, seed=4), **OPTIONS)
    with pytest.raises(ValueError, match=r"system.class is .*Tank, not .*LeftHeart"):
        simulate_into(place, LeftHeart(), SEVEN, SEVEN.sample(23, seed=3), **OPTIONS)
    with pytest.raises(ValueError, match=r"is of .*Tank, not of LeftHeart"):
        read_cohort(place, LeftHeart())
    assert_equal(read_cohort(place, Tank()), whole)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("precious")
    with pytest.raises(ValueError, match="not empty"):
        simulate_into(tmp_path / "mine", Tank(), LEAKING, THETA, **OPTIONS)
    assert [f.name for f in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_a_bad_parameter_stops_the_run_and_loses_nothing(tmp_path, whole):
    theta = THETA.copy()
    theta[15, 1] = 9.0
    with pytest.raises(ValueError, match=r"k = 9 .* is outside the box"):
        simulate_into(tmp_path / "tanks", Tank(), LEAKING, theta, **OPTIONS)
    simulate_into(tmp_path / "tanks", Tank(), LEAKING, THETA, **OPTIONS)
    assert_equal(read_cohort(tmp_path / "tanks", Tank()), whole)


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((0, 3), {}, "expected one row per patient"),
        ((3,), {}, "expected one row per patient"),
        ((2, 3), {"block": 0}, "block=0: expected a whole number of at least 1"),
        ((2, 4), {}, "θ with 4 columns: expected one for each of T, k, V_d"),
        ((2, 3), {"phases": 7}, "7 phases of 240 solver steps"),
    ],
)
def test_bad_arguments_leave_nothing_behind(tmp_path, shape, options, message):
    with pytest.raises(ValueError, match=message):
        simulate_into(tmp_path / "tanks", Tank(), LEAKING, np.ones(shape), **options)
    assert not (tmp_path / "tanks").exists()


def test_columns_in_another_order_are_another_box(tmp_path):
    simulate_into(tmp_path / "tanks", Tank(), LEAKING, THETA, **OPTIONS)
    turned = Box.of(TankParameters, ("k", "T", "V_d"), {"k": (0.5, 5.0)})
    with pytest.raises(ValueError, match="free is"):
        simulate_into(tmp_path / "tanks", Tank(), turned, THETA, **OPTIONS)


def test_the_box_is_kept_with_its_order_and_its_fixed_values(tmp_path):
    box = Box.of(TankParameters, ("k", "T"), {"k": (0.5, 5.0)}, fixed={"V_d": 30.0})
    place, theta = tmp_path / "tanks", box.sample(5, seed=0)
    simulate_into(place, Tank(), box, theta, **OPTIONS)
    found = read_cohort(place, Tank())
    assert found.box == box and found.box.names == ("k", "T")
    assert_equal(found, simulate_cohort(Tank(), box, theta, phases=8, chunk=4))
    identity: Any = zarr.open_group(place, mode="r").attrs["identity"]
    assert identity["fixed"]["V_d"] == 30
    other = Box.of(TankParameters, ("k", "T"), {"k": (0.5, 5.0)}, fixed={"V_d": 40.0})
    with pytest.raises(ValueError, match=r"identity.fixed.V_d is 30, not 40"):
        simulate_into(place, Tank(), other, theta, **OPTIONS)


@pytest.mark.slow
def test_the_left_heart_too(tmp_path):
    theta = THREE.sample(6, seed=0)
    simulate_into(tmp_path / "hearts", LeftHeart(), THREE, theta, chunk=6)
    found = read_cohort(tmp_path / "hearts", LeftHeart())
    assert_equal(found, simulate_cohort(LeftHeart(), THREE, theta, chunk=6))
