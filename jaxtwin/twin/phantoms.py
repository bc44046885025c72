"""Measured phantom clips beside the truth about them, from which calibrations are learnt."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float

from jaxtwin.cohorts.simulate import simulate_cohort
from jaxtwin.data.echonet import Record
from jaxtwin.data.vitals import simulate_vitals
from jaxtwin.imaging.calibration import CurveCalibration
from jaxtwin.imaging.examples import read_labels
from jaxtwin.parameters import Box
from jaxtwin.physics.base import AbstractRecordedSystem
from jaxtwin.twin.measurements import ClipMeasurements


@dataclasses.dataclass(frozen=True)
class Phantoms:
    """Measured phantom clips and the truth about them.

    Attributes:
        measured: What the networks see.
        theta: True parameters, in the order of the box that the patients were drawn from.
        volumes: True volumes over a beat [mL].
        period: Mean length of each clip's own beats [s].
        mirrored: In which clips left and right are exchanged.
        systolic: True systolic aortic pressure [mmHg].
        diastolic: True diastolic aortic pressure [mmHg].
    """

    measured: ClipMeasurements
    theta: Float[np.ndarray, "clip free"]
    volumes: Float[np.ndarray, "clip phase"]
    period: Float[np.ndarray, " clip"]
    mirrored: Bool[np.ndarray, " clip"]
    systolic: Float[np.ndarray, " clip"]
    diastolic: Float[np.ndarray, " clip"]

    def take(self, index: Bool[np.ndarray, " clip"]) -> "Phantoms":
        """Select clips by a mask."""
        _, *rest = (getattr(self, field.name) for field in dataclasses.fields(self))
        return Phantoms(self.measured.take(index), *(array[index] for array in rest))

    def vitals(self, *, seed: int) -> dict[str, Float[np.ndarray, " clip"]]:
        """Simulate measurements of the period and with a cuff, see `simulate_vitals`."""
        found = simulate_vitals(self.period, self.systolic, self.diastolic, seed=seed)
        return {str(name): values for name, values in found.items()}

    def calibration(self, scaled: bool) -> CurveCalibration:
        """Learn how measured curves differ from true ones; all clips need a curve."""
        features = np.array([one.values for one in self.measured.curve_features(scaled)])
        return CurveCalibration.fit(features, self.volumes, self.measured.period / self.period - 1)


def with_truth(
    measured: ClipMeasurements,
    records: Sequence[Record],
    truth: Mapping[str, Mapping[str, float]],
    system: AbstractRecordedSystem,
    box: Box,
    phases: int,
) -> Phantoms:
    """Return measured phantoms with the truth about them.

    Args:
        measured: What the networks see in the clips.
        records: The clips.
        truth: Parameters by clip and name, see `read_theta`.
        system: The patients' model, with outputs V_lv and P_ao.
        box: Box that they were drawn from, with the period T_c.
        phases: Number of phases of the true volumes.
    """
    theta = np.array([[truth[r.name][name] for name in box.names] for r in records], np.float32)
    labels = [read_labels(record) for record in records]
    times = [np.arange(record.frames) / record.fps for record in records]
    own = np.array([one.period(t) for one, t in zip(labels, times, strict=True)])
    cohort = simulate_cohort(system, box, theta, phases=phases)
    return Phantoms(
        measured,
        theta,
        np.asarray(cohort.recording.waveforms.V_lv),
        # A clip without a whole beat has no other.
        np.where(np.isfinite(own), own, theta[:, box.names.index("T_c")]),
        np.array([one.mirrored for one in labels]),
        np.asarray(cohort.recording.maximum.P_ao),
        np.asarray(cohort.recording.minimum.P_ao),
    )
