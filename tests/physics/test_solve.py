"""Initial-value problems: against SciPy, a closed form, and a conserved quantity."""

from typing import ClassVar, NamedTuple

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from jaxtwin.models.bjordalsbakke import Bjordalsbakke
from jaxtwin.models.four_chambers import FourChambers
from jaxtwin.models.left_heart import LeftHeart, LeftHeartParameters, LeftHeartState
from jaxtwin.parameters import AbstractParameters, Scalar, parameter
from jaxtwin.physics import solve
from jaxtwin.physics.base import AbstractSystem
from jaxtwin.physics.periodic import periodic_orbit
from jaxtwin.physics.solve import simulate
from tests.physics.test_discontinuities import SwitchedWindkessel
from tests.systems import LeakyParameters

HEART = LeftHeart()
TIMES = jnp.linspace(0.0, 2.5, 251)


@pytest.fixture(scope="module")
def run():
    return jax.jit(lambda p, state, times: simulate(HEART, p, times, state=state, throw=False))


def parameters(**changes):
    return jax.tree.map(jnp.asarray, LeftHeartParameters(**changes))


def radau(p, y0, times):
    """The same circuit written anew for SciPy, solved tightly, beat by beat."""

    def rhs(t, y):
        V, P_la, P_a, P_ao, Q = y
        t_n = (t % 1.0) / 0.35
        rise = (t_n / 0.7) ** 1.9
        E = 1.94 * 1.55 * rise / (1 + rise) / (1 + (t_n / 1.17) ** 21.9) + 0.06
        q_m = max(P_la - E * V, 0) / 0.005
        q_a = max(E * V - P_ao, 0) / p.R_a
        return [
            q_m - q_a,
            (P_a - P_la) / 4.4 - q_m / 4.4,
            (P_la - P_a) / 1.33 + Q / 1.33,
            (q_a - Q) / 0.08,
            (P_ao - P_a - 0.0398 * Q) / 0.0005,
        ]

    solution = solve_ivp(
        rhs, (0, times[-1]), y0, "Radau", times, rtol=1e-8, atol=1e-8, max_step=0.02
    )
    assert solution.success
    return solution.y


@pytest.mark.slow
def test_left_heart_matches_radau(run):
    p = parameters(R_a=0.01)
    y0 = HEART.initial_state(p)
    found = run(p, y0, TIMES)
    assert found.success
    expected = radau(LeftHeartParameters(R_a=0.01), [float(v) for v in y0], np.asarray(TIMES))
    for name, a, b in zip(LeftHeartState._fields, found.states, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-4 * np.max(np.abs(b)), err_msg=name)
    np.testing.assert_array_equal(found.times, TIMES)
    np.testing.assert_allclose(found.outputs.V_lv, found.states.V + 10)


def test_stressed_volume_is_conserved(run):
    p = parameters()
    y0 = HEART.initial_state(p)
    found = run(p, y0, TIMES)
    (start,) = HEART.conserved(y0, p)
    (along,) = jax.vmap(HEART.conserved, in_axes=(0, None))(found.states, p)
    np.testing.assert_allclose(along, start, rtol=1e-9)


def test_closed_valves_leave_a_three_element_windkessel(run):
    # An empty ventricle behind a tight mitral valve ejects nothing. Then P_a − P_la decays with
    # the rate 1/(R_s C_r) + 1/(R_s C_s), but for the small charge that leaves the aorta.
    p = parameters(R_m=1e9, C_a=1e-5)
    state = jax.tree.map(jnp.asarray, LeftHeartState(0.0, 5.0, 80.0, 80.0, 0.0))
    found = run(p, state, TIMES)
    decay = np.exp(-np.asarray(TIMES) * (1 / 4.4 + 1 / 1.33))
    np.testing.assert_allclose(found.outputs.q_s, 75.0 * decay, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(found.outputs.V_lv, 10.0, atol=1e-5)


class InfusionParameters(AbstractParameters):
    k: Scalar = parameter(2.0, (0.1, 9.0), symbol="k", unit="1/s", meaning="rate of loss")
    stop: Scalar = parameter(0.7, (0.1, 0.9), symbol="s", unit="s", meaning="end of infusion")


class Amount(NamedTuple):
    x: Scalar


class Infusion(AbstractSystem[Amount, InfusionParameters, Amount]):
    """dx/dt = 50 until the infusion stops, then 0, less k x: not periodic."""

    declared: bool
    parameters: ClassVar = InfusionParameters

    def vector_field(self, t, state, p):
        return Amount(jnp.where(t < p.stop, 50.0, 0.0) - p.k * state.x)

    def discontinuities(self, p):
        return (p.stop,) if self.declared else ()

    def initial_state(self, p):
        return Amount(0.0 * p.k)

    def outputs(self, t, state, p):
        return state


@pytest.mark.slow
def test_a_declared_discontinuity_is_a_step_of_its_own():
    times = jnp.array([0.3, 0.7, 1.5])

    def run(declared, p, max_steps):
        solver = dfx.Kvaerno5()
        system = Infusion(declared)
        return simulate(system, p, times, solver=solver, max_steps=max_steps, throw=False)

    p = jax.tree.map(jnp.asarray, InfusionParameters())
    exact = 25 * (1 - np.exp(-2 * np.minimum(times, 0.7))) * np.exp(-2 * np.maximum(times - 0.7, 0))
    # Where to look for the jump takes many rejected steps.
    found = run(True, p, 64)
    assert found.success and not run(False, p, 64).success
    np.testing.assert_allclose(found.outputs.x, exact, rtol=1e-5)
    # Traced too: their number is known.
    batch = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), p)
    both = jax.jit(jax.vmap(lambda p: run(True, p, 64)))(batch)
    np.testing.assert_allclose(both.outputs.x, [exact, exact], rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"times": jnp.array([0.0, 2.0, 1.0])}, r"times \[0. 2. 1.\]: expected increasing"),
        ({"times": jnp.zeros(0)}, "expected increasing"),
        ({"state": (1.0, 2.0, 3.0)}, r"expected a state such as LeftHeartState\(V="),
    ],
)
def test_slips_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        simulate(HEART, **({"p": parameters(), "times": TIMES} | options))


@pytest.mark.slow
@pytest.mark.parametrize(
    "system", [LeftHeart(), Bjordalsbakke(), FourChambers()], ids=lambda s: type(s).__name__
)
def test_single_precision_does_not_stall(system):
    """Diffrax's implicit solvers do, at 1e-4 and less: their stages are not solved there."""

    def final(dtype):
        p = system.parameters()
        T = float(system.duration(p))
        found = simulate(system, p, jnp.linspace(0.0, 2 * T, 41, dtype=dtype), max_steps=20_000)
        return np.array(found.states)

    exact = final(float)
    with jax.enable_x64(False):
        single = final(jnp.float32)
    scale = np.abs(exact).max(axis=1, keepdims=True)
    np.testing.assert_allclose(single / scale, exact / scale, atol=1e-3)


@pytest.mark.slow
def test_jumps_of_every_period():
    p = parameters(T_c=0.5)
    np.testing.assert_allclose(solve._jumps(HEART, p, 1.7), [0.5, 1.0, 1.5])
    assert solve._jumps(HEART, p, 0.5) == []
    assert solve._jumps(HEART, p, None) == []
    assert solve._jumps(Infusion(True), InfusionParameters(), 9.0) == [0.7]

    # Known times, traced jumps.
    times = jnp.array([0.7, 8.5])
    system = SwitchedWindkessel(0.3, (0.3,))

    def last(C):
        found = simulate(system, LeakyParameters(2.0, 1.2, C), times)
        return found.outputs.P[-1]

    batch = jnp.array([0.7, 0.9])
    inside = jax.vmap(last)(batch)
    np.testing.assert_allclose(inside, jax.jit(jax.vmap(last))(batch), rtol=1e-12)
    # After four periods it all but repeats itself, and 8.5 is a quarter of the fifth.
    orbits = [periodic_orbit(system, LeakyParameters(2.0, 1.2, float(C))) for C in batch]
    np.testing.assert_allclose(inside, [orbit.outputs.P[60] for orbit in orbits], rtol=1e-3)


def test_failure_is_reported():
    options = {"solver": dfx.Heun(), "max_steps": 16}
    found = simulate(HEART, parameters(), TIMES, throw=False, **options)
    assert not found.success
    with pytest.raises(RuntimeError, match="maximum number of solver steps"):
        simulate(HEART, parameters(), TIMES, **options)


def test_diffrax_need_not_compile_anew_at_every_call():
    # Terms of equal systems are equal, so that an unjitted `simulate` is traced once.
    assert eqx.tree_equal(solve.ode_term(LeftHeart()), solve.ode_term(LeftHeart())) is True
