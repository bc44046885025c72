"""The systemic circulation as a closed loop of three compartments.

Bjørdalsbakke, Sturdy, Hose and Hellevik, "Parameter estimation for closed-loop lumped parameter
models of the systemic circulation using synthetic data", Mathematical Biosciences 343, 108731,
2022, without the optional intrathoracic pressure on the ventricle. The values are those that
CirculatorySystemModels.jl quotes from the paper's table 1; they were not checked against the paper.
"""

from typing import ClassVar, NamedTuple

from jaxtwin.models.elastance import hill_activation, phase_of
from jaxtwin.models.valves import ideal_valve
from jaxtwin.models.ventricle import AbstractVentricle, VentricleOutputs
from jaxtwin.parameters import AbstractParameters, Box, Scalar, parameter

_TABLE = "Bjørdalsbakke 2022, table 1, as quoted by CirculatorySystemModels.jl"
_WIDE = _TABLE + "; bounds wide around it"


class BjordalsbakkeParameters(AbstractParameters):
    """Parameters of the loop, in mL, mmHg and s.

    Parameters that the left heart also has carry the same names.
    """

    source = _WIDE
    T_c: Scalar = parameter(0.85, (0.4, 1.7), "s", "heart period")
    V_0: Scalar = parameter(
        318.2,
        (150.0, 600.0),
        "mL",
        "stressed volume of the whole loop",
        symbol="V_{tot}",
        source=_WIDE + "; at rest it fills all compartments to the 7 mmHg given there",
    )
    E_max: Scalar = parameter(1.5, (0.5, 3.5), "mmHg/mL", "peak elastance (contractility)")
    E_min: Scalar = parameter(
        0.03, (0.02, 0.1), "mmHg/mL", "passive elastance (stiffness in diastole)"
    )
    R_m: Scalar = parameter(
        0.006, (0.003, 0.1), "mmHg·s/mL", "mitral-valve resistance", symbol="R_{mv}"
    )
    R_a: Scalar = parameter(
        0.0,
        (0.0, 0.25),
        "mmHg·s/mL",
        "aortic-valve resistance",
        source="not in Bjørdalsbakke 2022, which has no such resistance; bounds include stenosis",
    )
    Z_ao: Scalar = parameter(
        0.033, (0.01, 0.2), "mmHg·s/mL", "characteristic resistance of the aorta"
    )
    R_s: Scalar = parameter(1.11, (0.5, 2.5), "mmHg·s/mL", "systemic resistance", symbol="R_{sys}")
    C_s: Scalar = parameter(
        1.13, (0.5, 3.0), "mL/mmHg", "compliance of the systemic arteries", symbol="C_{sa}"
    )
    C_r: Scalar = parameter(
        11.0, (4.0, 30.0), "mL/mmHg", "compliance of the systemic veins", symbol="C_{sv}"
    )


class BjordalsbakkeState(NamedTuple):
    """State of the loop."""

    V: Scalar
    """Ventricular volume [mL]."""
    P_sa: Scalar
    """Pressure in the systemic arteries [mmHg]."""
    P_sv: Scalar
    """Pressure in the systemic veins, from which the ventricle fills [mmHg]."""


class Bjordalsbakke(
    AbstractVentricle[BjordalsbakkeState, BjordalsbakkeParameters, VentricleOutputs]
):
    """The closed loop of Bjørdalsbakke et al. 2022.

    With r(u) = max(u, 0) and the activation e of `hill_activation` over t_n = (t mod T_c)/T_c:

        E = (E_max − E_min) e(t_n) + E_min        P_lv = E V
        q_m = r(P_sv − P_lv)/R_m                  dV/dt = q_m − q_a
        q_a = r(P_lv − P_sa)/(R_a + Z_ao)         C_s dP_sa/dt = q_a − q_s
        q_s = (P_sa − P_sv)/R_s                   C_r dP_sv/dt = q_s − q_m
        P_ao = P_sa + Z_ao q_a
    """

    parameters: ClassVar = BjordalsbakkeParameters

    def outputs(
        self, t: Scalar, state: BjordalsbakkeState, p: BjordalsbakkeParameters
    ) -> VentricleOutputs:
        """Return volumes, pressures and valve flows at time t [s]."""
        activation = hill_activation(phase_of(t, p.T_c) / p.T_c, 0.303, 1.32, 0.508, 21.9)
        P_lv = ((p.E_max - p.E_min) * activation + p.E_min) * state.V
        q_m = ideal_valve(state.P_sv, P_lv, p.R_m)
        q_a = ideal_valve(P_lv, state.P_sa, p.R_a + p.Z_ao)
        q_s = (state.P_sa - state.P_sv) / p.R_s
        P_ao = state.P_sa + p.Z_ao * q_a
        return VentricleOutputs(state.V, P_lv, P_ao, state.P_sv, q_m, q_a, q_s)

    def vector_field(
        self, t: Scalar, state: BjordalsbakkeState, p: BjordalsbakkeParameters
    ) -> BjordalsbakkeState:
        """Evaluate the loop's equations; see the class."""
        out = self.outputs(t, state, p)
        return BjordalsbakkeState(
            V=out.q_m - out.q_a,
            P_sa=(out.q_a - out.q_s) / p.C_s,
            P_sv=(out.q_s - out.q_m) / p.C_r,
        )

    def divert(
        self, rates: BjordalsbakkeState, flow: Scalar, p: BjordalsbakkeParameters
    ) -> BjordalsbakkeState:
        """See `AbstractVentricle`.

        The flow enters the arteries downstream of Z_ao, because P_ao is not a state. Its
        contribution to P_ao, Z_ao times the flow, is neglected.
        """
        return rates._replace(V=rates.V - flow, P_sa=rates.P_sa + flow / p.C_s)

    def initial_state(self, p: BjordalsbakkeParameters) -> BjordalsbakkeState:
        """Return the loop at rest: one pressure everywhere, 7 mmHg with the defaults."""
        P = p.V_0 / (1 / p.E_min + p.C_s + p.C_r)
        return BjordalsbakkeState(P / p.E_min, P, P)

    def period(self, p: BjordalsbakkeParameters) -> Scalar:
        """Return the heart period T_c [s]."""
        return p.T_c

    def conserved(
        self, state: BjordalsbakkeState, p: BjordalsbakkeParameters
    ) -> tuple[Scalar, ...]:
        """Return the stressed volume of the closed loop, V_0 = V + C_s P_sa + C_r P_sv [mL]."""
        return (state.V + p.C_s * state.P_sa + p.C_r * state.P_sv,)

    def scaling(self, p: BjordalsbakkeParameters) -> tuple[VentricleOutputs, VentricleOutputs]:
        """Return the offset and scale of every output.

        All equations are homogeneous of degree one, so V_lv/V_0, P C/V_0 and q T_c/V_0 do not
        depend on V_0.
        """
        zero = 0.0 * p.V_0
        V, P, q = p.V_0 + zero, p.V_0 / (p.C_s + p.C_r), p.V_0 / p.T_c
        offset = VentricleOutputs(zero, zero, zero, zero, zero, zero, zero)
        return offset, VentricleOutputs(V, P, P, P, q, q, q)


SYSTEMIC = Box.of(
    BjordalsbakkeParameters,
    ("T_c", "V_0", "E_max", "E_min", "R_m", "Z_ao", "R_s", "C_s", "C_r"),
)
"""Box with all parameters of the paper free, except those of the activation's shape."""
