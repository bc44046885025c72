"""A rotary blood pump (LVAD) from the left ventricle to the aorta of any circuit with a ventricle.

Simaan, Ferreira, Chen, Antaki and Galati, "A dynamical state space representation and
performance analysis of a feedback-controlled rotary left ventricular assist device", IEEE
Transactions on Control Systems Technology 17(1), 2009.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple, cast

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from jaxtwin.models.ventricle import AbstractVentricle
from jaxtwin.parameters import AbstractParameters, Scalar, parameter
from jaxtwin.physics.base import AbstractPeriodicSystem
from jaxtwin.physics.solution import Event, Reading, Recording

_SIMAAN = "Simaan 2009"

Speed = Scalar | float | Callable[[Scalar], Scalar]
"""Pump speed [rpm]: a number, or a function of the phase of the beat in [0, 1)."""


class PumpParameters(AbstractParameters):
    """Parameters of the pump and its cannulae, in mL, mmHg and s."""

    source = _SIMAAN
    R_p: Scalar = parameter(
        0.4314,
        None,
        "mmHg·s/mL",
        "resistance of cannulae and pump, R_i + R_o + |β_0| = 0.0677 + 0.0677 + 0.296",
        symbol="R^*",
    )
    L_p: Scalar = parameter(
        0.0524,
        None,
        "mmHg·s²/mL",
        "inertance of cannulae and pump, L_i + L_o + |β_1| = 0.0127 + 0.0127 + 0.027",
        symbol="L^*",
    )
    beta_2: Scalar = parameter(
        9.9025e-7,
        None,
        "mmHg/rpm²",
        "pressure that the pump adds, over its speed squared",
        symbol="β_2",
    )
    P_s: Scalar = parameter(
        1.0, None, "mmHg", "ventricular pressure below which the wall is sucked onto the inlet"
    )
    alpha: Scalar = parameter(
        3.5, None, "s/mL", "resistance of a sucked-in wall, over P_s − P_lv", symbol="α"
    )


class PumpedState(NamedTuple):
    """State of the circuit and the pump."""

    heart: Any
    """State of the circuit."""
    Q_p: Scalar
    """Flow through the pump, from the ventricle to the aorta [mL/s]."""


class PumpedOutputs(NamedTuple):
    """Outputs of the circuit and the pump; `outputs.P_lv` is `outputs.heart.P_lv`."""

    heart: Any
    """Outputs of the circuit."""
    Q_p: Annotated[Scalar, "mL/s", "flow through the pump"]
    R_k: Annotated[Scalar, "mmHg·s/mL", "resistance of the sucked-in wall; 0 without suction"]

    def __getattr__(self, name: str) -> Any:
        """Return an output of the circuit by name."""
        return getattr(self.heart, name)


PUMP_READINGS: dict[str, Reading] = {
    "pump_flow": Reading(
        "L/min",
        lambda beat: beat.waveforms.Q_p.mean(-1) * 60 / 1000,
        "mean flow through the pump",
        absent=0.0,
    ),
    "pump_flow_min": Reading(
        "L/min",
        lambda beat: beat.minimum.Q_p * 60 / 1000,
        "smallest flow through the pump, negative where blood flows back",
        absent=0.0,
    ),
    "suction": Reading(
        "share of the beat",
        lambda beat: (beat.waveforms.R_k > 0).mean(-1),
        "how long the ventricle's wall is sucked onto the pump's inlet",
        absent=0.0,
    ),
}
"""Readings of a pump, in addition to those of the ventricle; all are 0 without a pump."""


class LVAD(AbstractPeriodicSystem[PumpedState, Any, PumpedOutputs]):
    """A circuit with a pump that runs at a given speed.

    With r(u) = max(u, 0) and R_k = α r(P_s − P_lv),

        L* dQ_p/dt = P_lv − P_ao − (R* + R_k) Q_p + β_2 ω²
        dV/dt decreases by Q_p, dP_ao/dt increases by Q_p/C_a.

    Blood flows back through a pump that is too slow. The parameters of the system are those of the
    patient's circuit; the pump and its speed are attributes of the system.

    Attributes:
        heart: The circuit.
        speed: Pump speed ω [rpm].
        pump: Parameters of the pump.
    """

    heart: AbstractVentricle
    speed: Speed
    pump: PumpParameters = PumpParameters()

    # The volume of a pumped ventricle turns sharply when the mitral valve opens, and its extremes
    # are read at the steps: they are within 0.1 mL with 480 steps, 0.14 mL with 240.
    steps = 480

    @property
    def parameters(self) -> type[AbstractParameters]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Return the parameter class of the circuit."""
        return self.heart.parameters

    def outputs(self, t: Scalar, state: PumpedState, p: Any) -> PumpedOutputs:
        """Return the circuit's outputs, the pump flow and the suction at time t [s]."""
        heart = self.heart.outputs(t, state.heart, p)
        R_k = self.pump.alpha * jnp.maximum(self.pump.P_s - heart.P_lv, 0)
        return PumpedOutputs(heart, state.Q_p, R_k)

    def vector_field(self, t: Scalar, state: PumpedState, p: Any) -> PumpedState:
        """Evaluate the equations of circuit and pump; see the class."""
        out = self.outputs(t, state, p)
        rates = self.heart.vector_field(t, state.heart, p)
        head = out.P_lv - out.P_ao + self.pump.beta_2 * self.speed_at(t, p) ** 2
        resistance = self.pump.R_p + out.R_k
        return PumpedState(
            self.heart.divert(rates, state.Q_p, p),
            (head - resistance * state.Q_p) / self.pump.L_p,
        )

    def speed_at(self, t: Scalar, p: Any) -> Scalar:
        """Return the pump speed at time t [rpm]."""
        if callable(self.speed):
            beats = t / self.heart.period(p)
            return cast(Callable[[Scalar], Scalar], self.speed)(beats - jnp.floor(beats))
        return cast(Scalar, self.speed)

    def initial_state(self, p: Any) -> PumpedState:
        """Return the circuit's initial state, with the pump at rest."""
        return PumpedState(self.heart.initial_state(p), 0.0 * self.heart.period(p))

    def discontinuities(self, p: Any) -> tuple[Scalar, ...]:
        """Return the circuit's discontinuities; the speed is assumed smooth within the beat."""
        return self.heart.discontinuities(p)

    def period(self, p: Any) -> Scalar:
        """Return the heart period [s]."""
        return self.heart.period(p)

    def conserved(self, state: PumpedState, p: Any) -> tuple[Scalar, ...]:
        """Return the circuit's conserved quantities, which the pump does not change."""
        return self.heart.conserved(state.heart, p)

    def readings(self) -> Mapping[str, Reading]:
        """Return the readings of circuit and pump; EF and stroke work are the ventricle's."""
        return {**self.heart.readings(), **PUMP_READINGS}

    def limits(self) -> Mapping[str, tuple[float, float]]:
        """Return the circuit's limits."""
        return self.heart.limits()

    def safety(self) -> Mapping[str, Event]:
        """Return the circuit's safety events, and suction."""
        return {**self.heart.safety(), "suction": Event("suction", 0.0, 0.0)}

    def feasible(self, recording: Recording[Any]) -> Bool[Array | np.ndarray, "*patient"]:
        """Return whether the circuit's beat is feasible; see `AbstractVentricle`."""
        return self.heart.feasible(recording)

    def scaling(self, p: Any) -> tuple[PumpedOutputs, PumpedOutputs]:
        """Return the circuit's offset and scale; pump flow is scaled like aortic-valve flow."""
        offset, scale = self.heart.scaling(p)
        zero = 0.0 * scale.q_a
        return (
            PumpedOutputs(offset, zero, zero),
            PumpedOutputs(scale, scale.q_a, zero + self.pump.R_p),
        )
