"""The left heart's emulator, for training and for the comparisons of methods."""

from pathlib import Path

from jax.sharding import Mesh

from jaxtwin.commands.settings import EmulatorConfig
from jaxtwin.forward.emulator import Emulator
from jaxtwin.forward.learning import learn_emulator
from jaxtwin.models.left_heart import NINE, SEVEN, THREE, LeftHeart
from jaxtwin.parameters import Box

CHANNELS = ("V_lv", "P_lv", "P_ao")
"""Outputs of the emulator."""
PHASES = 80
"""Number of phases of the emulator's waveforms."""
BOXES = {"nine": NINE, "seven": SEVEN, "three": THREE}
"""Boxes of the twin by the number of their parameters."""


def obtain_emulator(
    folder: Path,
    box: Box,
    config: EmulatorConfig,
    *,
    seed: int,
    phases: int = PHASES,
    mesh: Mesh | None = None,
) -> tuple[Emulator, dict[str, float]]:
    """Load the emulator in a run's folder, or train it first; see `learn_emulator`."""
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
        mesh=mesh,
    )
