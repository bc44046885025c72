"""The optimiser Muon, which trains convolutional networks in a fraction of AdamW's steps."""

from typing import Any

import jax
import optax
from optax.contrib import MuonDimensionNumbers, muon

from jaxtwin.training.loop import learning_rate
from jaxtwin.training.settings import TrainingConfig

ROOT_MEAN_SQUARE = 0.2
"""Of a step relative to the learning rate, about Adam's, so that both take the same rate."""


def muon_optimiser(config: TrainingConfig) -> optax.GradientTransformation:
    """Return Muon for convolution kernels, Adam for the rest, scheduled and clipped as AdamW is.

    A kernel's step is the orthogonal matrix nearest to its momentum, inputs and window by outputs,
    so that no direction is learnt before the others (Jordan et al., "Muon: an optimizer for hidden
    layers in neural networks", 2024; the scale of the step is that of Liu et al., "Muon is scalable
    for LLM training", arXiv:2502.16982).
    """

    def kernels(params: Any) -> Any:
        """Return which axes are inputs and outputs; None for what is no kernel."""
        axes = MuonDimensionNumbers(reduction_axis=(0, 1, 2), output_axis=3)
        return jax.tree.map(lambda leaf: axes if leaf.ndim == 4 else None, params)

    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        muon(
            learning_rate(config),
            weight_decay=config.weight_decay,
            consistent_rms=ROOT_MEAN_SQUARE,
            muon_weight_dimension_numbers=kernels,
        ),
    )
