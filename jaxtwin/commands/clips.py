"""Decoding of clips for training, and checks that there are enough."""

from collections.abc import Sequence
from pathlib import Path

from jaxtwin.data.cache import ClipCache
from jaxtwin.data.camus import Camus
from jaxtwin.data.echonet import EchoNet, Record
from jaxtwin.data.format import ClipFormat
from jaxtwin.training.progress import progress_bar


def decode(records: Sequence[Record], format: ClipFormat, folder: Path) -> ClipCache:
    """Decode the records' clips, or open an existing cache, with a progress bar."""
    return ClipCache.build(
        records,
        format,
        folder,
        progress=lambda clips: progress_bar(
            clips, total=len(records), desc="decoding", unit="clip"
        ),
    )


def check_splits(dataset: EchoNet | Camus) -> None:
    """Raise a ValueError if there are too few clips to train on, to validate with or to test."""
    counts = {name: len(dataset.split(name)) for name in ("TRAIN", "VAL", "TEST")}
    if counts["TRAIN"] < 4 or not counts["VAL"] or not counts["TEST"]:
        raise ValueError(
            f"usable clips: {counts}; expected at least 4 to train on, 1 to validate and 1 to "
            "test; check the Split column, or render a larger cohort with --clips"
        )
