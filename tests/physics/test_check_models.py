"""`check_system` on models that are right."""

import dataclasses
import re
from typing import ClassVar

import jax.numpy as jnp
import pytest

from jaxtwin.models.bjordalsbakke import Bjordalsbakke
from jaxtwin.models.ferreira import Ferreira
from jaxtwin.models.four_chambers import FourChambers
from jaxtwin.models.glucose import GlucoseTest
from jaxtwin.models.her import Her
from jaxtwin.models.left_heart import LeftHeart
from jaxtwin.models.lung import Lung
from jaxtwin.models.lvad import LVAD
from jaxtwin.models.stergiopulos import Stergiopulos
from jaxtwin.models.two_lungs import TwoLungs
from jaxtwin.models.windkessel import Windkessel
from jaxtwin.physics.base import (
    AbstractRecordedSystem,
)
from jaxtwin.physics.check import check_system
from tests.korakianitis import Loop
from tests.physics.oscillator import Named, Oscillator, Swing, SwingParameters, push, pushed


@pytest.mark.slow
def test_a_declared_switch_is_right():
    system = Oscillator(field=pushed(push), jumps=lambda p: (p.t_s,))
    report = check_system(system)
    assert not report.problems, str(report)
    assert report.facts["gradients"] == "as finite differences, by k, T, t_s"


class Decay(AbstractRecordedSystem[Named, SwingParameters, Named]):
    """A transient whose drive stops at t_s; `discontinuities` says so where it is told to."""

    declared: bool
    parameters: ClassVar = SwingParameters

    def vector_field(self, t, state, p):
        return Named(jnp.where(t < p.t_s, 1.0, 0.0) - p.k * state.x)

    def initial_state(self, p):
        return Named(0.0 * p.k)

    def outputs(self, t, state, p):
        return state

    def duration(self, p):
        return p.T

    def discontinuities(self, p):
        return (p.t_s,) if self.declared else ()


@pytest.mark.slow
def test_gradients_of_records_are_checked():
    assert not check_system(Decay(declared=True)).problems
    (problem,) = check_system(Decay(declared=False)).problems
    assert re.search("the gradient of the record by .* is wrong: .*t_s", problem.what)


@pytest.mark.slow
def test_a_transient_has_a_duration():
    report = check_system(GlucoseTest())
    assert not report.problems, str(report)
    assert report.facts["duration"] == "180 min" and "period" not in report.facts
    assert report.facts["readings"].startswith("G_max, G_min")


@pytest.mark.slow
def test_a_circuit_of_ours_has_no_problems():
    report = check_system(Windkessel())
    assert not report.problems and not report.warnings, str(report)
    assert report.facts["solver"].startswith("not stiff")
    assert report.facts["conserved"] == "no quantities"
    assert report.facts["gradients"].startswith("as finite differences, by T_c, T_e")
    assert "error of 240 steps" in report.facts


@pytest.mark.slow
@pytest.mark.parametrize(
    "system",
    [
        LeftHeart(),
        LVAD(LeftHeart(), 9_000.0),
        Ferreira(),
        Her(),
        Bjordalsbakke(),
        Stergiopulos(),
        FourChambers(),
        Lung(),
        TwoLungs(),
    ],
    ids=lambda system: type(system).__name__,
)
def test_none_of_ours_has_problems(system):
    report = check_system(system)
    assert not report.problems and not report.warnings, str(report)
    if isinstance(system, LeftHeart):
        assert report.facts["solver"].startswith("stiff")
    if isinstance(system, LeftHeart | FourChambers):
        assert report.facts["conserved"] == "1 quantity"


@pytest.mark.slow
def test_a_circuit_with_orifice_valves():
    """With 960 steps and smooth roots it is accurate, and no slope is infinite.

    With ventricles so full at t = 0, inflow valves open after beats alone.
    """
    report = check_system(Loop())
    assert all("gradient" in problem.what for problem in report.problems), str(report)
    assert not report.warnings, str(report)
    assert report.facts["conserved"] == "1 quantity"


def test_time_constants_are_those_of_the_equations():
    """A damped swing of k = 4 and damping 0.5 decays with 1/0.25 = 4 s."""
    report = check_system(Oscillator())
    assert not report.problems and report.facts["fastest mode"] == "4"
    assert "no problems" in str(report) and "not stiff" in str(report)


def test_a_conserved_energy_is_accepted():
    """Undamped and not driven, ½ v² + ½ k x² stays."""
    free = Oscillator(
        field=lambda t, s, p: Swing(s.v, -p.k * s.x),
        kept=lambda s, p: (0.5 * s.v**2 + 0.5 * p.k * s.x**2,),
    )
    report = check_system(free, dataclasses.replace(SwingParameters(), k=2.0))
    # Nothing makes it settle, so that there is no orbit to look at.
    assert not any("conserved" in problem.what for problem in report.problems), str(report)
    assert report.facts["conserved"] == "1 quantity"
