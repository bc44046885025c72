"""Multi-frame ultrasound DICOM, as exported by scanners.

Only the tags named in this file are ever parsed, so that a patient's identity cannot reach an
output, a message or a warning.
"""

import io
import warnings
from pathlib import Path

import numpy as np
import pydicom
from jaxtyping import Float, UInt8
from pydicom.datadict import keyword_for_tag
from pydicom.encaps import generate_fragments, parse_basic_offsets
from pydicom.multival import MultiValue
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut
from pydicom.pixels.utils import iter_pixels

from jaxtwin.data.base import EchoVideo, UnreadableClipError
from jaxtwin.data.sector import crop_to_sector, tissue_brightness

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
JPEG_STARTS = (b"\xff\xd8", b"\xff\x4f")  # of JPEG and JPEG-LS, and of JPEG 2000
# Two tags agree if their frame rates differ by less than either tolerance. Rates are stored as
# whole numbers, and scanners round frame times to milliseconds.
RATE_TOLERANCE = 1.0  # [1/s]
RELATIVE_RATE_TOLERANCE = 0.05


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
            still image, does not hold the number of frames it states, or has no frame times.
    """
    try:
        dataset = pydicom.dcmread(path, specific_tags=list(TAGS))
        _check_frame_count(dataset)
        frames = np.stack([_brightness(pixels, dataset) for pixels in iter_pixels(dataset)])
        times, doubts = _frame_times(dataset, len(frames))
        top, bottom, left, right = _tissue_region(dataset, *frames.shape[1:])
    except UnreadableClipError:
        raise
    except Exception as error:
        # pydicom raises many kinds of errors, and their messages may quote the file's tags.
        raise UnreadableClipError(
            f"cannot be read as DICOM ({type(error).__name__}): the file may be damaged, contain "
            "no images, or use an unsupported compression; export it again, uncompressed or as "
            "JPEG"
        ) from None
    for doubt in doubts:
        warnings.warn(f"{path.name}: {doubt}", stacklevel=2)
    return EchoVideo(crop_to_sector(frames[:, top:bottom, left:right]), times)


def _check_frame_count(dataset: pydicom.Dataset) -> None:
    """Compare NumberOfFrames with the pixel data, and remove padding after the last frame."""
    if "PixelData" not in dataset:
        raise UnreadableClipError(
            "contains no images, or is damaged: expected PixelData; copy or export the file again"
        )
    get_decoder(dataset.file_meta.TransferSyntaxUID)  # raises an error if it is not supported
    stored = _stored_frames(dataset)
    stated = dataset.get("NumberOfFrames")
    if not stated and stored != 1:
        raise UnreadableClipError(
            f"states no NumberOfFrames, but its pixel data hold {stored} frames: expected the tag "
            "in a clip; export the clip again from the scanner or archive"
        )
    if stated and stored != stated:
        cause = "the file may be damaged or cut short" if stored < stated else "one is wrong"
        raise UnreadableClipError(
            f"NumberOfFrames is {stated}, but the pixel data hold {stored} frames: {cause}; copy "
            "the file again, or export the clip again from the scanner or archive"
        )
    if not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        # pydicom would warn of padding, which does no harm.
        dataset.PixelData = dataset.PixelData[: stored * _frame_bytes(dataset)]


def _stored_frames(dataset: pydicom.Dataset) -> int:
    """Return the number of whole frames in the pixel data."""
    if not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        return len(dataset.PixelData) // _frame_bytes(dataset)
    if dataset.get("ExtendedOffsetTable"):
        return len(dataset.ExtendedOffsetTable) // 8
    encapsulated = io.BytesIO(dataset.PixelData)
    if offsets := parse_basic_offsets(encapsulated):
        return len(offsets)
    # Without a table of offsets a JPEG frame may span several fragments; only its first one begins
    # with a start marker. Other compressions have one fragment per frame.
    fragments = list(generate_fragments(encapsulated))
    return sum(fragment.startswith(JPEG_STARTS) for fragment in fragments) or len(fragments)


def _frame_bytes(dataset: pydicom.Dataset) -> int:
    """Return the size of an uncompressed frame [bytes]."""
    samples = dataset.SamplesPerPixel
    if dataset.PhotometricInterpretation == "YBR_FULL_422":
        samples = 2  # two pixels share their colour
    return dataset.Rows * dataset.Columns * samples * dataset.BitsAllocated // 8


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


def _frame_times(
    header: pydicom.Dataset, count: int
) -> tuple[Float[np.ndarray, " count"], list[str]]:
    """Return the time of each frame [s], and what is doubtful about it.

    FrameIncrementPointer decides which tag is used. Without it, or if that tag is unusable, the
    first usable one is.
    """
    stated = _stated_times(header, count)
    if not stated:
        raise UnreadableClipError(
            "states no frame time or rate (FrameTime, FrameTimeVector, CineRate): "
            "export it from the scanner again as a clip"
        )
    pointer = header.get("FrameIncrementPointer")
    tags = pointer if isinstance(pointer, MultiValue) else [pointer] if pointer else []
    pointed = [keyword_for_tag(tag) or str(tag) for tag in tags]
    used = next((name for name in pointed if name in stated), next(iter(stated)))
    doubts = []
    if pointed and used not in pointed:
        doubts.append(
            f"FrameIncrementPointer names {' and '.join(pointed)}, which does not state a time "
            f"for each of the {count} frames; used {used} instead, so check the frame rate"
        )
    reason = (
        "FrameIncrementPointer names it"
        if used in pointed
        else "there is no usable FrameIncrementPointer"
    )
    duration = float(stated[used][-1])
    for name, times in stated.items():
        # The rate of display may differ on purpose, as in slow motion.
        if name != "RecommendedDisplayFrameRate" and not _agree(stated[used], times):
            doubts.append(
                f"{used} gives {duration:.3g} s for {count} frames, but {name} gives "
                f"{times[-1]:.3g} s; used {used}, because {reason}; check the frame rate"
            )
    return stated[used], doubts


def _stated_times(header: pydicom.Dataset, count: int) -> dict[str, Float[np.ndarray, " count"]]:
    """Return the time of each frame [s] according to each usable tag."""
    stated = {}
    if header.get("FrameTime"):
        stated["FrameTime"] = np.arange(count) * (float(header.FrameTime) * 1e-3)
    if "FrameTimeVector" in header and count == header["FrameTimeVector"].VM > 1:
        # Milliseconds since the previous frame; the first is 0 by definition, but not in all files.
        steps = [0.0, *(float(step) * 1e-3 for step in header.FrameTimeVector[1:])]
        stated["FrameTimeVector"] = np.cumsum(steps)
    for name in ("CineRate", "RecommendedDisplayFrameRate"):
        if header.get(name):
            stated[name] = np.arange(count) / float(header[name].value)
    return stated


def _agree(times: Float[np.ndarray, " count"], others: Float[np.ndarray, " count"]) -> bool:
    if len(times) < 2 or times[-1] <= 0 or others[-1] <= 0:
        return True  # a still image or negative times, which are refused later
    rate, other = ((len(times) - 1) / float(each[-1]) for each in (times, others))
    return abs(rate - other) <= max(RATE_TOLERANCE, RELATIVE_RATE_TOLERANCE * rate)


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
