"""The study of each model: its measured curve and hidden outputs."""

import dataclasses
from typing import Any, get_args

from experiments.models.settings import SystemName
from jaxtwin.methods.tasks import CurveTask
from jaxtwin.models.bjordalsbakke import SYSTEMIC, Bjordalsbakke
from jaxtwin.models.ferreira import NINE, Ferreira
from jaxtwin.models.four_chambers import BOTH_SIDES, FourChambers
from jaxtwin.models.glucose import TWIN, GlucoseTest
from jaxtwin.models.her import REGURGITANT, Her
from jaxtwin.models.left_heart import SEVEN, LeftHeart
from jaxtwin.models.lung import AIRWAY, Lung
from jaxtwin.models.stergiopulos import COUPLING, Stergiopulos
from jaxtwin.models.two_lungs import COMPARTMENTS, TwoLungs
from jaxtwin.models.windkessel import THREE_ELEMENTS, Windkessel
from jaxtwin.physics.quantity import output_quantities


@dataclasses.dataclass(frozen=True)
class Study:
    """A model's measurement and the labels of its figures.

    Attributes:
        task: The measurement.
        horizontal: Label of the time axis.
    """

    task: CurveTask
    horizontal: str = "phase of the beat"

    @property
    def labels(self) -> dict[str, str]:
        """Axis labels of the task's channels, with units."""
        known = output_quantities(self.task.system)
        return {
            channel: f"{'hidden ' * (channel in self.task.hidden)}{channel} [{known[channel].unit}]"
            for channel in self.task.channels
        }


def heart(system: Any, box: Any) -> Study:
    """Return the study of a ventricle's volume curve: noise of 3 mL, heart period known."""
    task = CurveTask(system, box, "V_lv", 0.2, ("P_lv", "P_ao"), known=("T_c",), noise=3.0)
    return Study(task)


STUDIES: dict[SystemName, Study] = {
    # Pressure scales with stroke volume, so R and C are only identifiable if SV is known.
    "windkessel": Study(
        CurveTask(
            Windkessel(),
            THREE_ELEMENTS,
            "P_ao",
            0.1,
            ("q_s",),
            known=("T_c", "T_e", "SV"),
            noise=1.0,
        ),
    ),
    "stergiopulos": heart(Stergiopulos(), COUPLING),
    "ferreira": heart(Ferreira(), NINE),
    "her": heart(Her(), REGURGITANT),
    "bjordalsbakke": heart(Bjordalsbakke(), SYSTEMIC),
    "left_heart": heart(LeftHeart(), SEVEN),
    # An echo of the right ventricle; pressures that need a catheter are hidden.
    "four_chambers": Study(
        CurveTask(
            FourChambers(),
            BOTH_SIDES,
            "V_rv",
            0.2,
            ("P_pa", "P_rv", "V_lv"),
            known=("T_c",),
            noise=3.0,
        ),
    ),
    "lung": Study(
        CurveTask(Lung(), AIRWAY, "q", 0.004, ("P_alv",), noise=0.02),
        "phase of the breath",
    ),
    "two_lungs": Study(
        CurveTask(TwoLungs(), COMPARTMENTS, "q", 0.004, ("V_2", "P_2"), noise=0.02),
        "phase of the breath",
    ),
    # One sample every six minutes; fasting values are measured before the test.
    "glucose": Study(
        CurveTask(
            GlucoseTest(), TWIN, "G", 0.5, ("I", "X"), samples=30, known=("G_b", "I_b"), noise=3.0
        ),
        "share of the test's 180 min",
    ),
}
assert set(STUDIES) == set(get_args(SystemName))
