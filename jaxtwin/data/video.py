"""Reading AVI, MP4 and GIF clips."""

import re
import warnings
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.buffer import Buffer
from av.container import InputContainer
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter
from jaxtyping import Float, Int32, UInt8

from jaxtwin.data.base import LEAST_COMPLETE, EchoVideo, UnreadableClipError
from jaxtwin.data.sector import already_cropped, crop_to_sector, tissue_brightness

# Entries a, b, c, d of the display matrices (FFmpeg's, 3 x 3) that turn a picture counterclockwise
# by 0, 1, 2 and 3 quarter turns.
QUARTER_TURNS = ((1, 0, 0, 1), (0, -1, 1, 0), (-1, 0, 0, -1), (0, 1, -1, 0))
# Containers whose header states how long the clip lasts. For others FFmpeg estimates it from the
# size of the file, which is of no use if the file is cut short.
STATES_DURATION = frozenset({"avi", "mp4", "matroska", "asf", "flv"})
GIF_END = b";"
# Pixel formats whose first plane is brightness over the full range 0 to 255.
BRIGHTNESS_FIRST = frozenset({"gray", "yuvj420p", "yuvj422p", "yuvj444p"})


def read_video(path: Path) -> EchoVideo:
    """Read an AVI, MP4 or GIF file, or any other video that FFmpeg supports.

    A rotation stated in the file, as phones do, is applied.

    Frames that are already cropped, as in EchoNet-Dynamic, are returned as stored. Other frames
    are cropped to the sector, with black outside it.

    Args:
        path: The file.

    Returns:
        The sector in greyscale, with the file's own frame times (frames of a GIF may last
        unequally long).

    Raises:
        UnreadableClipError: If the file is not a video, is damaged, is to be shown mirrored or
            otherwise distorted, or is not an echo clip.
    """
    reformatter = VideoReformatter()  # shared by all frames: creating it costs more than decoding
    images, times = [], []
    # By the frame's rotation: PyAV 18 never frees some 400 bytes for each frame that is asked for
    # its display matrix, half a gigabyte in 10,000 clips.
    turns: dict[float, int] = {}
    try:
        # The prefix is needed because FFmpeg would take "a:b.avi" for a protocol.
        with av.open(f"file:{path}") as container:
            if not container.streams.video:
                raise UnreadableClipError("contains no video: expected AVI, MP4, GIF or DICOM")
            stream = container.streams.video[0]
            # Clips are short and decoded in parallel, so threads within one clip do not help.
            stream.codec_context.thread_count = 1
            rate = stream.average_rate
            # 0 if the file does not state it. An MP4 also counts frames that a trim left out.
            stated = 0 if "mp4" in container.format.name else stream.frames
            duration = _stated_duration(container, stream)
            for frame in container.decode(stream):
                if frame.rotation not in turns:
                    turns[frame.rotation] = _quarter_turns(frame)
                images.append(np.rot90(_brightness(frame, reformatter), turns[frame.rotation]))
                times.append(frame.time)
            kind = container.format.name
    except FFmpegError as error:
        raise UnreadableClipError(
            f"cannot be decoded ({error.strerror}): expected AVI, MP4, GIF or DICOM; "
            "the file may be damaged, so copy or export it again"
        ) from None
    if not images:
        raise UnreadableClipError("contains no frames: copy or export the file again")
    if len(images) < LEAST_COMPLETE * stated:
        raise UnreadableClipError(
            f"cut short: {len(images)} of the {stated} frames it states; copy the file again"
        )
    if len({image.shape for image in images}) > 1:
        raise UnreadableClipError("frames differ in size: export a clip with one screen layout")

    # AVI has no presentation times. FFmpeg gives those of decoding, which are in another order if
    # the codec refers to later frames (B-frames); the frames themselves are in the right order.
    if None in times or (kind == "avi" and np.any(np.diff(times) <= 0)):
        if not rate:
            raise UnreadableClipError("states no frame rate: export the clip with its frame rate")
        times = np.arange(len(images)) / float(rate)
    times = np.asarray(times, float)
    _check_length(path, kind, times, duration)
    return EchoVideo(crop_to_sector(np.stack(images)), times - times[0])


def read_rate(path: Path) -> tuple[float, int]:
    """Return the frame rate [1/s] and the number of frames that a video's header states.

    Raises:
        UnreadableClipError: If it is not a video, or does not state them.
    """
    try:
        with av.open(f"file:{path}") as container:
            stream = container.streams.video[0]
            rate, frames = stream.average_rate, stream.frames
    except (FFmpegError, IndexError):
        raise UnreadableClipError("cannot be decoded: copy the file again") from None
    if not rate or not frames:
        raise UnreadableClipError(
            "states no frame rate or no number of frames: export the clip again as AVI"
        )
    return float(rate), frames


def _stated_duration(container: InputContainer, stream: av.VideoStream) -> float | None:
    """Return how long the clip lasts according to the file's header [s]; None if not stated."""
    if not STATES_DURATION & set(container.format.name.split(",")):
        return None  # FFmpeg would estimate it from what is left of the file
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    if match := re.fullmatch(r"(\d+):(\d+):(\d+\.?\d*)", stream.metadata.get("DURATION", "")):
        hours, minutes, seconds = map(float, match.groups())
        return 3600 * hours + 60 * minutes + seconds
    if container.duration is not None:
        return container.duration / av.time_base
    if "asf" in container.format.name:  # then FFmpeg ignores the duration
        raise UnreadableClipError(
            "does not have the size that it states, so it may be cut short: copy the file again, "
            "or export it as AVI or MP4"
        )
    return None


def _check_length(
    path: Path, container: str, times: Float[np.ndarray, " time"], stated: float | None
) -> None:
    """Compare the decoded length with the stated one [s]."""
    if container == "gif" and not path.read_bytes().rstrip(b"\0").endswith(GIF_END):
        raise UnreadableClipError("cut short: a GIF without its end; copy the file again")
    if len(times) < 2:
        return
    interval = (times[-1] - times[0]) / (len(times) - 1)
    # From 0 rather than from the first frame, because a stated duration includes what precedes it.
    length = times[-1] - min(times[0], 0.0) + interval
    if stated is not None and length < LEAST_COMPLETE * stated:
        raise UnreadableClipError(
            f"cut short: {length:.3g} of the {stated:.3g} s it states; copy the file again, or "
            "export the clip without sound if that is longer than the picture"
        )
    if stated is None and container == "matroska,webm":
        warnings.warn(
            f"{path.name} states no duration, so it may be cut short: check that the clip of "
            f"{length:.3g} s is complete",
            stacklevel=3,
        )


def _brightness(
    frame: av.VideoFrame, reformatter: VideoReformatter
) -> UInt8[np.ndarray, "height width"]:
    if not already_cropped(frame.height, frame.width):
        return tissue_brightness(reformatter.reformat(frame, format="rgb24").to_ndarray())
    if frame.format.name not in BRIGHTNESS_FIRST:
        frame = reformatter.reformat(frame, format="gray")
    plane = frame.planes[0]
    stored = np.frombuffer(bytes(plane), np.uint8).reshape(plane.height, plane.line_size)
    return stored[:, : plane.width]


def _quarter_turns(frame: av.VideoFrame) -> int:
    """Return the number of quarter turns counterclockwise that make a frame upright."""
    try:
        matrix = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:
        # PyAV raises this for kinds of side data that it does not know, such as Exif.
        turns = frame.rotation / 90
    else:
        # PyAV's stubs list only one kind of side data, and do not type the others.
        turns = 0 if matrix is None else _turns_of(np.frombuffer(bytes(cast(Buffer, matrix)), "i4"))
    if turns is None or turns % 1:
        raise UnreadableClipError(
            "is to be shown mirrored, distorted or turned by an odd angle, according to its "
            "display matrix: expected a turn by 0, 90, 180 or 270 degrees; export the clip again "
            "as it should be seen"
        )
    return int(turns)


def _turns_of(matrix: Int32[np.ndarray, "9"]) -> int | None:
    """Return the quarter turns of a display matrix, or None if it does anything else."""
    a, b, u, c, d, v = matrix[:6].astype(float)
    # A picture that is only enlarged, equally in both directions, is the same picture.
    size = max(np.sqrt(abs(a * d - b * c)), 1.0)
    for turns, expected in enumerate(QUARTER_TURNS):
        if u == v == 0 and np.allclose(np.array([a, b, c, d]) / size, expected, atol=0.01):
            return turns
    return None
