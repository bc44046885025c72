"""The left heart and the systemic circulation as a circuit of five states.

Simaan, Ferreira, Chen, Antaki and Galati, "A dynamical state space representation and
performance analysis of a feedback-controlled rotary left ventricular assist device", IEEE
Transactions on Control Systems Technology 17(1), 2009, without the pump.
"""

from typing import ClassVar, NamedTuple

from jaxtwin.models.elastance import double_hill
from jaxtwin.models.valves import ideal_valve
from jaxtwin.models.ventricle import AbstractVentricle, VentricleOutputs
from jaxtwin.parameters import AbstractParameters, Box, Scalar, parameter

_SIMAAN = "Simaan 2009, table I"
_KUANG = "Kuang 2024 (box); Simaan 2009 (default)"


class LeftHeartParameters(AbstractParameters):
    """Parameters of the circuit, in mL, mmHg and s."""

    source = _KUANG
    T_c: Scalar = parameter(1.0, (0.4, 1.7), "s", "heart period")
    V_0: Scalar = parameter(
        140.0, (0.0, 280.0), "mL", "stressed ventricular volume at t = 0 (sets the filling)"
    )
    E_max: Scalar = parameter(2.0, (0.5, 3.5), "mmHg/mL", "peak elastance (contractility)")
    E_min: Scalar = parameter(
        0.06, (0.02, 0.1), "mmHg/mL", "passive elastance (stiffness in diastole)"
    )
    R_m: Scalar = parameter(0.005, (0.005, 0.1), "mmHg·s/mL", "mitral-valve resistance")
    R_a: Scalar = parameter(0.001, (0.0001, 0.25), "mmHg·s/mL", "aortic-valve resistance")
    V_d: Scalar = parameter(10.0, (4.0, 25.0), "mL", "unstressed ventricular volume")
    R_s: Scalar = parameter(1.0, None, "mmHg·s/mL", "systemic resistance", source=_SIMAAN)
    R_c: Scalar = parameter(
        0.0398, None, "mmHg·s/mL", "characteristic resistance of the aorta", source=_SIMAAN
    )
    C_a: Scalar = parameter(0.08, None, "mL/mmHg", "aortic compliance", source=_SIMAAN)
    C_s: Scalar = parameter(1.33, None, "mL/mmHg", "systemic compliance", source=_SIMAAN)
    C_r: Scalar = parameter(4.4, None, "mL/mmHg", "atrial and venous compliance", source=_SIMAAN)
    L_s: Scalar = parameter(0.0005, None, "mmHg·s²/mL", "aortic inertance", source=_SIMAAN)
    P_0: Scalar = parameter(
        75.0, None, "mmHg", "arterial and aortic pressure at t = 0", source="Kuang 2024"
    )


class LeftHeartState(NamedTuple):
    """State of the circuit."""

    V: Scalar
    """Ventricular volume above the unstressed volume [mL]."""
    P_la: Scalar
    """Left-atrial (and venous) pressure [mmHg]."""
    P_a: Scalar
    """Systemic arterial pressure [mmHg]."""
    P_ao: Scalar
    """Aortic pressure [mmHg]."""
    Q: Scalar
    """Aortic flow [mL/s]."""


class LeftHeart(AbstractVentricle[LeftHeartState, LeftHeartParameters, VentricleOutputs]):
    """The five-state left heart of Simaan et al. 2009.

    With r(u) = max(u, 0), P_lv = E(t) V, q_m = r(P_la − P_lv)/R_m, q_a = r(P_lv − P_ao)/R_a:

        dV/dt    = q_m − q_a
        dP_la/dt = (P_a − P_la)/(R_s C_r) − q_m/C_r
        dP_a/dt  = (P_la − P_a)/(R_s C_s) + Q/C_s
        dP_ao/dt = (q_a − Q)/C_a
        dQ/dt    = (P_ao − P_a − R_c Q)/L_s
    """

    parameters: ClassVar = LeftHeartParameters

    def outputs(self, t: Scalar, state: LeftHeartState, p: LeftHeartParameters) -> VentricleOutputs:
        """Return volumes, pressures and valve flows at time t [s]."""
        P_lv = double_hill(t, p.T_c, p.E_max, p.E_min) * state.V
        q_m = ideal_valve(state.P_la, P_lv, p.R_m)
        q_a = ideal_valve(P_lv, state.P_ao, p.R_a)
        q_s = (state.P_a - state.P_la) / p.R_s
        return VentricleOutputs(state.V + p.V_d, P_lv, state.P_ao, state.P_la, q_m, q_a, q_s)

    def vector_field(
        self, t: Scalar, state: LeftHeartState, p: LeftHeartParameters
    ) -> LeftHeartState:
        """Evaluate the circuit's equations; see the class."""
        out = self.outputs(t, state, p)
        return LeftHeartState(
            V=out.q_m - out.q_a,
            P_la=(out.q_s - out.q_m) / p.C_r,
            P_a=(state.Q - out.q_s) / p.C_s,
            P_ao=(out.q_a - state.Q) / p.C_a,
            Q=(state.P_ao - state.P_a - p.R_c * state.Q) / p.L_s,
        )

    def divert(self, rates: LeftHeartState, flow: Scalar, p: LeftHeartParameters) -> LeftHeartState:
        """See `AbstractVentricle`."""
        return rates._replace(V=rates.V - flow, P_ao=rates.P_ao + flow / p.C_a)

    def initial_state(self, p: LeftHeartParameters) -> LeftHeartState:
        """Return end diastole with the ventricle filled to V_0: (V_0, V_0·E_min, P_0, P_0, 0)."""
        zero = 0.0 * p.V_0
        return LeftHeartState(p.V_0, p.V_0 * p.E_min, p.P_0 + zero, p.P_0 + zero, zero)

    def period(self, p: LeftHeartParameters) -> Scalar:
        """Return the heart period T_c [s]."""
        return p.T_c

    def conserved(self, state: LeftHeartState, p: LeftHeartParameters) -> tuple[Scalar, ...]:
        """Return the stressed volume V_s = V + C_r P_la + C_s P_a + C_a P_ao [mL]."""
        return (state.V + p.C_r * state.P_la + p.C_s * state.P_a + p.C_a * state.P_ao,)

    def scaling(self, p: LeftHeartParameters) -> tuple[VentricleOutputs, VentricleOutputs]:
        """Return the offset and scale of every output.

        The equations, valves included, are homogeneous of degree one in the state, and the
        periodic orbit depends on the initial state only through V_s. So (V_lv − V_d)/V_s, C P/V_s
        and T_c q/V_s do not depend on V_0, V_d or P_0.
        """
        (V_s,) = self.conserved(self.initial_state(p), p)
        P = V_s / (p.C_r + p.C_s + p.C_a)
        zero = 0.0 * V_s
        offset = VentricleOutputs(p.V_d + zero, zero, zero, zero, zero, zero, zero)
        q = V_s / p.T_c
        scale = VentricleOutputs(V_s, P, P, P, q, q, q)
        return offset, scale


SEVEN = Box.of(LeftHeartParameters, ("T_c", "V_0", "E_max", "E_min", "R_m", "R_a", "V_d"))
"""Box of the seven-parameter twin of Kuang et al. 2024."""

THREE = Box.of(
    LeftHeartParameters,
    ("T_c", "V_0", "E_max"),
    {"T_c": (0.5, 2.0), "V_0": (15.0, 400.0), "E_max": (0.3, 30.0)},
)
"""Box of the three-parameter twin of Kuang et al. 2024, with its own wider bounds."""

EIGHT = Box.of(
    LeftHeartParameters,
    (*SEVEN.names, "R_s"),
    dict(zip(SEVEN.names, zip(SEVEN.low, SEVEN.high, strict=True), strict=True))
    | {"R_s": (0.5, 2.5)},
)
"""`SEVEN` with systemic resistance as an eighth parameter, for hypertension."""

NINE = Box.of(
    LeftHeartParameters,
    (*EIGHT.names, "C_s"),
    {
        "T_c": (60 / 180, 60 / 35),
        "V_0": (1.0, 700.0),
        "E_max": (0.15, 12.0),
        "E_min": (0.01, 0.15),
        "R_m": (0.002, 0.12),
        "R_a": (0.0002, 0.25),
        "V_d": (0.5, 40.0),
        "R_s": (0.3, 4.0),
        "C_s": (0.3, 4.0),
    },
    logarithmic=(*EIGHT.names, "C_s"),
)
"""Box of the nine-parameter twin, wide enough for the patients of a clinic: hearts of 13 to 700 mL
at 35 to 180 beats a minute. The end-systolic elastance of 43 patients was 0.4 to 8.4 mmHg/mL (Chen
et al., Journal of the American College of Cardiology 38(7), 2001)."""
