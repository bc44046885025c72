"""Tasks with clips: an echo clip of each patient, and a few numbers measured on it."""

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Bool, Float, Int, UInt8

from jaxtwin.cohorts.simulate import check_box
from jaxtwin.data.cache import ClipCache
from jaxtwin.data.echonet import Record
from jaxtwin.data.format import ClipFormat
from jaxtwin.data.loading import Batch, batches, ordered_batches
from jaxtwin.data.vitals import UNKNOWN, VITAL_COLUMNS, VitalName, Vitals, check_vitals
from jaxtwin.identity import fingerprint
from jaxtwin.methods.base import AbstractTask, Estimate, Sees
from jaxtwin.models.ejection import ejection_fraction
from jaxtwin.parameters import Box
from jaxtwin.physics.base import AbstractRecordedSystem, reading

VOLUMES = ("EDV", "ESV", "EF")
"""Readings available in every data set of clips: volumes [mL] and ejection fraction [%]."""


@dataclasses.dataclass(frozen=True)
class Clips:
    """Clips of some patients, in a cache on disk or in memory.

    Attributes:
        cache: Cache with the clips and the numbers measured on them.
        indices: Indices of these clips in the cache, in order.
    """

    cache: ClipCache
    indices: Int[np.ndarray, " clip"]

    @classmethod
    def from_split(cls, cache: ClipCache, split: str) -> "Clips":
        """Select the clips of one split of a cache: TRAIN, VAL or TEST."""
        return cls(cache, cache.split(split))

    @classmethod
    def from_arrays(
        cls,
        clips: UInt8[np.ndarray, "clip ..."],
        format: ClipFormat,
        vitals: Sequence[Vitals] | None = None,
    ) -> "Clips":
        """Make clips from arrays in memory, without measured volumes.

        Args:
            clips: The clips in the given format, [clip, frames, size, size].
            format: Format of the clips.
            vitals: Vitals of each patient; only needed by methods that use them.

        Raises:
            ValueError: If the clips have another format, or the numbers of clips and vitals
                differ.
        """
        expected = (format.frames, format.size, format.size)
        if getattr(clips, "dtype", None) != np.uint8:
            raise ValueError(
                f"clips of type {getattr(clips, 'dtype', type(clips).__name__)}: expected an array "
                "of brightness from 0 to 255 as uint8, as jaxtwin.data.read_clip gives it"
            )
        if clips.shape[1:] != expected:
            raise ValueError(
                f"clips of shape {clips.shape}: expected [clip, {', '.join(map(str, expected))}], "
                "as jaxtwin.data.read_clip gives one (for one clip, clip[None])"
            )
        beside = [UNKNOWN] * len(clips) if vitals is None else list(vitals)
        if len(beside) != len(clips):
            raise ValueError(f"{len(beside)} vitals for {len(clips)} clips: expected one per clip")
        nan = float("nan")
        records = tuple(
            Record(str(i), Path(), nan, nan, nan, format.rate, format.frames, "TEST", values)
            for i, values in enumerate(beside)
        )
        return cls(ClipCache(records, (), format, list(clips)), np.arange(len(clips)))

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.indices)

    @property
    def records(self) -> list[Record]:
        """Records of the clips in the data set."""
        return [self.cache.records[i] for i in self.indices]

    @property
    def vitals(self) -> Float[np.ndarray, "clip vital"]:
        """Return the fields of `Vitals` for each clip; NaN if not measured."""
        table = np.array([record.vitals for record in self.records], np.float32)
        return table.reshape(len(self), len(Vitals._fields))

    def measured(self) -> dict[str, Float[np.ndarray, " clip"]]:
        """Return the measured readings by name: `VOLUMES` and vitals, in their units.

        The ejection fraction is computed from the two volumes, not the rounded one in the data set.
        """
        EDV = np.array([record.edv for record in self.records], np.float32)
        ESV = np.array([record.esv for record in self.records], np.float32)
        found = dict(zip(VOLUMES, (EDV, ESV, ejection_fraction(EDV, ESV)), strict=True))
        return found | dict(zip(Vitals._fields, self.vitals.T, strict=True))

    def ordered(self, batch_size: int = 32) -> Iterator[Batch]:
        """Iterate over batches for evaluation: every clip once, in order, from its first frame."""
        return ordered_batches(self.cache, self.indices, batch_size)

    def shuffled(
        self, batch_size: int, seed: int, start_step: int, mesh: Mesh | None = None
    ) -> Iterator[Batch]:
        """Iterate over endless batches for training; see `jaxtwin.data.loading.batches`."""
        return batches(self.cache, self.indices, batch_size, seed, start_step, mesh)

    def digest(self) -> str:
        """Return a short digest of the clips' names and the numbers measured on them."""
        told = [(r.name, r.edv, r.esv, *r.vitals) for r in self.records]
        return hashlib.sha256(repr(told).encode()).hexdigest()[:16]


@dataclasses.dataclass(frozen=True)
class ClipTask(AbstractTask[Clips]):
    """Task: estimate a patient's parameters from an echo clip.

    Attributes:
        system: The model.
        box: The free parameters and their bounds.
        format: Frame rate, length and size of the clips.
        vitals: Names of the readings measured in addition to the clip, as inputs of the method; a
            single name may be given as a string.

    Raises:
        ValueError: If the box is of another model, a vital is unknown, or the system has no reading
            with its name.
    """

    system: AbstractRecordedSystem
    box: Box
    format: ClipFormat = ClipFormat()
    vitals: str | tuple[str, ...] = ()

    def __post_init__(self):
        check_box(self.system, self.box)
        vitals = (self.vitals,) if isinstance(self.vitals, str) else tuple(self.vitals)
        object.__setattr__(self, "vitals", vitals)
        if unknown := [name for name in vitals if name not in VITAL_COLUMNS]:
            raise ValueError(
                f"vitals {', '.join(unknown)}: expected some of {', '.join(VITAL_COLUMNS)}"
            )
        for name in self.measured:
            reading(self.system, name)

    @property
    def measured(self) -> tuple[str, ...]:
        """Readings measured on the training clips, or in addition to them."""
        return (*VOLUMES, *self.vitals)

    @property
    def vital_names(self) -> tuple[VitalName, ...]:
        """Names of the vitals, typed for the functions of `jaxtwin.data`."""
        return cast(tuple[VitalName, ...], self.vitals)

    def describe(self) -> dict[str, Any]:
        """Return everything on which the result of learning depends, as a JSON value."""
        return {
            "measurement": "clip",
            "system": fingerprint(self.system).description["system"],
            "box": self.box.describe(),
            "format": dataclasses.asdict(self.format),
            "vitals": list(self.vitals),
        }

    def check(
        self, measurements: Clips, *, labels: bool = False, sees: Sees | None = None
    ) -> Clips:
        """Check the clips and return them unchanged.

        Raises:
            ValueError: If they are no `Clips`, have another format, or a vital or a required label
                is missing.
        """
        del sees
        if not isinstance(measurements, Clips):
            raise ValueError(
                f"measurements of type {type(measurements).__name__}: expected Clips, made by "
                "Clips.from_split(cache, split) or Clips.from_arrays(clips, format)"
            )
        if measurements.cache.format != self.format:
            raise ValueError(
                f"clips of {measurements.cache.format} for a task of {self.format}: decode them "
                "in the task's format, or make the task with format=cache.format"
            )
        check_vitals(measurements.vitals, self.vital_names)
        if labels:
            EDV, ESV = (measurements.measured()[name] for name in VOLUMES[:2])
            if missing := int(np.sum(~(np.isfinite(EDV) & np.isfinite(ESV)))):
                raise ValueError(
                    f"{missing} of {len(measurements)} clips have no EDV and ESV, which this "
                    "method learns from: fill these columns of FileList.csv"
                )
        return measurements

    def count(self, measurements: Clips) -> int:
        """See `AbstractTask`."""
        return len(measurements)

    def usable(self, measurements: Clips) -> Bool[np.ndarray, " clip"]:
        """Return that every clip may be estimated; see `AbstractTask`."""
        return np.ones(len(measurements), bool)

    def judge(self, measurements: Clips, found: Estimate) -> Estimate:
        """Return the estimate unchanged; `build_twin` checks whether a clip is familiar."""
        del measurements
        return found
