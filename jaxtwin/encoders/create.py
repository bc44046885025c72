"""Creation of untrained encoders by name."""

from jaxtyping import PRNGKeyArray

from jaxtwin.data.base import ClipFormat
from jaxtwin.encoders.base import AbstractEncoder
from jaxtwin.encoders.conv3d import Conv3DEncoder
from jaxtwin.encoders.names import EncoderName
from jaxtwin.encoders.tubelet import TubeletEncoder


def create_encoder(
    name: EncoderName, format: ClipFormat, free: int, *, beside: int = 0, key: PRNGKeyArray
) -> AbstractEncoder:
    """Create an untrained encoder.

    Args:
        name: Architecture: the default ("tubelet") or the paper's ("conv3d").
        format: Format of the input clips.
        free: Number of raw parameters it returns.
        beside: Number of additional scalar inputs per clip.
        key: Random key for the weights.
    """
    encoder = TubeletEncoder if name == "tubelet" else Conv3DEncoder
    return encoder(format, free, beside=beside, key=key)
