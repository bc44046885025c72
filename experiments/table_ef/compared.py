"""Methods that `experiments.table_ef` compares. A method of your own is one more entry.

Imports nothing heavy: the command line shows the names.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import jaxtwin as jt

if TYPE_CHECKING:
    from jaxtwin.forward.base import AbstractForward
    from jaxtwin.methods.base import AbstractMethod

    Forwards = Mapping[str, AbstractForward]
    Method = AbstractMethod[jt.ClipTask, jt.Clips]


class Compared(NamedTuple):
    """One method of the comparison.

    Attributes:
        title: Name in the table and the figure.
        create: Function of the training settings and the forward models: "emulator", "simulator"
            and, for the method "pssl_paper", "paper".
    """

    title: str
    create: "Callable[[jt.TrainingConfig, Forwards], Method]"


def _longer(training: jt.TrainingConfig) -> jt.TrainingConfig:
    """Return the training settings with three times the steps and patience."""
    # A longer schedule spends more steps at learning rates at which nothing improves.
    return dataclasses.replace(training, steps=3 * training.steps, patience=3 * training.patience)


METHODS = {
    "pssl": Compared(
        "P-SSL (emulator)",
        lambda training, forwards: jt.PSSL(forward=forwards["emulator"], config=training),
    ),
    "ssl_simulator": Compared(
        "SSL through the simulator",
        lambda training, forwards: jt.PSSL(forward=forwards["simulator"], config=training),
    ),
    "supervised": Compared(
        "supervised, default encoder", lambda training, _: jt.SupervisedClips(config=training)
    ),
    "supervised_longer": Compared(
        "supervised, default encoder, 3 times the clips",
        lambda training, _: jt.SupervisedClips(config=_longer(training)),
    ),
    "supervised_conv3d": Compared(
        "supervised, 3D-CNN after the paper's",
        lambda training, _: jt.SupervisedClips(encoder="conv3d", config=training),
    ),
    "pssl_paper": Compared(
        "P-SSL, emulator after the paper's",
        lambda training, forwards: jt.PSSL(forward=forwards["paper"], config=training),
    ),
}

CURVE = "pssl_curve"
TITLES = {
    **{name: compared.title for name, compared in METHODS.items()},
    CURVE: "P-SSL, volume curve of the segmented clip",
}
"""Names of methods in the table. The last is not trained on the clips themselves, see `curves`."""
