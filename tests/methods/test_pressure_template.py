"""The pressure template: its own loop, its scale, its events, and what is missing."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxtwin.cohorts.simulate import simulate_cohort
from jaxtwin.methods.measured import Channel, Curves
from jaxtwin.methods.pressure_template import (
    PressureTemplate,
    Template,
    aligned_phases,
    cuff_elastance,
    find_events,
    interpolated,
    template_phases,
)
from jaxtwin.methods.saving import load_learnt, save_learnt
from jaxtwin.methods.tasks import CurveTask
from jaxtwin.models.glucose import TWIN, GlucoseTest
from jaxtwin.models.left_heart import SEVEN, LeftHeart

CUFF = Channel("systolic", 1.0)
TASK = CurveTask(LeftHeart(), SEVEN, "V_lv", 0.5, ("P_lv", "P_ao"), known="T_c", beside=(CUFF,))
FEW = PressureTemplate(patients=32)


@pytest.fixture(scope="module")
def patients():
    theta = SEVEN.sample(4, seed=3)
    return simulate_cohort(LeftHeart(), SEVEN, theta, phases=TASK.samples, throw=True)


@pytest.fixture(scope="module")
def learnt():
    return FEW.learn(TASK)


def with_cuff(curves, systolic):
    return curves._replace(beside={"systolic": Curves(np.asarray(systolic, np.float32)[:, None])})


def test_the_patient_who_is_the_template_gets_their_own_loop(patients):
    one = patients.take(slice(0, 1))
    template = Template.of(TASK, one, np.random.default_rng(0))
    found = FEW.ready(TASK, template)(TASK.check(TASK.measure(one, 0)))
    true = one.recording.waveforms
    np.testing.assert_allclose(found.recording.waveforms["V_lv"], true.V_lv, atol=1e-3)
    peak = float(true.P_lv.max())
    np.testing.assert_allclose(found.recording.waveforms["P_lv"], true.P_lv, atol=0.03 * peak)
    for name, rtol in (("stroke_work", 0.01), ("P_lv_max", 0.01), ("EF", 1e-3)):
        np.testing.assert_allclose(found.readings[name], one.read([name])[name], rtol=rtol)
    assert found.theta is None and found.success.all()


def test_pressure_and_work_are_proportional_to_the_cuff(patients, learnt):
    curves = TASK.measure(patients, 0)
    single, double = (
        learnt.estimate(with_cuff(curves, size * np.array([90.0, 110, 130, 150])))
        for size in (1, 2)
    )
    waves = [found.recording.waveforms for found in (single, double)]
    np.testing.assert_allclose(waves[1]["P_lv"], 2 * waves[0]["P_lv"], rtol=1e-6)
    np.testing.assert_array_equal(waves[1]["V_lv"], waves[0]["V_lv"])
    work, twice = (found.readings["stroke_work"] for found in (single, double))
    np.testing.assert_allclose(twice, 2 * work, rtol=1e-6)
    assert (work > 0).all()


def trapezoid(start, end, back, n=200):
    """100 until `start`, 50 from `end` to `back`, and 100 again at 0.95."""
    return np.interp(np.arange(n) / n, [0, start, end, back, 0.95], [100, 100, 50, 50, 100])


def test_events_are_beginning_and_end_of_ejection():
    curves = np.stack([trapezoid(0.1, 0.4, 0.6), np.roll(trapezoid(0.1, 0.4, 0.6), 130)])
    np.testing.assert_allclose(
        find_events(curves, 0.05), [[0.115, 0.385], [0.765, 0.035]], atol=1e-9
    )
    np.testing.assert_allclose(find_events(curves[:1], 0.0), [[0.1, 0.4]], atol=1e-9)


def test_events_of_a_template_coincide_with_the_patients():
    """A pressure that peaks at the end of ejection does so in every patient."""
    events = find_events(np.stack([trapezoid(0.1, 0.4, 0.6), trapezoid(0.2, 0.35, 0.5)]), 0.05)
    at_events = np.stack([template_phases(row, row[None])[0] for row in events])
    np.testing.assert_allclose(at_events, [[0, 0.5]] * 2, atol=1e-12)
    peaked = np.interp(np.arange(400) / 400, [0, 0.5, 1], [0, 1, 0])
    phases = template_phases(np.arange(1000) / 1000, events)
    shown = interpolated(np.broadcast_to(peaked, (2, 400)), phases)
    np.testing.assert_allclose(shown.argmax(axis=1) / 1000, events[:, 1], atol=1e-3)
    np.testing.assert_allclose(shown.argmin(axis=1) / 1000, events[:, 0], atol=1e-3)


@given(
    st.floats(0, 0.999),
    st.floats(0.05, 0.95),
    st.lists(st.floats(0, 0.999), min_size=1, max_size=9),
)
def test_alignment_and_its_inverse(start, ejection, points):
    events, points = np.array([[start, (start + ejection) % 1]]), np.array(points)
    back = template_phases(aligned_phases(points, events)[0], events)[0]
    off = (back - points + 0.5) % 1 - 0.5  # 0 and 1 are the same phase.
    np.testing.assert_allclose(off, 0, atol=1e-9)


def test_who_has_no_cuff_gets_the_mean_and_affects_nobody_else(patients, learnt):
    curves = TASK.measure(patients, 0)
    whole = learnt.estimate(with_cuff(curves, [90, 110, 130, 150]))
    broken = learnt.estimate(with_cuff(curves, [90, np.nan, 130, -20]))
    assert whole.success.all() and broken.success.tolist() == [True, True, True, False]
    for name in ("V_lv", "P_lv"):
        was, now = (found.recording.waveforms[name][[0, 2]] for found in (whole, broken))
        np.testing.assert_array_equal(was, now)
    mean = float(learnt.knowledge.scale)
    np.testing.assert_allclose(
        broken.readings["P_lv_max"][1], whole.readings["P_lv_max"][1] * mean / 110, rtol=1e-6
    )
    with pytest.warns(UserWarning, match="samples that are NaN"):
        values = curves.values.copy()
        values[2, 7] = np.nan
        gap = learnt.estimate(with_cuff(curves._replace(values=values), [90, 110, 130, 150]))
    assert gap.success.tolist() == [True, True, False, True]
    np.testing.assert_array_equal(
        gap.readings["stroke_work"][:2], whole.readings["stroke_work"][:2]
    )


def test_without_a_cuff_in_the_task_all_have_the_mean_of_the_prior(patients, learnt):
    bare = dataclasses.replace(TASK, beside=())
    found = FEW.learn(bare)
    np.testing.assert_allclose(found.knowledge.scale, learnt.knowledge.scale)
    curves = bare.measure(patients, 0)
    np.testing.assert_allclose(
        found.estimate(curves).recording.waveforms["P_lv"],
        learnt.estimate(with_cuff(curves, np.full(4, learnt.knowledge.scale))).recording.waveforms[
            "P_lv"
        ],
        rtol=1e-5,
    )


def test_noise_is_taken_out_of_the_curve(patients):
    noisy = dataclasses.replace(TASK, noise=6.0)
    learnt = FEW.learn(noisy)
    gain = learnt.knowledge.gain
    assert gain[0] > 0.999 and (np.diff(gain) < 0.05).all() and gain[-1] < 0.1
    curves, exact = noisy.measure(patients, 0), patients.recording.waveforms.V_lv
    got = learnt.estimate(curves).recording.waveforms["V_lv"]
    assert np.std(got - exact) < 0.6 * np.std(curves.values - exact)


def test_it_is_saved_and_loaded(patients, learnt, tmp_path):
    save_learnt(tmp_path / "template", learnt)
    curves = TASK.measure(patients, 0)
    again = load_learnt(tmp_path / "template", FEW, TASK).estimate(curves)
    np.testing.assert_allclose(
        again.readings["stroke_work"], learnt.estimate(curves).readings["stroke_work"], rtol=1e-6
    )


def test_the_shortcut_to_contractility():
    np.testing.assert_allclose(
        cuff_elastance(np.array([120.0, 100.0]), np.array([54.0, 30.0])), [2.0, 3.0]
    )


def test_what_it_cannot_estimate_is_refused():
    with pytest.raises(ValueError, match="knows only curves that repeat themselves"):
        PressureTemplate().learn(CurveTask(GlucoseTest(), TWIN, "G", 0.5, samples=30))
    with pytest.raises(ValueError, match="which this task measures"):
        PressureTemplate(output="V_lv").learn(TASK)
    with pytest.raises(ValueError, match="has no reading 'sistolic'"):
        PressureTemplate(scale="sistolic").learn(TASK)
    with pytest.raises(ValueError, match=r"threshold of PressureTemplate is 0\.5"):
        PressureTemplate(threshold=0.5)
