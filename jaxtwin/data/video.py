"""AVI, MP4 and GIF clips."""

from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter
from jaxtyping import UInt8

from jaxtwin.data.base import LEAST_COMPLETE, EchoVideo, UnreadableClipError
from jaxtwin.data.sector import already_cropped, crop_to_sector, tissue_brightness

# Formats whose first plane is brightness over the full range 0 to 255.
BRIGHTNESS_FIRST = frozenset({"gray", "yuvj420p", "yuvj422p", "yuvj444p"})


def read_video(path: Path) -> EchoVideo:
    """Reads an AVI, MP4 or GIF file, or any other video that FFmpeg knows.

    Frames that are cropped already, as EchoNet-Dynamic's are, come as they were stored. In any
    other the sector is found, and what is not the sector is black.

    Args:
        path: The file.

    Returns:
        The sector in grey, each frame with the time that the file gives it (a GIF's frames
        need not last equally long).

    Raises:
        UnreadableClipError: Not a video, damaged, or not an echo clip.
    """
    reformatter = VideoReformatter()  # one for all frames: making it costs more than decoding
    images, times = [], []
    try:
        # As a file whatever its name: FFmpeg takes "a:b.avi" for a protocol.
        with av.open(f"file:{path}") as container:
            if not container.streams.video:
                raise UnreadableClipError("holds no video: expected AVI, MP4, GIF or DICOM")
            stream = container.streams.video[0]
            # Clips are short and are decoded side by side; threads within one only wait.
            stream.codec_context.thread_count = 1
            rate = stream.average_rate
            stated = stream.frames  # 0 where the file does not say
            for frame in container.decode(stream):
                images.append(_brightness(frame, reformatter))
                times.append(frame.time)
    except FFmpegError as error:
        raise UnreadableClipError(
            f"cannot be decoded ({error.strerror}): expected AVI, MP4, GIF or DICOM; "
            "the file may be damaged, so copy or export it again"
        ) from None
    if not images:
        raise UnreadableClipError("holds no frames: copy or export the file again")
    if len(images) < LEAST_COMPLETE * stated:
        raise UnreadableClipError(
            f"cut short: {len(images)} of the {stated} frames that it states; copy the file again"
        )
    if len({image.shape for image in images}) > 1:
        raise UnreadableClipError("its frames differ in size: export a clip of one screen layout")

    if None in times:
        # AVI without timestamps: what is left is the rate in its header.
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
