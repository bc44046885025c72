"""The task of a twin from a volume curve, as training and twins use it."""

from jaxtwin.commands.emulator import CHANNELS, PHASES
from jaxtwin.methods.tasks import CurveTask
from jaxtwin.models.left_heart import LeftHeart
from jaxtwin.parameters import Box

RESOLUTION = 0.5  # [mL], below which errors of a curve do not matter
NOISE = 3.0  # [mL], of a volume curve


def curve_task(box: Box) -> CurveTask:
    """Return the task: θ from a volume curve of known period that begins anywhere in the beat."""
    channel, *hidden = CHANNELS
    return CurveTask(
        *(LeftHeart(), box, channel, RESOLUTION, tuple(hidden), PHASES),
        known=("T_c",),
        noise=NOISE,
        unknown_start=True,
    )
