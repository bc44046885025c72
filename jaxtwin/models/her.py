"""A ventricle with leaky valves that feeds a four-element windkessel.

Her, Kim, Lim and Choi, "Windkessel model of hemodynamic state supported by a pulsatile
ventricular assist device in premature ventricle contraction", BioMedical Engineering OnLine
17:18, 2018, without their device. The loop is open and has four states. Circuit and values follow
a public program that quotes the paper and uses the elastance of Simaan 2009; they were not checked
against the paper's figures and tables. The default heart is a failing one, like the patients in
the paper.
"""

from typing import ClassVar, NamedTuple

from jaxtwin.models.elastance import double_hill
from jaxtwin.models.valves import leaky_valve
from jaxtwin.models.ventricle import AbstractVentricle, VentricleOutputs
from jaxtwin.parameters import AbstractParameters, Box, Scalar, parameter

_QUOTED = "Her 2018, as quoted by others"
_WIDE = _QUOTED + "; bounds wide around it"
_LEAK = _QUOTED + "; lower bound for a severe leak"


class HerParameters(AbstractParameters):
    """Parameters of the circuit, in mL, mmHg and s, with the names used by `LeftHeart`."""

    source = _WIDE
    T_c: Scalar = parameter(0.8, (0.4, 1.7), "s", "heart period")
    P_la: Scalar = parameter(10.0, (5.0, 20.0), "mmHg", "left-atrial pressure")
    E_max: Scalar = parameter(1.52, (0.5, 3.5), "mmHg/mL", "peak elastance (contractility)")
    E_min: Scalar = parameter(
        0.08, (0.04, 0.15), "mmHg/mL", "passive elastance (stiffness in diastole)"
    )
    V_d: Scalar = parameter(
        10.0,
        (4.0, 25.0),
        "mL",
        "unstressed ventricular volume",
        source="that of Simaan 2009; the left heart's box",
    )
    R_m: Scalar = parameter(0.01, (0.005, 0.1), "mmHg·s/mL", "resistance of the open mitral valve")
    R_m_closed: Scalar = parameter(
        1000.0,
        (1.0, 1000.0),
        "mmHg·s/mL",
        "resistance of the closed mitral valve (regurgitation where it is small)",
        source=_LEAK,
    )
    R_a: Scalar = parameter(
        0.002, (0.001, 0.25), "mmHg·s/mL", "resistance of the open aortic valve"
    )
    R_a_closed: Scalar = parameter(
        1000.0,
        (1.0, 1000.0),
        "mmHg·s/mL",
        "resistance of the closed aortic valve (regurgitation where it is small)",
        source=_LEAK,
    )
    C_a: Scalar = parameter(0.15, None, "mL/mmHg", "aortic compliance", source=_QUOTED)
    R_c: Scalar = parameter(
        0.08, None, "mmHg·s/mL", "characteristic resistance of the aorta", source=_QUOTED
    )
    L_s: Scalar = parameter(0.0015, None, "mmHg·s²/mL", "aortic inertance", source=_QUOTED)
    C_s: Scalar = parameter(1.5, (0.5, 3.0), "mL/mmHg", "systemic compliance")
    R_s: Scalar = parameter(1.35, (0.5, 2.5), "mmHg·s/mL", "systemic resistance")


class HerState(NamedTuple):
    """State of the circuit."""

    V: Scalar
    """Ventricular volume above the unstressed volume [mL]."""
    P_ao: Scalar
    """Aortic pressure [mmHg]."""
    P_a: Scalar
    """Systemic arterial pressure [mmHg]."""
    Q: Scalar
    """Aortic flow [mL/s]."""


class Her(AbstractVentricle[HerState, HerParameters, VentricleOutputs]):
    """The ventricle and arteries of Her et al. 2018.

    With P_lv = E(t) V and valves v that are `leaky_valve`s, u/R forwards and u/R_closed backwards:

        dV/dt      = q_m − q_a          q_m = v(P_la − P_lv)
        C_a dP_ao/dt = q_a − Q          q_a = v(P_lv − P_ao)
        C_s dP_a/dt  = Q − P_a/R_s
        L_s dQ/dt    = P_ao − P_a − R_c Q

    Blood leaves the arteries against a pressure of 0. With a leak, EDV − ESV exceeds the volume
    that reaches the body; the output is the mean of q_s.
    """

    parameters: ClassVar = HerParameters

    def outputs(self, t: Scalar, state: HerState, p: HerParameters) -> VentricleOutputs:
        """Return volumes, pressures and valve flows at time t [s]."""
        P_lv = double_hill(t, p.T_c, p.E_max, p.E_min) * state.V
        return VentricleOutputs(
            V_lv=state.V + p.V_d,
            P_lv=P_lv,
            P_ao=state.P_ao,
            P_la=p.P_la + 0.0 * P_lv,
            q_m=leaky_valve(p.P_la, P_lv, p.R_m, p.R_m_closed),
            q_a=leaky_valve(P_lv, state.P_ao, p.R_a, p.R_a_closed),
            q_s=state.P_a / p.R_s,
        )

    def vector_field(self, t: Scalar, state: HerState, p: HerParameters) -> HerState:
        """Evaluate the circuit's equations; see the class."""
        out = self.outputs(t, state, p)
        return HerState(
            V=out.q_m - out.q_a,
            P_ao=(out.q_a - state.Q) / p.C_a,
            P_a=(state.Q - out.q_s) / p.C_s,
            Q=(state.P_ao - state.P_a - p.R_c * state.Q) / p.L_s,
        )

    def divert(self, rates: HerState, flow: Scalar, p: HerParameters) -> HerState:
        """See `AbstractVentricle`."""
        return rates._replace(V=rates.V - flow, P_ao=rates.P_ao + flow / p.C_a)

    def initial_state(self, p: HerParameters) -> HerState:
        """Return a full ventricle, V = P_la/E_min, at the pressure that ejects half per beat."""
        V = p.P_la / p.E_min
        P = 0.5 * p.R_s * V / p.T_c
        return HerState(V, P, P, 0.0 * P)

    def period(self, p: HerParameters) -> Scalar:
        """Return the heart period T_c [s]."""
        return p.T_c

    def scaling(self, p: HerParameters) -> tuple[VentricleOutputs, VentricleOutputs]:
        """Return the offset and scale of every output.

        The equations, leaks included, are homogeneous of degree one in the state and P_la
        together. So V_lv − V_d, pressures and flows, divided by P_la, do not depend on P_la or
        V_d. The scales are the full ventricle V = P_la/E_min for volumes, V/T_c for flows and
        R_s V/T_c for pressures.
        """
        V = p.P_la / p.E_min
        q = V / p.T_c
        P = p.R_s * q
        zero = 0.0 * V
        offset = VentricleOutputs(p.V_d + zero, zero, zero, zero, zero, zero, zero)
        return offset, VentricleOutputs(V, P, P, P, q, q, q)


TIGHT = Box.of(HerParameters, ("T_c", "P_la", "E_max", "E_min", "V_d", "R_m", "R_a", "R_s", "C_s"))
"""Box of ventricle, filling and arteries, with competent valves."""

REGURGITANT = Box.of(
    HerParameters,
    ("T_c", "P_la", "E_max", "E_min", "R_m_closed", "R_a_closed", "R_s"),
    {"R_m_closed": (1.0, 30.0), "R_a_closed": (1.0, 30.0)},
)
"""Box with mitral and aortic regurgitation, from mild to severe."""
