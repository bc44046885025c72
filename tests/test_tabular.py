"""Cohorts, trials and estimates as xarray and pandas take them."""

import sys

import jax
import numpy as np
import pandas
import pytest
from hypothesis import given, settings

from jaxtwin.cohorts.cohort import Cohort
from jaxtwin.identity import fingerprint
from jaxtwin.methods.base import Estimate
from jaxtwin.methods.tasks import CurveTask
from jaxtwin.models.glucose import TWIN, GlucoseTest
from jaxtwin.models.her import Her, HerParameters
from jaxtwin.models.left_heart import SEVEN, LeftHeart
from jaxtwin.models.lvad import LVAD
from jaxtwin.parameters import Box
from jaxtwin.physics.base import outputs_of
from jaxtwin.physics.channels import by_name
from jaxtwin.physics.solution import Event, Reading, Recording
from jaxtwin.tabular import Column, _identity, named
from jaxtwin.treatments.results import Trial
from tests.cohorts.test_take_and_join import cohorts

few = settings(deadline=None, max_examples=15, derandomize=True)


def drawn(system, box, n=3):
    """A cohort of random numbers; one patient failed, and has NaN everywhere."""
    random = np.random.default_rng(0)

    def numbers(*shape):
        values = random.uniform(1.0, 2.0, (n, *shape)).astype(np.float32)
        values[1] = np.nan
        return values

    def every(*shape):
        return jax.tree.map(lambda _: numbers(*shape), outputs_of(system))

    theta = box.sample(n, seed=0)
    recording = Recording(every(), every(), every(4), numbers())
    success = np.arange(n) != 1
    return Cohort(system, box, theta, recording, success, numbers(), numbers(), "a draw", 0.25)


@few
@given(cohorts())
def test_a_dataset_has_every_number_of_the_cohort(cohort):
    data = cohort.to_dataset()
    assert dict(data.sizes) == {"patient": len(cohort), "phase": 4}
    np.testing.assert_array_equal(data.phase, [0, 0.25, 0.5, 0.75])
    for name, values in by_name(cohort.recording.waveforms).items():
        assert data[name].dims == ("patient", "phase")
        np.testing.assert_array_equal(data[name], values)
        for which in ("maximum", "minimum"):
            expected = getattr(getattr(cohort.recording, which), name)
            np.testing.assert_array_equal(data[f"{name}_{which}"], expected)
    for name, values in zip(cohort.box.names, cohort.theta.T, strict=True):
        np.testing.assert_array_equal(data[name], values)
    for name, values in cohort.read().items():
        np.testing.assert_array_equal(data[name], values)
    for name in ("success", "residual", "error"):
        np.testing.assert_array_equal(data[name], getattr(cohort, name))
    np.testing.assert_array_equal(data.duration, cohort.recording.duration)
    assert (data.attrs["source"], data.attrs["accepted"]) == ("drawn", 0.5)


@few
@given(cohorts())
def test_a_frame_has_one_row_for_every_patient_failed_or_not(cohort):
    frame, data = cohort.to_dataframe(), cohort.to_dataset()
    assert len(frame) == len(cohort) and frame.index.name == "patient"
    for name in frame.columns:
        np.testing.assert_array_equal(frame[name], data[name])
        assert frame.attrs["units"].get(name) == data[name].attrs.get("units")
    expected = {*cohort.box.names, *cohort.read(), "success", "residual", "error", "duration"}
    assert set(frame.columns) == expected


def test_units_meanings_and_the_identity_are_in_the_attributes():
    data = drawn(LeftHeart(), SEVEN).to_dataset()
    assert data.V_lv.attrs == {"units": "mL", "long_name": "left-ventricular volume"}
    assert data.P_ao_maximum.attrs == {"units": "mmHg", "long_name": "largest aortic pressure"}
    assert data.EF.attrs["units"] == "%" and data.R_a.attrs["units"] == "mmHg·s/mL"
    assert data.duration.attrs["units"] == "s" and "units" not in data.success.attrs
    assert data.attrs["system"] == "LeftHeart"
    assert data.attrs["fingerprint"] == fingerprint(LeftHeart(), SEVEN).key
    assert data.attrs["note"] == "research use only"


def test_a_failed_patient_keeps_its_row_of_nan():
    cohort = drawn(LeftHeart(), SEVEN)
    data, frame = cohort.to_dataset(), cohort.to_dataframe()
    assert data.success.values.tolist() == frame.success.tolist() == [True, False, True]
    assert np.isnan(data.V_lv[1]).all() and np.isfinite(data.V_lv[[0, 2]]).all()
    assert np.isnan(frame.EF[1]) and np.isfinite(frame.T_c[1])


def test_time_has_the_systems_own_unit():
    assert drawn(GlucoseTest(), TWIN).to_dataset().duration.attrs["units"] == "min"


def test_a_pump_and_its_heart_stand_side_by_side():
    data = drawn(LVAD(LeftHeart(), 9_000.0), SEVEN).to_dataset()
    assert {"V_lv", "Q_p", "Q_p_minimum", "pump_flow"} <= set(data) and "heart" not in data


def test_a_parameter_and_an_output_of_one_name_are_both_there():
    cohort = drawn(Her(), Box.of(HerParameters, ("P_la", "T_c")))
    data = cohort.to_dataset()
    np.testing.assert_array_equal(data.P_la_parameter, cohort.theta[:, 0])
    np.testing.assert_array_equal(data.P_la, cohort.recording.waveforms.P_la)
    assert "P_la_parameter" in cohort.to_dataframe()


def test_of_two_quantities_with_one_name_the_parameter_is_renamed():
    one = np.zeros(2)
    columns = [
        Column("parameter", "V", one),
        Column("reading", "phase", one),
        Column("output", "V", one),
        Column("output", "success", one),
        Column("status", "success", one),
    ]
    found = named(columns)
    assert list(found) == ["V_parameter", "phase_reading", "V", "success_output", "success"]
    assert list(found.values()) == columns
    with pytest.raises(ValueError, match="two columns are called V_parameter"):
        named([*columns, Column("reading", "V_parameter", one)])


def trial():
    cohort = drawn(LeftHeart(), SEVEN)
    endpoints = {"EF": LeftHeart().readings()["EF"], "T_c": Reading("ms", lambda beat: 0.0)}
    random = np.random.default_rng(1)
    values = {name: random.normal(size=(2, 3)) for name in endpoints}
    values["EF"][1, 2] = np.nan
    safety = {"low": Event("EF", 0.0, np.inf)}
    return Trial(cohort, ("none", "pump"), endpoints, values, np.isfinite(values["EF"]), safety)


def test_a_trial_has_the_dimensions_arm_and_patient():
    results = trial()
    data = results.to_dataset()
    assert dict(data.sizes) == {"patient": 3, "arm": 2}
    assert data.EF.dims == ("arm", "patient") and data.EF.attrs["units"] == "%"
    np.testing.assert_array_equal(data.EF, results.values["EF"])
    np.testing.assert_array_equal(data.EF.sel(arm="pump"), results.arm("pump")["EF"])
    np.testing.assert_array_equal(data.success, results.success)
    np.testing.assert_array_equal(data.E_max, results.cohort.theta[:, 2])


def test_a_trials_frame_has_one_row_per_patient_and_arm(tmp_path):
    results = trial()
    frame = results.to_dataframe()
    assert frame.arm.tolist() == ["none"] * 3 + ["pump"] * 3
    assert frame.patient.tolist() == [0, 1, 2, 0, 1, 2]
    np.testing.assert_array_equal(frame.EF, results.values["EF"].reshape(-1))
    # An endpoint and a parameter of one name are both there.
    np.testing.assert_array_equal(frame.T_c, results.values["T_c"].reshape(-1))
    np.testing.assert_array_equal(frame.T_c_parameter, np.tile(results.cohort.theta[:, 0], 2))
    assert frame.attrs["units"]["T_c"] == "ms" and frame.attrs["units"]["T_c_parameter"] == "s"
    results.write(tmp_path / "trial.csv")
    written = pandas.read_csv(tmp_path / "trial.csv")
    pandas.testing.assert_frame_equal(written, frame, check_dtype=False)


def test_a_system_without_an_identity_has_a_dataset_without_one():
    pump = LVAD(LeftHeart(), lambda: 1.0)  # pyright: ignore[reportArgumentType]
    assert "fingerprint" not in _identity(pump, SEVEN)


@pytest.mark.parametrize(
    ("library", "call"), [("xarray", "to_dataset"), ("pandas", "to_dataframe")]
)
def test_a_missing_library_is_named_with_its_extra(library, call, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(
        ImportError,
        match=rf"{library} is not installed: .* in a clone pip install -e '\.\[tables\]'",
    ):
        getattr(trial().cohort, call)()


def estimate(n=3):
    task = CurveTask(LeftHeart(), SEVEN, "V_lv", 0.2, ("P_lv",), samples=4)
    cohort = drawn(task.system, task.box, n)
    waveforms = {name: getattr(cohort.recording.waveforms, name) for name in task.channels}
    return task, task.estimate(waveforms, theta=cohort.theta)


def test_an_estimate_has_what_the_method_gives():
    task, found = estimate()
    found = found._replace(misfit=np.array([0.5, np.nan, 2.0]))
    data, frame = found.to_dataset(task), found.to_dataframe(task)
    assert dict(data.sizes) == {"patient": 3, "phase": 4}
    assert found.recording is not None and found.theta is not None
    np.testing.assert_array_equal(data.P_lv, found.recording.waveforms.P_lv)
    np.testing.assert_array_equal(data.V_lv_maximum, found.recording.maximum.V_lv)
    assert "P_lv_maximum" not in data and data.P_lv.attrs["units"] == "mmHg"
    for table in (data, frame):
        np.testing.assert_array_equal(table.R_m, found.theta[:, 4])
        np.testing.assert_array_equal(table.EF, found.readings["EF"])
        np.testing.assert_array_equal(table.misfit, found.misfit)
        assert table.success.values.tolist() == [True, False, True]
    assert data.EF.attrs["units"] == frame.attrs["units"]["EF"] == "%"


def test_an_estimate_of_numbers_alone_has_no_phases():
    task, found = estimate()
    data = Estimate(None, None, found.success, found.readings).to_dataset(task)
    assert dict(data.sizes) == {"patient": 3} and set(data) == {*found.readings, "success"}
