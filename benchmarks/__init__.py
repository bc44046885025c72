"""Benchmarks of speed and accuracy against alternatives; results are in RESULTS.md."""
