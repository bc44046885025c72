"""Signs of strangeness of a clip: of its pictures, its labels, its volume curve and its twin."""

from typing import NamedTuple

import equinox as eqx
import numpy as np
from jaxtyping import Float

from jaxtwin.analysis.familiarity import Familiarity
from jaxtwin.analysis.verdict import Screen
from jaxtwin.imaging.calibration import (
    PERIOD,
    SHAPE,
    CurveFeatures,
    Ridge,
    VolumeCurve,
    fit_ridge,
)
from jaxtwin.imaging.orientation import MIRRORED, OrientationNetwork, ways_shown
from jaxtwin.imaging.quality import MeasurementQuality, measurement_quality
from jaxtwin.imaging.segmenter import Measured, whole_clip
from jaxtwin.imaging.statistics import PictureStatistics, picture_statistics


class Observation(NamedTuple):
    """What is looked at to tell whether a clip is strange, before any twin is made of it.

    Attributes:
        quality: How well it could be measured.
        picture: Statistics of its pictures.
        ways: Logarithm of the probability of each orientation, see `OrientationNetwork`.
    """

    quality: MeasurementQuality
    picture: PictureStatistics
    ways: Float[np.ndarray, " way"]


def observe(found: Measured, orientation: OrientationNetwork) -> Observation:
    """Look at a segmented clip."""
    return Observation(
        measurement_quality(found),
        picture_statistics(found.frames),
        ways_shown(orientation, whole_clip(found.frames)),
    )


SIGNS = (
    *MeasurementQuality._fields,
    *("picture", "turned", "mirrored", "beat", "pace", "misfit", "rare"),
)
"""Names of the signs of strangeness."""
LEAST = {"turned": float(np.log(2)), "mirrored": 0.0}
"""Least limit of a sign: below it the heart is more probably shown as it should be. Of phantoms the
network is so sure that real hearts would pass a limit set on them alone."""


def reason(name: str, curve: VolumeCurve, misfit: float) -> str:
    """Say in words what passing the limit of a sign means."""
    cut = "the clip may be cut, or show two hearts"
    return {
        "outline": "the cavity's outline is broken or leaves the picture in some frames",
        "missing": "no cavity is found in some frames",
        "doubt": "the network is unsure what is cavity",
        "unsteady": "the outline jumps from frame to frame",
        "jump": f"the volume jumps: {cut}",
        "unrepeated": "the beats differ from each other: an irregular rhythm, or a poor outline",
        "cut": f"the picture jumps: {cut}",
        "still": "the picture hardly moves",
        "picture": "the picture is unlike any that the network has learnt from: grey values, "
        "speckle, or the sector's size",
        "turned": "the heart seems to be shown turned or upside-down",
        "mirrored": "left and right seem to be exchanged",
        "beat": "no such volume curve was learnt from",
        "pace": f"the volume curve is not that of a beat of {curve.period:.2f} s: the clip may be "
        "played too fast or too slowly",
        "rare": f"an end-diastolic volume of {curve.EDV:.0f} mL, an ejection fraction of "
        f"{curve.EF:.0f}% or {60 / curve.period:.0f} beats a minute is rare",
        "misfit": f"no beat of the circuit explains the volume curve (misfit {misfit:.1f})",
    }[name]


class Limits(eqx.Module):
    """What good clips look like.

    Attributes:
        picture: Model of the pictures' statistics.
        beat: Model of the shape and length of the beats.
        pace: Regression from the shape of a beat to the logarithm of its period: at a high heart
            rate diastole is short, and systole is not.
        centre: Median of log EDV, EF and log period among good clips.
        below, above: Distances of their 2.5% and 97.5% quantiles from it.
        screen: Limits of the signs.
    """

    picture: Familiarity
    beat: Familiarity
    pace: Ridge
    centre: Float[np.ndarray, " reading"]
    below: Float[np.ndarray, " reading"]
    above: Float[np.ndarray, " reading"]
    screen: Screen

    @classmethod
    def fit(
        cls,
        seen: list[Observation],
        features: list[CurveFeatures],
        curves: list[VolumeCurve],
        misfit: Float[np.ndarray, " clip"],
    ) -> "Limits":
        """Set the limits on clips of which the networks have learnt nothing.

        Args:
            seen: Good clips.
            features: Features of their curves.
            curves: Their volume curves.
            misfit: The twins' distances from them, see `Estimate`.
        """
        picture, beat = (
            Familiarity.fit(table, table, axes=table.shape[1] - 1)
            for table in (_statistics(seen), _shapes(features))
        )
        shapes = _shapes(features)
        pace, _ = fit_ridge(*_by_pace(shapes), np.ones(len(shapes)))
        numbers = np.array([_numbers(curve) for curve in curves])
        low, centre, high = np.quantile(numbers, (0.025, 0.5, 0.975), axis=0)
        self = cls(
            picture,
            beat,
            pace,
            centre,
            centre - low + 1e-6,
            high - centre + 1e-6,
            Screen.blank(SIGNS),
        )
        screen = Screen.fit(SIGNS, self.signs(seen, features, curves, misfit))
        least = np.array([LEAST.get(name, -np.inf) for name in SIGNS])
        limit = np.maximum(np.asarray(screen.limit), least)
        screen = eqx.tree_at(lambda screen: screen.limit, screen, limit)
        return eqx.tree_at(lambda limits: limits.screen, self, screen)

    @classmethod
    def blank(cls) -> "Limits":
        """Return zeros in the shapes that `fit` gives, into which saved ones are loaded."""
        picture, beat = (
            Familiarity.blank(size, axes=size - 1)
            for size in (len(PictureStatistics._fields), len(SHAPE))
        )
        pace = Ridge.blank(len(SHAPE) - 1, 1)
        centre, below, above = (np.zeros(3) for _ in range(3))
        return cls(picture, beat, pace, centre, below, above, Screen.blank(SIGNS))

    def signs(
        self,
        seen: list[Observation],
        features: list[CurveFeatures],
        curves: list[VolumeCurve],
        misfit: Float[np.ndarray, " clip"],
    ) -> Float[np.ndarray, "clip sign"]:
        """Return the signs of strangeness of some clips."""
        quality = np.array([one.quality for one in seen])
        pictures = np.asarray(self.picture.distance(_statistics(seen)))
        beats = np.asarray(self.beat.distance(_shapes(features)))
        shapes, periods = _by_pace(_shapes(features))
        pace = np.abs([self.pace(shape)[0] for shape in shapes] - periods[:, 0])
        ways = np.array([one.ways for one in seen])
        turned = -np.logaddexp(ways[:, 0], ways[:, MIRRORED])
        mirrored = ways[:, MIRRORED] - ways[:, 0]
        numbers = np.array([_numbers(curve) for curve in curves])
        centre, below, above = (np.asarray(x) for x in (self.centre, self.below, self.above))
        off = numbers - centre
        rare = np.maximum(-off / below, off / above).max(axis=1)
        return np.column_stack([quality, pictures, turned, mirrored, beats, pace, misfit, rare])


def _by_pace(
    shapes: Float[np.ndarray, "clip number"],
) -> tuple[Float[np.ndarray, "clip other"], Float[np.ndarray, "clip 1"]]:
    """Return the numbers that describe the shape of each beat, and the logarithm of its period."""
    place = int(np.flatnonzero(SHAPE == PERIOD)[0])
    return np.delete(shapes, place, axis=1), shapes[:, [place]]


def _shapes(features: list[CurveFeatures]) -> Float[np.ndarray, "clip number"]:
    return np.array([one.shape for one in features], np.float32)


def _statistics(seen: list[Observation]) -> Float[np.ndarray, "clip statistic"]:
    table = np.array([one.picture for one in seen], np.float32)
    return np.nan_to_num(table, nan=0.0)  # NaN where there is no tissue, whose speckle is compared


def _numbers(curve: VolumeCurve) -> tuple[float, float, float]:
    return np.log(curve.EDV), curve.EF, np.log(curve.period)
