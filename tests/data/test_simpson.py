"""Volumes of label maps by discs against closed forms."""

import numpy as np
import pytest

from jaxtwin.data.base import UnreadableClipError
from jaxtwin.data.simpson import simpson_biplane

FINE, COARSE = (0.154, 0.308), (0.5, 1.0)


def label_map(length, half_width, tilt, spacing, below=0.0, atrium=True, gap=0.0):
    """A half ellipse of this length [mm], cut `below` of its length under its middle, tilted."""
    y, x = np.mgrid[: round(150 / spacing[0]), : round(140 / spacing[1])]
    down, across = y * spacing[0] - 30, x * spacing[1] - 75
    along = np.cos(tilt) * down + np.sin(tilt) * across
    aside = np.cos(tilt) * across - np.sin(tilt) * down
    base = length * (1 + below)
    labels = np.zeros(down.shape, np.uint8)
    inside = np.hypot((along - length) / length, aside / half_width) < 1
    labels[inside & (along < base)] = 1
    if atrium:
        labels[(along >= base + gap) & (along < base + 25) & (np.abs(aside) < 20)] = 3
    return labels


@pytest.mark.parametrize("spacing", [FINE, COARSE, (0.8, 0.4)])
@pytest.mark.parametrize("shape", [{}, {"atrium": False}, {"below": 0.3}, {"gap": 1.0}])
def test_discs_give_the_volume_of_a_cut_ellipsoid(spacing, shape):
    tilt = np.deg2rad(20)
    two = label_map(80.0, 26.0, tilt, spacing, **shape)
    four = label_map(80.0, 22.0, -tilt, spacing, **shape)
    # Discs of an ellipsoid, from the apex to `below` under its middle: π a b ∫ 1 - z²/L² dz.
    below = shape.get("below", 0.0)
    exact = np.pi * 26 * 22 * 80 * (2 / 3 + below - below**3 / 3) / 1000
    volume = simpson_biplane(two, four, (spacing, spacing))
    assert volume == pytest.approx(exact, rel=0.015)


def test_each_view_has_its_own_spacing_and_a_boolean_mask_begins_at_its_wider_end():
    two = label_map(80.0, 26.0, 0.1, FINE)
    four = label_map(80.0, 22.0, -0.3, COARSE, atrium=False) == 1
    exact = 2 / 3 * np.pi * 26 * 22 * 80 / 1000
    for mask in (four, four[::-1]):
        assert simpson_biplane(two, mask, (FINE, COARSE)) == pytest.approx(exact, rel=0.015)


def test_a_foreshortened_view_lends_its_widths_but_not_its_length():
    two = label_map(80.0, 26.0, 0.0, COARSE)
    four = label_map(66.0, 22.0, 0.0, COARSE)
    exact = 2 / 3 * np.pi * 26 * 22 * 80 / 1000
    assert simpson_biplane(two, four, (COARSE, COARSE)) == pytest.approx(exact, rel=0.015)


def test_a_stray_pixel_is_no_apex():
    labels = label_map(80.0, 26.0, 0.0, COARSE)
    clean = simpson_biplane(labels, labels, (COARSE, COARSE))
    labels[2, 3] = 1
    assert simpson_biplane(labels, labels, (COARSE, COARSE)) == clean


def test_label_maps_without_a_ventricle_or_an_annulus_are_refused():
    good = label_map(80.0, 26.0, 0.0, COARSE)
    empty = np.where(good == 1, 0, good)
    speck = empty.copy()
    speck[80, 75] = 1
    for labels, area in ((empty, "0 mm²"), (speck, "0.5 mm²")):
        with pytest.raises(UnreadableClipError, match=f"of {area}: expected at least 100"):
            simpson_biplane(good, labels, (COARSE, COARSE))
    apart = label_map(80.0, 26.0, 0.0, COARSE, gap=10.0)
    with pytest.raises(UnreadableClipError, match="does not touch"):
        simpson_biplane(good, apart, (COARSE, COARSE))
