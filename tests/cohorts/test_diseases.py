"""Cohorts with diseases: shares, ranges and clinically expected readings."""

import numpy as np
import pytest

from jaxtwin.cohorts.diseases import DISEASES, HEALTHY, beyond_health, draw_diseased
from jaxtwin.models.ejection import ejection_fraction
from jaxtwin.models.left_heart import EIGHT, LeftHeart, LeftHeartParameters
from jaxtwin.parameters import Box


@pytest.fixture(scope="module")
def patients():
    return draw_diseased(LeftHeart(), EIGHT, 200, seed=0)


def of(patients, name):
    return np.array(patients.diagnosis) == name


def test_every_disease_has_its_share_and_its_ranges(patients):
    assert len(patients.diagnosis) == len(patients.cohort.theta) == 200
    assert patients.cohort.success.all()
    EIGHT.check(patients.cohort.theta)
    for disease in DISEASES:
        mask = of(patients, disease.name)
        assert mask.sum() == round(200 * disease.share)
        for name, (low, high) in {**HEALTHY.ranges, **disease.ranges}.items():
            values = patients.cohort.theta[mask, EIGHT.names.index(name)]
            assert values.min() >= low - 1e-6 and values.max() <= high + 1e-6, (disease.name, name)
    # In random order.
    assert len(set(patients.diagnosis[:20])) > 2


def test_they_look_as_a_clinician_expects(patients):
    beats = patients.cohort
    EF = np.asarray(ejection_fraction(beats.recording.maximum.V_lv, beats.recording.minimum.V_lv))
    P_la, P_ao = (
        beats.recording.waveforms.P_la.mean(axis=1),
        beats.recording.waveforms.P_ao.mean(axis=1),
    )
    gradient = beats.recording.maximum.P_lv - beats.recording.maximum.P_ao
    healthy = of(patients, "healthy")
    assert np.median(EF[healthy]) > 50
    assert np.median(EF[of(patients, "reduced contractility")]) < 40
    assert np.median(P_la[of(patients, "mitral stenosis")]) > np.median(P_la[healthy]) + 2
    assert np.median(gradient[of(patients, "aortic stenosis")]) > 20 > np.max(gradient[healthy])
    assert np.median(P_ao[of(patients, "hypertension")]) > np.median(P_ao[healthy]) + 10


def test_the_same_seed_gives_the_same_patients(patients):
    again = draw_diseased(LeftHeart(), EIGHT, 200, seed=0)
    np.testing.assert_array_equal(again.cohort.theta, patients.cohort.theta)
    assert again.diagnosis == patients.diagnosis
    other = draw_diseased(LeftHeart(), EIGHT, 200, seed=1)
    assert not np.array_equal(other.cohort.theta, patients.cohort.theta)


def test_impossible_cohorts_are_refused():
    with pytest.raises(ValueError, match="add up to 1"):
        draw_diseased(LeftHeart(), EIGHT, 10, seed=0, diseases=DISEASES[:2])
    with pytest.raises(ValueError, match="6 patients: expected at least 10"):
        draw_diseased(LeftHeart(), EIGHT, 6, seed=0)
    nobody = HEALTHY._replace(share=1.0, ranges={**HEALTHY.ranges, "V_0": (0.0, 1.0)})
    with pytest.raises(ValueError, match=r"healthy: only \d+ of \d+ draws"):
        draw_diseased(LeftHeart(), EIGHT, 4, seed=0, diseases=(nobody,))


def test_beyond_health_is_on_the_side_of_the_disease():
    box = Box.of(LeftHeartParameters, ("E_max", "R_m"))
    theta = np.array([[[2.0, 0.012], [1.7, 0.013]], [[3.4, 0.005], [1.8, 0.1]]])
    by_name = {disease.name: disease for disease in DISEASES}
    narrow = beyond_health(by_name["mitral stenosis"], box, theta)
    np.testing.assert_array_equal(narrow, [[False, True], [False, True]])
    weak = beyond_health(by_name["reduced contractility"], box, theta)
    np.testing.assert_array_equal(weak, [[False, True], [False, False]])
    for disease in (HEALTHY, by_name["hypertension"]):
        with pytest.raises(ValueError, match="expected a parameter of the box, E_max, R_m"):
            beyond_health(disease, box, theta)


def test_ill_is_who_is_beyond_health(patients):
    """In the default cohort, a diagnosis and its parameter say the same."""
    for disease in DISEASES[1:]:
        beyond = beyond_health(disease, EIGHT, np.asarray(patients.cohort.theta))
        np.testing.assert_array_equal(beyond, of(patients, disease.name))
