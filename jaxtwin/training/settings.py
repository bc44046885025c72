"""Training settings. Imports nothing heavy, so that command lines start quickly."""

import dataclasses
from typing import Literal, TypeAlias

Precision: TypeAlias = Literal["float32", "bfloat16"]
"""In what a network computes while it is trained. Its parameters, the losses and the optimiser are
float32 in both."""


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """Training settings.

    Attributes:
        steps: Maximum number of optimiser steps.
        batch_size: Number of examples per step.
        learning_rate: Peak learning rate. The schedule is a linear warm-up over 5% of the steps,
            then cosine decay to a hundredth of the peak.
        weight_decay: AdamW's weight decay, applied to matrices and kernels only.
        clip_norm: Maximum global norm of the gradient.
        evaluate_every: Number of steps between validations; each also saves a checkpoint.
        patience: Number of validations without improvement after which training stops.

    Raises:
        ValueError: If one of them is not positive (weight_decay may be 0).
    """

    steps: int
    batch_size: int
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    evaluate_every: int = 200
    patience: int = 10

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not (value > 0 or (field.name == "weight_decay" and value == 0)):
                raise ValueError(f"{field.name} is {value}: expected a positive number")
