"""Default training settings of the networks for pictures, in a module that is quick to import."""

from jaxtwin.training.settings import TrainingConfig

SEGMENTATION_TRAINING = TrainingConfig(
    steps=1_500, batch_size=16, learning_rate=4e-3, weight_decay=1e-2, evaluate_every=250
)
"""Default settings of the segmentation network; ten minutes on two cores."""
ORIENTATION_TRAINING = TrainingConfig(
    steps=600, batch_size=16, learning_rate=4e-3, weight_decay=1e-2, evaluate_every=200
)
"""Default settings of the network that tells whether a heart is shown upright."""
