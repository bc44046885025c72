"""A ventricle between a constant filling pressure and a three-element windkessel.

Stergiopulos, Meister and Westerhof, "Determinants of stroke volume and systolic and diastolic
aortic pressure", American Journal of Physiology 270 (Heart and Circulatory Physiology 39), 1996.
The loop is open and has two states. The circuit follows later authors who quote the paper and give
the human values below; neither was checked against the paper's table.
"""

from typing import ClassVar, NamedTuple

from jaxtwin.models.elastance import hill_activation, phase_of
from jaxtwin.models.valves import ideal_valve
from jaxtwin.models.ventricle import AbstractVentricle, VentricleOutputs
from jaxtwin.parameters import AbstractParameters, Box, Scalar, parameter

_QUOTED = "after Stergiopulos 1996, as quoted by others; bounds wide around it"
_OURS = "not in Stergiopulos 1996, which has no such resistance; bounds include stenosis"


class StergiopulosParameters(AbstractParameters):
    """Parameters of the circuit, in mL, mmHg and s, with the names used by `LeftHeart`."""

    source = _QUOTED
    T_c: Scalar = parameter(0.8, (0.4, 1.7), "s", "heart period")
    t_p: Scalar = parameter(
        0.428, (0.3, 0.5), "", "time of peak elastance, over the heart period", symbol="T_p/T_c"
    )
    P_v: Scalar = parameter(7.5, (4.0, 15.0), "mmHg", "venous filling pressure")
    E_max: Scalar = parameter(2.31, (0.5, 4.0), "mmHg/mL", "peak elastance (contractility)")
    E_min: Scalar = parameter(
        0.06, (0.03, 0.12), "mmHg/mL", "passive elastance (stiffness in diastole)"
    )
    V_d: Scalar = parameter(20.0, (4.0, 40.0), "mL", "unstressed ventricular volume")
    R_m: Scalar = parameter(
        0.005,
        (0.003, 0.1),
        "mmHg·s/mL",
        "mitral-valve resistance",
        source="of the size of Simaan 2009's",
    )
    R_a: Scalar = parameter(0.0, (0.0, 0.25), "mmHg·s/mL", "aortic-valve resistance", source=_OURS)
    R_c: Scalar = parameter(
        0.051,
        (0.02, 0.2),
        "mmHg·s/mL",
        "characteristic resistance of the aorta",
        source="5% of R_s, as in an adult; bounds wide around it",
    )
    R_s: Scalar = parameter(1.05, (0.5, 2.5), "mmHg·s/mL", "systemic resistance")
    C_s: Scalar = parameter(1.6, (0.5, 3.0), "mL/mmHg", "total arterial compliance")


class StergiopulosState(NamedTuple):
    """State of the circuit."""

    V: Scalar
    """Ventricular volume above the unstressed volume [mL]."""
    P: Scalar
    """Pressure in the arterial compliance [mmHg]."""


class Stergiopulos(AbstractVentricle[StergiopulosState, StergiopulosParameters, VentricleOutputs]):
    """The ventricle and arteries of Stergiopulos et al. 1996.

    With r(u) = max(u, 0), t_n = (t mod T_c)/(t_p T_c) and the activation e of `hill_activation`:

        E = (E_max − E_min) e(t_n) + E_min        P_lv = E V
        q_m = r(P_v − P_lv)/R_m                   q_a = r(P_lv − P)/(R_a + R_c)
        dV/dt = q_m − q_a                         C_s dP/dt = q_a − P/R_s
        P_ao = P + R_c q_a

    Blood leaves the arteries against a pressure of 0.
    """

    parameters: ClassVar = StergiopulosParameters

    def outputs(
        self, t: Scalar, state: StergiopulosState, p: StergiopulosParameters
    ) -> VentricleOutputs:
        """Return volumes, pressures and valve flows at time t [s]."""
        t_n = phase_of(t, p.T_c) / (p.t_p * p.T_c)
        # In units of the time of the peak: 0.303 T_c and 0.508 T_c at the default t_p.
        activation = hill_activation(t_n, 0.708, 1.32, 1.187, 21.9)
        P_lv = ((p.E_max - p.E_min) * activation + p.E_min) * state.V
        q_m = ideal_valve(p.P_v, P_lv, p.R_m)
        q_a = ideal_valve(P_lv, state.P, p.R_a + p.R_c)
        return VentricleOutputs(
            V_lv=state.V + p.V_d,
            P_lv=P_lv,
            P_ao=state.P + p.R_c * q_a,
            P_la=p.P_v + 0.0 * P_lv,
            q_m=q_m,
            q_a=q_a,
            q_s=state.P / p.R_s,
        )

    def vector_field(
        self, t: Scalar, state: StergiopulosState, p: StergiopulosParameters
    ) -> StergiopulosState:
        """Evaluate the circuit's equations; see the class."""
        out = self.outputs(t, state, p)
        return StergiopulosState(out.q_m - out.q_a, (out.q_a - out.q_s) / p.C_s)

    def divert(
        self, rates: StergiopulosState, flow: Scalar, p: StergiopulosParameters
    ) -> StergiopulosState:
        """See `AbstractVentricle`.

        The flow enters the compliance, downstream of R_c. At the aortic root it would raise P_ao,
        which is not a state here, by R_c times the flow and keep the valve shut longer: 4 mmHg for
        5 L/min.
        """
        return rates._replace(V=rates.V - flow, P=rates.P + flow / p.C_s)

    def initial_state(self, p: StergiopulosParameters) -> StergiopulosState:
        """Return a full ventricle, V = P_v/E_min, at the pressure that ejects half per beat."""
        V = p.P_v / p.E_min
        return StergiopulosState(V, 0.5 * p.R_s * V / p.T_c)

    def period(self, p: StergiopulosParameters) -> Scalar:
        """Return the heart period T_c [s]."""
        return p.T_c

    def scaling(self, p: StergiopulosParameters) -> tuple[VentricleOutputs, VentricleOutputs]:
        """Return the offset and scale of every output.

        The equations are homogeneous of degree one in the state and P_v together. So V_lv − V_d,
        pressures and flows, divided by P_v, do not depend on P_v or V_d. The scales are the full
        ventricle V = P_v/E_min for volumes, V/T_c for flows and R_s V/T_c for pressures.
        """
        V = p.P_v / p.E_min
        q = V / p.T_c
        P = p.R_s * q
        zero = 0.0 * V
        offset = VentricleOutputs(p.V_d + zero, zero, zero, zero, zero, zero, zero)
        return offset, VentricleOutputs(V, P, P, P, q, q, q)


COUPLING = Box.of(
    StergiopulosParameters,
    ("T_c", "t_p", "P_v", "E_max", "E_min", "V_d", "R_m", "R_c", "R_s", "C_s"),
)
"""Box of ventricle, filling and arteries, without aortic stenosis."""
