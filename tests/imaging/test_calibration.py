"""The regression from measured to true volume curves."""

import jax
import numpy as np
import pytest

from jaxtwin.commands.curve_task import curve_task
from jaxtwin.imaging.calibration import (
    OF_SHAPE,
    CurveCalibration,
    CurveFeatures,
    even_weights,
    fit_ridge,
    turned,
)
from jaxtwin.models.left_heart import NINE

PHASES = 80
GRID = np.arange(PHASES) / PHASES


FEATURES = max(OF_SHAPE) + 2


def beats(random, n):
    """Curves of different sizes and ejection fractions, and features of which two describe them."""
    EDV = 80 * np.exp(0.4 * random.normal(size=n))
    ratio = random.uniform(0.3, 0.7, n)
    wave = 0.5 + 0.5 * np.cos(2 * np.pi * GRID)
    volumes = np.exp(np.log(EDV)[:, None] + np.log(ratio)[:, None] * (1 - wave))
    rest = random.normal(size=(n, FEATURES - 2))
    return np.column_stack([np.log(EDV), np.log(ratio), rest]), volumes


def test_turned_curves_do_not_depend_on_the_start_and_are_those_of_the_task():
    random = np.random.default_rng(0)
    _, (curve,) = beats(random, 1)
    curve = curve + 3 * np.sin(4 * np.pi * GRID)
    for start in (1, 17, 63):
        np.testing.assert_allclose(turned(np.roll(curve, start)), turned(curve), atol=1e-9)
    first = np.fft.rfft(turned(curve))[1]
    assert first.real > 0 and abs(first.imag) < 1e-9 * first.real
    theirs = jax.vmap(curve_task(NINE).comparable)(curve[None].astype(np.float32))[0]
    np.testing.assert_allclose(turned(curve), theirs, rtol=1e-4)


def test_an_exact_relation_is_found():
    random = np.random.default_rng(1)
    features, volumes = beats(random, 200)
    calibration = CurveCalibration.fit(features[:150], volumes[:150], np.full(150, 0.01))
    found = calibration(CurveFeatures(features[0], 0.8, np.nan))
    for row, true in zip(features[150:], volumes[150:], strict=True):
        found = calibration(CurveFeatures(row, 0.8, np.nan))
        np.testing.assert_allclose(found.volume, true, rtol=2e-3)
        assert pytest.approx(true.max(), rel=2e-3) == found.EDV
        assert pytest.approx(100 * (1 - true.min() / true.max()), abs=0.2) == found.EF
    assert found.period_error == pytest.approx(0.8 * 1.4826 * 0.01, rel=1e-5)
    # A measured standard error of the period that is larger than the usual one is believed.
    assert calibration(CurveFeatures(features[0], 0.8, 0.05)).period_error == 0.05


def test_residuals_are_those_of_clips_left_out_one_by_one(monkeypatch):
    monkeypatch.setattr("jaxtwin.imaging.calibration.PENALTIES", np.array([1e-2]))
    random = np.random.default_rng(2)
    x, y = random.normal(size=(12, 3)), random.normal(size=(12, 5))
    weight = random.uniform(0.5, 1.5, 12)
    weight /= weight.mean()
    _, left_out = fit_ridge(x, y, weight)
    mean = np.average(x, axis=0, weights=weight)
    x = (x - mean) / np.sqrt(np.average((x - mean) ** 2, axis=0, weights=weight))
    for out in (0, 4, 11):
        # Weighted ridge regression with a free intercept, written out, without that clip. The
        # penalty and the scale of the features stay as they are.
        kept = np.arange(12) != out
        design = np.column_stack([np.ones(11), x[kept]])
        penalty = np.diag([0.0, *np.full(3, 1e-2 * 12)])
        squares = design.T @ (weight[kept, None] * design) + penalty
        weights = np.linalg.solve(squares, design.T @ (weight[kept, None] * y[kept]))
        left = y[out] - np.r_[1.0, x[out]] @ weights
        np.testing.assert_allclose(left_out[out], left, rtol=1e-6)


def test_rare_ejection_fractions_are_not_drawn_towards_the_usual_one():
    random = np.random.default_rng(5)
    EF = np.concatenate([random.normal(60, 4, 900), random.uniform(15, 60, 100)])
    weight = even_weights(EF)
    assert weight.mean() == pytest.approx(1)
    assert np.median(weight[EF < 45]) > 4 * np.median(weight[EF > 55])
    seen = (EF + random.normal(0, 5, 1_000))[:, None]
    plain, even = (fit_ridge(seen, EF[:, None], w)[0] for w in (np.ones(1_000), weight))
    low = [float(ridge(np.array([25.0]))[0]) for ridge in (plain, even)]
    assert low[0] - 25 > 2 * abs(low[1] - 25)
    np.testing.assert_array_equal(even_weights(np.full(9, 55.0)), np.ones(9))


def test_standard_errors_hold_the_truth_as_often_as_they_say():
    random = np.random.default_rng(3)
    features, volumes = beats(random, 600)
    noisy = features.copy()
    noisy[:, :2] += random.normal(size=(600, 2)) * (0.15, 0.1)
    calibration = CurveCalibration.fit(noisy[:400], volumes[:400], np.zeros(400))
    found = [calibration(CurveFeatures(row, 1.0, np.nan)) for row in noisy[400:]]
    true = volumes[400:]
    EF = 100 * (1 - true.min(axis=1) / true.max(axis=1))
    inside = np.mean([abs(c.EF - e) < c.EF_error for c, e in zip(found, EF, strict=True)])
    assert 0.58 < inside < 0.78
    EDV = true.max(axis=1)
    inside = np.mean([abs(c.EDV - e) < c.EDV_error for c, e in zip(found, EDV, strict=True)])
    assert 0.58 < inside < 0.80


def test_too_few_clips_and_numbers_that_are_not_finite_are_refused():
    features, volumes = beats(np.random.default_rng(4), 8)
    with pytest.raises(ValueError, match="features of 7 clips and volumes of 7: expected"):
        CurveCalibration.fit(features[:7], volumes[:7], np.zeros(7))
    features[0, 0] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        CurveCalibration.fit(features, volumes, np.zeros(8))
