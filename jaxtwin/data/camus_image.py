"""CAMUS's NIfTI and MetaImage files, and their resampling to a square field of view."""

import gzip
import math
import re
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Shaped, UInt8

from jaxtwin.data.base import UnreadableClipError
from jaxtwin.tabular import install

# The square field of view of a clip. Its top centre is that of the image, where the probe is.
# Image depths are about 120 to 200 mm; the ventricle ends near 110 mm and the atrium near 150 mm.
# Anything deeper than 180 mm, or farther than 90 mm to the side, is cut off; areas outside the
# image are black.
FIELD_OF_VIEW = 180.0  # [mm]; increase cache.CACHE_VERSION when changing this or CANVAS
CANVAS = 224  # [pixels] of 0.8 mm; twice the 112 pixels of the default clip
# No scan of the heart is shallower or deeper: beyond these, the file's unit is not the millimetre.
SHALLOWEST, DEEPEST = 40.0, 400.0  # [mm]
# The default spacing of NIfTI and MetaImage [mm]. No scan has it: its pixels are smaller, and often
# not square.
UNSTATED = 1.0


class CamusImage:
    """A NIfTI or MetaImage file. Only the header is read until `read` is called.

    Attributes:
        spacing: Height and width of a pixel [mm].
        extent: Height and width of the image [mm].
        count: Number of frames.

    Raises:
        UnreadableClipError: If the file cannot be read, is no greyscale image, or states no pixel
            spacing in millimetres.
    """

    def __init__(self, path: Path):
        reader = _simpleitk().ImageFileReader()
        reader.SetFileName(str(path))
        try:
            reader.ReadImageInformation()
        except RuntimeError:
            raise UnreadableClipError(
                "cannot be read: expected NIfTI or MetaImage; the file may be missing or damaged, "
                "so copy it again"
            ) from None
        size, spacing = reader.GetSize(), reader.GetSpacing()
        # The third size is time in one release and, for still images, 1 in the other. Its spacing
        # is meaningless: the frame rate is in the cfg file.
        if not 2 <= len(size) <= 4 or reader.GetNumberOfComponents() != 1:
            raise UnreadableClipError(
                f"size {size} with {reader.GetNumberOfComponents()} channels: expected greyscale "
                "images, width by height by time"
            )
        if spacing[0] == spacing[1] == UNSTATED:
            raise UnreadableClipError(
                "states no pixel spacing: 1 x 1 mm is what a program writes that resized the image "
                "or lost its header; use the original file, or store the true spacing in this one"
            )
        width, height = size[:2]
        depth = height * spacing[1]
        across = width * spacing[0]
        if not all(SHALLOWEST <= extent <= DEEPEST for extent in (depth, across)):
            raise UnreadableClipError(
                f"shows {across:.4g} x {depth:.4g} mm: expected {SHALLOWEST:g} to {DEEPEST:g} "
                "each; its pixel spacing is not in millimetres"
            )
        self.path = path
        self.spacing = (float(spacing[1]), float(spacing[0]))
        self.extent = (float(depth), float(across))
        self.count = math.prod(size[2:])
        self._reader = reader
        self._shape = (self.count, height, width)

    def read(self) -> Shaped[np.ndarray, "time height width"]:
        """Return all frames, in the file's own number type."""
        # ITK silently fills the missing part of a truncated file with zeros.
        if self._stored_bytes() < math.prod(self._shape) * self._pixel_bytes():
            raise UnreadableClipError("cut short or damaged: copy the file again")
        try:
            image = self._reader.Execute()
        except RuntimeError:
            raise UnreadableClipError("is damaged: copy the file again") from None
        return _simpleitk().GetArrayFromImage(image).reshape(self._shape)

    def _pixel_bytes(self) -> int:
        if self._reader.HasMetaDataKey("bitpix"):  # what NIfTI stores, before its scaling
            return int(self._reader.GetMetaData("bitpix")) // 8
        sitk = _simpleitk()
        return sitk.Image([1, 1], self._reader.GetPixelID()).GetSizeOfPixelComponent()

    def _stored_bytes(self) -> int:
        path = self.path
        try:
            if path.name.lower().endswith(".gz"):
                return len(gzip.decompress(path.read_bytes()))
            if path.suffix.lower() == ".mhd":
                named = re.search(r"^ElementDataFile\s*=\s*(.+?)\s*$", path.read_text(), re.M)
                path = path.parent / Path(named[1] if named else "").name
            return path.stat().st_size
        except (OSError, EOFError, zlib.error, UnicodeDecodeError):
            return 0


def to_field(
    frames: Shaped[np.ndarray, "time height width"], spacing: tuple[float, float]
) -> UInt8[np.ndarray, "time canvas canvas"]:
    """Resample to square pixels, aligning the top centres; black outside the image."""
    height, width = frames.shape[1:]
    rows = _area_weights(height, spacing[0], 0.0)
    columns = _area_weights(width, spacing[1], (FIELD_OF_VIEW - width * spacing[1]) / 2)
    out = np.empty((len(frames), CANVAS, CANVAS), np.uint8)
    for k, frame in enumerate(frames):
        out[k] = np.rint(rows @ frame.astype(np.float32) @ columns.T)
    return out


def _area_weights(
    length: int, spacing: float, first: float
) -> Float32[np.ndarray, "canvas length"]:
    """Return the weight of each input pixel, the first edge at `first` [mm], in each output."""
    edges = np.linspace(0, FIELD_OF_VIEW, CANVAS + 1)
    left = first + np.arange(length) * spacing
    overlap = np.minimum(edges[1:, None], left + spacing) - np.maximum(edges[:-1, None], left)
    return (np.clip(overlap, 0, None) * (CANVAS / FIELD_OF_VIEW)).astype(np.float32)


def _simpleitk():
    try:
        import SimpleITK
    except ImportError:
        raise ImportError(f"CAMUS images need SimpleITK: {install('camus')}") from None
    return SimpleITK
