"""Recordings as scanners write them, made of simple shapes."""

from fractions import Fraction

import av
import numpy as np
import pydicom
import pydicom.examples
from pydicom.uid import ExplicitVRLittleEndian, generate_uid


def write_video(
    path,
    frames,
    rate=50,
    codec="mjpeg",
    pixel_format="yuvj420p",
    matrix=None,
    codec_options=None,
    **options,
):
    """Frames [time, height, width] or [time, height, width, 3] as a video file.

    `options` are those of av.open.
    """
    file = path if hasattr(path, "write") else str(path)
    with av.open(file, "w", **options) as container:
        stream = container.add_stream(codec, rate=Fraction(rate), options=codec_options or {})
        stream.set_display_matrix(matrix)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pixel_format
        if codec == "mjpeg":
            stream.codec_context.qmin = stream.codec_context.qmax = 2
        for frame in frames:
            image = av.VideoFrame.from_ndarray(frame, "gray" if frame.ndim == 2 else "rgb24")
            container.mux(stream.encode(image))
        container.mux(stream.encode())


def flat_frames(count, height=112, width=112):
    """Frames of one brightness each: 0, 2, 4, ..."""
    values = 2 * np.arange(count, dtype=np.uint8)
    return np.broadcast_to(values[:, None, None], (count, height, width)).copy()


def sector_mask(height=240, width=320, apex=(30, 150), radius=180):
    """A 90 degree sector, symmetric about the column through its apex."""
    row, column = np.ogrid[:height, :width]
    down, across = row - apex[0], column - apex[1]
    return (abs(across) <= down) & (down**2 + across**2 <= radius**2)


def screen(count=20):
    """A scanner's screen in colour: a sector of moving speckle, a name, ticks, a colour trace."""
    random = np.random.default_rng(0)
    frames = np.zeros((count, 240, 320, 3), np.uint8)
    frames[:] = (random.uniform(40, 200, (count, 240, 320)) * sector_mask())[..., None]
    frames[:, 35:50, 25:80] = 230 * (random.random((15, 55)) > 0.5)[..., None]  # the name
    frames[:, 20:220:10, 312:318] = 255  # depth ticks
    for k in range(count):
        frames[k, 215:235, 10 + 10 * k : 30 + 10 * k, 1] = 220  # a trace, green and moving
    return frames


def write_dicom(path, pixels, photometric="RGB", syntax=ExplicitVRLittleEndian, **tags):
    """Frames as an uncompressed file; a tag that is None is left out."""
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.3.1"
    dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.PatientName = "SECRET^PATIENT"
    dataset.PatientID = "SECRET-1"
    dataset.PhotometricInterpretation = photometric
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = pixels.shape[:3]
    dataset.SamplesPerPixel = 3 if pixels.ndim == 4 else 1
    if pixels.ndim == 4:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = 0
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OB" if pixels.itemsize == 1 else "OW"
    for name, value in tags.items():
        if value is None:
            del dataset[name]
        else:
            setattr(dataset, name, value)
    dataset.save_as(path, enforce_file_format=True)


def region(left, top, right, bottom):
    item = pydicom.Dataset()
    item.RegionSpatialFormat = item.RegionDataType = 1
    item.RegionLocationMinX0, item.RegionLocationMinY0 = left, top
    item.RegionLocationMaxX1, item.RegionLocationMaxY1 = right, bottom
    return [item]


def assert_only_the_sector(frames):
    """The mask's bounding box is rows 30 to 210 and columns 22 to 278 (apex 150, 90 degrees)."""
    rows, columns = np.nonzero(sector_mask())
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert abs(frames.shape[1] - height) <= 8 and abs(frames.shape[2] - width) <= 8
    assert frames.max(axis=0)[:20, :40].max() == 0, "what lies beside the apex is not black"
    assert frames[:, 100].mean() > 60
