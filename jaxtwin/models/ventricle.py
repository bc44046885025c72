"""Circuits with a left ventricle: their interface, outputs and readings."""

import abc
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from jaxtwin.models.ejection import ejection_fraction
from jaxtwin.parameters import Scalar
from jaxtwin.physics.base import AbstractPeriodicSystem, Outputs, Parameters, State
from jaxtwin.physics.solution import Event, Reading, Recording


class VentricleOutputs(NamedTuple):
    """Outputs of a left ventricle between an atrium and an aorta."""

    V_lv: Annotated[Scalar, "mL", "left-ventricular volume"]
    P_lv: Annotated[Scalar, "mmHg", "left-ventricular pressure"]
    P_ao: Annotated[Scalar, "mmHg", "aortic pressure"]
    P_la: Annotated[Scalar, "mmHg", "left-atrial pressure; without an atrium, the filling pressure"]
    q_m: Annotated[Scalar, "mL/s", "flow through the mitral valve"]
    q_a: Annotated[Scalar, "mL/s", "flow through the aortic valve"]
    q_s: Annotated[Scalar, "mL/s", "systemic flow, out of the arteries"]


def _stroke_work(beat: Recording[Any]) -> Any:
    """Return the area of the pressure-volume loop, which runs anticlockwise [mmHg·mL]."""
    P, V = beat.waveforms.P_lv, beat.waveforms.V_lv
    roll = np.roll if isinstance(P, np.ndarray) else jnp.roll
    P_next, V_next = roll(P, -1, -1), roll(V, -1, -1)
    return -((P + P_next) / 2 * (V_next - V)).sum(-1)


READINGS: dict[str, Reading] = {
    "EDV": Reading(
        "mL", lambda beat: beat.maximum.V_lv, "end-diastolic volume, the largest of the beat"
    ),
    "ESV": Reading(
        "mL", lambda beat: beat.minimum.V_lv, "end-systolic volume, the smallest of the beat"
    ),
    "EF": Reading(
        "%",
        lambda beat: ejection_fraction(beat.maximum.V_lv, beat.minimum.V_lv),
        "ejection fraction, 100 (EDV − ESV)/EDV",
    ),
    "stroke_volume": Reading("mL", lambda beat: beat.maximum.V_lv - beat.minimum.V_lv, "EDV − ESV"),
    "stroke_work": Reading("mmHg·mL", _stroke_work, "area of the pressure-volume loop"),
    "output": Reading(
        "L/min",
        lambda beat: beat.waveforms.q_s.mean(-1) * 60 / 1000,
        "cardiac output, the mean systemic flow",
    ),
    "P_lv_max": Reading("mmHg", lambda beat: beat.maximum.P_lv, "peak ventricular pressure"),
    "P_lv_min": Reading("mmHg", lambda beat: beat.minimum.P_lv, "lowest ventricular pressure"),
    "systolic": Reading("mmHg", lambda beat: beat.maximum.P_ao, "highest aortic pressure"),
    "diastolic": Reading("mmHg", lambda beat: beat.minimum.P_ao, "lowest aortic pressure"),
    "pulse_pressure": Reading(
        "mmHg", lambda beat: beat.maximum.P_ao - beat.minimum.P_ao, "systolic − diastolic"
    ),
    "P_ao_mean": Reading("mmHg", lambda beat: beat.waveforms.P_ao.mean(-1), "mean aortic pressure"),
    "P_la_mean": Reading(
        "mmHg", lambda beat: beat.waveforms.P_la.mean(-1), "mean left-atrial pressure"
    ),
    "valve_open": Reading(
        "share of the beat",
        lambda beat: (beat.waveforms.q_a > 0).mean(-1),
        "how long the aortic valve is open",
    ),
    "period": Reading("s", lambda beat: beat.duration, "heart period"),
}
"""Readings of every circuit with a left ventricle. Systolic and diastolic pressures are those of
the aorta."""

CLINICAL: dict[str, tuple[float, float]] = {
    "EDV": (40.0, 300.0),
    "EF": (10.0, 80.0),
    "P_ao_mean": (50.0, 130.0),
    "P_la_mean": (0.0, 30.0),
    "output": (2.0, 10.0),
}
"""Clinically plausible range of some readings; a box also contains hearts that leave it, such as
with an output of 1 L/min."""

SAFETY: dict[str, Event] = {
    "hypotension": Event("P_ao_mean", 60.0, np.inf),
    "hypertension": Event("P_ao_mean", -np.inf, 110.0),
    "low output": Event("output", 2.5, np.inf),
    "congestion": Event("P_la_mean", -np.inf, 25.0),
}
"""Mean aortic pressure below 60 or above 110 mmHg, output below 2.5 L/min, mean left-atrial
pressure above 25 mmHg (pulmonary oedema)."""


class AbstractVentricle(AbstractPeriodicSystem[State, Parameters, Outputs]):
    """A circuit with a left ventricle and an aorta, to which a pump can be attached.

    Its outputs are `VentricleOutputs`, or begin with the same fields, like `FourChamberOutputs`.

    Attributes:
        further_readings: Readings in addition to `READINGS`, those of every left ventricle.
    """

    further_readings: ClassVar[Mapping[str, Reading]] = MappingProxyType({})

    @abc.abstractmethod
    def divert(self, rates: State, flow: Scalar, p: Parameters) -> State:
        """Return the rates of change with a flow [mL/s] diverted from ventricle to aorta."""

    def readings(self) -> Mapping[str, Reading]:
        """Return `READINGS` and `further_readings`."""
        return {**READINGS, **self.further_readings}

    def limits(self) -> Mapping[str, tuple[float, float]]:
        """Return `CLINICAL`."""
        return CLINICAL

    def safety(self) -> Mapping[str, Event]:
        """Return `SAFETY`."""
        return SAFETY

    def feasible(self, recording: Recording[Any]) -> Bool[Array | np.ndarray, "*patient"]:
        """Return whether the heart and the veins contain blood throughout the beat.

        The linear circuits allow a ventricular volume below 0 and a negative mean venous pressure,
        at which real veins collapse.
        """
        filled = recording.minimum.V_lv > 0
        return filled & (recording.waveforms.P_la.mean(-1) > 0)
