"""Pixel data of a DICOM file: their encoding, colours and number of frames."""

import io

import numpy as np
import pydicom
from jaxtyping import UInt8
from pydicom.encaps import generate_fragments, parse_basic_offsets
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut
from pydicom.pixels.utils import expand_ybr422, iter_pixels
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from jaxtwin.data.base import UnreadableClipError
from jaxtwin.data.sector import tissue_brightness

NEARLY = 8  # brightness levels between two colour channels of a pixel that counts as grey
JPEG_STARTS = (b"\xff\xd8", b"\xff\x4f")  # of JPEG and JPEG-LS, and of JPEG 2000


def read_frames(
    dataset: pydicom.Dataset,
) -> tuple[UInt8[np.ndarray, "time height width"], list[str]]:
    """Return the brightness of all frames, and what is doubtful about them.

    The dataset's own description of its pixels is corrected where the pixels contradict it.

    Raises:
        UnreadableClipError: If the pixel data are missing, of unknown encoding or colours, or do
            not hold the number of frames that is stated.
    """
    _check_encoding(dataset)
    doubts = _correct_colour_space(dataset)
    _check_frame_count(dataset)
    return np.stack([_brightness(pixels, dataset) for pixels in iter_pixels(dataset)]), doubts


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
