"""Synthetic (phantom) clips rendered from known volumes."""
