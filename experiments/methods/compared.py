"""Methods that `experiments.methods` compares. A method of your own is one more entry.

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
    """

    title: str
    create: "Callable[[Config, AbstractForward], AbstractMethod[jt.CurveTask, jt.Curves]]"
    once: bool = False


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
        "P-SSL (emulator)", lambda config, emulator: jt.CurvePSSL(emulator, config.training)
    ),
    "pssl_brief": Compared(
        "P-SSL (emulator), as few steps as through the simulator",
        lambda config, emulator: jt.CurvePSSL(emulator, config.simulator_training),
        once=True,
    ),
    "ssl_simulator": Compared("SSL through the simulator", _through_simulator),
    "least_squares": Compared(
        "fit through the simulator", lambda config, _: jt.LeastSquares(starts=config.starts)
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
        "supervised regression", lambda config, _: jt.SupervisedCurves(config.training)
    ),
    "box_middle": Compared("the middle of the box", _box_middle),
}
