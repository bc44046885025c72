"""Evaluation of twins: metrics, identifiability, familiarity and detection of disease."""
