"""Common mistakes in a system are found, named, and reported with a fix."""

import dataclasses
import math
import re
from typing import Any, ClassVar, NamedTuple

import jax
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
from jaxtwin.parameters import AbstractParameters, Scalar, parameter
from jaxtwin.physics.base import (
    AbstractPeriodicSystem,
    AbstractRecordedSystem,
    check_channels,
    read,
)
from jaxtwin.physics.check import check_system
from jaxtwin.physics.periodic import periodic_orbit
from jaxtwin.physics.record import record
from jaxtwin.physics.solution import Reading
from jaxtwin.physics.solve import simulate
from tests.korakianitis import Loop


class Swing(NamedTuple):
    x: Scalar
    v: Scalar


class Named(NamedTuple):
    x: Scalar


class SwingParameters(AbstractParameters):
    k: Scalar = parameter(4.0, (1.0, 9.0), "1/s²", "stiffness")
    T: Scalar = parameter(2.0, (1.0, 3.0), "s", "period")
    t_s: Scalar = parameter(0.7, (0.3, 0.9), "s", "end of a push")


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
    names: Any = None
    bands: Any = None
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
        if self.names is not None:
            return self.names
        return {} if self.read is None else {"r": Reading("", self.read)}

    def limits(self):
        return {} if self.bands is None else self.bands

    def discontinuities(self, p):
        return () if self.jumps is None else self.jumps(p)

    def conserved(self, state, p):
        return () if self.kept is None else self.kept(state, p)

    def scaling(self, p):
        return self.size or (Swing(0.0, 0.0), Swing(1.0, 1.0))


class Unbounded(AbstractParameters):
    k: Scalar = parameter(4.0, None, "1/s²")


class Bare(AbstractParameters):
    k: float = 4.0


class NoBounds(Oscillator):
    parameters: ClassVar = Unbounded


class Undeclared(Oscillator):
    parameters: ClassVar = Bare


class Instance(Oscillator):
    parameters: ClassVar = SwingParameters()


class Nothing(Oscillator):
    parameters: ClassVar = None


def pushed(force):
    """A driven and damped swing with one more force, of x and the parameters (and t)."""

    def field(t, s, p):
        more = force(t, p) if force is push else force(s.x, p)
        return Swing(s.v, jnp.cos(2 * jnp.pi * t / p.T) - p.k * s.x - 0.5 * s.v - more)

    return field


def push(t, p):
    return jnp.where(t - p.T * jnp.floor(t / p.T) <= p.t_s, 1.0, 0.0)


def valve(t, s, p):
    """A root so steep that 480 steps do not solve its equations, and 960 do."""
    d = s.x - jnp.cos(2 * jnp.pi * t / p.T)
    return 600 * d / jnp.sqrt(jnp.abs(d) + 1e-5)


@jax.custom_vjp
def bad_rule(x):
    return 0.1 * x


bad_rule.defvjp(lambda x: (0.1 * x, None), lambda _, g: (0.2 * g,))


class Ring(NamedTuple):
    A: Scalar
    B: Scalar
    C: Scalar
    D: Scalar


class TwoPairs(Oscillator):
    """Four tanks; those between the pairs are connected by valves that open later alone."""

    def vector_field(self, t, state, p):
        swing = 4 * jnp.sin(2 * jnp.pi * t / p.T)
        ab, cd = p.k * (state.A - state.B), p.k * (state.C - state.D)
        bc = jnp.maximum(state.B - state.C + swing, 0)
        da = jnp.maximum(state.D - state.A - swing, 0)
        return Ring(da - ab, ab - bc, bc - cd, cd - da)

    def initial_state(self, p):
        return Ring(10.0, 0.0, 10.0, 0.0)

    def scaling(self, p):
        return Ring(0.0, 0.0, 0.0, 0.0), Ring(1.0, 1.0, 1.0, 1.0)


@pytest.mark.slow
def test_what_is_conserved_is_looked_for_over_whole_beats():
    """At the initial state and around it no valve is open: A + B and C + D stay as they are."""
    report = check_system(TwoPairs(kept=lambda s, p: (sum(s),)))
    assert not report.problems, str(report)
    (problem,) = check_system(TwoPairs()).problems
    assert re.search(
        r"1 linear combination .* names 0; one is 1 A \+ 1 B \+ 1 C \+ 1 D", problem.what
    )
    problem, *_ = check_system(TwoPairs(kept=lambda s, p: (s.A + s.B, s.C + s.D))).problems
    assert "conserved quantity 0 changes" in problem.what
    (problem,) = check_system(TwoPairs(kept=lambda s, p: (sum(s), 2 * sum(s)))).problems
    assert "2 conserved quantities are not independent" in problem.what


@pytest.mark.slow
def test_a_declared_switch_is_right():
    system = Oscillator(field=pushed(push), jumps=lambda p: (p.t_s,))
    report = check_system(system)
    assert not report.problems, str(report)
    assert report.facts["gradients"] == "as finite differences, by k, T, t_s"


@pytest.mark.slow
def test_infinite_slopes_at_a_switch_are_named():
    def root(x, p):
        return jnp.where(x > 0, jnp.sqrt(jnp.where(x > 0, x, 1.0)), 0.0)

    (warning,) = check_system(Oscillator(field=pushed(root))).warnings
    assert re.search("grow without bound .*such as when a valve opens: dv/dt by x", warning.what)
    assert "dp / jnp.sqrt(jnp.abs(dp) + eps)" in warning.remedy

    def both_ways(x, p):
        return 0.1 * jnp.sign(x) * jnp.sqrt(jnp.abs(x))

    assert check_system(Oscillator(field=pushed(both_ways))).warnings

    smooth = Oscillator(field=pushed(lambda x, p: x / jnp.sqrt(jnp.abs(x) + 1e-3)))
    report = check_system(smooth)
    assert not report.warnings and not report.problems, str(report)


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


@pytest.mark.parametrize("run", [check_system, periodic_orbit, record])
@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((Oscillator, SwingParameters()), r"the class Oscillator: .* write Oscillator\(\)"),
        ((SwingParameters(), Oscillator()), "of type SwingParameters: expected an instance of a s"),
        (
            (Oscillator(), SwingParameters),
            r"p is the class Swing.* system.parameters\(k=..., ...\)",
        ),
        ((Oscillator(), {"k": 1.0}), "p is of type dict: .* instance of SwingParameters"),
        ((Oscillator(), Unbounded()), "p is of type Unbounded: .* instance of SwingParameters"),
    ],
)
def test_what_is_no_system_or_no_parameters_is_said(run, args, message, as_a_user):
    with pytest.raises(ValueError, match=message):
        run(*args)


def test_what_cannot_be_read_is_said(as_a_user):
    orbit = periodic_orbit(Oscillator(), SwingParameters())
    for args, message in (
        ((orbit, Oscillator()), "system is of type Solution: expected an instance of a system"),
        ((Oscillator(), SwingParameters()), "beat is of type SwingParameters: expected a Solution"),
    ):
        with pytest.raises(ValueError, match=message):
            read(*args)
    with pytest.raises(ValueError, match=r"write Oscillator\(\)"):
        check_channels(Oscillator, "x")  # pyright: ignore[reportArgumentType]


class MoreParameters(SwingParameters):
    m: Scalar = parameter(1.0, None, "kg")


class Alike(AbstractParameters):
    """Those of a swing, declared once more."""

    k: Scalar = parameter(4.0)
    T: Scalar = parameter(2.0)
    t_s: Scalar = parameter(0.7)


@pytest.mark.parametrize("kind", [MoreParameters, Alike])
def test_parameters_of_another_class_with_the_same_names_will_do(kind):
    run = jax.jit(jax.vmap(lambda k: periodic_orbit(Oscillator(), kind(k=k)).success))
    assert run(jnp.array([3.0, 4.0])).all()


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
            "derivative of vector_field, v, by the state, x, is not finite at or near",
            "jnp.maximum",
        ),
        (
            Oscillator(field=lambda t, s, p: Swing(s.v, -s.x if s.x > 0 else s.x)),
            r"Python `if`.*test_check.py:",
            "jnp.where",
        ),
        (
            Oscillator(field=lambda t, s, p: Swing(s.v, math.sin(s.x))),
            r"function of math or NumPy.*test_check.py:",
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
        (
            Oscillator(size=(Swing(0.0, 0.0), Swing(1.0, 0.0))),
            "not positive for v",
            "1.0 is a valid",
        ),
        (Oscillator(size=(Swing(0.0, 0.0), 1.0)), "scaling returns a tuple", "return two Swing"),
        (Oscillator(size=(Swing(math.nan, 0.0), Swing(1.0, 1.0))), "not finite for x", "0.0 is"),
        (Oscillator(start=lambda p: Swing(1 / (p.k - 4), 0.0)), "initial_state is NaN", "division"),
        (Oscillator(kept=lambda s, p: s.x), "conserved returns a single value", "write a comma"),
        (Oscillator(jumps=lambda p: p.t_s), "discontinuities returns a single", "write a comma"),
        (Oscillator(names={"r": lambda beat: 1.0}), "'r' is a function: expected a R", "unit"),
        (Oscillator(names=["r"]), "readings returns a list", "Reading"),
        (
            Oscillator(bands={"r": (0.0, 1.0)}),
            "limits of r: not among the readings",
            "add it to `r",
        ),
        (
            Oscillator(field=lambda t, s, p: Swing(s.v, p.K * s.x)),
            r"vector_field raised AttributeError: .* no attribute 'K' \(test_check.py:\d+\)",
            "its arguments are, in this order: t, state (x, v), p (k, T, t_s)",
        ),
        (
            Oscillator(start=lambda p: Swing(p.x_0, 0.0)),
            r"initial_state raised AttributeError: .*'x_0' \(test_check.py:\d+\)",
            "in this order: p (k, T, t_s)",
        ),
        (Instance(), "`parameters` is an instance of SwingParameters", "SwingParameters`"),
        (Nothing(), "`parameters` is None", "MyParameters"),
        # Forward mode is finite.
        (
            Oscillator(field=pushed(lambda x, p: jnp.where(x > 0, 0.3 * jnp.sqrt(x), 0.0))),
            "jax.grad gives NaN for the derivative of vector_field, [xv], by the state, x, along",
            "jnp.where inside",
        ),
        (Oscillator(field=pushed(lambda x, p: bad_rule(x))), "custom_vjp is diff", "custom_jvp"),
        # A parameter that decides when the drive switches.
        (
            Oscillator(field=pushed(push)),
            "gradient of the periodic orbit by .* is wrong: .* of [xv] changes .*t_s",
            "time from `discontinuities`",
        ),
        (
            Oscillator(field=pushed(lambda x, p: jnp.round(20 * p.k) / 100)),
            "gradient of the periodic orbit by k is wrong",
            "jnp.round",
        ),
        (
            Oscillator(
                field=lambda t, s, p: Swing(s.v, 90 * jnp.cos(98 * jnp.pi * t / p.T) - s.x - s.v)
            ),
            "240 steps are too few: the outputs change with 480: [xv] by",
            "write `steps = ",
        ),
        (
            Oscillator(field=lambda t, s, p: Swing(s.v, jnp.cos(t) - jnp.pi**2 * s.x)),
            "no periodic orbit .* with 240 steps: the beat still changed after",
            "what grows, or never settles?",
        ),
        pytest.param(
            Oscillator(field=lambda t, s, p: Swing(s.v - valve(t, s, p), s.x - s.v)),
            "no periodic orbit .* with 240 steps: the equations of an implicit step were not sol",
            "write `steps = 960` in the class",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_what_is_wrong_is_named(system, what, remedy):
    report = check_system(system)
    assert len(report.problems) == 1, str(report)

    assert re.search(what, report.problems[0].what, re.DOTALL), str(report)
    assert remedy in report.problems[0].remedy
    assert "1 problem" in str(report)


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


@pytest.mark.parametrize("run", [periodic_orbit, record, lambda s, p: simulate(s, p, jnp.ones(1))])
def test_a_solver_says_what_a_vector_field_lacks(run):
    for field in (lambda t, s, p: Named(s.v), lambda t, s, p: Swing(jnp.ones(3) * s.v, s.x)):
        with pytest.raises(ValueError, match="expected the rate of change of every state"):
            run(Oscillator(field=field), SwingParameters())
