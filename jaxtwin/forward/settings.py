"""How emulators are trained unless told otherwise. Imports nothing heavy, for command lines."""

from jaxtwin.training.settings import TrainingConfig

# Twenty to forty seconds on two cores.
EMULATOR_TRAINING = TrainingConfig(
    steps=3_500, batch_size=512, learning_rate=4e-3, evaluate_every=500
)
