"""Patients whom the left heart cannot describe, and clips whose twins are uncertain."""

import numpy as np
import pytest

from experiments.calibration.study import Case
from experiments.misspecification.clips import _smaller, clip_table
from experiments.misspecification.settings import Config
from experiments.misspecification.sources import OWN, SOURCES, measure, usual_volumes
from experiments.misspecification.table import markdown

CASE = Case("flow", 3.0, True)
LATE = "left heart, a twentieth of a beat late"


@pytest.fixture(scope="module")
def usual():
    return usual_volumes(1_024)


@pytest.mark.slow
def test_patients_of_every_kind_are_usual_for_the_left_heart(usual):
    for name, source in SOURCES.items():
        patients = measure(source, CASE, usual, 20, 0)
        assert np.shape(patients.curves.values) == (20, 60), name
        assert 0 <= patients.unusual < 0.5
        EF = patients.readings["EF"]
        assert EF.shape == (20,) and (EF > 0).all() and (EF < 100).all()


def test_errors_are_what_they_are_called(usual):
    exact = Case("flow", 1e-6, True)
    own = np.asarray(measure(SOURCES[OWN], exact, usual, 20, 0).curves.values)
    late = np.asarray(measure(SOURCES[LATE], exact, usual, 20, 0).curves.values)
    np.testing.assert_allclose(late[:, 3:], own[:, :-3], atol=1e-3)
    large = SOURCES["left heart, 20 mL too large"]
    added = np.asarray(measure(large, exact, usual, 20, 0).curves.values)
    np.testing.assert_allclose(added - own, 20, atol=1e-3)
    noisy = SOURCES["left heart, twice the noise"]
    twice = np.asarray(measure(noisy, CASE, usual, 20, 0).curves.values) - own
    assert twice.std() == pytest.approx(6, rel=0.05)


def test_refusing_the_least_certain_removes_their_errors():
    error = np.array([1.0, 1.0, 1.0, 1.0, 6.0])
    assert _smaller(error, error) == pytest.approx(50)
    assert _smaller(error, -error) == pytest.approx(100 * (1 - 2.25 / 2))
    told = {
        "spread_by_fifth": [1.0, 2.0, 3.0, 4.0, 5.0],
        "error_by_fifth": [1.0, 1.0, 1.0, 1.0, 6.0],
        "smaller_percent_interval": [1.0, 60.0],
        "error": 2.0,
        "error_of_the_certain": 1.0,
        "smaller_percent": 50.0,
        "smaller_percent_at_best": 50.0,
    }
    assert "too few to tell" in clip_table({})
    assert "lowers the error by 50% (95% interval 1 to 60)" in clip_table(told)


def test_nobody_unnoticed_is_a_dash():
    held = dict.fromkeys(("EF", "stroke_work", "P_lv_max"), 90.0)
    row = {
        **dict.fromkeys(("predictive", "features", "rule", "groups", "fit", "unusual"), 100.0),
        "held": held,
        "held_unnoticed": dict.fromkeys(held),
    }
    assert "| 90, 90, 90 | –, –, – | 100 |" in markdown({"3": {"Her": row}}, 20)


def test_wrong_settings_are_named():
    with pytest.raises(ValueError, match="--noises 0: expected positive ones"):
        Config(noises=(0,))
    with pytest.raises(ValueError, match="no more in a group or fitted than patients"):
        Config(patients=10, group=20)
