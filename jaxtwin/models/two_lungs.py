"""The lung as two compartments with different time constants behind a common airway.

Otis, McKerrow, Bartlett, Mead, McIlroy, Selverstone and Radford, "Mechanical factors in
distribution of pulmonary ventilation", Journal of Applied Physiology 8, 1956; Bates, "Lung
Mechanics: An Inverse Modeling Approach", Cambridge University Press, 2009. Units are those of the
field: L, cmH₂O and s.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, NamedTuple

from jaxtwin.models.lung import (
    BREATH,
    AbstractBreathParameters,
    AbstractLung,
    airway_pressure,
    muscle_pressure,
)
from jaxtwin.parameters import Box, Scalar, parameter
from jaxtwin.physics.solution import Reading, Recording

_ADULT = "halves of a ventilated adult's lung; the bounds are wide around them"
_SLOW = "a ventilated adult's obstructed half; the bounds begin where compartment 1's end"


class TwoLungsParameters(AbstractBreathParameters):
    """Parameters of the breath, then of airways and compartments; 1 has the wider airway."""

    source = _ADULT
    R_c: Scalar = parameter(
        5.0,
        (1.0, 20.0),
        "cmH2O·s/L",
        "resistance of the common airway, with the tube",
        source="a ventilated adult's; the bounds are wide around it",
    )
    R_1: Scalar = parameter(
        6.0, (1.0, 10.0), "cmH2O·s/L", "resistance of the airway to compartment 1"
    )
    C_1: Scalar = parameter(0.025, (0.005, 0.05), "L/cmH2O", "compliance of compartment 1")
    R_2: Scalar = parameter(
        30.0, (10.0, 100.0), "cmH2O·s/L", "resistance of the airway to compartment 2", source=_SLOW
    )
    C_2: Scalar = parameter(0.025, (0.005, 0.05), "L/cmH2O", "compliance of compartment 2")


class TwoLungsState(NamedTuple):
    """State of the lung."""

    V_1: Scalar
    """Volume of compartment 1 above that at rest [L]."""
    V_2: Scalar
    """Volume of compartment 2 above that at rest [L]."""


class TwoLungsOutputs(NamedTuple):
    """Outputs of the lung: at the mouth, and in each compartment."""

    V: Annotated[Scalar, "L", "volume of both compartments above that at rest"]
    q: Annotated[Scalar, "L/s", "flow into the lung, at the mouth"]
    P_aw: Annotated[Scalar, "cmH₂O", "pressure at the mouth"]
    V_1: Annotated[Scalar, "L", "volume of compartment 1 above that at rest"]
    V_2: Annotated[Scalar, "L", "volume of compartment 2 above that at rest"]
    q_1: Annotated[Scalar, "L/s", "flow into compartment 1"]
    q_2: Annotated[Scalar, "L/s", "flow into compartment 2"]
    P_1: Annotated[Scalar, "cmH₂O", "pressure in the alveoli of compartment 1"]
    P_2: Annotated[Scalar, "cmH₂O", "pressure in the alveoli of compartment 2"]


def _swings(breath: Recording) -> tuple[Any, Any, Any]:
    """Return the ranges of V, V_1 and V_2 in a breath [L]."""
    high, low = breath.maximum, breath.minimum
    return high.V - low.V, high.V_1 - low.V_1, high.V_2 - low.V_2


def _share_2(breath: Recording) -> Any:
    _, first, second = _swings(breath)
    return 100 * second / (first + second)


def _pendelluft(breath: Recording) -> Any:
    both, first, second = _swings(breath)
    return 1000 * (first + second - both)


class TwoLungs(AbstractLung[TwoLungsState, TwoLungsParameters, TwoLungsOutputs]):
    """Two compartments, driven by a ventilator, by their muscles or by both.

    With P_aw of `airway_pressure` and P_mus of `muscle_pressure`, for i = 1, 2:

        P_aw + P_mus = R_c q + R_i q_i + V_i/C_i        q = q_1 + q_2        dV_i/dt = q_i

    so that, with P_i = V_i/C_i − P_mus,

        q   = (P_aw − (R_2 P_1 + R_1 P_2)/(R_1 + R_2)) / (R_c + R_1 R_2/(R_1 + R_2))
        q_1 = (R_2 q + P_2 − P_1)/(R_1 + R_2)        q_2 = q − q_1

    With equal time constants R_i C_i the compartments move as one, like `Lung`. Otherwise the slow
    one lags: it traps air, and may still fill from the fast one while that empties (pendelluft).

    Two things cannot be identified from flow at the mouth. Swapping the compartments does not
    change it, so R_1 ≤ R_2 fixes their order; and it determines only four combinations of the five
    parameters, so R_c must be known. These are C = C_1 + C_2 and, with α = R_1/S, β = C_1/C and
    S = R_1 + R_2,

        β(1 − β) S        (1 − α − β)²/(β(1 − β))        R_c + α(1 − α) S
    """

    parameters: ClassVar = TwoLungsParameters

    def outputs(self, t: Scalar, state: TwoLungsState, p: TwoLungsParameters) -> TwoLungsOutputs:
        """Return volumes, flows and pressures at time t [s]; t = 0 is the start of inspiration."""
        P_aw, P_mus = airway_pressure(t, p), muscle_pressure(t, p)
        P_1, P_2 = state.V_1 / p.C_1 - P_mus, state.V_2 / p.C_2 - P_mus
        both = p.R_1 + p.R_2
        q = (P_aw - (p.R_2 * P_1 + p.R_1 * P_2) / both) / (p.R_c + p.R_1 * p.R_2 / both)
        q_1 = (p.R_2 * q + P_2 - P_1) / both
        q_2 = (p.R_1 * q + P_1 - P_2) / both
        V = state.V_1 + state.V_2
        return TwoLungsOutputs(V, q, P_aw, state.V_1, state.V_2, q_1, q_2, P_1, P_2)

    def vector_field(self, t: Scalar, state: TwoLungsState, p: TwoLungsParameters) -> TwoLungsState:
        """Evaluate the equations of motion; see the class."""
        out = self.outputs(t, state, p)
        return TwoLungsState(out.q_1, out.q_2)

    def initial_state(self, p: TwoLungsParameters) -> TwoLungsState:
        """Return the lung at rest under PEEP."""
        return TwoLungsState(p.C_1 * p.PEEP, p.C_2 * p.PEEP)

    def readings(self) -> Mapping[str, Reading]:
        """Return `BREATH` and the readings of the two compartments.

        share_2 is compartment 2's share of the volume that both take up. pendelluft is the volume
        that they take up beyond the tidal volume, which passes between them and not through the
        mouth. P_2_end is the alveolar pressure of compartment 2 at the end of expiration, equal to
        PEEP if it has emptied.
        """
        return {
            **BREATH,
            "share_2": Reading("%", _share_2),
            "pendelluft": Reading("mL", _pendelluft),
            "P_2_end": Reading("cmH2O", lambda breath: breath.waveforms.P_2[..., 0]),
        }

    def scaling(self, p: TwoLungsParameters) -> tuple[TwoLungsOutputs, TwoLungsOutputs]:
        """Return offset and scale: above PEEP, all outputs are linear in P_i and P_mus.

        Flows are scaled by those at the start of inspiration from rest.
        """
        P = p.P_i + p.P_mus
        zero = 0.0 * P
        rest, PEEP = self.initial_state(p), p.PEEP + zero
        offset = TwoLungsOutputs(
            rest.V_1 + rest.V_2, zero, PEEP, rest.V_1, rest.V_2, zero, zero, PEEP, PEEP
        )
        both = p.R_1 + p.R_2
        q = P / (p.R_c + p.R_1 * p.R_2 / both)
        q_1, q_2 = q * p.R_2 / both, q * p.R_1 / both
        V_1, V_2 = p.C_1 * P, p.C_2 * P
        return offset, TwoLungsOutputs(V_1 + V_2, q, P, V_1, V_2, q_1, q_2, P, P)


COMPARTMENTS = Box.of(TwoLungsParameters, ("R_1", "C_1", "R_2", "C_2"))
"""Box for a patient's twin; the common airway and the ventilator's settings are known."""
