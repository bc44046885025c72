"""What is read off a ventricle's beat, against closed forms."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtwin.cohorts.simulate import simulate_cohort
from jaxtwin.models.ejection import ef_level
from jaxtwin.models.left_heart import SEVEN, LeftHeart, LeftHeartParameters
from jaxtwin.models.lvad import LVAD
from jaxtwin.models.ventricle import READINGS, VentricleOutputs
from jaxtwin.physics.base import read
from jaxtwin.physics.check import check_system
from jaxtwin.physics.periodic import periodic_orbit
from jaxtwin.physics.solution import Event, Reading, Recording

HEART = LeftHeart()


def ellipse(scale):
    """A beat whose loop is an ellipse that is run through anticlockwise."""
    angle = 2 * jnp.pi * jnp.arange(480) / 480
    flat = jnp.zeros(480)
    waves = VentricleOutputs(
        V_lv=100 + scale * 40 * jnp.cos(angle),
        P_lv=60 + 50 * jnp.sin(angle),
        P_ao=90 + flat,
        P_la=8 + flat,
        q_m=flat,
        q_a=jnp.where(jnp.arange(480) < 120, 300.0, 0.0),
        q_s=80 + flat,
    )
    highest, lowest = jax.tree.map(jnp.max, waves), jax.tree.map(jnp.min, waves)
    return Recording(highest, lowest, waves, jnp.asarray(0.8))


def test_readings_of_an_ellipse_for_one_and_for_many():
    scale = jnp.asarray([1.0, 0.5])
    many = read(HEART, jax.vmap(ellipse)(scale))
    assert set(many) == set(READINGS)
    expected = {
        "EDV": 100 + 40 * scale,
        "ESV": 100 - 40 * scale,
        "EF": 100 * 80 * scale / (100 + 40 * scale),
        "stroke_volume": 80 * scale,
        "stroke_work": np.pi * 40 * scale * 50,
        "output": 4.8,
        "P_lv_max": 110.0,
        "P_lv_min": 10.0,
        "systolic": 90.0,
        "diastolic": 90.0,
        "pulse_pressure": 0.0,
        "P_ao_mean": 90.0,
        "P_la_mean": 8.0,
        "valve_open": 0.25,
        "period": 0.8,
    }
    for name, value in expected.items():
        np.testing.assert_allclose(many[name], np.broadcast_to(value, 2), rtol=1e-4, err_msg=name)
    for name, value in read(HEART, ellipse(scale[1])).items():
        np.testing.assert_allclose(value, many[name][1], rtol=1e-6, err_msg=name)


def test_a_solution_is_read_with_all_its_steps():
    beat = periodic_orbit(HEART, LeftHeartParameters())
    everything = read(HEART, beat)
    assert read(HEART, beat, "EF") == {"EF": everything["EF"]}
    first = Reading("mmHg", lambda beat: beat.waveforms.P_ao[..., 0])
    assert read(HEART, beat, first) == {first: beat.outputs.P_ao[0]}
    assert everything["EDV"] == jnp.max(beat.outputs.V_lv)
    coarse = read(HEART, beat.recording(24))
    assert coarse["EF"] == everything["EF"] and coarse["output"] != everything["output"]
    with pytest.raises(ValueError, match="LeftHeart has no reading 'MAP': it has EDV, ESV"):
        read(HEART, beat, ["MAP"])


@pytest.mark.parametrize("system", [HEART, LVAD(HEART, 9_000.0)], ids=["bare", "pumped"])
def test_every_reading_says_what_it_is(system):
    for name, reading in system.readings().items():
        assert reading.unit and reading.meaning, name
    for event in system.safety().values():
        assert event.reading in system.readings() and event.low <= event.high


def test_a_heart_is_feasible_while_it_has_blood():
    beats = simulate_cohort(HEART, SEVEN, SEVEN.sample(4, seed=0)).recording
    assert HEART.feasible(beats).all()
    empty = beats.minimum._replace(V_lv=beats.minimum.V_lv - np.array([0.0, 1e3, 0.0, 0.0]))
    assert HEART.feasible(dataclasses.replace(beats, minimum=empty)).tolist() == [1, 0, 1, 1]
    drained = beats.waveforms._replace(P_la=-beats.waveforms.P_la)
    assert not HEART.feasible(dataclasses.replace(beats, waveforms=drained)).any()


def test_levels_of_ejection_fraction():
    levels = ef_level({"EF": np.array([40.0, 40.1, 49.9, 50.0])})
    assert levels == ["reduced", "mildly reduced", "mildly reduced", "preserved"]


class Misread(LeftHeart):
    """A heart whose safety speaks of a number that nobody reads."""

    def safety(self):
        return {"low pressure": Event("MAP", 60.0, np.inf)}


def test_a_safety_event_needs_its_reading():
    report = check_system(Misread())
    assert any("safety events of MAP" in str(problem) for problem in report.problems)
