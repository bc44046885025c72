"""Reading AVI, MP4 and GIF clips."""

from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter
from jaxtyping import UInt8

from jaxtwin.data.base import LEAST_COMPLETE, EchoVideo, UnreadableClipError
from jaxtwin.data.sector import already_cropped, crop_to_sector, tissue_brightness

# Pixel formats whose first plane is brightness over the full range 0 to 255.
BRIGHTNESS_FIRST = frozenset({"gray", "yuvj420p", "yuvj422p", "yuvj444p"})


def read_video(path: Path) -> EchoVideo:
    """Read an AVI, MP4 or GIF file, or any other video that FFmpeg supports.

    Frames that are already cropped, as in EchoNet-Dynamic, are returned as stored. Other frames
    are cropped to the sector, with black outside it.

    Args:
        path: The file.

    Returns:
        The sector in greyscale, with the file's own frame times (frames of a GIF may last
        unequally long).

    Raises:
        UnreadableClipError: If the file is not a video, is damaged, or is not an echo clip.
    """
    reformatter = VideoReformatter()  # shared by all frames: creating it costs more than decoding
    images, times = [], []
    try:
        # The prefix is needed because FFmpeg would take "a:b.avi" for a protocol.
        with av.open(f"file:{path}") as container:
            if not container.streams.video:
                raise UnreadableClipError("contains no video: expected AVI, MP4, GIF or DICOM")
            stream = container.streams.video[0]
            # Clips are short and decoded in parallel, so threads within one clip do not help.
            stream.codec_context.thread_count = 1
            rate = stream.average_rate
            stated = stream.frames  # 0 if the file does not state it
            for frame in container.decode(stream):
                images.append(_brightness(frame, reformatter))
                times.append(frame.time)
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

    if None in times:
        # An AVI file without timestamps: use the frame rate in its header.
        if not rate:
            raise UnreadableClipError("states no frame rate: export the clip with its frame rate")
        times = np.arange(len(images)) / float(rate)
    times = np.asarray(times, float)
    return EchoVideo(crop_to_sector(np.stack(images)), times - times[0])


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
