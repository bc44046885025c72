"""Multi-frame ultrasound DICOM, as exported by scanners.

Only the tags named in this file are ever parsed, so that a patient's identity cannot reach an
output, a message or a warning.
"""

from pathlib import Path

import numpy as np
import pydicom
from jaxtyping import Float, UInt8
from pydicom.pixels.processing import apply_color_lut
from pydicom.pixels.utils import iter_pixels

from jaxtwin.data.base import EchoVideo, UnreadableClipError
from jaxtwin.data.sector import crop_to_sector, tissue_brightness

TAGS = [
    "BitsStored",
    "PhotometricInterpretation",
    "PixelRepresentation",
    "RedPaletteColorLookupTableDescriptor",
    "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData",
    "FrameTime",
    "FrameTimeVector",
    "CineRate",
    "RecommendedDisplayFrameRate",
    "SequenceOfUltrasoundRegions",
]


def read_dicom(path: Path) -> EchoVideo:
    """Read a multi-frame ultrasound DICOM file, grey or colour, compressed or not.

    Args:
        path: The file.

    Returns:
        The scanner's sector in greyscale. It is searched for in the 2D tissue region of
        SequenceOfUltrasoundRegions if that lies inside the image, and otherwise in the whole
        image: after a scanner or archive has downscaled the image, the region still refers to
        the original size.

    Raises:
        UnreadableClipError: If the file is not DICOM, is damaged, cannot be decompressed, is a
            still image, or has no frame times.
    """
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(TAGS))
        frames = np.stack([_brightness(pixels, header) for pixels in iter_pixels(path)])
        times = _frame_times(header, len(frames))
        top, bottom, left, right = _tissue_region(header, *frames.shape[1:])
    except UnreadableClipError:
        raise
    except Exception as error:
        # pydicom raises many kinds of errors, and their messages may quote the file's tags.
        raise UnreadableClipError(
            f"cannot be read as DICOM ({type(error).__name__}): the file may be damaged, contain "
            "no images, or use an unsupported compression; export it again, uncompressed or as "
            "JPEG"
        ) from None
    return EchoVideo(crop_to_sector(frames[:, top:bottom, left:right]), times)


def _brightness(pixels: np.ndarray, header: pydicom.Dataset) -> UInt8[np.ndarray, "height width"]:
    """Return one frame's brightness; pydicom has already converted YBR to RGB."""
    if header.PhotometricInterpretation == "PALETTE COLOR":
        # The table's entries span the range of its own number type.
        colours = apply_color_lut(pixels, header)
        return tissue_brightness((colours >> 8 * (colours.itemsize - 1)).astype(np.uint8))
    if pixels.ndim == 3:
        return tissue_brightness(pixels)
    if header.PixelRepresentation == 1:
        raise UnreadableClipError("signed brightness: expected ultrasound with 0 for black")
    largest = 2**header.BitsStored - 1
    brightness = (pixels * (255 / largest)).astype(np.uint8)
    return 255 - brightness if header.PhotometricInterpretation == "MONOCHROME1" else brightness


def _frame_times(header: pydicom.Dataset, count: int) -> Float[np.ndarray, " count"]:
    """Return the time of each frame [s], from the first available tag."""
    if header.get("FrameTime"):
        return np.arange(count) * (float(header.FrameTime) * 1e-3)
    if "FrameTimeVector" in header and count == header["FrameTimeVector"].VM:
        # Milliseconds since the previous frame; the first is 0 by definition, but not in all files.
        return np.cumsum([0.0, *(float(step) * 1e-3 for step in header.FrameTimeVector[1:])])
    for name in ("CineRate", "RecommendedDisplayFrameRate"):
        if header.get(name):
            return np.arange(count) / float(header[name].value)
    raise UnreadableClipError(
        "states no frame time or rate (FrameTime, FrameTimeVector, CineRate): "
        "export it from the scanner again as a clip"
    )


def _tissue_region(header: pydicom.Dataset, height: int, width: int) -> tuple[int, int, int, int]:
    """Return the largest 2D tissue region inside the image, or else the whole image.

    The region is given as (top, bottom, left, right).
    """
    whole = (0, height, 0, width)
    boxes = [
        (
            region.RegionLocationMinY0,
            region.RegionLocationMaxY1 + 1,
            region.RegionLocationMinX0,
            region.RegionLocationMaxX1 + 1,
        )
        for region in header.get("SequenceOfUltrasoundRegions") or ()
        if region.RegionSpatialFormat == 1 and region.RegionDataType == 1
    ]
    inside = [
        (top, bottom, left, right)
        for top, bottom, left, right in boxes
        if 0 <= top < bottom <= height and 0 <= left < right <= width
    ]
    return max(inside, key=lambda box: (box[1] - box[0]) * (box[3] - box[2]), default=whole)
