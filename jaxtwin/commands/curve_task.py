"""The task of a twin from a volume curve, as training and twins use it."""

from jaxtwin.cohorts.clinic import ECHO_LABORATORY
from jaxtwin.cohorts.population import draw_population
from jaxtwin.commands.emulator import CHANNELS, PHASES
from jaxtwin.data.vitals import CUFF_ERROR
from jaxtwin.methods.measured import Channel
from jaxtwin.methods.tasks import CurveTask
from jaxtwin.models.left_heart import LeftHeart
from jaxtwin.parameters import Box, NormalPrior

RESOLUTION = 0.5  # [mL], below which errors of a curve do not matter
NOISE = 3.0  # [mL], of a volume curve
PATIENTS = 1_000  # whose mean and covariance are the prior's
WITHOUT_CUFF = 0.5  # share of the patients to learn from
CUFF = tuple(
    Channel(name, 1.0, noise=CUFF_ERROR, missing=WITHOUT_CUFF) for name in ("systolic", "diastolic")
)


def curve_task(
    box: Box, prior: NormalPrior | None = None, beside: tuple[Channel, ...] = ()
) -> CurveTask:
    """Return the task: θ from a volume curve of known period that begins anywhere in the beat.

    Args:
        box: The free parameters and their bounds.
        prior: Distribution of θ among the patients.
        beside: What else may be measured, such as `CUFF`.
    """
    channel, *hidden = CHANNELS
    return CurveTask(
        *(LeftHeart(), box, channel, RESOLUTION, tuple(hidden), PHASES),
        known=("T_c",),
        noise=NOISE,
        unknown_start=True,
        prior=prior,
        beside=beside,
    )


def clinic_prior(box: Box, seed: int) -> NormalPrior:
    """Return the prior of an echocardiography laboratory's patients.

    A volume curve does not tell what the level of all pressures is, and these patients do.
    """
    patients = draw_population(LeftHeart(), box, ECHO_LABORATORY, PATIENTS, seed=seed)
    return NormalPrior.of(box, patients.theta)
