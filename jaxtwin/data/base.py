"""What every reader of clips agrees on: a recording, a clip, and how one becomes the other."""

import dataclasses

import numpy as np
from jaxtyping import Float, Float32, UInt8

from jaxtwin.data.format import ClipFormat

# Below, no heartbeat can be followed; above, no scanner takes whole pictures of the heart.
SLOWEST_RATE = 5.0  # [1/s]
FASTEST_RATE = 500.0  # [1/s]
# A file with a smaller share of the frames that it should have was cut short on its way.
LEAST_COMPLETE = 0.9


class UnreadableClipError(ValueError):
    """A file that does not hold a usable clip.

    Attributes:
        reason: Why it is not usable, and what would help.
    """

    def __init__(self, reason: str, file: str = ""):
        super().__init__(f"{file}: {reason}" if file else reason)
        self.reason = reason


@dataclasses.dataclass(frozen=True)
class EchoVideo:
    """A recording as it was stored, in grey.

    Attributes:
        frames: Brightness, 0 to 255.
        times: When each frame was taken [s], increasing, the first one 0.

    Raises:
        UnreadableClipError: One frame, times that do not increase, or a frame rate that no
            scanner has.
    """

    frames: UInt8[np.ndarray, "time height width"]
    times: Float[np.ndarray, " time"]

    def __post_init__(self):
        if len(self.frames) < 2:
            raise UnreadableClipError(
                f"holds {len(self.frames)} frame: expected a clip of at least one heartbeat; "
                "a still image does not show how the heart moves"
            )
        if self.times[0] != 0 or not np.all(np.diff(self.times) > 0):
            raise UnreadableClipError(
                "the frames' times do not increase from 0: store the clip again with its frame rate"
            )
        rate = (len(self.times) - 1) / self.times[-1]
        if not SLOWEST_RATE <= rate <= FASTEST_RATE:
            raise UnreadableClipError(
                f"{rate:.3g} frames/s: expected {SLOWEST_RATE:g} to {FASTEST_RATE:g}; "
                "store the clip again with the rate it was scanned at"
            )


def resample(recording: EchoVideo, format: ClipFormat) -> UInt8[np.ndarray, "resampled size size"]:
    """Brings a whole recording to the format's rate and size.

    In time, neighbouring frames are blended linearly: a wall that moves smoothly keeps moving
    smoothly, where the nearest frame would be early or late by up to half a frame (28 ms, a
    tenth of systole, at 18 frames/s). In space, each pixel is the mean brightness of the area
    that it covers, with black above and below or beside the picture to make it square.

    Args:
        recording: Any length, rate, height and width.
        format: Its `rate` and `size` are used; `frames` belongs to `window`.

    Returns:
        The frames at 0, 1/rate, 2/rate, ... up to the recording's last frame.
    """
    frames = recording.frames
    # The tolerance keeps a last frame whose time is a rounding error short of k / rate.
    count = int(np.floor(recording.times[-1] * format.rate + 1e-6)) + 1
    position = np.interp(
        np.arange(count) / format.rate, recording.times, np.arange(float(len(frames)))
    )
    before = np.minimum(position.astype(int), len(frames) - 2)
    weight = (position - before).astype(np.float32)

    height, width = frames.shape[1:]
    square = max(height, width)
    rows = _area_weights(height, square, format.size)
    columns = _area_weights(width, square, format.size)
    same_size = height == width == format.size

    out = np.empty((count, format.size, format.size), np.uint8)
    for k in range(count):
        image = frames[before[k]].astype(np.float32)
        image += weight[k] * (frames[before[k] + 1] - image)
        if not same_size:
            image = rows @ image @ columns.T
        out[k] = np.rint(image)
    return out


def window(
    resampled: UInt8[np.ndarray, "resampled size size"], format: ClipFormat, start: int
) -> UInt8[np.ndarray, "frames size size"]:
    """Cuts one clip out of a recording at the format's rate.

    Args:
        resampled: What `resample` returned.
        format: Its `frames` is the clip's length.
        start: The clip's first frame, an index into `resampled`.

    Returns:
        The clip, black past the recording's end.
    """
    clip = np.zeros((format.frames, *resampled.shape[1:]), np.uint8)
    taken = resampled[start : start + format.frames]
    clip[: len(taken)] = taken
    return clip


def _area_weights(length: int, square: int, size: int) -> Float32[np.ndarray, "size length"]:
    """Share of each of `length` pixels, centred in `square`, in each of `size` output pixels."""
    edges = np.arange(size + 1) * (square / size)
    left = np.arange(length) + (square - length) / 2
    overlap = np.minimum(edges[1:, None], left + 1) - np.maximum(edges[:-1, None], left)
    return (np.clip(overlap, 0, None) * (size / square)).astype(np.float32)
