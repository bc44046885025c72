"""Circuits with a left ventricle: what they promise, and what is read off their beats."""

import abc
from collections.abc import Mapping

import jax.numpy as jnp
from jaxtyping import Array, Bool

from jaxtwin.models.observables import ejection_fraction, mean_over_time
from jaxtwin.parameters import Scalar
from jaxtwin.physics.base import AbstractPeriodicSystem, Outputs, Parameters, State
from jaxtwin.physics.solution import Reading, Solution

READINGS: dict[str, Reading] = {
    "EDV": Reading("mL", lambda beat: beat.maximum.V_lv),
    "ESV": Reading("mL", lambda beat: beat.minimum.V_lv),
    "EF": Reading("%", lambda beat: ejection_fraction(beat.maximum.V_lv, beat.minimum.V_lv)),
    "period": Reading("s", lambda beat: beat.duration),
    "systolic": Reading("mmHg", lambda beat: beat.maximum.P_ao),
    "diastolic": Reading("mmHg", lambda beat: beat.minimum.P_ao),
    "P_lv_max": Reading("mmHg", lambda beat: beat.maximum.P_lv),
    "P_ao_mean": Reading("mmHg", lambda beat: beat.waveforms.P_ao.mean(-1)),
    "P_la_mean": Reading("mmHg", lambda beat: beat.waveforms.P_la.mean(-1)),
    "output": Reading("L/min", lambda beat: beat.waveforms.q_s.mean(-1) * 60 / 1000),
}
"""Of every ventricle's beat. The cuff of systolic and diastolic pressure is taken to be at the
aorta; output is the mean systemic flow."""

CLINICAL: dict[str, tuple[float, float]] = {
    "EDV": (40.0, 300.0),
    "EF": (10.0, 80.0),
    "P_ao_mean": (50.0, 130.0),
    "P_la_mean": (0.0, 30.0),
    "output": (2.0, 10.0),
}
"""What a heart must be within to be met in a clinic; boxes hold some with an output of 1 L/min."""


class AbstractVentricle(AbstractPeriodicSystem[State, Parameters, Outputs]):
    """A circuit with a left ventricle and an aorta, to which a pump can be attached.

    Its outputs have at least V_lv [mL], P_lv, P_ao and P_la [mmHg], the valve flows q_m and q_a
    and the systemic flow q_s [mL/s]: what `observables` and `READINGS` read.
    """

    @abc.abstractmethod
    def divert(self, rates: State, flow: Scalar, p: Parameters) -> State:
        """The rates of change where a flow [mL/s] leaves the ventricle and enters the aorta."""

    def readings(self) -> Mapping[str, Reading]:
        """See `READINGS`."""
        return READINGS

    def limits(self) -> Mapping[str, tuple[float, float]]:
        """See `CLINICAL`."""
        return CLINICAL


def is_empty(orbit: Solution) -> Bool[Array, ""]:
    """Whether a heart has run out of blood somewhere in its beat.

    Circuits are linear, and go on below an empty ventricle and a negative mean pressure of the
    veins, which collapse in life.
    """
    out = orbit.outputs
    return (jnp.min(out.V_lv) <= 0) | (mean_over_time(orbit, out.P_la) <= 0)
