"""The arteries as a two- or three-element windkessel, filled by a given flow.

Westerhof, Lankhaar and Westerhof, "The arterial Windkessel", Medical & Biological Engineering &
Computing 47, 2009. The model is linear with closed-form solutions, against which the solvers are
tested.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar, NamedTuple

import jax.numpy as jnp

from jaxtwin.models.elastance import phase_of
from jaxtwin.parameters import AbstractParameters, Box, Scalar, parameter
from jaxtwin.physics.base import AbstractPeriodicSystem
from jaxtwin.physics.solution import Reading

_ADULT = "a resting adult's; the bounds are wide around it"


class WindkesselParameters(AbstractParameters):
    """Parameters of the windkessel, in mL, mmHg and s; with Z = 0 it has two elements."""

    source = _ADULT
    T_c: Scalar = parameter(0.9, (0.4, 1.7), "s", "heart period")
    T_e: Scalar = parameter(0.3, (0.15, 0.38), "s", "duration of ejection")
    SV: Scalar = parameter(70.0, (20.0, 130.0), "mL", "stroke volume")
    R: Scalar = parameter(1.0, (0.4, 2.5), "mmHg·s/mL", "peripheral resistance")
    C: Scalar = parameter(1.5, (0.4, 3.0), "mL/mmHg", "total arterial compliance")
    Z: Scalar = parameter(0.05, (0.0, 0.2), "mmHg·s/mL", "characteristic resistance of the aorta")


class WindkesselState(NamedTuple):
    """State of the windkessel."""

    P: Scalar
    """Pressure in the compliance [mmHg]."""


class WindkesselOutputs(NamedTuple):
    """Outputs of the windkessel."""

    P_ao: Annotated[Scalar, "mmHg", "aortic pressure"]
    q_a: Annotated[Scalar, "mL/s", "flow into the aorta"]
    q_s: Annotated[Scalar, "mL/s", "flow through the peripheral resistance"]


def half_sine_flow(t: Scalar, T_c: Scalar, T_e: Scalar, SV: Scalar) -> Scalar:
    """Return a half-sine flow [mL/s]: SV π/(2 T_e) sin(π t/T_e) for t < T_e, then 0 until T_c.

    Args:
        t: Time [s]; t = 0 is the start of ejection.
        T_c: Heart period [s].
        T_e: Duration of ejection [s], less than T_c.
        SV: Stroke volume [mL].
    """
    phase = phase_of(t, T_c)
    # Held at T_e, where the sine is 0, so that its derivative by the phase is 0 afterwards.
    held = jnp.minimum(phase, T_e)
    return SV * jnp.pi / (2 * T_e) * jnp.sin(jnp.pi * held / T_e)


class Windkessel(AbstractPeriodicSystem[WindkesselState, WindkesselParameters, WindkesselOutputs]):
    """A compliance behind a characteristic resistance, emptied through the periphery.

    With the flow q of `half_sine_flow`:

        C dP/dt = q − P/R        P_ao = P + Z q
    """

    parameters: ClassVar = WindkesselParameters

    def outputs(
        self, t: Scalar, state: WindkesselState, p: WindkesselParameters
    ) -> WindkesselOutputs:
        """Return pressure and flows at time t [s]."""
        q_a = half_sine_flow(t, p.T_c, p.T_e, p.SV)
        return WindkesselOutputs(state.P + p.Z * q_a, q_a, state.P / p.R)

    def vector_field(
        self, t: Scalar, state: WindkesselState, p: WindkesselParameters
    ) -> WindkesselState:
        """Evaluate the balance of the compliance; see the class."""
        out = self.outputs(t, state, p)
        return WindkesselState((out.q_a - out.q_s) / p.C)

    def initial_state(self, p: WindkesselParameters) -> WindkesselState:
        """Return the mean pressure R SV/T_c."""
        return WindkesselState(p.R * p.SV / p.T_c)

    def period(self, p: WindkesselParameters) -> Scalar:
        """Return the heart period T_c [s]."""
        return p.T_c

    def readings(self) -> Mapping[str, Reading]:
        """Return systolic, diastolic and mean aortic pressure, and output."""
        return {
            "systolic": Reading("mmHg", lambda beat: beat.maximum.P_ao),
            "diastolic": Reading("mmHg", lambda beat: beat.minimum.P_ao),
            "P_ao_mean": Reading("mmHg", lambda beat: beat.waveforms.P_ao.mean(-1)),
            "output": Reading("L/min", lambda beat: beat.waveforms.q_s.mean(-1) * 60 / 1000),
        }

    def limits(self) -> Mapping[str, tuple[float, float]]:
        """Return clinically plausible ranges of pressure and output."""
        return {"P_ao_mean": (50.0, 130.0), "output": (2.0, 10.0)}

    def scaling(self, p: WindkesselParameters) -> tuple[WindkesselOutputs, WindkesselOutputs]:
        """Return offset and scale: R SV/T_c for pressures, SV/T_c for flows, linear in SV."""
        flow = p.SV / p.T_c
        zero = 0.0 * flow
        return WindkesselOutputs(zero, zero, zero), WindkesselOutputs(p.R * flow, flow, flow)


THREE_ELEMENTS = Box.of(WindkesselParameters, ("T_c", "T_e", "SV", "R", "C", "Z"))
"""Box with all parameters free."""
