"""The left heart with three states (four with a rotary pump).

Ferreira, Chen, Simaan, Boston and Antaki, "A nonlinear state-space model of a combined
cardiovascular system and a rotary pump", Proceedings of the 44th IEEE Conference on Decision and
Control and European Control Conference, 2005: the predecessor of the five-state `LeftHeart`.

The circuit follows later quotations and was not checked against the paper. There, aortic flow has
an inertance and so is a state (the abstract counts five with the pump). Here the inertance is left
out and the flow follows from the pressures; this simplification is jaxtwin's own.
"""

from typing import ClassVar, NamedTuple

from jaxtwin.models.elastance import double_hill
from jaxtwin.models.valves import ideal_valve
from jaxtwin.models.ventricle import AbstractVentricle, VentricleOutputs
from jaxtwin.parameters import AbstractParameters, Box, Scalar, parameter

_QUOTED = "Ferreira 2005, as quoted by others"
_BOX = _QUOTED + " (default); the left heart's box"
_WIDE = _QUOTED + "; bounds wide around it"


class FerreiraParameters(AbstractParameters):
    """Parameters of the circuit, in mL, mmHg and s, with the names used by `LeftHeart`."""

    source = _BOX
    T_c: Scalar = parameter(0.8, (0.4, 1.7), "s", "heart period")
    V_0: Scalar = parameter(
        140.0,
        (30.0, 280.0),
        "mL",
        "stressed ventricular volume at t = 0 (sets the filling)",
        source=_BOX + ", from 30 mL",
    )
    E_max: Scalar = parameter(2.0, (0.5, 3.5), "mmHg/mL", "peak elastance (contractility)")
    E_min: Scalar = parameter(
        0.06, (0.02, 0.1), "mmHg/mL", "passive elastance (stiffness in diastole)"
    )
    R_m: Scalar = parameter(0.005, (0.005, 0.1), "mmHg·s/mL", "mitral-valve resistance")
    R_a: Scalar = parameter(0.001, (0.0001, 0.25), "mmHg·s/mL", "aortic-valve resistance")
    V_d: Scalar = parameter(
        10.0, (4.0, 25.0), "mL", "unstressed ventricular volume", source="the left heart's"
    )
    R_s: Scalar = parameter(1.0, (0.5, 2.5), "mmHg·s/mL", "systemic resistance", source=_WIDE)
    R_c: Scalar = parameter(
        0.0398, None, "mmHg·s/mL", "characteristic resistance of the aorta", source=_QUOTED
    )
    C_s: Scalar = parameter(1.33, (0.5, 2.5), "mL/mmHg", "systemic compliance", source=_WIDE)
    C_r: Scalar = parameter(4.4, None, "mL/mmHg", "atrial and venous compliance", source=_QUOTED)
    P_0: Scalar = parameter(
        75.0, None, "mmHg", "arterial pressure at t = 0", source="the left heart's"
    )


class FerreiraState(NamedTuple):
    """State of the circuit."""

    V: Scalar
    """Ventricular volume above the unstressed volume [mL]."""
    P_la: Scalar
    """Left-atrial (and venous) pressure [mmHg]."""
    P_a: Scalar
    """Systemic arterial pressure [mmHg]."""


class Ferreira(AbstractVentricle[FerreiraState, FerreiraParameters, VentricleOutputs]):
    """The left heart of Ferreira et al. 2005, without inertance.

    `LVAD(Ferreira(), speed)` adds a pump. With r(u) = max(u, 0), P_lv = E(t) V,
    q_m = r(P_la − P_lv)/R_m and q_a = r(P_lv − P_a)/(R_a + R_c):

        dV/dt    = q_m − q_a
        dP_la/dt = (P_a − P_la)/(R_s C_r) − q_m/C_r
        dP_a/dt  = (P_la − P_a)/(R_s C_s) + q_a/C_s
        P_ao     = P_a + R_c q_a
    """

    parameters: ClassVar = FerreiraParameters

    def outputs(self, t: Scalar, state: FerreiraState, p: FerreiraParameters) -> VentricleOutputs:
        """Return volumes, pressures and valve flows at time t [s]."""
        P_lv = double_hill(t, p.T_c, p.E_max, p.E_min) * state.V
        q_m = ideal_valve(state.P_la, P_lv, p.R_m)
        q_a = ideal_valve(P_lv, state.P_a, p.R_a + p.R_c)
        q_s = (state.P_a - state.P_la) / p.R_s
        P_ao = state.P_a + p.R_c * q_a
        return VentricleOutputs(state.V + p.V_d, P_lv, P_ao, state.P_la, q_m, q_a, q_s)

    def vector_field(self, t: Scalar, state: FerreiraState, p: FerreiraParameters) -> FerreiraState:
        """Evaluate the circuit's equations; see the class."""
        out = self.outputs(t, state, p)
        return FerreiraState(
            V=out.q_m - out.q_a,
            P_la=(out.q_s - out.q_m) / p.C_r,
            P_a=(out.q_a - out.q_s) / p.C_s,
        )

    def divert(self, rates: FerreiraState, flow: Scalar, p: FerreiraParameters) -> FerreiraState:
        """See `AbstractVentricle`.

        The flow enters the arteries downstream of R_c, because P_ao is not a state. Its
        contribution to P_ao, R_c times the flow, is neglected.
        """
        return rates._replace(V=rates.V - flow, P_a=rates.P_a + flow / p.C_s)

    def initial_state(self, p: FerreiraParameters) -> FerreiraState:
        """Return end diastole with the ventricle filled to V_0: (V_0, V_0·E_min, P_0)."""
        return FerreiraState(p.V_0, p.V_0 * p.E_min, p.P_0 + 0.0 * p.V_0)

    def period(self, p: FerreiraParameters) -> Scalar:
        """Return the heart period T_c [s]."""
        return p.T_c

    def conserved(self, state: FerreiraState, p: FerreiraParameters) -> tuple[Scalar, ...]:
        """Return the stressed volume of the closed loop, V_s = V + C_r P_la + C_s P_a [mL]."""
        return (state.V + p.C_r * state.P_la + p.C_s * state.P_a,)

    def scaling(self, p: FerreiraParameters) -> tuple[VentricleOutputs, VentricleOutputs]:
        """Return the offset and scale of every output.

        (V_lv − V_d)/V_s, C P/V_s and T_c q/V_s do not depend on V_0, V_d or P_0: the equations
        are homogeneous of degree one, and the periodic orbit depends on the initial state only
        through V_s.
        """
        (V_s,) = self.conserved(self.initial_state(p), p)
        P = V_s / (p.C_r + p.C_s)
        q = V_s / p.T_c
        zero = 0.0 * V_s
        offset = VentricleOutputs(p.V_d + zero, zero, zero, zero, zero, zero, zero)
        return offset, VentricleOutputs(V_s, P, P, P, q, q, q)


NINE = Box.of(
    FerreiraParameters, ("T_c", "V_0", "E_max", "E_min", "R_m", "R_a", "V_d", "R_s", "C_s")
)
"""Box of the seven parameters of `left_heart.SEVEN`, R_s and C_s."""
