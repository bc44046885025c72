"""Clips and cohorts: phantoms, EchoNet-Dynamic folders and single recordings."""
