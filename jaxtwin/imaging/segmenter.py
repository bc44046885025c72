"""A trained segmentation network: from a recording to label maps, a volume curve and beats."""

import dataclasses
from pathlib import Path
from typing import NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float, UInt8

from jaxtwin.data.base import EchoVideo, area_weights
from jaxtwin.data.simpson import CAVITY
from jaxtwin.imaging.beats import Beats, find_beats
from jaxtwin.imaging.learning import probabilities
from jaxtwin.imaging.network import SegmentationNetwork
from jaxtwin.imaging.volumes import Shape, cavity_shape
from jaxtwin.training import checkpoint

SIZE = 112  # [pixels], of the frames that the network sees
AWAY = 0.04  # [s] between a frame and its neighbours
RATE = 25.0  # [1/s], about which frames are labelled
LONGEST = 3.0  # [s], the beginning of a clip in which they are


class Measured(NamedTuple):
    """What was measured in a recording.

    Attributes:
        times: Time of each frame [s].
        frames: The frames at the network's size.
        labels: Label map of each: 1 is the cavity, 2 the myocardium, 3 the left atrium.
        confidence: Mean probability of the cavity's label within the cavity found, in each frame;
            0 where none is found.
        shape: The cavity in each frame.
        beats: The beats of its volume.
        pixel: Height and width of a pixel of these frames [mm]; None if they are not known.
    """

    times: Float[np.ndarray, " time"]
    frames: UInt8[np.ndarray, "time size size"]
    labels: UInt8[np.ndarray, "time size size"]
    confidence: Float[np.ndarray, " time"]
    shape: Shape
    beats: Beats
    pixel: tuple[float, float] | None


@dataclasses.dataclass(frozen=True)
class Segmenter:
    """A trained network.

    Attributes:
        network: The network.
        dice: Mean Dice coefficient of the cavity on its validation frames.
    """

    network: SegmentationNetwork
    dice: float

    def measure(self, recording: EchoVideo, pixel: tuple[float, float] | None = None) -> Measured:
        """Segment every frame, measure the cavity, and find the beats.

        Args:
            recording: The recording, cropped to the sector.
            pixel: Height and width of a pixel of the recording [mm]; by default as the recording
                states them. If it does not, volumes are relative, in 1000 cubic pixels.
        """
        pixel = recording.pixel if pixel is None else pixel
        seen = with_context(recording)
        share = probabilities(self.network, seen)
        labels = np.argmax(share, axis=-1).astype(np.uint8)
        cavity = labels == CAVITY
        sure = np.sum(share[..., CAVITY] * cavity, axis=(1, 2)) / np.maximum(cavity.sum((1, 2)), 1)
        if pixel is not None:
            # The recording was scaled so that its longer side has the network's size.
            scale = max(recording.frames.shape[1:]) / SIZE
            pixel = pixel[0] * scale, pixel[1] * scale
        shape = cavity_shape(labels, pixel)
        return Measured(
            recording.times,
            seen[:, 1],
            labels,
            sure.astype(float),
            shape,
            find_beats(recording.times, shape.volume),
            pixel,
        )


def thinned(recording: EchoVideo) -> EchoVideo:
    """Return every frame, or every second, third, ... frame, of the first seconds.

    A ventricle's volume changes little in 40 ms, and labelling is what a twin takes longest for.
    """
    rate = (len(recording.times) - 1) / float(recording.times[-1])
    every = max(round(rate / RATE), 1)
    kept = np.arange(0, int(np.sum(recording.times <= LONGEST)), every)
    if len(kept) < 2:
        return recording
    return EchoVideo(recording.frames[kept], recording.times[kept], recording.pixel)


def with_context(recording: EchoVideo) -> UInt8[np.ndarray, "time channel size size"]:
    """Return each frame with its context, as six pictures.

    They are the frame before, the frame, and the frame after, at a fixed distance in time; and the
    darkest, mean and brightest picture of the clip, in which the path of the walls is seen.
    Neighbours between two frames are interpolated. Pixels are averaged over the area they cover;
    black bars pad the image to a square.
    """
    frames = scaled(recording.frames)
    before, after = (_at(frames, recording.times, recording.times + away) for away in (-AWAY, AWAY))
    clip = whole_clip(frames)
    whole = np.broadcast_to(clip, (len(frames), *clip.shape))
    return np.concatenate([np.stack([before, frames, after], axis=1), whole], axis=1)


def whole_clip(
    frames: UInt8[np.ndarray, "time height width"],
) -> UInt8[np.ndarray, "picture height width"]:
    """Return the darkest, mean and brightest picture of a clip."""
    return np.stack([frames.min(axis=0), frames.mean(axis=0).astype(np.uint8), frames.max(axis=0)])


def scaled(
    frames: UInt8[np.ndarray, "time height width"],
) -> UInt8[np.ndarray, "time size size"]:
    """Return frames of the network's size; black bars pad them to a square."""
    height, width = frames.shape[1:]
    if height == width == SIZE:
        return frames
    rows = area_weights(height, max(height, width), SIZE)
    columns = area_weights(width, max(height, width), SIZE)
    small = [np.rint(rows @ frame.astype(np.float32) @ columns.T) for frame in frames]
    return np.stack(small).astype(np.uint8)


def _at(
    frames: UInt8[np.ndarray, "time size size"],
    times: Float[np.ndarray, " time"],
    wanted: Float[np.ndarray, " time"],
) -> UInt8[np.ndarray, "time size size"]:
    place = np.interp(wanted, times, np.arange(float(len(times))))
    before = np.minimum(place.astype(int), len(times) - 2)
    weight = (place - before).astype(np.float32)[:, None, None]
    mixed = frames[before] * (1 - weight) + frames[before + 1] * weight
    return np.rint(mixed).astype(np.uint8)


def save_segmenter(folder: str | Path, segmenter: Segmenter) -> None:
    """Save a segmenter as arrays with a description."""
    description = {"kind": "segmenter", "dice": segmenter.dice, "widths": segmenter.network.widths}
    checkpoint.save(Path(folder), segmenter.network, description)


def load_segmenter(folder: str | Path) -> Segmenter:
    """Load a segmenter saved by `save_segmenter`.

    Raises:
        CheckpointError: If it is missing or damaged.
    """
    kept = checkpoint.config(Path(folder), kind="segmenter")
    widths = tuple(kept["widths"])
    blank = eqx.filter_eval_shape(lambda: SegmentationNetwork(widths, key=jax.random.key(0)))
    return Segmenter(checkpoint.load(Path(folder), blank), kept["dice"])
