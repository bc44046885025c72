"""Names of the encoders. Imports nothing heavy, for command lines."""

from typing import Literal

EncoderName = Literal["tubelet", "conv3d"]
"""The default network, and the paper's."""
