"""The lung as one compartment behind one airway, driven by a ventilator, by its muscles or by both.

The equation of motion of the respiratory system: Bates, "Lung Mechanics: An Inverse Modeling
Approach", Cambridge University Press, 2009. Units are those of the field: L, cmH₂O and s.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar, NamedTuple, TypeVar

import jax.numpy as jnp

from jaxtwin.models.elastance import phase_of
from jaxtwin.parameters import AbstractParameters, Box, Scalar, parameter
from jaxtwin.physics.base import AbstractPeriodicSystem, Outputs, State
from jaxtwin.physics.solution import Reading

_ADULT = "a ventilated adult's; the bounds reach from stiff to obstructed lungs"
_SETTING = "usual settings of a ventilator"


class AbstractBreathParameters(AbstractParameters):
    """Parameters that drive a breath: four ventilator settings and the patient's effort.

    With P_i = 0 the patient breathes unassisted, with P_mus = 0 the ventilator does all the work.
    With both, the ventilator supports an effort that begins and ends with its inspiration.
    """

    source = _SETTING
    T: Scalar = parameter(4.0, (2.0, 6.0), "s", "duration of a breath")
    T_i: Scalar = parameter(1.3, (0.6, 1.8), "s", "duration of inspiration")
    P_i: Scalar = parameter(15.0, (0.0, 30.0), "cmH2O", "inspiratory pressure above PEEP")
    PEEP: Scalar = parameter(5.0, (0.0, 15.0), "cmH2O", "positive end-expiratory pressure")
    P_mus: Scalar = parameter(
        0.0,
        (0.0, 20.0),
        "cmH2O",
        "peak pressure of the inspiratory muscles",
        source="none in a sedated patient; about 5 in quiet breathing, the bounds up to laboured",
    )


def airway_pressure(t: Scalar, p: AbstractBreathParameters) -> Scalar:
    """Return the ventilator's pressure at the mouth [cmH₂O]: PEEP + P_i for T_i, then PEEP.

    Args:
        t: Time [s]; t = 0 is the start of inspiration.
        p: Parameters of the breath.
    """
    return p.PEEP + jnp.where(phase_of(t, p.T) < p.T_i, p.P_i, 0.0)


def muscle_pressure(t: Scalar, p: AbstractBreathParameters) -> Scalar:
    """Return the pressure of the inspiratory muscles [cmH₂O], positive when they draw in air.

    It rises along a parabola from 0 to P_mus in inspiration and falls back to 0 exponentially in
    expiration. With T_e = T − T_i and s = (t − T_i)/T_e:

        P_mus t (T − t)/(T_i T_e)    then    P_mus (exp(−5 s) − exp(−5))/(1 − exp(−5))

    After Albanese, Cheng, Ursino and Chbat, American Journal of Physiology - Heart 310, 2016.

    Args:
        t: Time [s]; t = 0 is the start of inspiration.
        p: Parameters of the breath.
    """
    phase, T_e = phase_of(t, p.T), p.T - p.T_i
    rising = phase * (p.T - phase) / (p.T_i * T_e)
    end = jnp.exp(-5.0)
    falling = (jnp.exp(-5.0 * (phase - p.T_i) / T_e) - end) / (1 - end)
    return p.P_mus * jnp.where(phase < p.T_i, rising, falling)


BREATH: dict[str, Reading] = {
    "V_T": Reading("L", lambda breath: breath.maximum.V - breath.minimum.V),
    "q_max": Reading("L/s", lambda breath: breath.maximum.q),
    "ventilation": Reading(
        "L/min", lambda breath: (breath.maximum.V - breath.minimum.V) * 60 / breath.duration
    ),
}
"""Readings of every lung: tidal volume, peak inspiratory flow and minute ventilation."""

_Breath = TypeVar("_Breath", bound=AbstractBreathParameters)


class AbstractLung(AbstractPeriodicSystem[State, _Breath, Outputs]):
    """A lung that breathes once per period. Its outputs include V [L] and q [L/s]."""

    def period(self, p: _Breath) -> Scalar:
        """Return the duration T of a breath [s]."""
        return p.T

    def discontinuities(self, p: _Breath) -> tuple[Scalar, ...]:
        """Return the end of inspiration [s]."""
        return (p.T_i,)

    def limits(self) -> Mapping[str, tuple[float, float]]:
        """Return the range of plausible tidal volumes."""
        return {"V_T": (0.1, 1.2)}


class LungParameters(AbstractBreathParameters):
    """Parameters of the breath, then resistance and compliance of the patient."""

    source = _ADULT
    R: Scalar = parameter(10.0, (2.0, 50.0), "cmH2O·s/L", "airway resistance")
    C: Scalar = parameter(0.05, (0.01, 0.1), "L/cmH2O", "compliance of lung and chest wall")


class LungState(NamedTuple):
    """State of the lung."""

    V: Scalar
    """Volume above that of the lung at rest [L]."""


class LungOutputs(NamedTuple):
    """Outputs of the lung: what can be measured at the mouth, and the alveolar pressure."""

    V: Annotated[Scalar, "L", "volume above that of the lung at rest"]
    q: Annotated[Scalar, "L/s", "flow into the lung"]
    P_aw: Annotated[Scalar, "cmH₂O", "pressure at the mouth"]
    P_alv: Annotated[Scalar, "cmH₂O", "pressure in the alveoli"]


class Lung(AbstractLung[LungState, LungParameters, LungOutputs]):
    """One compartment, driven by a ventilator, by its muscles or by both.

    With P_aw of `airway_pressure` and P_mus of `muscle_pressure`:

        dV/dt = q = (P_aw − P_alv)/R        P_alv = V/C − P_mus
    """

    parameters: ClassVar = LungParameters

    def outputs(self, t: Scalar, state: LungState, p: LungParameters) -> LungOutputs:
        """Return volume, flow and pressures at time t [s]; t = 0 is the start of inspiration."""
        P_aw = airway_pressure(t, p)
        P_alv = state.V / p.C - muscle_pressure(t, p)
        return LungOutputs(state.V, (P_aw - P_alv) / p.R, P_aw, P_alv)

    def vector_field(self, t: Scalar, state: LungState, p: LungParameters) -> LungState:
        """Evaluate the equation of motion; see the class."""
        return LungState(self.outputs(t, state, p).q)

    def initial_state(self, p: LungParameters) -> LungState:
        """Return the lung at rest under PEEP."""
        return LungState(p.C * p.PEEP)

    def readings(self) -> Mapping[str, Reading]:
        """Return `BREATH` and the mean alveolar pressure."""
        mean = Reading("cmH2O", lambda breath: breath.waveforms.P_alv.mean(-1))
        return {**BREATH, "P_alv_mean": mean}

    def scaling(self, p: LungParameters) -> tuple[LungOutputs, LungOutputs]:
        """Return offset and scale: above PEEP, all outputs are linear in P_i and P_mus."""
        P = p.P_i + p.P_mus
        zero = 0.0 * P
        offset = LungOutputs(p.C * p.PEEP, zero, p.PEEP + zero, p.PEEP + zero)
        return offset, LungOutputs(p.C * P, P / p.R, P, P)


AIRWAY = Box.of(LungParameters, ("R", "C"))
"""Box for a patient's twin; the ventilator's settings are known."""
