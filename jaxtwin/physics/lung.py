"""The lung as one compartment behind one airway, breathed for by a ventilator.

The equation of motion of the respiratory system: Bates, "Lung Mechanics: An Inverse Modeling
Approach", Cambridge University Press, 2009. Units are the field's own: L, cmH₂O and s.
"""

from typing import ClassVar, NamedTuple

import jax.numpy as jnp

from jaxtwin.parameters import AbstractParameters, Box, Scalar, parameter
from jaxtwin.physics.base import AbstractPeriodicSystem
from jaxtwin.physics.elastance import phase_of

_ADULT = "a ventilated adult's; the bounds reach from stiff to obstructed lungs"
_SETTING = "usual settings of a ventilator"


class LungParameters(AbstractParameters):
    """Two properties of the patient, then four settings of the ventilator."""

    R: Scalar = parameter(
        10.0,
        (2.0, 50.0),
        symbol="R",
        unit="cmH2O·s/L",
        meaning="airway resistance",
        source=_ADULT,
    )
    C: Scalar = parameter(
        0.05,
        (0.01, 0.1),
        symbol="C",
        unit="L/cmH2O",
        meaning="compliance of lung and chest wall",
        source=_ADULT,
    )
    T: Scalar = parameter(
        4.0, (2.0, 6.0), symbol="T", unit="s", meaning="duration of a breath", source=_SETTING
    )
    T_i: Scalar = parameter(
        1.3, (0.6, 1.8), symbol="T_i", unit="s", meaning="duration of inspiration", source=_SETTING
    )
    P_i: Scalar = parameter(
        15.0,
        (5.0, 30.0),
        symbol="P_i",
        unit="cmH2O",
        meaning="inspiratory pressure above PEEP",
        source=_SETTING,
    )
    PEEP: Scalar = parameter(
        5.0,
        (0.0, 15.0),
        symbol="PEEP",
        unit="cmH2O",
        meaning="positive end-expiratory pressure",
        source=_SETTING,
    )


class LungState(NamedTuple):
    """The one state."""

    V: Scalar
    """Volume above that of the lung at rest [L]."""


class LungOutputs(NamedTuple):
    """What can be observed at the mouth, and the pressure that cannot."""

    V: Scalar
    """Volume above that of the lung at rest [L]."""
    q: Scalar
    """Flow into the lung [L/s]."""
    P_aw: Scalar
    """Pressure at the mouth [cmH₂O]."""
    P_alv: Scalar
    """Pressure in the alveoli [cmH₂O]."""


class Lung(AbstractPeriodicSystem[LungState, LungParameters, LungOutputs]):
    """One compartment under pressure-controlled ventilation.

    The ventilator holds P_aw = PEEP + P_i for T_i, then P_aw = PEEP:

        dV/dt = q = (P_aw − V/C)/R
    """

    parameters: ClassVar = LungParameters

    def outputs(self, t: Scalar, state: LungState, p: LungParameters) -> LungOutputs:
        """Volume, flow and pressures at time t [s]; t = 0 is the beginning of inspiration."""
        P_aw = p.PEEP + jnp.where(phase_of(t, p.T) < p.T_i, p.P_i, 0.0)
        P_alv = state.V / p.C
        return LungOutputs(state.V, (P_aw - P_alv) / p.R, P_aw, P_alv)

    def vector_field(self, t: Scalar, state: LungState, p: LungParameters) -> LungState:
        """The equation of motion; see the class."""
        return LungState(self.outputs(t, state, p).q)

    def initial_state(self, p: LungParameters) -> LungState:
        """The lung at rest under PEEP."""
        return LungState(p.C * p.PEEP)

    def period(self, p: LungParameters) -> Scalar:
        """The duration of a breath T [s]."""
        return p.T

    def discontinuities(self, p: LungParameters) -> tuple[Scalar, ...]:
        """The end of inspiration."""
        return (p.T_i,)

    def scaling(self, p: LungParameters) -> tuple[LungOutputs, LungOutputs]:
        """Above PEEP everything goes with P_i: the equation is linear."""
        zero = 0.0 * p.P_i
        offset = LungOutputs(p.C * p.PEEP, zero, p.PEEP + zero, p.PEEP + zero)
        return offset, LungOutputs(p.C * p.P_i, p.P_i / p.R, p.P_i, p.P_i)


AIRWAY = Box.of(LungParameters, ("R", "C"))
"""What a patient's twin is asked for; the ventilator's settings are known."""
