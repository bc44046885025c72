"""One clip from one file, of whatever kind."""

from pathlib import Path

from jaxtwin.data.base import EchoVideo, UnreadableClipError
from jaxtwin.data.camus import SUFFIXES, read_camus_recording
from jaxtwin.data.dicom import read_dicom
from jaxtwin.data.video import read_video


def read_recording(path: str | Path, fps: float | None = None) -> EchoVideo:
    """Reads an AVI, MP4, GIF or multi-frame ultrasound DICOM file, or a sequence of CAMUS.

    Args:
        path: The file. DICOM is recognised by its content, for it often has no suffix; CAMUS's
            files by their suffix (.nii.gz, .nii or .mhd).
        fps: Frames a second [1/s] of a sequence of CAMUS, whose file states none; by default
            that of the cfg file beside it. Other files have their own.

    Returns:
        The scanner's sector in grey: text, menus and coloured overlays are gone.

    Raises:
        UnreadableClipError: The file is missing, empty, damaged, of another kind, or not a clip.
    """
    path = Path(path)
    if not path.is_file():
        raise UnreadableClipError("no such file; check the name and the folder", path.name)
    if path.stat().st_size == 0:
        raise UnreadableClipError("empty; copy or export the file again", path.name)
    try:
        if path.name.lower().endswith(SUFFIXES):
            return read_camus_recording(path, fps)
        return read_dicom(path) if _is_dicom(path) else read_video(path)
    except UnreadableClipError as error:
        raise UnreadableClipError(error.reason, path.name) from None


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(128)  # what precedes the mark is free for other uses
        return file.read(4) == b"DICM" or path.suffix.lower() in {".dcm", ".dicom"}
