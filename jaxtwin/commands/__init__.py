"""Implementation of the `jaxtwin` command and of the experiments that share its code."""
