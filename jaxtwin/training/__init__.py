"""Training loop, checkpoints and progress bars."""
