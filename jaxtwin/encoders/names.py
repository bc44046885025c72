"""Names of the encoders. Imports nothing heavy, so that command lines start quickly."""

from typing import Literal

EncoderName = Literal["tubelet", "conv3d"]
"""Encoder architecture: the default ("tubelet") or the paper's ("conv3d")."""
