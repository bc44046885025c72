"""Default training settings of posteriors, in a module that is quick to import."""

from jaxtwin.training.settings import TrainingConfig

POSTERIOR_TRAINING = TrainingConfig(
    steps=9_000,
    batch_size=512,
    learning_rate=1e-2,
    evaluate_every=500,
    patience=100,
)
"""Default settings for flows that learn from simulated patients: two minutes on two cores."""
CLIP_POSTERIOR_TRAINING = TrainingConfig(
    steps=2_500,
    batch_size=256,
    learning_rate=1e-2,
    evaluate_every=250,
    patience=100,
)
"""Default settings for the posteriors of twins, whose measurements have large errors."""
VARIATIONAL_TRAINING = TrainingConfig(
    steps=6_000,
    batch_size=128,
    learning_rate=1e-2,
    evaluate_every=250,
    patience=6,
)
"""Default settings for flows that learn from a cohort's measurements, through a forward model."""
