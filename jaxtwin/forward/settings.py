"""Default training of emulators. Imports nothing heavy, so that command lines start quickly."""

from jaxtwin.training.settings import TrainingConfig

# Takes 20 to 40 seconds on two cores.
EMULATOR_TRAINING = TrainingConfig(
    steps=3_500, batch_size=512, learning_rate=4e-3, evaluate_every=500
)
