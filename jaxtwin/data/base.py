"""Types shared by all clip readers, and the conversion of a recording to a clip."""

import dataclasses

import numpy as np
from jaxtyping import Float, Float32, UInt8

from jaxtwin.data.format import ClipFormat

# Below this rate a heartbeat cannot be followed; no scanner images the whole heart above it.
SLOWEST_RATE = 5.0  # [1/s]
FASTEST_RATE = 500.0  # [1/s]
# A file with a smaller fraction of its expected frames is treated as truncated.
LEAST_COMPLETE = 0.9


class UnreadableClipError(ValueError):
    """Error for a file that does not contain a usable clip.

    Attributes:
        reason: Why the file is not usable, and what to do about it.
    """

    def __init__(self, reason: str, file: str = ""):
        super().__init__(f"{file}: {reason}" if file else reason)
        self.reason = reason


@dataclasses.dataclass(frozen=True)
class EchoVideo:
    """A greyscale recording at its original resolution and frame rate.

    Attributes:
        frames: Brightness, 0 to 255.
        times: Acquisition time of each frame [s], increasing from 0.
        pixel: Height and width of a pixel [mm]; None if the file does not state them.

    Raises:
        UnreadableClipError: If there are fewer than two frames, the times do not increase, or the
            frame rate is implausible for a scanner.
    """

    frames: UInt8[np.ndarray, "time height width"]
    times: Float[np.ndarray, " time"]
    pixel: tuple[float, float] | None = None

    def __post_init__(self):
        if len(self.frames) < 2:
            raise UnreadableClipError(
                f"contains {len(self.frames)} frame: expected a clip of at least one heartbeat; "
                "a still image does not show how the heart moves"
            )
        if self.times[0] != 0 or not np.all(np.diff(self.times) > 0):
            raise UnreadableClipError(
                "the frame times do not increase from 0: save the clip again with its frame rate"
            )
        rate = (len(self.times) - 1) / self.times[-1]
        if not SLOWEST_RATE <= rate <= FASTEST_RATE:
            raise UnreadableClipError(
                f"{rate:.3g} frames/s: expected {SLOWEST_RATE:g} to {FASTEST_RATE:g}; "
                "save the clip again with the frame rate of the scan"
            )


def resample(recording: EchoVideo, format: ClipFormat) -> UInt8[np.ndarray, "resampled size size"]:
    """Resample a whole recording to the format's frame rate and size.

    In time, neighbouring frames are interpolated linearly, which keeps wall motion smooth; the
    nearest frame would be early or late by up to half a frame (28 ms, a tenth of systole, at
    18 frames/s). In space, each pixel is the mean brightness of the area it covers. Black bars
    pad the image to a square.

    Args:
        recording: A recording of any length, frame rate, height and width.
        format: Target format. Only `rate` and `size` are used; `window` uses `frames`.

    Returns:
        The frames at 0, 1/rate, 2/rate, ... up to the recording's last frame.
    """
    frames = recording.frames
    # The tolerance keeps a last frame whose time falls short of k / rate by rounding.
    count = int(np.floor(recording.times[-1] * format.rate + 1e-6)) + 1
    position = np.interp(
        np.arange(count) / format.rate, recording.times, np.arange(float(len(frames)))
    )
    before = np.minimum(position.astype(int), len(frames) - 2)
    weight = (position - before).astype(np.float32)

    height, width = frames.shape[1:]
    square = max(height, width)
    rows = area_weights(height, square, format.size)
    columns = area_weights(width, square, format.size)
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
    """Cut one clip out of a resampled recording.

    Args:
        resampled: Frames returned by `resample`.
        format: Clip format. Only `frames`, the clip's length, is used.
        start: Index of the clip's first frame in `resampled`.

    Returns:
        The clip, padded with black frames past the end of the recording.
    """
    clip = np.zeros((format.frames, *resampled.shape[1:]), np.uint8)
    taken = resampled[start : start + format.frames]
    clip[: len(taken)] = taken
    return clip


def area_weights(length: int, square: int, size: int) -> Float32[np.ndarray, "size length"]:
    """Return the weight of each input pixel, centred in `square`, in each output pixel."""
    edges = np.arange(size + 1) * (square / size)
    left = np.arange(length) + (square - length) / 2
    overlap = np.minimum(edges[1:, None], left + 1) - np.maximum(edges[:-1, None], left)
    return (np.clip(overlap, 0, None) * (size / square)).astype(np.float32)
