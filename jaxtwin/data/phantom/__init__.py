"""Phantom clips rendered from known volumes."""
