"""Cohorts within limits are drawn reproducibly, and nothing is left out in silence."""

import numpy as np
import pytest

from jaxtwin.cohorts.cohort import Cohort
from jaxtwin.cohorts.draw import draw_cohort, draw_splits, draw_theta
from jaxtwin.cohorts.simulate import simulate_cohort
from jaxtwin.forward.learning import learn_emulator
from jaxtwin.models.ventricle import CLINICAL
from jaxtwin.parameters import Box
from jaxtwin.physics.solution import Recording
from jaxtwin.training.settings import TrainingConfig
from tests.cohorts.tank import BOX, LEAKING, Tank, TankParameters, assert_equal, outputs


def healthy(**changes):
    """One patient within all limits, but for the changes."""
    values = {"EDV": 120.0, "ESV": 50.0, "P_ao": 90.0, "P_la": 10.0, "q_s": 80.0} | changes
    one = np.ones(1, np.float32)
    beat = np.array([[0.5, 1.5]], np.float32)  # of mean 1
    recording = Recording(
        outputs(0 * one, V_lv=values["EDV"] * one),
        outputs(0 * one, V_lv=values["ESV"] * one),
        outputs(0 * beat, **{name: values[name] * beat for name in ("P_ao", "P_la", "q_s")}),
        one,
    )
    success = np.array([values.get("success", True)])
    return Cohort(Tank(), BOX, np.zeros((1, 3), np.float32), recording, success, 0 * one, 0 * one)


@pytest.mark.parametrize(
    ("changes", "held"),
    [
        ({}, True),
        ({"EDV": 39.0, "ESV": 20.0}, False),
        ({"EDV": 301.0}, False),
        ({"ESV": 109.0}, False),  # EF 9
        ({"ESV": 107.0}, True),  # EF 11
        ({"ESV": 23.0}, False),  # EF 81
        ({"P_ao": 49.0}, False),
        ({"P_ao": 131.0}, False),
        ({"P_la": -1.0}, False),
        ({"P_la": 31.0}, False),
        ({"q_s": 33.0}, False),  # 1.98 L/min
        ({"q_s": 34.0}, True),
        ({"q_s": 167.0}, False),  # 10.02 L/min
        ({"success": False}, False),
        ({"EDV": np.nan}, False),
    ],
)
def test_limits(changes, held):
    assert healthy(**changes).within(CLINICAL).tolist() == [held]


HALF = CLINICAL | {"EDV": (150.0, 300.0), "EF": (0.0, 100.0)}
"""The tank's EDV is V_d + 100 and some, so these hold for a little over half of the box."""


def test_cohorts_are_drawn_reproducibly():
    cohort = draw_cohort(Tank(), LEAKING, 9, seed=2, limits=HALF, phases=8)
    again = draw_cohort(Tank(), LEAKING, 9, seed=2, limits=HALF, phases=8)
    assert_equal(again, cohort)
    assert len(cohort) == 9 and cohort.within(HALF).all()
    assert again.accepted == cohort.accepted and 0.4 < cohort.accepted < 1

    fewer = draw_cohort(Tank(), LEAKING, 4, seed=2, limits=HALF, phases=8)
    assert_equal(fewer, cohort.take(slice(4)))
    theta = LEAKING.sample(18, seed=2).astype(np.float32)
    places = [np.flatnonzero((theta == row).all(axis=1)).item() for row in cohort.theta]
    assert places == sorted(places) and places != list(range(9))

    other = draw_cohort(Tank(), LEAKING, 9, seed=3, limits=HALF, phases=8)
    assert not np.array_equal(other.theta, cohort.theta)


def test_limits_that_few_hearts_meet():
    rare = HALF | {"EDV": (195.0, 300.0)}
    cohort = draw_cohort(Tank(), LEAKING, 9, seed=2, limits=rare, phases=8)
    assert len(cohort) == 9 and cohort.accepted < 0.5  # more was drawn than at first
    never = HALF | {"EDV": (300.0, 400.0)}
    with pytest.raises(ValueError, match=r"only 0 of 72 points .* widen the limits"):
        draw_cohort(Tank(), LEAKING, 9, seed=2, limits=never, phases=8)


ONE_STEP = TrainingConfig(steps=1, batch_size=4, evaluate_every=1)


def test_failed_simulations_are_not_left_out_in_silence(tmp_path):
    box = Box.of(TankParameters, ("T", "k", "V_d"), {"k": (-8.0, 5.0)})
    with pytest.warns(
        UserWarning,
        match=r"\d+ of \d+ simulations \(\d+.\d%\) failed and are left out.*main reason.*infinite",
    ):
        draw_splits(Tank(), box, [3, 2, 1], seed=2, limits={}, phases=8)
    with pytest.warns(UserWarning, match=r"\d+ of 80 simulations .* failed and are left out"):
        learn_emulator(
            tmp_path, Tank(), box, ("V_lv",), phases=8, simulations=64, unseen=8, training=ONE_STEP
        )


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: draw_cohort(Tank(), LEAKING, 1e1, seed=0), "n=10.0: expected a whole number"),
        (lambda: draw_cohort(Tank(), LEAKING, 0, seed=0), "n=0: expected a whole number"),
        (lambda: draw_splits(Tank(), LEAKING, [3, 2.0], seed=0), "size=2.0: expected a whole"),
        (
            lambda: draw_cohort(LEAKING, Tank(), 3, seed=0),
            "system is of type Box: expected an instance of a system",
        ),
        (
            lambda: simulate_cohort(BOX, Tank(), [[1, 2, 3]]),
            "system is of type Box: expected an instance of a system",
        ),
        (lambda: simulate_cohort(Tank(), BOX, [[1, 2, 3]], phases=60.0), "phases=60.0: expected"),
        (
            lambda: draw_cohort(Tank(), LEAKING, 3, seed=0, limits={"EF": (80, 20)}),
            r"limits of EF are \(80, 20\): expected \(low, high\) with low < high",
        ),
        (lambda: healthy().within({"EDV": 100}), "limits of EDV are 100: expected"),
        (lambda: draw_cohort(Tank(), LEAKING, 3, seed=0, limits=[1, 2]), "expected them by name"),
    ],
)
def test_slips_are_named_before_anything_is_simulated(draw, message, as_a_user):
    with pytest.raises(ValueError, match=message):
        draw()


@pytest.mark.parametrize("block", [4, 64])
def test_patients_are_drawn_without_their_recordings(block):
    cohort = draw_cohort(Tank(), LEAKING, 9, seed=2, limits=HALF)
    theta, accepted = draw_theta(Tank(), LEAKING, 9, seed=2, limits=HALF, block=block)
    np.testing.assert_array_equal(theta, cohort.theta)
    assert theta.dtype == np.float32 and 0.3 < accepted < 1
    with pytest.raises(ValueError, match=r"only 0 of 72 points of the box are within"):
        draw_theta(Tank(), LEAKING, 9, seed=2, limits={"EDV": (1.0, 2.0)}, block=block)


def test_failures_of_drawn_points_are_said():
    box = Box.of(TankParameters, ("T", "k", "V_d"))  # k < 0 grows without end.
    with pytest.warns(UserWarning, match=r"simulations \(\d+\.\d%\) failed and are left out"):
        draw_theta(Tank(), box, 1, seed=2, limits={"EDV": (0.0, 500.0)})
