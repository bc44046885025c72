"""Multi-frame ultrasound DICOM, as exported by scanners.

Only the tags named in this file are ever parsed, so that a patient's identity cannot reach an
output, a message or a warning.
"""

import warnings
from pathlib import Path

import pydicom

from jaxtwin.data.base import EchoVideo, UnreadableClipError
from jaxtwin.data.dicom_pixels import read_frames
from jaxtwin.data.dicom_times import frame_times
from jaxtwin.data.sector import crop_to_sector

TAGS = [
    "NumberOfFrames",
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PlanarConfiguration",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PhotometricInterpretation",
    "PixelRepresentation",
    "RedPaletteColorLookupTableDescriptor",
    "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData",
    "FrameIncrementPointer",
    "FrameTime",
    "FrameTimeVector",
    "CineRate",
    "RecommendedDisplayFrameRate",
    "SequenceOfUltrasoundRegions",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "PixelData",
]
CENTIMETRES = 3  # code of the unit of a region's pixels
DEPTHS = (40.0, 400.0)  # [mm]; no scan of the heart is shallower or deeper


def read_dicom(path: Path) -> EchoVideo:
    """Read a multi-frame ultrasound DICOM file, grey or colour, compressed or not.

    Args:
        path: The file.

    Returns:
        The scanner's sector in greyscale. It is searched for in the 2D tissue region of
        SequenceOfUltrasoundRegions if that lies inside the image, and otherwise in the whole
        image: after a scanner or archive has downscaled the image, the region still refers to
        the original size, and so does the size of its pixels, which is then taken as unknown.

    Raises:
        UnreadableClipError: If the file is not DICOM, is damaged, cannot be decompressed, is a
            still image, does not hold the number of frames it states, or has no frame times.
    """
    try:
        # `force` reads files without the prefix DICM, too.
        dataset = pydicom.dcmread(path, specific_tags=list(TAGS), force=True)
        frames, doubts = read_frames(dataset)
        times, doubtful_times = frame_times(dataset, len(frames))
        (top, bottom, left, right), pixel = _tissue_region(dataset, *frames.shape[1:])
    except UnreadableClipError:
        raise
    except Exception as error:
        # pydicom raises many kinds of errors, and their messages may quote the file's tags.
        raise UnreadableClipError(
            f"cannot be read as DICOM ({type(error).__name__}): the file may be damaged, contain "
            "no images, or use an unsupported compression; export it again, uncompressed or as "
            "JPEG"
        ) from None
    for doubt in doubts + doubtful_times:
        warnings.warn(f"{path.name}: {doubt}", stacklevel=2)
    return EchoVideo(crop_to_sector(frames[:, top:bottom, left:right]), times, pixel)


def _tissue_region(
    header: pydicom.Dataset, height: int, width: int
) -> tuple[tuple[int, int, int, int], tuple[float, float] | None]:
    """Return the largest 2D tissue region inside the image, or else the whole image.

    Returns:
        The region as (top, bottom, left, right), and the height and width of its pixels [mm], or
        None if they are not stated in centimetres or no scan could have them.
    """
    found = []
    for region in header.get("SequenceOfUltrasoundRegions") or ():
        if region.RegionSpatialFormat == 1 and region.RegionDataType == 1:
            top, bottom = region.RegionLocationMinY0, region.RegionLocationMaxY1 + 1
            left, right = region.RegionLocationMinX0, region.RegionLocationMaxX1 + 1
            if 0 <= top < bottom <= height and 0 <= left < right <= width:
                found.append(((top, bottom, left, right), _pixel_size(region, bottom - top)))
    whole = ((0, height, 0, width), None)
    return max(
        found, key=lambda one: (one[0][1] - one[0][0]) * (one[0][3] - one[0][2]), default=whole
    )


def _pixel_size(region: pydicom.Dataset, rows: int) -> tuple[float, float] | None:
    """Return the height and width of a region's pixels [mm], or None."""
    size = []
    for axis in "YX":
        unit = region.get(f"PhysicalUnits{axis}Direction")
        delta = region.get(f"PhysicalDelta{axis}")
        if unit != CENTIMETRES or delta is None:
            return None
        size.append(10 * abs(float(delta)))
    high, wide = size
    plausible = DEPTHS[0] <= high * rows <= DEPTHS[1] and 0.25 <= wide / max(high, 1e-9) <= 4
    return (high, wide) if plausible else None
