"""Reading a clip from a file of any supported kind."""

import struct
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from jaxtwin.data.base import EchoVideo, UnreadableClipError, resample, window
from jaxtwin.data.camus import read_camus_recording
from jaxtwin.data.camus_patient import SUFFIXES
from jaxtwin.data.echoxflow_store import is_store, read_store
from jaxtwin.data.format import ClipFormat
from jaxtwin.data.video import read_video

# The shortest recording in which anything has extremes [s].
SHORTEST_BEAT = 0.4


def read_clip(
    path: str | Path, format: ClipFormat = ClipFormat()
) -> UInt8[np.ndarray, "frames size size"]:
    """Read the beginning of a recording in the format of an encoder; see `read_recording`.

    Raises:
        UnreadableClipError: If it cannot be read, or is shorter than any heartbeat.
    """
    recording = read_recording(path)
    if recording.times[-1] < SHORTEST_BEAT:
        raise UnreadableClipError(
            f"lasts {recording.times[-1]:.2f} s: expected at least one heartbeat", Path(path).name
        )
    return window(resample(recording, format), format, 0)


def read_recording(path: str | Path, fps: float | None = None) -> EchoVideo:
    """Read AVI, MP4, GIF, multi-frame ultrasound DICOM, or a recording of CAMUS or EchoXFlow.

    Args:
        path: The file. DICOM is recognised by its content, because it often has no suffix or a
            wrong one; CAMUS files are recognised by their suffix (.nii.gz, .nii or .mhd), and
            EchoXFlow's Zarr stores by theirs (.zarr or .zarr.zip).
        fps: Frame rate [1/s] of a CAMUS sequence, whose file does not state one; by default that
            of the cfg file in the same folder. Ignored for other files, which state their own.

    Returns:
        The scanner's sector in greyscale, without text, menus and coloured overlays.

    Raises:
        UnreadableClipError: If the file is missing, empty, damaged, of another kind, or not a
            clip.
    """
    path = Path(path)
    if is_store(path):
        try:
            return read_store(path)
        except UnreadableClipError as error:
            raise UnreadableClipError(error.reason, path.name) from None
    if not path.is_file():
        raise UnreadableClipError("no such file; check the name and the folder", path.name)
    if path.stat().st_size == 0:
        raise UnreadableClipError("empty; copy or export the file again", path.name)
    try:
        if is_dicom(path):
            # Videos are read without pydicom, which takes a fifth of a second to import.
            from jaxtwin.data.dicom import read_dicom

            return read_dicom(path)
        if path.name.lower().endswith(SUFFIXES):
            return read_camus_recording(path, fps)
        return read_video(path)
    except UnreadableClipError as error:
        raise UnreadableClipError(error.reason, path.name) from None


def is_dicom(path: Path) -> bool:
    """Return whether a file is DICOM by its content, or is named as such."""
    with path.open("rb") as file:
        beginning = file.read(132)
    # A 128-byte preamble of any content precedes the prefix DICM. Some archives leave out both.
    return (
        beginning[128:] == b"DICM"
        or _begins_with_element(beginning)
        or path.suffix.lower() in {".dcm", ".dicom"}
    )


def _begins_with_element(beginning: bytes) -> bool:
    """Return whether a file begins with an element of the first group of a data set or its header.

    Its group is 2 or 8, and it is followed by a type of two letters or by a length.
    """
    if len(beginning) < 8:
        return False
    for order in ("<", ">"):
        group, element = struct.unpack(f"{order}HH", beginning[:4])
        length = struct.unpack(f"{order}L", beginning[4:8])[0]
        if group in {2, 8} and element < 0x100:
            from pydicom.valuerep import STANDARD_VR

            # In most files the type ("value representation") follows an element's number.
            types = {vr.value.encode() for vr in STANDARD_VR}
            return beginning[4:6] in types or (order == "<" and 0 < length <= 256)
    return False
