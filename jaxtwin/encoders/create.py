"""Untrained encoders by name."""

from jaxtyping import PRNGKeyArray

from jaxtwin.data.base import ClipFormat
from jaxtwin.encoders.base import AbstractEncoder
from jaxtwin.encoders.conv3d import Conv3DEncoder
from jaxtwin.encoders.names import EncoderName
from jaxtwin.encoders.tubelet import TubeletEncoder


def create_encoder(
    name: EncoderName, format: ClipFormat, free: int, *, beside: int = 0, key: PRNGKeyArray
) -> AbstractEncoder:
    """An untrained encoder: the default ("tubelet") or the paper's ("conv3d").

    Args:
        name: Which.
        format: The clips that it takes.
        free: How many raw parameters it gives.
        beside: How many numbers it is given beside each clip.
        key: Of its weights.
    """
    encoder = TubeletEncoder if name == "tubelet" else Conv3DEncoder
    return encoder(format, free, beside=beside, key=key)
