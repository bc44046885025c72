"""How to train. Imports nothing heavy, so that command lines can show it at once."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How to train.

    Attributes:
        steps: Optimiser steps at most.
        batch_size: Examples a step.
        learning_rate: Peak of the schedule: linear warm-up over 5% of the steps, then cosine
            to a hundredth.
        weight_decay: Of AdamW, on matrices and kernels only.
        clip_norm: The gradient's global norm is clipped to this.
        evaluate_every: Validate and checkpoint after so many steps.
        patience: Stop after so many validations without a new best.

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
