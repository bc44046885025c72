"""Digital twins from echo clips by physics-informed self-supervised learning, end to end."""

from typing import Any

from jaxtwin.commands.run import Run
from jaxtwin.commands.settings import PSSLConfig


def train(config: PSSLConfig, run: Run) -> dict[str, Any]:
    """Train everything that makes a twin of a clip; return the content of results.json.

    Raises:
        ValueError: If there are too few clips.
    """
    if config.learn_from == "volumes":
        from jaxtwin.commands.train_volumes import train_volumes

        return train_volumes(config, run)
    from jaxtwin.commands.train_curves import train_curves

    return train_curves(config, run)
