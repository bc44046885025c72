"""Interventions, speed laws of pumps, trials and optimal doses."""
