"""A ventricle with valves that may leak, before a windkessel of four elements.

Her, Kim, Lim and Choi, "Windkessel model of hemodynamic state supported by a pulsatile
ventricular assist device in premature ventricle contraction", BioMedical Engineering OnLine
17:18, 2018; without their device. The loop is open, with four states. Circuit and values are
theirs as a public program quotes them, which has the elastance of Simaan 2009; they were not
compared with the paper's own figures and tables. The default heart is a failing one, as the
patients are there.
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
    """The circuit's parameters, in mL, mmHg and s; named as the left heart's."""

    T_c: Scalar = parameter(
        0.8, (0.4, 1.7), symbol="T_c", unit="s", meaning="heart period", source=_WIDE
    )
    P_la: Scalar = parameter(
        10.0,
        (5.0, 20.0),
        symbol="P_{la}",
        unit="mmHg",
        meaning="left-atrial pressure",
        source=_WIDE,
    )
    E_max: Scalar = parameter(
        1.52,
        (0.5, 3.5),
        symbol="E_{max}",
        unit="mmHg/mL",
        meaning="peak elastance (contractility)",
        source=_WIDE,
    )
    E_min: Scalar = parameter(
        0.08,
        (0.04, 0.15),
        symbol="E_{min}",
        unit="mmHg/mL",
        meaning="passive elastance (stiffness in diastole)",
        source=_WIDE,
    )
    V_d: Scalar = parameter(
        10.0,
        (4.0, 25.0),
        symbol="V_d",
        unit="mL",
        meaning="unstressed ventricular volume",
        source="that of Simaan 2009; the left heart's box",
    )
    R_m: Scalar = parameter(
        0.01,
        (0.005, 0.1),
        symbol="R_m",
        unit="mmHg·s/mL",
        meaning="resistance of the open mitral valve",
        source=_WIDE,
    )
    R_m_closed: Scalar = parameter(
        1000.0,
        (1.0, 1000.0),
        symbol="R_{m,closed}",
        unit="mmHg·s/mL",
        meaning="resistance of the closed mitral valve (regurgitation where it is small)",
        source=_LEAK,
    )
    R_a: Scalar = parameter(
        0.002,
        (0.001, 0.25),
        symbol="R_a",
        unit="mmHg·s/mL",
        meaning="resistance of the open aortic valve",
        source=_WIDE,
    )
    R_a_closed: Scalar = parameter(
        1000.0,
        (1.0, 1000.0),
        symbol="R_{a,closed}",
        unit="mmHg·s/mL",
        meaning="resistance of the closed aortic valve (regurgitation where it is small)",
        source=_LEAK,
    )
    C_a: Scalar = parameter(
        0.15, symbol="C_a", unit="mL/mmHg", meaning="aortic compliance", source=_QUOTED
    )
    R_c: Scalar = parameter(
        0.08,
        symbol="R_c",
        unit="mmHg·s/mL",
        meaning="characteristic resistance of the aorta",
        source=_QUOTED,
    )
    L_s: Scalar = parameter(
        0.0015, symbol="L_s", unit="mmHg·s²/mL", meaning="aortic inertance", source=_QUOTED
    )
    C_s: Scalar = parameter(
        1.5,
        (0.5, 3.0),
        symbol="C_s",
        unit="mL/mmHg",
        meaning="systemic compliance",
        source=_WIDE,
    )
    R_s: Scalar = parameter(
        1.35,
        (0.5, 2.5),
        symbol="R_s",
        unit="mmHg·s/mL",
        meaning="systemic resistance",
        source=_WIDE,
    )


class HerState(NamedTuple):
    """The circuit's four states."""

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

    With P_lv = E(t) V, and valves v that are `leaky_valve`s, u/R forwards and u/R_closed back:

        dV/dt      = q_m − q_a          q_m = v(P_la − P_lv)
        C_a dP_ao/dt = q_a − Q          q_a = v(P_lv − P_ao)
        C_s dP_a/dt  = Q − P_a/R_s
        L_s dQ/dt    = P_ao − P_a − R_c Q

    Blood leaves the arteries against a pressure of 0. With a leak EDV − ESV is more than what
    reaches the body: the output is the mean of q_s.
    """

    parameters: ClassVar = HerParameters

    def outputs(self, t: Scalar, state: HerState, p: HerParameters) -> VentricleOutputs:
        """Volumes, pressures and valve flows at time t [s]."""
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
        """The circuit's equations; see the class."""
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
        """A full ventricle, V = P_la/E_min, and the pressure at which half of it leaves a beat."""
        V = p.P_la / p.E_min
        P = 0.5 * p.R_s * V / p.T_c
        return HerState(V, P, P, 0.0 * P)

    def period(self, p: HerParameters) -> Scalar:
        """The heart period T_c [s]."""
        return p.T_c

    def scaling(self, p: HerParameters) -> tuple[VentricleOutputs, VentricleOutputs]:
        """The circuit's similarity law.

        The equations are homogeneous of degree one in state and P_la together, leaks included. So
        (V_lv − V_d), pressures and flows, over P_la, depend on neither P_la nor V_d. They are given
        in units of the full ventricle V = P_la/E_min, of V/T_c, and of R_s V/T_c.
        """
        V = p.P_la / p.E_min
        q = V / p.T_c
        P = p.R_s * q
        zero = 0.0 * V
        offset = VentricleOutputs(p.V_d + zero, zero, zero, zero, zero, zero, zero)
        return offset, VentricleOutputs(V, P, P, P, q, q, q)


TIGHT = Box.of(HerParameters, ("T_c", "P_la", "E_max", "E_min", "V_d", "R_m", "R_a", "R_s", "C_s"))
"""Ventricle, filling and arteries, with valves that hold tight."""

REGURGITANT = Box.of(
    HerParameters,
    ("T_c", "P_la", "E_max", "E_min", "R_m_closed", "R_a_closed", "R_s"),
    {"R_m_closed": (1.0, 30.0), "R_a_closed": (1.0, 30.0)},
)
"""With both leaks, from mild to severe."""
