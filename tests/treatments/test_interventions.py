"""Interventions: effects, composition, batching and gradients."""

import dataclasses
from types import SimpleNamespace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtwin.models.left_heart import SEVEN, LeftHeart, LeftHeartParameters
from jaxtwin.models.lvad import LVAD, PumpParameters
from jaxtwin.parameters import Scalar
from jaxtwin.physics.base import read
from jaxtwin.physics.periodic import periodic_orbit
from jaxtwin.treatments import (
    AbstractIntervention,
    AorticRepair,
    BelowSuction,
    DoseResponse,
    Drug,
    FlatteningFlow,
    Fluid,
    Inotrope,
    MitralRepair,
    Nothing,
    Pump,
    RateControl,
    Settings,
    Vasodilator,
    change,
    combine,
    suction_speed,
    treat,
)

HEART, P = LeftHeart(), LeftHeartParameters()


def number(x):
    return jnp.asarray(x, float)


@eqx.filter_jit
def beat(system, p):
    orbit = periodic_orbit(system, p, throw=False)
    return read(system, orbit), orbit.success


def after(intervention, p=P):
    """Compiled once for all that change no more than numbers."""
    system, p = intervention(HEART, p)
    return beat(system, jax.tree.map(number, p))


def test_each_changes_what_it_says():
    before, _ = after(Nothing())
    for intervention, change_of in (
        (Inotrope(number(0.5)), {"EF": 1, "output": 1, "ESV": -1, "P_ao_mean": 1}),
        (Vasodilator(number(-0.3)), {"P_ao_mean": -1, "output": 1}),
        (Fluid(number(300.0)), {"EDV": 1, "P_la_mean": 1, "output": 1}),
        (Fluid(number(-200.0)), {"EDV": -1, "P_la_mean": -1, "output": -1}),
        (RateControl(number(90.0)), {"EDV": -1, "P_la_mean": -1}),
    ):
        found, converged = after(intervention)
        assert converged
        for name, sign in change_of.items():
            difference = sign * (found[name] - before[name])
            assert difference > 0.01, (type(intervention).__name__, name, difference)


def test_valves_are_opened_and_never_narrowed():
    tight = change(P, R_m=lambda _: number(0.08), R_a=lambda _: number(0.2))
    _, repaired = combine(MitralRepair(), AorticRepair())(HEART, tight)
    assert (repaired.R_m, repaired.R_a) == (0.005, 0.001)
    _, wide = combine(MitralRepair(number(0.01)), AorticRepair(number(0.01)))(HEART, P)
    assert (wide.R_m, wide.R_a) == (P.R_m, P.R_a)
    before, _ = after(Nothing(), tight)
    found, _ = after(MitralRepair(), tight)
    assert found["P_la_mean"] < before["P_la_mean"] - 0.5 and found["EDV"] > before["EDV"] + 1


@pytest.mark.parametrize("pumped", [False, True])
def test_fluid_adds_exactly_its_volume(pumped):
    parts = [Pump(number(9_000.0))] if pumped else []
    system, p = combine(*parts, Fluid(number(250.0)))(HEART, P)
    untreated, q = combine(*parts)(HEART, P)
    (volume,) = system.conserved(system.initial_state(p), p)
    (before,) = untreated.conserved(untreated.initial_state(q), q)
    np.testing.assert_allclose(volume - before, 250.0, rtol=1e-6)


def test_later_interventions_see_what_earlier_have_made():
    halved = combine(Inotrope(number(-0.5)), Inotrope(number(1.0)))
    _, p = halved(HEART, P)
    np.testing.assert_allclose(p.E_max, P.E_max)
    _, p = combine(RateControl(number(120.0)), RateControl(number(60.0)))(HEART, P)
    np.testing.assert_allclose(p.T_c, 1.0)


def test_a_dose_response_has_its_half_and_its_maximum():
    response = DoseResponse(maximum=number(0.8), half=number(5.0), exponent=number(2.0))
    doses = jnp.asarray([0.0, 5.0, 1e6])
    np.testing.assert_allclose(jax.vmap(response)(doses), [0, 0.4, 0.8], atol=1e-6)
    slope = jax.vmap(jax.grad(response))(doses)
    assert np.all(np.isfinite(slope)) and slope[1] > 0


class Exercise(AbstractIntervention):
    """As the module's docstring has it."""

    effort: Scalar

    def __call__(self, system, p):
        return system, change(p, R_s=lambda R_s: R_s * (1 - 0.5 * self.effort))


@pytest.mark.slow
def test_one_of_your_own_batches_and_differentiates():
    def output(effort):
        found, _ = after(combine(Exercise(effort), Pump(number(9_000.0))))
        return found["output"]

    at = jax.jit(jax.vmap(jax.value_and_grad(output)))
    efforts = jnp.asarray([0.1, 0.3, 0.5])
    values, slopes = at(efforts)
    assert np.all(np.diff(values) > 0)
    step = 1e-3
    numeric = at(efforts + step)[0] - at(efforts - step)[0]
    np.testing.assert_allclose(slopes, numeric / (2 * step), rtol=2e-3)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Pump(-9_000.0), "Pump: speed = -9000.0: expected a number above 0"),
        (lambda: Vasodilator(-2.0), "Vasodilator: effect = -2.0: expected a number above -1"),
        (lambda: Inotrope(float("nan")), "Inotrope: effect = nan"),
        (lambda: RateControl(0.0), "RateControl: rate = 0.0"),
        (lambda: Settings({"R_s": "1.2"}), "Settings: R_s = '1.2': expected a number"),
        (lambda: Settings({"R_s": float("inf")}), "Settings: R_s = inf: expected a number"),
        (lambda: Drug({"R_s": None}), "Drug: R_s = None: expected a number"),
    ],
)
def test_impossible_doses_are_refused(make, words, as_a_user):
    with pytest.raises(ValueError, match=words):
        make()


class Undecided(AbstractIntervention):
    def __call__(self, system, p):
        return system, change(p, R_s=2.0) if p.R_s > 1 else p


def test_a_python_if_on_a_patients_value_is_named():
    with pytest.raises(ValueError, match=r"Undecided.__call__ tests .* write jnp.where"):
        jax.vmap(lambda R_s: treat(HEART, dataclasses.replace(P, R_s=R_s), Undecided()))(
            jnp.ones(2)
        )


class Forgetful(AbstractIntervention):
    def __call__(self, system, p):
        return change(p, R_s=2.0)


def test_a_value_is_set():
    changed = jax.vmap(lambda R_s: change(dataclasses.replace(P, R_s=R_s), R_s=2.0))(jnp.ones(3))
    np.testing.assert_array_equal(changed.R_s, [2.0, 2.0, 2.0])


def test_what_cannot_be_done_is_said():
    for forgetful in (Forgetful(), combine(Forgetful(), Nothing())):
        with pytest.raises(ValueError, match="returns LeftHeartParameters: expected system"):
            treat(HEART, P, forgetful)
    with pytest.raises(ValueError, match="has no E_es, which the intervention changes"):
        change(P, E_es=lambda x: x)
    pumped, p = Pump(number(9_000.0))(HEART, P)
    with pytest.raises(ValueError, match="got LVAD"):
        Pump(number(9_000.0))(pumped, p)


HEARTS = jnp.asarray(
    [
        [1.0, 140.0, 2.0, 0.06, 0.005, 0.001, 10.0],
        [0.8, 180.0, 0.6, 0.04, 0.005, 0.001, 15.0],
        [0.7, 100.0, 1.2, 0.09, 0.03, 0.02, 8.0],
    ]
)


@jax.jit
def below_suction(margin):
    """One program for all margins: the search for suction takes long to compile."""
    return jax.vmap(
        lambda theta: BelowSuction(margin).choose(HEART, SEVEN.complete(theta), PumpParameters())
    )(HEARTS)


@pytest.fixture(scope="module")
def found_suction():
    return below_suction(0.0)


@pytest.mark.parametrize(("lowest", "expected"), [(6_000.0, True), (9_600.0, False)])
def test_beats_beyond_suction_are_not_needed(monkeypatch, lowest, expected):
    """The least flow is highest at 9,100 rpm; no beat is found below `lowest` or above 12,000."""

    def orbit(system, p, throw):
        flow = 100.0 - ((system.speed - 9_100.0) / 1e3) ** 2
        return SimpleNamespace(
            success=(lowest <= system.speed) & (system.speed <= 12_000.0),
            outputs=SimpleNamespace(Q_p=jnp.array([flow, 200.0])),
        )

    monkeypatch.setattr("jaxtwin.models.pump.periodic_orbit", orbit)
    onset = suction_speed(HEART, P)
    assert onset.found == expected
    if expected:
        assert abs(onset.speed - 9_100.0) <= 50


@pytest.mark.slow
def test_suction_is_the_first_maximum_of_the_least_flow(found_suction):
    """Against every 25 rpm around it, and everything below."""

    @jax.jit
    def flows(theta, speeds):
        def one(speed):
            orbit = periodic_orbit(LVAD(HEART, speed), SEVEN.complete(theta), throw=False)
            return jnp.where(orbit.success, jnp.min(orbit.outputs.Q_p), jnp.nan)

        return jax.vmap(one)(speeds)

    assert np.all(np.isfinite(found_suction))
    speeds = jnp.arange(6_000.0, 18_000.0, 25.0)
    for theta, speed in zip(HEARTS, found_suction, strict=True):
        flow = np.asarray(flows(theta, speeds))
        assert np.all(np.isfinite(flow))
        first = speeds[int(np.argmax(np.diff(flow) < 0))]
        assert abs(first - speed) <= 50, (theta, first, speed)


@pytest.mark.slow
def test_speed_laws_choose_near_suction(found_suction):
    np.testing.assert_allclose(below_suction(0.1), 0.9 * found_suction, rtol=1e-6)
    flattening = jax.jit(
        jax.vmap(
            lambda theta: FlatteningFlow().choose(HEART, SEVEN.complete(theta), PumpParameters())
        )
    )(HEARTS)
    # A heart that follows a rising speed lags behind it.
    late = flattening - found_suction
    assert np.all((late > -100) & (late < 400)), late


@pytest.mark.slow
def test_a_pump_that_never_sucks_has_no_suction_speed():
    full = dataclasses.replace(P, V_0=number(280.0), E_min=number(0.1), E_max=number(0.5))
    narrow = suction_speed(HEART, full, speeds=(6_000.0, 8_000.0))
    assert not narrow.found and np.isnan(narrow.speed)
    with pytest.raises(ValueError, match="at least two spacings"):
        suction_speed(HEART, P, speeds=(6_000.0, 6_200.0))
