"""Properties of resampling, windows and Simpson's rule, for random recordings and ventricles."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from jaxtwin.data.base import ClipFormat, EchoVideo, resample, window
from jaxtwin.data.simpson import ATRIUM, CAVITY, simpson_biplane

few = settings(deadline=None, max_examples=25, derandomize=True)


@st.composite
def recordings(draw):
    """Noise between two levels of grey, at uneven times."""
    random = np.random.default_rng(draw(st.integers(0, 99)))
    count, height, width = (draw(st.integers(low, 24)) for low in (2, 4, 4))
    low, high = sorted(draw(st.tuples(st.integers(0, 255), st.integers(0, 255))))
    frames = random.integers(low, high + 1, (count, height, width)).astype(np.uint8)
    steps = random.uniform(0.5, 1.5, count - 1) / draw(st.floats(11.0, 240.0))
    return EchoVideo(frames, np.concatenate([[0.0], np.cumsum(steps)]))


formats = st.builds(
    ClipFormat, frames=st.integers(1, 8), rate=st.floats(5.0, 60.0), size=st.integers(1, 20)
)


@few
@given(recordings(), formats)
def test_resampling_keeps_the_range_of_greys(recording, format):
    clip = resample(recording, format)
    seconds = np.arange(len(clip)) / format.rate
    assert seconds[-1] <= recording.times[-1] + 1e-6 < seconds[-1] + 1 / format.rate + 2e-6
    assert clip.shape[1:] == (format.size, format.size) and clip.dtype == np.uint8
    assert clip.max() <= recording.frames.max()
    if recording.frames.shape[1] == recording.frames.shape[2]:  # no black beside the picture
        assert clip.min() >= recording.frames.min()


@few
@given(recordings(), formats)
def test_negatives_are_resampled_to_negatives(recording, format):
    """Blending is linear; where the picture is square it takes 255 − x to 255 − x."""
    side = min(recording.frames.shape[1:])
    frames = recording.frames[:, :side, :side]
    positive = resample(EchoVideo(frames, recording.times), format)
    negative = resample(EchoVideo(255 - frames, recording.times), format)
    np.testing.assert_allclose(negative + positive.astype(int), 255, atol=1)


@few
@given(st.integers(2, 30), st.integers(1, 16), st.floats(5.0, 60.0), st.integers(0, 99))
def test_a_recording_of_the_format_passes_untouched(count, size, rate, seed):
    frames = np.random.default_rng(seed).integers(0, 256, (count, size, size)).astype(np.uint8)
    recording = EchoVideo(frames, np.arange(count) / rate)
    np.testing.assert_array_equal(resample(recording, ClipFormat(rate=rate, size=size)), frames)


@few
@given(st.integers(1, 20), st.integers(1, 9), st.data())
def test_windows_in_a_row_are_the_recording(count, frames, data):
    resampled = np.arange(1, count + 1, dtype=np.uint8)[:, None, None] * np.ones((2, 2), np.uint8)
    format = ClipFormat(frames=frames, size=2)
    start = data.draw(st.integers(0, count + 2))
    clip = window(resampled, format, start)
    assert clip.shape == (frames, 2, 2)
    padded = np.concatenate([resampled, np.zeros((frames + 3, 2, 2), np.uint8)])
    np.testing.assert_array_equal(clip, padded[start : start + frames])
    row = np.concatenate([window(resampled, format, k) for k in range(0, count, frames)])
    np.testing.assert_array_equal(row[:count], resampled)
    assert not row[count:].any()


# --- volumes ----------------------------------------------------------------------------------

SPACINGS = st.sampled_from([(0.3, 0.3), (0.5, 0.8), (0.7, 0.4)])


def ventricle(half_length, half_width, below, tilt, spacing):
    """An ellipse [mm], tilted; cut `below` of its half length under its middle if that is < 1."""
    y, x = np.mgrid[: round(150 / spacing[0]), : round(150 / spacing[1])]
    down, across = y * spacing[0] - 75, x * spacing[1] - 75
    along = np.cos(tilt) * down + np.sin(tilt) * across
    aside = np.cos(tilt) * across - np.sin(tilt) * down
    inside = np.hypot(along / half_length, aside / half_width) < 1
    under = along >= below * half_length
    labels = np.zeros(down.shape, np.uint8)
    labels[inside & ~under] = CAVITY
    if below < 1:
        labels[under & (along < below * half_length + 20) & (np.abs(aside) < 15)] = ATRIUM
    return labels


shapes = st.fixed_dictionaries(
    {
        "half_length": st.floats(40.0, 55.0),
        "below": st.floats(0.3, 0.7),
        "widths": st.tuples(st.floats(15.0, 28.0), st.floats(15.0, 28.0)),
        "tilts": st.tuples(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5)),
        "spacing": SPACINGS,
    }
)


def drawn(half_length, below, widths, tilts, spacing):
    pairs = zip(widths, tilts, strict=True)
    return [ventricle(half_length, width, below, tilt, spacing) for width, tilt in pairs]


@settings(few, max_examples=15)
@given(shapes)
def test_simpson_gives_the_volume_of_a_cut_ellipsoid(shape):
    """π a b L (2/3 + k − k³/3) of half axes a, b, L, cut k L under the middle."""
    two, four = drawn(**shape)
    spacing, (a, b), k = shape["spacing"], shape["widths"], shape["below"]
    exact = np.pi * a * b * shape["half_length"] * (2 / 3 + k - k**3 / 3) / 1000
    volume = simpson_biplane(two, four, (spacing, spacing))
    assert volume == pytest.approx(exact, rel=0.03)
    # Which view is which does not matter, and millimetres count.
    assert simpson_biplane(four, two, (spacing, spacing)) == pytest.approx(volume, rel=1e-9)
    wide = tuple(1.25 * side for side in spacing)
    assert simpson_biplane(two, four, (wide, wide)) == pytest.approx(1.25**3 * volume, rel=0.02)


@settings(few, max_examples=15)
@given(shapes)
def test_simpson_gives_the_volume_of_a_spheroid(shape):
    """4/3 π a² L, of a whole one that no atrium marks the base of."""
    assume(shape["widths"][0] < 0.7 * shape["half_length"])
    width, spacing = shape["widths"][0], shape["spacing"]
    two, four = (ventricle(shape["half_length"], width, 2.0, t, spacing) for t in shape["tilts"])
    exact = 4 / 3 * np.pi * width**2 * shape["half_length"] / 1000
    assert simpson_biplane(two, four, (spacing, spacing)) == pytest.approx(exact, rel=0.03)
