"""Doses for a posterior, against closed forms of the windkessel."""

import numpy as np
import pytest

from jaxtwin.methods.posterior import Posterior
from jaxtwin.models.windkessel import Windkessel, WindkesselParameters
from jaxtwin.parameters import Box
from jaxtwin.treatments import Drug, choose_dose, combine

BOX = Box.of(WindkesselParameters, ("SV", "R"))
T_c, Z, SV = 0.9, 0.05, 60.0
DOSES = np.linspace(-0.5, 0.5, 101)


class Fragile(Windkessel):
    """A circulation that does not survive high pressures."""

    def feasible(self, recording):
        return recording.maximum.P_ao < 180


def inotrope(x):
    return Drug({"SV": x[0]})


def inotrope_and_dilator(x):
    return combine(Drug({"SV": x[0]}), Drug({"R": x[1]}))


def patient(R, system=None):
    theta = np.stack([np.full(len(R), SV), R], axis=1)[None].astype(np.float32)
    return Posterior(system or Windkessel(), BOX, theta, np.ones(1, bool))


def choose(posterior, high=100.0, make=inotrope, grids=(DOSES,), **settings):
    return choose_dose(
        posterior, make, grids, maximise="output", within={"P_ao_mean": (0.0, high)}, **settings
    )


def largest(R, high=100.0):
    """The dose x at which the mean pressure, (R + Z) SV (1 + x)/T_c, is the highest allowed."""
    return high * T_c / ((R + Z) * SV) - 1


def output(dose):
    return SV * (1 + dose) / T_c * 60 / 1000


def test_doses_are_those_of_the_closed_form():
    R = np.linspace(0.9, 1.7, 200)
    choice = choose(patient(R))
    assert choice.safe is not None and choice.expected is not None
    # 95% of the draws must bear the dose; the resistances are sorted.
    for found, limit in ((choice.safe, R[189]), (choice.expected, R.mean())):
        assert largest(limit) - 0.011 < found.doses[0] < largest(limit) + 0.002
    np.testing.assert_allclose(choice.safe.expected["output"], output(choice.safe.doses[0]), 2e-3)
    np.testing.assert_allclose(
        choice.expected.expected["P_ao_mean"],
        (R.mean() + Z) * SV * (1 + choice.expected.doses[0]) / T_c,
        2e-3,
    )
    assert 0.95 <= choice.safe.safety < 0.97 and 0.4 < choice.expected.safety < 0.6
    # The grid's best is half a step below on average.
    np.testing.assert_allclose(choice.known, output(largest(R) - 0.005).mean(), rtol=2e-3)
    assert choice.safe.expected["output"] < choice.expected.expected["output"] < choice.known
    assert choice.treatable == 1 and choice.doses.shape == (101, 1)
    expected = [np.mean(largest(R) >= dose) for dose in DOSES]
    np.testing.assert_allclose(choice.safety, expected, atol=0.02)
    assert choice.message.startswith("dose ") and "is safe with a probability" in choice.message


def test_a_known_patient_has_one_best_dose():
    choice = choose(patient(np.full(1, 1.2)))
    assert choice.safe == choice.expected == choice.most_probable
    assert choice.safe is not None and choice.safe.safety == 1
    assert choice.safe.expected["output"] == choice.known


def test_that_no_dose_is_safe_is_said():
    """One hypothesis bears no dose below which the other has pressure enough."""
    R = np.repeat([0.6, 2.0], [60, 40])
    choice = choose_dose(
        patient(R), inotrope, [DOSES], maximise="output", within={"P_ao_mean": (60.0, 80.0)}
    )
    assert choice.safe is None and choice.most_probable.safety == 0.6
    assert choice.treatable == 1
    assert choice.message.startswith(
        f"no dose is known to be safe: the highest probability is 60% of 95%, at dose "
        f"{choice.most_probable.doses[0]:g}"
    )
    # With less to be sure of, the best dose of the likelier hypothesis is taken.
    brave = choose_dose(
        patient(R),
        inotrope,
        [DOSES],
        maximise="output",
        within={"P_ao_mean": (60.0, 80.0)},
        probability=0.6,
    )
    assert brave.safe == choice.most_probable
    never = choose(patient(R), high=10.0)
    assert never.safe is None and never.expected is None and never.most_probable.safety == 0
    assert never.treatable == 0 and np.isnan(never.known)


def test_failed_draws_are_unsafe_and_not_averaged():
    R = np.repeat([1.0, 2.4], [90, 10])
    choice = choose(patient(R, Fragile()), high=np.inf, grids=[[-0.4, 0.1]])
    # At the higher dose, the pressure of one draw in ten is not feasible.
    assert choice.safety.tolist() == [1.0, 0.9]
    assert choice.safe is not None and choice.expected is not None
    assert choice.safe.candidate == 0 and choice.expected.candidate == 1
    assert np.isnan(choice.values["output"][1, 90:]).all()
    np.testing.assert_allclose(choice.expected.expected["output"], output(0.1), rtol=2e-3)
    # Where most draws fail, the others are no expectation.
    most = choose(patient(R[::-1].repeat([9] * 10 + [1] * 90), Fragile()), np.inf, grids=[[0.1]])
    assert 0.4 < most.safety[0] < 0.6
    few = choose(patient(np.repeat([1.0, 2.4], [10, 90]), Fragile()), np.inf, grids=[[0.1]])
    assert few.expected is None and few.safe is None and few.safety[0] == 0.1


def test_two_doses_are_all_combined():
    grids = (np.linspace(0, 0.5, 6), np.linspace(-0.5, 0, 3))
    choice = choose(patient(np.full(20, 1.2)), make=inotrope_and_dilator, grids=grids)
    assert choice.doses.shape == (18, 2) and choice.safe is not None
    # The vasodilator lets the other dose rise to its end: 0.65·60·1.5/0.9 = 65 mmHg.
    np.testing.assert_allclose(choice.safe.doses[0], 0.5)
    assert choice.safe.doses[1] < 0


def test_bounds_and_slips_are_named(as_a_user):
    posterior = patient(np.full(20, 1.2))
    with pytest.warns(UserWarning, match=r"the dose \[1.5\] .* SV of 20 of 20 draws"):
        choose(posterior, high=np.inf, grids=[[1.5]])
    both = posterior._replace(theta=posterior.theta.repeat(2, 0), success=np.ones(2, bool))
    with pytest.raises(ValueError, match=r"shape \(2, 20, 2\): expected one patient"):
        choose(both)
    with pytest.raises(ValueError, match=r"expected one patient, .*posterior.take\(\[0\]\)"):
        choose(both.take(0))
    with pytest.raises(ValueError, match="got ndarray: expected the posterior of one patient"):
        choose(posterior.theta)
    with pytest.raises(ValueError, match="has no posterior"):
        choose(posterior._replace(success=np.zeros(1, bool)))
    with pytest.raises(ValueError, match="outside the box"):
        choose(posterior._replace(theta=posterior.theta + 100))
    with pytest.raises(ValueError, match="at least one grid"):
        choose(posterior, grids=[])
    with pytest.raises(ValueError, match="expected one grid for each dose"):
        choose(posterior, grids=[0.0, 0.1])
    with pytest.raises(ValueError, match="at least one finite dose"):
        choose(posterior, grids=[[0.1, np.nan]])
    with pytest.raises(ValueError, match="expected low < high"):
        choose(posterior, high=-1.0)
    with pytest.raises(ValueError, match="probability=95"):
        choose(posterior, probability=95)
    with pytest.raises(ValueError, match="reads more doses than the 1 that have grids"):
        choose(posterior, make=inotrope_and_dilator)
    with pytest.raises(ValueError, match=r"no endpoints \['EF'\]: there are systolic"):
        choose_dose(posterior, inotrope, [DOSES], maximise="EF", within={})
    with pytest.raises(ValueError, match="what `make` returns"):
        choose(posterior, make=lambda x: x)
