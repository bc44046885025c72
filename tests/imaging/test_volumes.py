"""Volumes of shapes in closed form, and of phantoms' label maps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtwin.data.phantom.geometry import frame_phases, frame_times, pixel_size
from jaxtwin.data.phantom.masks import label_maps
from jaxtwin.data.phantom.view import draw_view
from jaxtwin.imaging.beats import find_beats
from jaxtwin.imaging.volumes import biplane, cavity_shape
from tests.phantom import make_beat

ROWS, COLUMNS = np.mgrid[:112, :112] - 56.0


def ellipse(long, short, angle):
    """Label map of an ellipse with half axes in pixels, turned by an angle, with a wall."""
    down = np.cos(angle) * ROWS + np.sin(angle) * COLUMNS
    across = np.cos(angle) * COLUMNS - np.sin(angle) * ROWS
    inside = (down / long) ** 2 + (across / short) ** 2 < 1
    wall = (down / (long + 6)) ** 2 + (across / (short + 6)) ** 2 < 1
    return np.where(inside, 1, np.where(wall, 2, 0)).astype(np.uint8)


@pytest.mark.parametrize("angle", [0.0, 0.4, -0.7])
@pytest.mark.parametrize(("long", "short"), [(40, 20), (30, 12), (18, 8)])
def test_an_ellipsoid_has_its_volume(long, short, angle):
    shape = cavity_shape(ellipse(long, short, angle)[None], (0.8, 0.8))
    volume = 4 / 3 * np.pi * long * short**2 * 0.8**3 / 1000
    np.testing.assert_allclose(shape.volume, volume, rtol=0.06)
    np.testing.assert_allclose(shape.length, 2 * long * 0.08, rtol=0.05)
    np.testing.assert_allclose(shape.area, np.pi * long * short * 0.0064, rtol=0.03)
    assert shape.quality[0] > 0.95


@pytest.mark.parametrize(("two", "four"), [(20, 14), (12, 18)])
def test_two_views_give_the_volume_of_an_ellipsoid_of_three_axes(two, four):
    # The four-chamber view is foreshortened: the longer axis counts.
    found = biplane(
        ellipse(40, two, 0.2)[None].repeat(2, 0),
        np.stack([ellipse(37, four, -0.3), np.zeros((112, 112), np.uint8)]),
        ((0.8, 0.8), (0.8, 0.8)),
    )
    exact = 4 / 3 * np.pi * 40 * two * four * 0.8**3 / 1000
    assert found[0] == pytest.approx(exact, rel=0.04) and np.isnan(found[1])
    one_view = cavity_shape(ellipse(40, two, 0.2)[None], (0.8, 0.8)).volume[0]
    assert abs(one_view / exact - 1) > 0.2
    with pytest.raises(ValueError, match="2 label maps"):
        biplane(
            ellipse(40, two, 0.0)[None].repeat(2, 0), ellipse(40, two, 0.0)[None], ((1.0, 1.0),) * 2
        )


def test_without_pixel_size_volumes_are_relative():
    labels = ellipse(40, 20, 0.2)[None]
    known, unknown = cavity_shape(labels, (2.0, 2.0)), cavity_shape(labels)
    np.testing.assert_allclose(known.volume, 8 * unknown.volume)


def test_what_is_no_ventricle_has_low_quality_or_no_volume():
    whole = ellipse(30, 15, 0.0)
    specks = np.zeros((112, 112), np.uint8)
    specks[::20, ::20] = 1
    halves = np.where(np.abs(ROWS) < 2, 0, whole)
    outside = np.roll(whole, 56, axis=1)
    outside[:, :40] = 0
    bare = np.where(whole == 2, 0, whole)
    shape = cavity_shape(np.stack([whole, np.zeros_like(whole), specks, halves, outside, bare]))
    assert np.isfinite(shape.volume).tolist() == [True, False, False, True, True, True]
    assert shape.quality[0] > 0.95 and (shape.quality[1:] < 0.85).all()


@pytest.mark.parametrize("seed", range(3))
def test_phantoms_label_maps_have_the_beats_volumes(seed):
    beat = make_beat((60, 120, 200)[seed], (65, 50, 30)[seed])
    view = draw_view(jax.random.key(seed), beat)
    view = view._replace(foreshortening=jnp.float32(0.0), duration=jnp.float32(2.2))
    pixel = tuple(10 * float(size) for size in reversed(pixel_size(view)))
    shape = cavity_shape(label_maps(beat, view), pixel)
    phase = frame_phases(view, float(beat.period))
    true = np.interp(phase, np.arange(len(beat.V_lv)) / len(beat.V_lv), beat.V_lv, period=1)
    # Of the largest volume: the border is known to half a pixel.
    np.testing.assert_allclose(shape.volume, true, atol=0.06 * true.max())
    beats = find_beats(frame_times(view).astype(float), shape.volume)
    assert beats.period == pytest.approx(float(beat.period), rel=0.02)
    assert pytest.approx(100 * (1 - true.min() / true.max()), abs=3) == beats.EF
    assert shape.quality.min() > 0.85
