"""What every reader of clips agrees on: a recording, a clip, and how one becomes the other."""

import dataclasses

import numpy as np
from jaxtyping import Float, UInt8


@dataclasses.dataclass(frozen=True)
class Recording:
    """A recording as it was stored, in grey.

    Attributes:
        frames: Brightness, 0 to 255.
        times: When each frame was taken [s], increasing, the first one 0.
    """

    frames: UInt8[np.ndarray, "time height width"]
    times: Float[np.ndarray, " time"]


@dataclasses.dataclass(frozen=True)
class ClipFormat:
    """The one kind of array that recordings become.

    The rate is in frames a *second*, so that the heart period stays visible whatever the
    scanner's frame rate was.

    Attributes:
        frames: Number of frames.
        rate: Frames a second [1/s].
        size: Height and width [pixels].
    """

    frames: int = 32
    rate: float = 16.0
    size: int = 112
