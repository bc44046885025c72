"""Default training settings of the methods, in a module that is quick to import."""

from jaxtwin.training.settings import TrainingConfig

# Enough for 1,000 patients on two cores in half a minute.
CURVE_TRAINING = TrainingConfig(
    steps=3_000,
    batch_size=128,
    learning_rate=5e-3,
    weight_decay=1e-2,
    evaluate_every=250,
    patience=4,
)
"""Default settings for methods that learn from the curves of a cohort."""
# Takes ten minutes on two cores.
CLIP_TRAINING = TrainingConfig(
    steps=1_000, batch_size=16, weight_decay=1e-2, evaluate_every=100, patience=5
)
"""Default settings for methods that learn from clips."""
