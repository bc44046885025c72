"""The task of a twin from a volume curve, as training and twins use it."""

from jaxtwin.cohorts.clinic import ECHO_LABORATORY
from jaxtwin.cohorts.population import draw_population
from jaxtwin.commands.emulator import CHANNELS, PHASES
from jaxtwin.methods.tasks import CurveTask
from jaxtwin.models.left_heart import LeftHeart
from jaxtwin.parameters import Box, NormalPrior

RESOLUTION = 0.5  # [mL], below which errors of a curve do not matter
NOISE = 3.0  # [mL], of a volume curve
PATIENTS = 1_000  # whose mean and covariance are the prior's


def curve_task(box: Box, prior: NormalPrior | None = None) -> CurveTask:
    """Return the task: θ from a volume curve of known period that begins anywhere in the beat."""
    channel, *hidden = CHANNELS
    return CurveTask(
        *(LeftHeart(), box, channel, RESOLUTION, tuple(hidden), PHASES),
        known=("T_c",),
        noise=NOISE,
        unknown_start=True,
        prior=prior,
    )


def clinic_prior(box: Box, seed: int) -> NormalPrior:
    """Return the prior of an echocardiography laboratory's patients.

    A volume curve does not tell what the level of all pressures is, and these patients do.
    """
    patients = draw_population(LeftHeart(), box, ECHO_LABORATORY, PATIENTS, seed=seed)
    return NormalPrior.of(box, patients.theta)
