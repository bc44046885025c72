"""Methods that `experiments.methods` compares, and what is measured in the patients.

A method of your own is one more entry.

Imports nothing heavy: the command line shows the names.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import jaxtwin as jt

if TYPE_CHECKING:
    from experiments.methods.settings import Config
    from jaxtwin.forward.base import AbstractForward
    from jaxtwin.methods.base import AbstractMethod

SAMPLES = 60


class Compared(NamedTuple):
    """One method of the comparison.

    Attributes:
        title: Name in tables and figures.
        create: Function of the experiment's settings and the seed's emulator.
        once: Whether to run it only at the middle noise with known period: a variant that follows
            the paper or separates two causes.
        incomplete: Whether to run it also on the incomplete measurements of `MEASURED`.
    """

    title: str
    create: "Callable[[Config, AbstractForward], AbstractMethod[jt.CurveTask, jt.Curves]]"
    once: bool = False
    incomplete: bool = False


class Measured(NamedTuple):
    """What is measured in the patients.

    Attributes:
        title: Words for tables.
        missing: Share of the samples that are missing at random, in every patient.
        cuff: Whether arm-cuff pressures are measured beside the curve.
        lost: What the test patients lack: "curve" or "cuff". A third of the patients to learn from
            lack the one, and a third the other.
    """

    title: str
    missing: float = 0.0
    cuff: bool = False
    lost: str | None = None


MEASURED = {
    "complete": Measured("complete curves"),
    "missing10": Measured("10% of the samples missing", missing=0.1),
    "missing30": Measured("30% of the samples missing", missing=0.3),
    "missing50": Measured("50% of the samples missing", missing=0.5),
    "cuff": Measured("a cuff beside the curve", cuff=True),
    "no_cuff": Measured("the cuff missing", cuff=True, lost="cuff"),
    "no_curve": Measured("the curve missing, a cuff alone", cuff=True, lost="curve"),
}


def _through_simulator(config: "Config", _: "AbstractForward") -> "jt.CurvePSSL":
    from jaxtwin.commands.emulator import CHANNELS
    from jaxtwin.models.left_heart import SEVEN, LeftHeart

    simulator = jt.Simulator(system=LeftHeart(), box=SEVEN, channels=CHANNELS, phases=SAMPLES)
    return jt.CurvePSSL(simulator, config.simulator_training)


def _shared_ode(config: "Config", _: "AbstractForward"):
    from jaxtwin.methods.neural_ode import ConditionedNeuralODE

    return ConditionedNeuralODE(config=config.shared_training)


def _box_middle(*_):
    from jaxtwin.methods.prior import BoxMiddle

    return BoxMiddle()


METHODS = {
    "pssl": Compared(
        "P-SSL (emulator)",
        lambda config, emulator: jt.CurvePSSL(emulator, config.training),
        incomplete=True,
    ),
    "pssl_brief": Compared(
        "P-SSL (emulator), as few steps as through the simulator",
        lambda config, emulator: jt.CurvePSSL(emulator, config.simulator_training),
        once=True,
    ),
    "ssl_simulator": Compared("SSL through the simulator", _through_simulator),
    "least_squares": Compared(
        "fit through the simulator",
        lambda config, _: jt.LeastSquares(starts=config.starts),
        incomplete=True,
    ),
    "posterior": Compared(
        "neural posterior",
        lambda config, _: jt.NeuralPosterior(config.posterior_training, patients=config.bank),
        once=True,
    ),
    "pinn": Compared("PINN", lambda config, _: jt.PINN(steps=config.pinn_steps)),
    "pinn_plain": Compared(
        "PINN, plain residuals",
        lambda config, _: jt.PINN(steps=config.pinn_steps, preconditioned=False),
        once=True,
    ),
    "neural_ode": Compared(
        "Neural ODE, one a patient", lambda config, _: jt.NeuralODE(steps=config.ode_steps)
    ),
    # As in the paper: five states, two layers of 50 units and no phase input.
    "neural_ode_blind": Compared(
        "Neural ODE, blind to time after the paper's",
        lambda config, _: jt.NeuralODE(steps=config.ode_steps, harmonics=0, augment=4, width=50),
        once=True,
    ),
    "neural_ode_shared": Compared("Neural ODE, shared", _shared_ode),
    "supervised": Compared(
        "supervised regression",
        lambda config, _: jt.SupervisedCurves(config.training),
        incomplete=True,
    ),
    "box_middle": Compared("the middle of the box", _box_middle),
}
