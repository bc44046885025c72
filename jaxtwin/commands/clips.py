"""Decoding of clips for training, checks that there are enough, and a picture of them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from jaxtwin import plotting
from jaxtwin.commands.run import Run
from jaxtwin.data.cache import ClipCache
from jaxtwin.data.camus import Camus
from jaxtwin.data.echonet import EchoNet, Record
from jaxtwin.data.format import ClipFormat
from jaxtwin.data.recording import read_clip
from jaxtwin.training.progress import progress_bar


def decode(records: Sequence[Record], format: ClipFormat, folder: Path) -> ClipCache:
    """Decode the records' clips, or open an existing cache, with a progress bar."""
    return ClipCache.build(
        records,
        format,
        folder,
        progress=lambda clips: progress_bar(clips, desc="decoding", unit="clip"),
    )


def check_splits(dataset: EchoNet | Camus) -> None:
    """Raise a ValueError if there are too few clips to train on, to validate with or to test."""
    counts = {name: len(dataset.split(name)) for name in ("TRAIN", "VAL", "TEST")}
    if counts["TRAIN"] < 4 or not counts["VAL"] or not counts["TEST"]:
        raise ValueError(
            f"usable clips: {counts}; expected at least 4 to train on, 1 to validate and 1 to "
            "test; check the Split column, or render a larger cohort with --clips"
        )


def draw_contact_sheet(
    run: Run, real: Path, records: Sequence[Record], format: ClipFormat = ClipFormat()
) -> None:
    """Draw one second of some clips under a real one."""
    frames = np.linspace(0, format.rate - 1, 6).astype(int)
    rows = [("real clip\n(pydicom)", read_clip(real, format)[frames])]
    rows += [
        (f"EF {one.ef:.0f}%\nEDV {one.edv:.0f} mL", read_clip(one.path, format)[frames])
        for one in records
    ]
    figure = Figure(figsize=(9, 9))
    plotting.contact_sheet(figure.subplots(), rows)
    run.figure("contact_sheet", figure)
