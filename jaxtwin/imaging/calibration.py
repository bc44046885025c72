"""From what the segmentation measures to the volume curve, with its standard errors.

A network that labels pictures draws small cavities too large and large ones too small, sees one
plane only, and often does not know how large a pixel is. How its curves differ from the true ones
is learnt from phantoms, whose volumes are known, by ridge regression.
"""

from typing import NamedTuple

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

from jaxtwin.data.simpson import ATRIUM, MYOCARDIUM
from jaxtwin.imaging.beats import find_beats
from jaxtwin.imaging.segmenter import Measured
from jaxtwin.imaging.volumes import cavity_shape

HARMONICS = 6
SMALLEST = 0.02  # of an end-systolic volume relative to EDV, whose logarithm is taken
PERIOD = 2  # place of the logarithm of the period among the features
SHAPE = np.array([1, PERIOD, *range(9, 11 + 2 * (HARMONICS - 1))])  # places among the features
OF_SHAPE = np.array([0, *SHAPE, SHAPE[-1] + 1, SHAPE[-1] + 2])  # with EDV, quality and confidence
KERNEL = 0.25  # width of the kernels of a density, in standard deviations
MOST_WEIGHT = 8.0
"""Largest weight of a clip with a rare ejection fraction, relative to the median."""
EDV_RANGE = (1.0, 1_000.0)
"""End-diastolic volumes that a left ventricle can have [mL], a newborn's and the largest included.
Of a clip unlike all that it was learnt from, a regression may say anything."""
PENALTIES = np.logspace(-4, 0, 17)  # relative to the number of clips


class VolumeCurve(NamedTuple):
    """The volume of the left ventricle over a beat.

    Attributes:
        volume: Volume at evenly spaced phases [mL]. The first harmonic is a cosine: a beat's start
            is not seen in a clip without an electrocardiogram.
        error: Standard error of each [mL].
        period: Length of the beat [s].
        period_error: Its standard error [s].
        EDV, ESV: Largest and smallest volume [mL].
        EDV_error, ESV_error: Their standard errors [mL].
        EF: Ejection fraction [%].
        EF_error: Its standard error [%].
    """

    volume: Float[np.ndarray, " phase"]
    error: Float[np.ndarray, " phase"]
    period: float
    period_error: float
    EDV: float
    ESV: float
    EF: float
    EDV_error: float
    ESV_error: float
    EF_error: float

    @property
    def possible(self) -> bool:
        """Whether a left ventricle can have this volume, see `EDV_RANGE`."""
        return EDV_RANGE[0] <= self.EDV <= EDV_RANGE[1]


def turned(curve: Float[np.ndarray, "*batch phase"]) -> Float[np.ndarray, "*batch phase"]:
    """Return periodic curves rotated so that the first harmonic is a cosine."""
    harmonics = np.fft.rfft(curve)
    turn = np.angle(harmonics[..., 1:2]) * np.arange(harmonics.shape[-1])
    return np.fft.irfft(harmonics * np.exp(-1j * turn), curve.shape[-1])


class CurveFeatures(NamedTuple):
    """What is known of a clip's volume curve before it is calibrated.

    Attributes:
        values: Features, see `curve_features`.
        period: Length of a beat [s].
        period_error: Standard error of the period [s]; NaN if there are fewer than three ends of
            systole.
    """

    values: Float[np.ndarray, " feature"]
    period: float
    period_error: float

    @property
    def shape(self) -> Float[np.ndarray, " number"]:
        """Features of the beat's shape and length, which no pixel size changes."""
        return self.values[SHAPE]


def curve_features(found: Measured) -> CurveFeatures | None:
    """Describe what was measured in a clip by a few numbers; None if no beat was found.

    They are sizes of the cavity and the other chambers, in cm where the pixel size is known and
    in tens of pixels where it is not; the harmonics of the mean beat; and how sure the network is.
    """
    beats, shape = found.beats, found.shape
    if not np.isfinite(beats.period) or not beats.EDV > 0:
        return None
    relative = turned(beats.volume / beats.EDV)
    harmonics = np.fft.rfft(relative)[: HARMONICS + 1] / len(relative)
    ratio = np.log(max(beats.ESV / beats.EDV, SMALLEST))
    square = 1.0 if found.pixel is None else found.pixel[0] * found.pixel[1] * 1e-2
    labels = found.labels
    areas = [
        np.log(square * (labels == chamber).sum(axis=(1, 2)).mean() + 1.0)
        for chamber in (MYOCARDIUM, ATRIUM)
    ]
    lit = float((found.frames.max(axis=0) > 12).mean())
    held = np.isfinite(shape.volume)  # the frames with a cavity
    pair = (shape.length[held], shape.area[held])
    sizes = [np.log(np.quantile(x, q)) for x in pair for q in (0.1, 0.9)]
    EDV = np.log(beats.EDV)
    values = np.array(
        [
            *(EDV, ratio, np.log(beats.period), *sizes, *areas),
            *(harmonics[0].real, abs(harmonics[1]), *harmonics[2:].real, *harmonics[2:].imag),
            *(shape.quality.mean(), found.confidence.mean(), lit),
        ]
    )
    return CurveFeatures(values, beats.period, beats.period_error)


def without_scale(found: Measured) -> Measured:
    """Return what is measured if the size of a pixel is not known."""
    shape = cavity_shape(found.labels)
    return found._replace(shape=shape, beats=find_beats(found.times, shape.volume), pixel=None)


class Ridge(eqx.Module):
    """A ridge regression with several outputs.

    Attributes:
        mean: Mean of each feature.
        spread: Standard deviation of each feature.
        weights: Weight of each standardised feature in each output.
        level: Outputs at the mean features.
    """

    mean: Float[Array | np.ndarray, " feature"]
    spread: Float[Array | np.ndarray, " feature"]
    weights: Float[Array | np.ndarray, "feature output"]
    level: Float[Array | np.ndarray, " output"]

    def __call__(self, features: Float[np.ndarray, " feature"]) -> Float[np.ndarray, " output"]:
        """Return the outputs for one clip."""
        mean, spread, weights, level = (
            np.asarray(part, float) for part in (self.mean, self.spread, self.weights, self.level)
        )
        return (features - mean) / spread @ weights + level

    @classmethod
    def blank(cls, features: int, outputs: int) -> "Ridge":
        """Return zeros, into which a saved regression is loaded."""
        shapes = ((features,), (features,), (features, outputs), (outputs,))
        return cls(*(np.zeros(shape, np.float32) for shape in shapes))


def fit_ridge(
    features: Float[np.ndarray, "clip feature"],
    outputs: Float[np.ndarray, "clip output"],
    weight: Float[np.ndarray, " clip"],
) -> tuple[Ridge, Float[np.ndarray, "clip output"]]:
    """Fit a ridge regression with the penalty whose errors of clips left out are the smallest.

    Args:
        features: Features of each clip.
        outputs: Outputs of each clip.
        weight: Weight of each clip, 1 on average.

    Returns:
        The regression, and each clip's residuals were it left out.
    """
    n, root = len(features), np.sqrt(weight)[:, None]
    mean = np.average(features, axis=0, weights=weight)
    spread = np.sqrt(np.average((features - mean) ** 2, axis=0, weights=weight))
    spread = np.where(spread > 1e-9, spread, 1.0)
    level = np.average(outputs, axis=0, weights=weight)
    x, y = root * (features - mean) / spread, root * (outputs - level)
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    projected = u.T @ y
    found = []
    for penalty in PENALTIES * n:
        shrunk = s**2 / (s**2 + penalty)
        leverage = np.square(u) @ shrunk + weight / n
        left_out = (y - u @ (shrunk[:, None] * projected)) / (1 - leverage)[:, None]
        weights = vt.T @ ((s / (s**2 + penalty))[:, None] * projected)
        found.append((float(np.mean(left_out**2)), weights, left_out / root))
    _, weights, left_out = min(found, key=lambda one: one[0])
    parts = (mean, spread, weights, level)
    return Ridge(*(part.astype(np.float32) for part in parts)), left_out


def even_weights(EF: Float[np.ndarray, " clip"]) -> Float[np.ndarray, " clip"]:
    """Return weights with which all ejection fractions are equally frequent, 1 on average.

    Without them a regression draws rare ejection fractions towards the usual one: the smallest
    mean error in a clinic, and the largest in its patients with heart failure.
    """
    if np.ptp(EF) < 1:
        return np.ones(len(EF))
    from scipy.stats import gaussian_kde  # Takes half a second; curves do not need it.

    weight = 1 / gaussian_kde(EF, KERNEL)(EF)
    weight = np.minimum(weight / np.median(weight), MOST_WEIGHT)
    return weight / weight.mean()


class CurveCalibration(eqx.Module):
    """Two regressions from `curve_features`: to the beat's shape, and to the logarithm of EDV.

    The shape is the logarithm of the volume at each phase, relative to EDV. It hardly depends on
    the size of a pixel.

    Attributes:
        shape: Regression of the shape, which draws no ejection fraction towards the usual one.
        size: Regression of the logarithm of EDV.
        residuals: What the regression of the shape leaves unexplained in each clip, were it learnt
            from the others.
        size_residuals: The same of the other.
        period_error: Typical relative error of the period.
    """

    shape: Ridge
    size: Ridge
    residuals: Float[Array | np.ndarray, "clip phase"]
    size_residuals: Float[Array | np.ndarray, " clip"]
    period_error: Float[Array | np.ndarray, ""]

    @classmethod
    def fit(
        cls,
        features: Float[np.ndarray, "clip feature"],
        volumes: Float[np.ndarray, "clip phase"],
        period_errors: Float[np.ndarray, " clip"],
    ) -> "CurveCalibration":
        """Learn from clips whose volumes are known.

        Args:
            features: Of each clip, see `curve_features`.
            volumes: True volumes over a beat [mL], from any phase on.
            period_errors: Relative errors of the measured periods.

        Raises:
            ValueError: If there are fewer than eight clips, or a number is not finite.
        """
        if len(features) < 8 or len(features) != len(volumes):
            raise ValueError(
                f"features of {len(features)} clips and volumes of {len(volumes)}: expected the "
                "same number, at least 8"
            )
        if not (np.isfinite(features).all() and (volumes > 0).all()):
            raise ValueError("features that are not finite or volumes that are not positive")
        EDV = volumes.max(axis=1)
        EF = 100 * (1 - volumes.min(axis=1) / EDV)
        relative = np.log(turned(volumes) / EDV[:, None])
        shape, residuals = fit_ridge(features[:, OF_SHAPE], relative, even_weights(EF))
        size, off = fit_ridge(features, np.log(EDV)[:, None], np.ones(len(EDV)))
        typical = 1.4826 * np.median(np.abs(period_errors))
        parts = (residuals, off[:, 0], np.asarray(typical))
        return cls(shape, size, *(np.asarray(part, np.float32) for part in parts))

    @classmethod
    def blank(cls, features: int, phases: int, clips: int) -> "CurveCalibration":
        """Return zeros in the shapes that `fit` gives, into which a saved one is loaded."""
        rest = (np.zeros(shape, np.float32) for shape in ((clips, phases), (clips,), ()))
        return cls(Ridge.blank(len(OF_SHAPE), phases), Ridge.blank(features, 1), *rest)

    def __call__(self, features: CurveFeatures) -> VolumeCurve:
        """Return the volume curve of a clip, with the errors of the clips it was learnt from."""
        middle = self.shape(features.values[OF_SHAPE])
        (size,) = self.size(features.values)
        others = middle + np.asarray(self.residuals, float)
        others -= others.max(axis=1, keepdims=True)
        others += size + np.asarray(self.size_residuals, float)[:, None]
        volume, others = np.exp(middle - middle.max() + size), np.exp(others)
        largest, smallest = others.max(axis=1), others.min(axis=1)
        errors = [features.period_error, float(self.period_error) * features.period]
        return VolumeCurve(
            volume=volume,
            error=others.std(axis=0),
            period=features.period,
            period_error=float(np.nanmax(errors)),
            EDV=float(volume.max()),
            ESV=float(volume.min()),
            EF=float(100 * (1 - volume.min() / volume.max())),
            EDV_error=float(largest.std()),
            ESV_error=float(smallest.std()),
            EF_error=float(100 * (1 - smallest / largest).std()),
        )
