"""Strangers, made of clean clips."""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy import ndimage

from jaxtwin.data.base import EchoVideo
from jaxtwin.data.simpson import CAVITY


@dataclasses.dataclass(frozen=True)
class Clean:
    """A clean clip, and another of a different heart.

    Attributes:
        recording: The clip.
        labels: Its true label maps.
        other: The other clip.
        seed: Seed for what is random in strangers.
    """

    recording: EchoVideo
    labels: UInt8[np.ndarray, "time height width"]
    other: EchoVideo
    seed: int

    def changed(self, frames: np.ndarray) -> EchoVideo:
        """Return the clip with other frames."""
        return dataclasses.replace(self.recording, frames=np.ascontiguousarray(frames))


def sector(clip: Clean) -> Bool[np.ndarray, "height width"]:
    """Return the part of the frame that is ever lit."""
    return ndimage.binary_closing(clip.recording.frames.max(axis=0) > 8, iterations=2)


def upside_down(clip: Clean) -> EchoVideo:
    """Turn by half."""
    return clip.changed(clip.recording.frames[:, ::-1, ::-1])


def quarter(clip: Clean) -> EchoVideo:
    """Turn by a quarter, to the left or to the right."""
    return clip.changed(np.rot90(clip.recording.frames, 1 + 2 * (clip.seed % 2), axes=(1, 2)))


def mirrored(clip: Clean) -> EchoVideo:
    """Exchange left and right."""
    return clip.changed(clip.recording.frames[:, :, ::-1])


def fast(clip: Clean) -> EchoVideo:
    """Play at twice the speed."""
    return dataclasses.replace(clip.recording, times=clip.recording.times / 2)


def spliced(clip: Clean) -> EchoVideo:
    """Go on with another heart after half of the clip."""
    times, frames = clip.recording.times, clip.recording.frames.copy()
    half = min(len(times), int(np.searchsorted(times, 3.0))) // 2
    later = times[half:] - times[half]
    place = np.searchsorted(clip.other.times, np.mod(later, clip.other.times[-1]))
    frames[half:] = clip.other.frames[np.minimum(place, len(clip.other.frames) - 1)]
    return clip.changed(frames)


def still(clip: Clean) -> EchoVideo:
    """Show the first frame only, with a little of the noise of a scanner."""
    random = np.random.default_rng(clip.seed)
    frames = np.broadcast_to(clip.recording.frames[:1], clip.recording.frames.shape)
    grain = random.normal(0, 2, frames.shape) * (frames > 0)
    return clip.changed(np.clip(frames + grain, 0, 255).astype(np.uint8))


def noise(clip: Clean) -> EchoVideo:
    """Fill the sector with noise."""
    random = np.random.default_rng(clip.seed)
    values = random.rayleigh(60, clip.recording.frames.shape)
    return clip.changed((np.clip(values, 0, 255) * sector(clip)).astype(np.uint8))


def empty(clip: Clean) -> EchoVideo:
    """Show a sector without echoes, as of a probe in the air: reverberations near it alone."""
    random = np.random.default_rng(clip.seed)
    frames = clip.recording.frames
    depth = np.arange(frames.shape[1])[:, None]
    near = 120 * np.exp(-depth / 8.0) + 6
    values = random.rayleigh(0.7, frames.shape) * near
    return clip.changed((np.clip(values, 0, 255) * sector(clip)).astype(np.uint8))


def _tissue(
    random: np.random.Generator, shape: tuple[int, int], scale: tuple[float, float]
) -> Float[np.ndarray, "height width"]:
    """Return speckle in decibels, of median 0."""
    parts = [ndimage.gaussian_filter(random.normal(size=shape), scale) for _ in range(2)]
    level = 20 * np.log10(np.hypot(*parts) + 1e-9)
    return level - np.median(level)


def organ(clip: Clean) -> EchoVideo:
    """Show an even organ with vessels, one of which pulsates, moved by breathing."""
    random = np.random.default_rng(clip.seed)
    times, (height, width) = clip.recording.times, clip.recording.frames.shape[1:]
    speckle = _tissue(random, (2 * height, 2 * width), (1.0, 1.6))
    across, down = np.meshgrid(np.arange(2 * width), np.arange(2 * height))
    level = speckle + random.uniform(-6, 6)
    for _ in range(random.integers(3, 8)):
        x, y = random.uniform(0.3, 1.7) * width, random.uniform(0.3, 1.7) * height
        level = np.where(np.hypot(across - x, down - y) < random.uniform(2, 9), level - 40, level)
    period, middle = random.uniform(0.6, 1.1), (0.5 + random.uniform(0.3, 0.7, 2)) * (height, width)
    radius, frames = random.uniform(6, 20), []
    for t in times:
        pulse = radius * (1 + 0.12 * np.sin(2 * np.pi * t / period))
        inside = np.hypot(across - middle[1], down - middle[0]) < pulse
        shown = np.where(inside, level - 40, level)
        top = height // 2 + round(4 * np.sin(2 * np.pi * t / 4.0))
        part = shown[top : top + height, width // 2 : width // 2 + width]
        frames.append(np.clip(150 + 4.0 * part, 0, 255))
    return clip.changed((np.stack(frames) * sector(clip)).astype(np.uint8))


def colour(clip: Clean) -> EchoVideo:
    """Lay colour Doppler over the middle of the picture, seen in grey."""
    random = np.random.default_rng(clip.seed)
    frames, times = clip.recording.frames.astype(float), clip.recording.times
    _, height, width = frames.shape
    down, across = np.mgrid[:height, :width]
    x, y = width * random.uniform(0.4, 0.6), height * random.uniform(0.45, 0.65)
    wide, high = width * random.uniform(0.12, 0.25), height * random.uniform(0.2, 0.3)
    gate = (np.abs(across - x) < wide) & (np.abs(down - y) < high)
    period = random.uniform(0.6, 1.1)
    for k, t in enumerate(times):
        flow = np.sin(2 * np.pi * t / period)
        patch = ndimage.gaussian_filter(random.normal(size=(height, width)), 3) * 6
        shown = gate & (np.abs(flow) * 1.5 + patch > 0.6)
        # Red and yellow towards the probe, blue and cyan away from it.
        strength = np.clip(np.abs(flow + 0.3 * patch), 0.2, 1)
        red = (255 * strength, 200 * strength**2, 0 * strength)
        blue = (0 * strength, 160 * strength**2, 255 * strength)
        r, g, b = red if flow > 0 else blue
        frames[k] = np.where(shown, 0.299 * r + 0.587 * g + 0.114 * b, frames[k])
    return clip.changed(np.clip(frames, 0, 255).astype(np.uint8))


def half_outside(clip: Clean) -> EchoVideo:
    """Move the picture sideways, so that half of the ventricle is out of it."""
    cavity = (clip.labels == CAVITY).any(axis=0)
    middle = round(float(np.mean(np.nonzero(cavity.any(axis=0))[0])))
    frames = np.zeros_like(clip.recording.frames)
    if clip.seed % 2:
        frames[:, :, : frames.shape[2] - middle] = clip.recording.frames[:, :, middle:]
    else:
        frames[:, :, frames.shape[2] - middle :] = clip.recording.frames[:, :, :middle]
    return clip.changed(frames)


STRANGERS: Mapping[str, Callable[[Clean], EchoVideo]] = {
    "upside-down": upside_down,
    "turned by a quarter": quarter,
    "mirrored": mirrored,
    "twice the speed": fast,
    "spliced": spliced,
    "still": still,
    "noise": noise,
    "empty sector": empty,
    "other organ": organ,
    "colour Doppler": colour,
    "half outside": half_outside,
}
