"""The one kind of array that recordings become. Imports nothing heavy, for command lines."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class ClipFormat:
    """The one kind of array that recordings become.

    The rate is in frames a *second*, so that the heart period stays visible whatever the
    scanner's frame rate was.

    Attributes:
        frames: Number of frames.
        rate: Frames a second [1/s].
        size: Height and width [pixels].

    Raises:
        ValueError: One of them is not positive.
    """

    frames: int = 32
    rate: float = 16.0
    size: int = 112

    def __post_init__(self):
        if not (self.frames >= 1 and self.rate > 0 and self.size >= 1):
            raise ValueError(f"{self}: expected positive numbers")
