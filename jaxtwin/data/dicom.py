"""Multi-frame ultrasound DICOM, as scanners export it.

Only the tags named in this file are ever parsed, so that none of a patient's identity can reach
an output, a message or a warning.
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
    """Reads a multi-frame ultrasound DICOM file, grey or colour, compressed or not.

    Args:
        path: The file.

    Returns:
        The sector in grey. It is looked for in the 2D tissue region of
        SequenceOfUltrasoundRegions where that lies inside the image, else in the whole image:
        after a scanner or archive has scaled the image down, the region still refers to the
        larger one.

    Raises:
        UnreadableClipError: Not DICOM, damaged, compressed in a way that cannot be decoded, a
            still, or without times.
    """
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(TAGS))
        frames = np.stack([_brightness(pixels, header) for pixels in iter_pixels(path)])
        times = _frame_times(header, len(frames))
        top, bottom, left, right = _tissue_region(header, *frames.shape[1:])
    except UnreadableClipError:
        raise
    except Exception as error:
        # pydicom raises errors of many kinds, and their texts may quote the file's tags.
        raise UnreadableClipError(
            f"cannot be read as DICOM ({type(error).__name__}): the file may be damaged, hold no "
            "pictures, or be compressed in a way that cannot be decoded; export it again, "
            "uncompressed or as JPEG"
        ) from None
    return EchoVideo(crop_to_sector(frames[:, top:bottom, left:right]), times)


def _brightness(pixels: np.ndarray, header: pydicom.Dataset) -> UInt8[np.ndarray, "height width"]:
    """One frame's brightness; pydicom has turned YBR into RGB already."""
    if header.PhotometricInterpretation == "PALETTE COLOR":
        # The table's entries are scaled to its own type's range.
        colours = apply_color_lut(pixels, header)
        return tissue_brightness((colours >> 8 * (colours.itemsize - 1)).astype(np.uint8))
    if pixels.ndim == 3:
        return tissue_brightness(pixels)
    if header.PixelRepresentation == 1:
        raise UnreadableClipError("its brightness is signed: expected ultrasound, 0 for black")
    largest = 2**header.BitsStored - 1
    brightness = (pixels * (255 / largest)).astype(np.uint8)
    return 255 - brightness if header.PhotometricInterpretation == "MONOCHROME1" else brightness


def _frame_times(header: pydicom.Dataset, count: int) -> Float[np.ndarray, " count"]:
    """When each frame was taken [s], from whichever tag says so."""
    if header.get("FrameTime"):
        return np.arange(count) * (float(header.FrameTime) * 1e-3)
    if "FrameTimeVector" in header and count == header["FrameTimeVector"].VM:
        # Milliseconds since the frame before; the first is 0 by definition, not always in files.
        return np.cumsum([0.0, *(float(step) * 1e-3 for step in header.FrameTimeVector[1:])])
    for name in ("CineRate", "RecommendedDisplayFrameRate"):
        if header.get(name):
            return np.arange(count) / float(header[name].value)
    raise UnreadableClipError(
        "states no frame time or rate (FrameTime, FrameTimeVector, CineRate): "
        "export it from the scanner again, as a clip"
    )


def _tissue_region(header: pydicom.Dataset, height: int, width: int) -> tuple[int, int, int, int]:
    """The largest 2D tissue region inside the image (top, bottom, left, right), else all of it."""
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
