"""What a newcomer gets wrong is found, named, and comes with what to do."""

import dataclasses
import math
import re
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
import pytest

from jaxtwin.models.glucose import GlucoseTest
from jaxtwin.models.left_heart import LeftHeart
from jaxtwin.models.lvad import LVAD
from jaxtwin.models.windkessel import Windkessel
from jaxtwin.parameters import AbstractParameters, Scalar, parameter
from jaxtwin.physics.base import AbstractPeriodicSystem
from jaxtwin.physics.check import check_system
from jaxtwin.physics.periodic import periodic_orbit
from jaxtwin.physics.record import record
from jaxtwin.physics.solution import Reading
from jaxtwin.physics.solve import simulate


class Swing(NamedTuple):
    x: Scalar
    v: Scalar


class Named(NamedTuple):
    x: Scalar


class SwingParameters(AbstractParameters):
    k: Scalar = parameter(4.0, (1.0, 9.0), symbol="k", unit="1/s²", meaning="stiffness")
    T: Scalar = parameter(2.0, (1.0, 3.0), symbol="T", unit="s", meaning="period")


class Oscillator(AbstractPeriodicSystem[Swing, SwingParameters, Swing]):
    """A driven and damped swing; its parts are replaced by broken ones."""

    field: Any = None
    start: Any = None
    every: Any = None
    jumps: Any = None
    seen: Any = None
    read: Any = None
    kept: Any = None
    size: Any = None
    parameters: ClassVar = SwingParameters

    def vector_field(self, t, state, p):
        if self.field is not None:
            return self.field(t, state, p)
        return Swing(state.v, jnp.cos(2 * jnp.pi * t / p.T) - p.k * state.x - 0.5 * state.v)

    def initial_state(self, p):
        return Swing(1.0, 0.0 * p.k) if self.start is None else self.start(p)

    def outputs(self, t, state, p):
        return state if self.seen is None else self.seen(state)

    def period(self, p):
        return p.T if self.every is None else self.every(p)

    def readings(self):
        return {} if self.read is None else {"r": Reading("", self.read)}

    def discontinuities(self, p):
        return () if self.jumps is None else self.jumps(p)

    def conserved(self, state, p):
        return () if self.kept is None else self.kept(state, p)

    def scaling(self, p):
        return Swing(0.0, 0.0), Swing(1.0, 1.0) if self.size is None else self.size


class Unbounded(AbstractParameters):
    k: Scalar = parameter(4.0, symbol="k", unit="1/s²", meaning="stiffness")


class Bare(AbstractParameters):
    k: float = 4.0


class NoBounds(Oscillator):
    parameters: ClassVar = Unbounded


class Undeclared(Oscillator):
    parameters: ClassVar = Bare


def test_a_transient_has_a_duration():
    report = check_system(GlucoseTest())
    assert not report.problems, str(report)
    assert report.facts["duration"] == "180" and "period" not in report.facts
    assert report.facts["readings"].startswith("G_max, G_min")


@pytest.mark.parametrize("system", [LeftHeart(), Windkessel(), LVAD(LeftHeart(), 9_000.0)])
def test_our_own_have_no_problems(system):
    report = check_system(system)
    assert not report.problems, str(report)
    stiff = not isinstance(system, Windkessel)
    assert report.facts["solver"].startswith("stiff" if stiff else "not stiff")
    assert report.facts["conserved"] == ("1 quantity" if stiff else "no quantities")


def test_time_constants_are_those_of_the_equations():
    """A damped swing of k = 4 and damping 0.5 decays with 1/0.25 = 4 s."""
    report = check_system(Oscillator())
    assert not report.problems and report.facts["fastest mode"] == "4"
    assert "no problems" in str(report) and "not stiff" in str(report)


@pytest.mark.parametrize(
    ("system", "what", "remedy"),
    [
        (NoBounds(), "no parameter has bounds", "between patients"),
        (Undeclared(), "Bare.k has no specification", "parameter"),
        (Oscillator(field=lambda t, s, p: Named(s.v)), r"returns Named\(x\)", "every state var"),
        (Oscillator(field=lambda t, s, p: jnp.stack([s.v, s.x])), "returns a ", "own type"),
        (Oscillator(field=lambda t, s, p: Swing(jnp.ones(3) * s.v, s.x)), "x of shape", "vmap"),
        (Oscillator(start=lambda p: Swing(jnp.ones(2), 0.0)), "initial_state gives", "vmap"),
        (Oscillator(field=lambda t, s, p: Swing(s.v, s.x / (p.k - 4))), "NaN", "division"),
        (
            Oscillator(field=lambda t, s, p: Swing(s.v, jnp.sqrt(jnp.maximum(s.x - 9, 0)))),
            "derivative of vector_field by the state is not finite",
            "jnp.maximum",
        ),
        (
            Oscillator(field=lambda t, s, p: Swing(s.v, -s.x if s.x > 0 else s.x)),
            r"Python `if`.*test_check.py, line",
            "jnp.where",
        ),
        (
            Oscillator(field=lambda t, s, p: Swing(s.v, math.sin(s.x))),
            r"function of math or NumPy.*test_check.py, line",
            "jax.numpy",
        ),
        (Oscillator(seen=lambda s: {"x": s.x}), "outputs returns a dict", "NamedTuple"),
        (Oscillator(read=lambda beat: beat.maximum.y), "reading 'r' fails: AttributeError", "x, v"),
        (Oscillator(read=lambda beat: beat.waveforms.x.mean()), r"shape \(\) for two", "last axis"),
        (Oscillator(every=lambda p: p.T - 2.0), "period is 0:", "above 0"),
        (Oscillator(jumps=lambda p: (1.0, 2 * p.T)), "discontinuities at 4, outside", "strictly"),
        (Oscillator(kept=lambda s, p: (s.x + s.v,)), "conserved quantity 0 changes", "signs"),
        (
            Oscillator(field=lambda t, s, p: Swing(p.k * (s.v - 2 * s.x), 2 * s.x - s.v)),
            r"1 linear combination of the states stay.*names 0; one is 0.25 x \+ 1 v",
            "from `conserved`",
        ),
        (Oscillator(size=Swing(1.0, 0.0)), "not positive for v", "1.0 is a valid"),
    ],
)
def test_what_is_wrong_is_named(system, what, remedy):
    report = check_system(system)
    assert len(report.problems) == 1, str(report)

    assert re.search(what, report.problems[0].what, re.DOTALL), str(report)
    assert remedy in report.problems[0].remedy
    assert "1 problem\n" in str(report)


def test_a_conserved_energy_is_accepted():
    """Undamped and not driven, ½ v² + ½ k x² stays."""
    free = Oscillator(
        field=lambda t, s, p: Swing(s.v, -p.k * s.x),
        kept=lambda s, p: (0.5 * s.v**2 + 0.5 * p.k * s.x**2,),
    )
    report = check_system(free, dataclasses.replace(SwingParameters(), k=2.0))
    assert not report.problems, str(report)


@pytest.mark.parametrize("run", [periodic_orbit, record, lambda s, p: simulate(s, p, jnp.ones(1))])
def test_a_solver_says_what_a_vector_field_lacks(run):
    for field in (lambda t, s, p: Named(s.v), lambda t, s, p: Swing(jnp.ones(3) * s.v, s.x)):
        with pytest.raises(ValueError, match="expected the rate of change of every state"):
            run(Oscillator(field=field), SwingParameters())
