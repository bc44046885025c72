"""Measurement of the phantom clips of an experiment with the networks of a training run."""

from collections.abc import Sequence
from pathlib import Path

from jaxtwin.commands.run import Run
from jaxtwin.commands.twin import load_run
from jaxtwin.data.echonet import Record
from jaxtwin.training.progress import progress_bar
from jaxtwin.twin.echo import TwinBuilder
from jaxtwin.twin.measurements import ClipMeasurements, keep_measurements, measure_clips


def measure_phantoms(
    trained: Path, run: Run, records: Sequence[Record]
) -> tuple[TwinBuilder, ClipMeasurements]:
    """Measure phantom clips with the networks of a training run; what is measured is kept.

    Args:
        trained: Folder of the training run.
        run: The experiment's run, in whose folder measurements are kept.
        records: The clips.

    Raises:
        ValueError: If the training run has no networks that find a curve.
    """
    builder = load_run(trained)
    if not isinstance(builder, TwinBuilder):
        raise ValueError(
            f"{trained} learnt from two volumes, and has no networks that find a curve: train with "
            "--learn-from curve"
        )
    measured = keep_measurements(
        run.folder / "measured.npz",
        records,
        lambda: measure_clips(
            builder.segmenter,
            builder.orientation,
            records,
            phantoms=True,
            progress=lambda clips: progress_bar(clips, desc="measuring", unit="clip"),
        ),
    )
    return builder, measured
