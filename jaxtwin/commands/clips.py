"""Clips for training: whether there are enough, and how they are decoded."""

from collections.abc import Sequence
from pathlib import Path

from jaxtwin.data.cache import ClipCache
from jaxtwin.data.camus import Camus
from jaxtwin.data.echonet import EchoNet, Record
from jaxtwin.data.format import ClipFormat
from jaxtwin.training.progress import progress_bar


def decode(records: Sequence[Record], format: ClipFormat, folder: Path) -> ClipCache:
    """The records' clips, decoded or opened, with a progress bar."""
    return ClipCache.build(
        records,
        format,
        folder,
        progress=lambda clips: progress_bar(
            clips, total=len(records), desc="decoding", unit="clip"
        ),
    )


def check_splits(dataset: EchoNet | Camus) -> None:
    """Raise a ValueError if there is nothing to train on, to select with or to score."""
    counts = {name: len(dataset.split(name)) for name in ("TRAIN", "VAL", "TEST")}
    if counts["TRAIN"] < 4 or not counts["VAL"] or not counts["TEST"]:
        raise ValueError(
            f"usable clips: {counts}; expected at least 4 to train on, 1 to validate and 1 to "
            "test; check the Split column, or make a larger cohort with --clips"
        )
