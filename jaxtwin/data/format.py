"""The common format of clips. Imports nothing heavy, so that command lines start quickly."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class ClipFormat:
    """Length, frame rate and size to which all recordings are resampled.

    The frame rate is fixed in *time*, so that the heart period stays visible whatever the
    scanner's frame rate was.

    Attributes:
        frames: Number of frames.
        rate: Frame rate [1/s].
        size: Height and width [pixels].

    Raises:
        ValueError: If one of them is not positive.
    """

    frames: int = 32
    rate: float = 16.0
    size: int = 112

    def __post_init__(self):
        if not (self.frames >= 1 and self.rate > 0 and self.size >= 1):
            raise ValueError(f"{self}: expected positive numbers")
