"""The left heart's emulator, as training and the comparisons of methods use it."""

from pathlib import Path

from jaxtwin.commands.settings import EmulatorConfig
from jaxtwin.forward.emulator import Emulator
from jaxtwin.forward.learning import learn_emulator
from jaxtwin.models.left_heart import LeftHeart
from jaxtwin.parameters import Box

CHANNELS = ("V_lv", "P_lv", "P_ao")
"""Waveforms that it gives."""
PHASES = 80
"""Grid points a beat."""


def obtain_emulator(
    folder: Path, box: Box, config: EmulatorConfig, *, seed: int, phases: int = PHASES
) -> tuple[Emulator, dict[str, float]]:
    """The emulator in a run's folder, learnt where it is not there yet; see `learn_emulator`."""
    return learn_emulator(
        folder,
        LeftHeart(),
        box,
        CHANNELS,
        phases=phases,
        simulations=config.simulations,
        unseen=config.unseen,
        training=config.training,
        seed=seed,
    )
