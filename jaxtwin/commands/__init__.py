"""What the command `jaxtwin` and the experiments do: train, build twins, run trials."""
