"""The circuit's equations in mL, mmHg and s, and the parameters in which patients differ."""

from typing import Any, ClassVar, NamedTuple

from benchmarks.circuits.published import (
    ATRIA,
    CHAMBERS,
    CLOSED,
    FLOWS,
    OPEN,
    PERIOD,
    PRESSURES,
    VARIED,
    VENTRICLES,
    VESSELS,
    VOLUMES,
)
from jaxtwin.models.elastance import hill_activation, phase_of
from jaxtwin.models.valves import leaky_valve
from jaxtwin.parameters import AbstractParameters, Box, Scalar, parameter
from jaxtwin.physics.base import AbstractPeriodicSystem

PASCAL = 1 / 133.322
"""One pascal [mmHg]."""
_R = 1e-6 * PASCAL
"""One Pa·s/m³ [mmHg·s/mL]; the same for elastances and inertances."""


def _varied(name: str, unit: str, meaning: str) -> Any:
    block, place = VARIED[name]
    value = {**CHAMBERS, **VESSELS}[block][place] * unit_of(name)
    return parameter(value, (0.8 * value, 1.2 * value), unit, meaning, source="svZeroDSolver")


def unit_of(name: str) -> float:
    """Return what converts the SI unit of a parameter into mL, mmHg and s."""
    return 1 / _R if name.startswith("C") else _R


class LoopParameters(AbstractParameters):
    """Those figures of the circuit in which patients differ; the others are constants."""

    E_lv: Scalar = _varied("E_lv", "mmHg/mL", "LV, active elastance")
    E_min_lv: Scalar = _varied("E_min_lv", "mmHg/mL", "LV, passive elastance")
    E_rv: Scalar = _varied("E_rv", "mmHg/mL", "RV, active elastance")
    R_s: Scalar = _varied("R_s", "mmHg·s/mL", "resistance of the systemic arteries")
    C_sa: Scalar = _varied("C_sa", "mL/mmHg", "compliance of the systemic arteries")
    R_p: Scalar = _varied("R_p", "mmHg·s/mL", "resistance of the pulmonary arteries")
    C_pa: Scalar = _varied("C_pa", "mL/mmHg", "compliance of the pulmonary arteries")


class LoopState(NamedTuple):
    """Volumes [mL], pressures at the vessels' inlets [mmHg] and flows at their outlets [mL/s]."""

    V_la: Scalar
    V_lv: Scalar
    V_ra: Scalar
    V_rv: Scalar
    P_sa: Scalar
    P_sv: Scalar
    P_pa: Scalar
    P_pv: Scalar
    q_sa: Scalar
    q_sv: Scalar
    q_pa: Scalar
    q_pv: Scalar


class LoopOutputs(NamedTuple):
    """What both solvers are compared by."""

    V_la: Scalar
    V_lv: Scalar
    V_ra: Scalar
    V_rv: Scalar
    P_lv: Scalar
    P_rv: Scalar
    P_sa: Scalar
    P_pa: Scalar


class TwoHillLoop(AbstractPeriodicSystem[LoopState, LoopParameters, LoopOutputs]):
    """The circuit `closed_loop_two_hill`: 12 states, of which four are flows with inertance.

    A chamber has P = E(t) (V − V_d) with E = E_min + E_active φ(t), a vessel C dP/dt = q_in − q and
    L dq/dt = P − R q − P_out, and a valve the resistance `OPEN` or `CLOSED`.
    """

    parameters: ClassVar = LoopParameters
    steps: ClassVar = 480

    def chamber_pressures(self, t: Scalar, y: LoopState, p: LoopParameters) -> tuple[Scalar, ...]:
        """Return the pressures of LA, LV, RA and RV."""

        def phi(shift: float, *shape: float) -> Scalar:
            return hill_activation(phase_of(t - shift, self.period(p)), *shape)

        atria, ventricles = phi(*ATRIA), phi(*VENTRICLES)
        (a_la, e_la, d_la), (_, _, d_lv), (a_ra, e_ra, d_ra), (_, e_rv, d_rv) = CHAMBERS.values()
        return (
            _R * (e_la + a_la * atria) * (y.V_la - 1e6 * d_la),
            (p.E_min_lv + p.E_lv * ventricles) * (y.V_lv - 1e6 * d_lv),
            _R * (e_ra + a_ra * atria) * (y.V_ra - 1e6 * d_ra),
            (_R * e_rv + p.E_rv * ventricles) * (y.V_rv - 1e6 * d_rv),
        )

    def vector_field(self, t: Scalar, y: LoopState, p: LoopParameters) -> LoopState:
        """Evaluate the equations of chambers, valves and vessels."""
        P_la, P_lv, P_ra, P_rv = self.chamber_pressures(t, y, p)
        R_open, R_closed = (_R * R + 0.0 * p.R_s for R in (OPEN, CLOSED))
        q_m = leaky_valve(P_la, P_lv, R_open, R_closed)
        q_a = leaky_valve(P_lv, y.P_sa, R_open, R_closed)
        q_t = leaky_valve(P_ra, P_rv, R_open, R_closed)
        q_p = leaky_valve(P_rv, y.P_pa, R_open, R_closed)
        (_, _, L_sa), (R_sv, C_sv, L_sv), (_, _, L_pa), (R_pv, C_pv, L_pv) = VESSELS.values()
        return LoopState(
            V_la=y.q_pv - q_m,
            V_lv=q_m - q_a,
            V_ra=y.q_sv - q_t,
            V_rv=q_t - q_p,
            P_sa=(q_a - y.q_sa) / p.C_sa,
            P_sv=(y.q_sa - y.q_sv) * (_R / C_sv),
            P_pa=(q_p - y.q_pa) / p.C_pa,
            P_pv=(y.q_pa - y.q_pv) * (_R / C_pv),
            q_sa=(y.P_sa - p.R_s * y.q_sa - y.P_sv) / (_R * L_sa),
            q_sv=(y.P_sv - _R * R_sv * y.q_sv - P_ra) / (_R * L_sv),
            q_pa=(y.P_pa - p.R_p * y.q_pa - y.P_pv) / (_R * L_pa),
            q_pv=(y.P_pv - _R * R_pv * y.q_pv - P_la) / (_R * L_pv),
        )

    def initial_state(self, p: LoopParameters) -> LoopState:
        """Return the published initial state."""
        volumes = (1e6 * V for V in VOLUMES.values())
        pressures = (PASCAL * P for P in PRESSURES.values())
        flows = (1e6 * q for q in FLOWS.values())
        return LoopState(*(x + 0.0 * p.R_s for x in (*volumes, *pressures, *flows)))

    def outputs(self, t: Scalar, y: LoopState, p: LoopParameters) -> LoopOutputs:
        """Return volumes [mL] and pressures [mmHg]."""
        _, P_lv, _, P_rv = self.chamber_pressures(t, y, p)
        return LoopOutputs(y.V_la, y.V_lv, y.V_ra, y.V_rv, P_lv, P_rv, y.P_sa, y.P_pa)

    def period(self, p: LoopParameters) -> Scalar:
        """Return the period of the test case [s]."""
        return PERIOD + 0.0 * p.R_s

    def conserved(self, y: LoopState, p: LoopParameters) -> tuple[Scalar, ...]:
        """Return the volume of the closed loop above the vessels' unstressed volumes [mL]."""
        chambers = y.V_la + y.V_lv + y.V_ra + y.V_rv
        veins = (VESSELS["VEN_SYS"][1] * y.P_sv + VESSELS["VEN_PUL"][1] * y.P_pv) / _R
        return (chambers + p.C_sa * y.P_sa + p.C_pa * y.P_pa + veins,)


BOX = Box.of(LoopParameters, tuple(VARIED))
