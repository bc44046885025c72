"""Measurement of many clips: what the networks see in each, kept in one file."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from jaxtwin.data.base import UnreadableClipError
from jaxtwin.data.echonet import Record
from jaxtwin.data.recording import read_recording
from jaxtwin.imaging.calibration import (
    CurveCalibration,
    CurveFeatures,
    VolumeCurve,
    curve_features,
    without_scale,
)
from jaxtwin.imaging.examples import read_labels
from jaxtwin.imaging.orientation import WAYS, OrientationNetwork
from jaxtwin.imaging.quality import MeasurementQuality
from jaxtwin.imaging.segmenter import Segmenter, thinned
from jaxtwin.imaging.statistics import PictureStatistics
from jaxtwin.twin.signs import Observation, observe

UNSEEN = Observation(
    MeasurementQuality(*(np.nan for _ in MeasurementQuality._fields)),
    PictureStatistics(*(np.nan for _ in PictureStatistics._fields)),
    np.full(WAYS, np.nan),
)
"""Of a clip that cannot be read."""


class ClipMeasurements(NamedTuple):
    """What was measured in some clips; NaN where nothing was.

    Attributes:
        names: Names of the clips.
        quality: Fields of `MeasurementQuality`.
        picture: Fields of `PictureStatistics`.
        ways: Logarithm of the probability of each orientation.
        features: See `curve_features`; first where the size of a pixel is used, then without it.
        period: Length of a beat [s].
        period_error: Its standard error [s].
    """

    names: list[str]
    quality: Float[np.ndarray, "clip sign"]
    picture: Float[np.ndarray, "clip statistic"]
    ways: Float[np.ndarray, "clip way"]
    features: Float[np.ndarray, "2 clip feature"]
    period: Float[np.ndarray, " clip"]
    period_error: Float[np.ndarray, " clip"]

    @classmethod
    def load(cls, path: Path) -> "ClipMeasurements":
        """Load what `keep_measurements` kept."""
        with np.load(path, allow_pickle=False) as file:
            names, *rest = (file[name] for name in cls._fields)
        return cls(names.tolist(), *rest)

    def take(self, index: Bool[np.ndarray, " clip"]) -> "ClipMeasurements":
        """Select clips."""
        names = [name for name, kept in zip(self.names, index, strict=True) if kept]
        quality, picture, ways, features, period, error = self[1:]
        return ClipMeasurements(
            names,
            quality[index],
            picture[index],
            ways[index],
            features[:, index],
            period[index],
            error[index],
        )

    def observations(self) -> list[Observation]:
        """Return what the verdict looks at, clip by clip."""
        return [
            Observation(
                MeasurementQuality(*quality.tolist()),
                PictureStatistics(*picture.tolist()),
                ways,
            )
            for quality, picture, ways in zip(self.quality, self.picture, self.ways, strict=True)
        ]

    def curve_features(self, scaled: bool) -> list[CurveFeatures]:
        """Return the features of each clip, with the size of a pixel or without it."""
        table = self.features[0 if scaled else 1]
        return [
            CurveFeatures(values, float(period), float(error))
            for values, period, error in zip(table, self.period, self.period_error, strict=True)
        ]

    def found(self, scaled: bool, periods: tuple[float, float]) -> Bool[np.ndarray, " clip"]:
        """Return in which clips there is a curve with a period in a range [s]."""
        low, high = periods
        inside = (self.period >= low) & (self.period <= high)
        return np.isfinite(self.features[0 if scaled else 1]).all(axis=1) & inside

    def curves(self, calibration: CurveCalibration, scaled: bool) -> list[VolumeCurve]:
        """Return the calibrated curve of each clip; all need to have one."""
        return [calibration(features) for features in self.curve_features(scaled)]

    def possible_curves(
        self, calibration: CurveCalibration, scaled: bool, periods: tuple[float, float]
    ) -> tuple[list[VolumeCurve], Bool[np.ndarray, " clip"]]:
        """Return the calibrated curves that a left ventricle can have, and which clips have one.

        Args:
            calibration: From features to curves.
            scaled: Whether the size of a pixel is known.
            periods: Range of their periods [s].
        """
        kept = self.found(scaled, periods)
        curves = self.take(kept).curves(calibration, scaled)
        kept[kept] = [curve.possible for curve in curves]
        return [curve for curve in curves if curve.possible], kept


def measure_clips(
    segmenter: Segmenter,
    orientation: OrientationNetwork,
    records: Sequence[Record],
    *,
    phantoms: bool,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> ClipMeasurements:
    """Segment and measure clips; one that cannot be read is named and has no curve.

    Args:
        segmenter: Network that labels the chambers.
        orientation: Network that tells how the heart is shown.
        records: The clips.
        phantoms: Whether they are phantoms, the size of whose pixels lies beside them.
        progress: Wrapper for the iterable of clips, such as `tqdm`.
    """

    def look(record: Record) -> tuple[Observation, list[CurveFeatures | None]]:
        try:
            recording = thinned(read_recording(record.path))
        except UnreadableClipError as error:
            print(f"skipped {record.name}: {error.reason}")
            return UNSEEN, [None, None]
        pixel = read_labels(record).pixel if phantoms else recording.pixel
        found = segmenter.measure(recording, pixel)
        features = [curve_features(one) for one in (found, without_scale(found))]
        if pixel is None:
            features[0] = None
        return observe(found, orientation), features

    # While the network labels one clip, another is read and measured.
    with ThreadPoolExecutor(2) as pool:
        rows = list(progress(pool.map(look, records)))
    size = next((len(f.values) for _, fs in rows for f in fs if f is not None), 1)
    blank = CurveFeatures(np.full(size, np.nan), np.nan, np.nan)
    told = [[blank if one is None else one for one in features] for _, features in rows]
    seen = [one for one, _ in rows]
    return ClipMeasurements(
        [record.name for record in records],
        np.array([one.quality for one in seen]),
        np.array([one.picture for one in seen]),
        np.array([one.ways for one in seen]).reshape(-1, WAYS),
        np.array([[one[mode].values for one in told] for mode in range(2)]),
        np.array([one[1].period for one in told]),
        np.array([one[1].period_error for one in told]),
    )


def keep_measurements(
    path: Path, records: Sequence[Record], measure: Callable[[], ClipMeasurements]
) -> ClipMeasurements:
    """Return the measurements kept in a file, or make and keep them.

    Raises:
        ValueError: If the file is of other clips.
    """
    if not path.exists():
        found = measure()
        partial = path.with_suffix(".partial.npz")
        np.savez(partial, allow_pickle=False, **found._asdict())
        partial.replace(path)
    found = ClipMeasurements.load(path)
    if found.names != [record.name for record in records]:
        raise ValueError(f"{path} was made from other clips: choose another --out")
    return found
