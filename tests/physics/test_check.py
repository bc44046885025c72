"""Common mistakes in a system are found, named, and reported with a fix."""

import math
import re
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import pytest

from jaxtwin.parameters import AbstractParameters, Scalar
from jaxtwin.physics.check import check_system
from jaxtwin.physics.solution import Reading
from tests.physics.oscillator import Named, Oscillator, Swing, SwingParameters, push, pushed
from tests.physics.test_arguments import Unbounded


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


@pytest.mark.parametrize(
    ("system", "what", "remedy"),
    [
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
            Oscillator(read=lambda beat: beat.maximum.x, bands={"r": (1.0, 0.0)}),
            "limits of r leave nothing",
            "return (low, high)",
        ),
        (
            Oscillator(possible=lambda beat: beat.maximum.x),
            r"feasible gives float64 of shape \(2,\) for two patients: expected bool",
            "return a comparison",
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
        pytest.param(
            Oscillator(field=pushed(lambda x, p: jnp.round(20 * p.k) / 100)),
            "gradient of the periodic orbit by k is wrong",
            "jnp.round",
            marks=pytest.mark.slow,
        ),
        (
            Oscillator(
                field=lambda t, s, p: Swing(s.v, 90 * jnp.cos(98 * jnp.pi * t / p.T) - s.x - s.v)
            ),
            "240 steps are too few: the outputs change with 480: [xv] by",
            "write `steps = ",
        ),
        pytest.param(
            Oscillator(field=lambda t, s, p: Swing(s.v, jnp.cos(jnp.pi * t) - jnp.pi**2 * s.x)),
            "no periodic orbit .* with 240 steps: the beat still changed after",
            "what grows, or never settles?",
            marks=pytest.mark.slow,
        ),
        (
            Oscillator(
                field=pushed(lambda x, p: 0.0), names={"x": Reading("", lambda b: b.maximum.x)}
            ),
            "x is the name of a reading and of an output",
            "rename the reading",
        ),
        # The drive stops after the first period, or has another one.
        (
            Oscillator(field=lambda t, s, p: Swing(s.v, jnp.where(t < 0.3, 1.0, 0.0) - s.x - s.v)),
            "vector_field, v: not the same at t and at t . period",
            "write t % self.period(p)",
        ),
        (
            Oscillator(field=lambda t, s, p: Swing(s.v, jnp.cos(3 * t) - s.x - s.v)),
            "vector_field, v: not the same at t and at t . period",
            "make its period that of `period`",
        ),
        (
            Oscillator(field=lambda t, s, p: Swing(s.v, jnp.cos(jnp.pi * t) - s.x + 0.5 * s.v)),
            "no periodic orbit .*: the orbit is unstable",
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


def test_without_bounds_it_says_where_to_give_them():
    report = check_system(NoBounds())
    assert "of which 0 have bounds: give those of the free ones to Box.of" in str(report)
