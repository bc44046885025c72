"""Multi-frame ultrasound DICOM, as exported by scanners.

Only the tags named in this file are ever parsed, so that a patient's identity cannot reach an
output, a message or a warning.
"""

import io
import struct
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
from pydicom.pixels.utils import expand_ybr422, iter_pixels
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pydicom.valuerep import STANDARD_VR

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
TYPES = {vr.value.encode() for vr in STANDARD_VR}
NEARLY = 8  # brightness levels between two colour channels of a pixel that counts as grey
JPEG_STARTS = (b"\xff\xd8", b"\xff\x4f")  # of JPEG and JPEG-LS, and of JPEG 2000
# Two tags agree if their frame rates differ by less than either tolerance. Rates are stored as
# whole numbers, and scanners round frame times to milliseconds.
RATE_TOLERANCE = 1.0  # [1/s]
RELATIVE_RATE_TOLERANCE = 0.05


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
            return beginning[4:6] in TYPES or (order == "<" and 0 < length <= 256)
    return False


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
        # `force` reads files without the prefix DICM, too.
        dataset = pydicom.dcmread(path, specific_tags=list(TAGS), force=True)
        _check_encoding(dataset)
        doubts = _correct_colour_space(dataset)
        _check_frame_count(dataset)
        frames = np.stack([_brightness(pixels, dataset) for pixels in iter_pixels(dataset)])
        times, doubtful_times = _frame_times(dataset, len(frames))
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
    for doubt in doubts + doubtful_times:
        warnings.warn(f"{path.name}: {doubt}", stacklevel=2)
    return EchoVideo(crop_to_sector(frames[:, top:bottom, left:right]), times)


def _check_encoding(dataset: pydicom.Dataset) -> None:
    """Raise an error if the pixel data cannot be decoded; complete a missing TransferSyntaxUID."""
    if "PixelData" not in dataset:
        raise UnreadableClipError(
            "contains no images, or is damaged: expected PixelData; copy or export the file again"
        )
    if "TransferSyntaxUID" not in dataset.file_meta:
        if dataset["PixelData"].is_undefined_length:
            raise UnreadableClipError(
                "states no TransferSyntaxUID, so the compression of its pixel data is not known: "
                "export it again as a DICOM file with the prefix DICM, or uncompressed"
            )
        # pydicom has found out how the tags are encoded; uncompressed pixel data are the same.
        implicit, little_endian = dataset.original_encoding
        dataset.file_meta.TransferSyntaxUID = (
            ImplicitVRLittleEndian
            if implicit
            else ExplicitVRLittleEndian
            if little_endian
            else ExplicitVRBigEndian
        )
    get_decoder(dataset.file_meta.TransferSyntaxUID)  # raises an error if it is not supported


def _correct_colour_space(dataset: pydicom.Dataset) -> list[str]:
    """Correct a PhotometricInterpretation that the pixels contradict; return what is doubtful.

    Almost all pixels of an echo are black or grey: three equal numbers in RGB, two numbers near 128
    in YBR. pydicom itself looks into the images that are compressed.
    """
    stated = dataset.PhotometricInterpretation
    if (
        dataset.file_meta.TransferSyntaxUID.is_encapsulated
        or stated not in {"RGB", "YBR_FULL", "YBR_FULL_422"}
        or dataset.BitsAllocated != 8
    ):
        return []
    size, count = dataset.Rows * dataset.Columns * 3, dataset.get("NumberOfFrames") or 1
    whole = len(dataset.PixelData) - count * size in {0, 1}  # may be padded to an even length
    if not whole and stated == "YBR_FULL_422":
        return []  # colours shared by two pixels, as stated
    frames = np.frombuffer(dataset.PixelData, np.uint8)
    if len(frames) < size:
        return []  # cut short; refused later
    frames = frames[: len(frames) // size * size].reshape(-1, size)[:: max(1, count // 8)]
    planar = dataset.get("PlanarConfiguration") == 1
    pixels = frames.reshape(len(frames), 3, -1) if planar else frames.reshape(len(frames), -1, 3)
    first, second, third = np.moveaxis(pixels, 1 if planar else 2, 0).astype(np.int16)
    grey = {
        "RGB": np.mean((abs(second - first) <= NEARLY) & (abs(third - first) <= NEARLY)),
        "YBR_FULL": np.mean((abs(second - 128) <= NEARLY) & (abs(third - 128) <= NEARLY)),
    }
    likely = max(grey, key=lambda name: grey[name])
    if grey[likely] < 0.5:
        if stated != "YBR_FULL_422":
            return []
        raise UnreadableClipError(
            "PhotometricInterpretation is YBR_FULL_422, but the size of its pixel data is that of "
            "RGB or YBR_FULL, and its colours fit neither: export it again as RGB"
        )
    if likely == stated:
        return []
    dataset.PhotometricInterpretation = likely
    return [
        f"PhotometricInterpretation is {stated}, but the pixels are {likely}; read as {likely}, "
        "so check that tissue is grey"
    ]


def _check_frame_count(dataset: pydicom.Dataset) -> None:
    """Compare NumberOfFrames with the pixel data, and bring uncompressed ones into a plain form."""
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
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        return
    # pydicom would warn of padding, which does no harm if it only makes the length even.
    size = stored * _frame_bytes(dataset)
    dataset.PixelData = dataset.PixelData[: size + size % 2]
    if dataset.PhotometricInterpretation == "YBR_FULL_422":
        # iter_pixels would look for all frames but the first in the wrong place.
        dataset.PixelData = expand_ybr422(dataset.PixelData, dataset.BitsAllocated)
        dataset.PhotometricInterpretation = "YBR_FULL"


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
