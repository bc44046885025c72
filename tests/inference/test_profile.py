"""Profile likelihood of a Windkessel, against its closed form on a fine grid."""

import dataclasses
import warnings

import numpy as np
import pytest
from scipy import stats

import jaxtwin as jt
from jaxtwin.inference import profile_likelihood
from tests.systems import LeakyParameters, Windkessel, pressure

BOX = jt.Box.of(LeakyParameters, ("T", "R", "C"))
NOISE = 0.05
TASK = jt.CurveTask(Windkessel(), BOX, "P", 0.01, samples=24, known="T", noise=NOISE)


@pytest.fixture(scope="module")
def curves():
    cohort = jt.simulate_cohort(
        TASK.system, BOX, np.array([[2.0, 1.2, 0.7], [1.5, 0.4, 1.8]], np.float32), phases=24
    )
    return TASK.measure(cohort, 0)


def exact(curves, values, name):
    """The same by trying every value of the other parameter."""
    low, high = (np.asarray(side) for side in (BOX.low, BOX.high))
    other = "C" if name == "R" else "R"
    grid = np.linspace(low[BOX.names.index(other)], high[BOX.names.index(other)], 4_000)
    found = []
    for value in values:
        theta = np.empty((len(grid), 3))
        theta[:, 0] = curves.known[0, 0]
        theta[:, BOX.names.index(name)] = value
        theta[:, BOX.names.index(other)] = grid
        square = ((pressure(theta, 24) - np.asarray(curves.values)[0]) ** 2).sum(axis=1) / NOISE**2
        found.append(square.min())
    return np.array(found) - min(found)


@pytest.mark.parametrize("name", ["R", "C"])
def test_a_profile_is_that_of_the_closed_form(curves, name):
    one = curves.take(slice(1))
    found = profile_likelihood(TASK, one, name, points=41, starts=4)
    expected = exact(one, found.values, name)
    near = expected < 30
    assert near.sum() >= 3 and found.drop.min() == 0
    np.testing.assert_allclose(found.drop[near], expected[near], atol=0.15, rtol=0.02)
    low, high = found.interval(0.9)
    fine = np.linspace(low, high, 400)
    inside = fine[exact(one, fine, name) <= stats.chi2.ppf(0.9, 1)]
    step = found.values[1] - found.values[0]
    assert abs(low - inside.min()) < step / 2 and abs(high - inside.max()) < step / 2


def test_ends_of_the_box_that_are_rounded_are_inside(curves):
    narrow = jt.Box.of(LeakyParameters, BOX.names, {"R": (1e-1 + 1e-9, 2.7 - 1e-9)})
    task = dataclasses.replace(TASK, box=narrow)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = profile_likelihood(task, curves.take(slice(1)), "R", points=5, starts=2)
    assert narrow.low[1] <= found.values[0] and found.values[-1] <= narrow.high[1]


def test_errors(curves):
    with pytest.raises(ValueError, match="for 2 patients: expected one patient"):
        profile_likelihood(TASK, curves, "R")
    with pytest.raises(ValueError, match="expected one patient, one of at least two unknown"):
        profile_likelihood(TASK, curves.take(slice(1)), "T")
    found = profile_likelihood(TASK, curves.take(slice(1)), "R", points=5, starts=2)
    with pytest.raises(ValueError, match=r"level=1\.5"):
        found.interval(1.5)
