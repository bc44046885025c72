"""Twins of real clips beside which a published segmentation is shown.

    python -m experiments.published --real DIR [--run runs/pssl-default] [--out DIR]

EchoNet-Dynamic's authors show clips in this way: an MP4 of twice the width, on the left the clip,
on the right the same clip with the cavity painted blue. They may be looked at, but not passed on.
Holds what the networks of a run of `experiments.pssl` find against it, and gives the calibrated
EF and EDV with their standard errors, the twin's, and the verdict. Takes seconds per clip.
"""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.command import Run, RunConfig, main
from jaxtwin.data.base import EchoVideo, UnreadableClipError

if TYPE_CHECKING:
    from jaxtwin.imaging.segmenter import Measured, Segmenter


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(RunConfig):
    """Hold twins of real clips against published segmentations.

    Attributes:
        real: Folder of MP4 files that show a real clip and, right of it, the same with a
            segmentation in blue.
        run: Folder of the training run whose networks are used.
    """

    real: Path = Path("real")
    run: Path = Path("runs/pssl-default")

    def check_inputs(self) -> None:
        """Raise a ValueError if a folder is missing."""
        for name in ("real", "run"):
            if not getattr(self, name).is_dir():
                raise ValueError(f"--{name} {getattr(self, name)}: no such folder")


PRESETS = {
    "tiny": Config(preset="tiny", run=Path("runs/pssl-tiny")),
    "default": Config(),
    "full": Config(preset="full", run=Path("runs/pssl-full")),
}

BLUE = 150  # grey values of a painted pixel's blue
BLUER = 80  # than its red
TOLD = ("EF", "EDV", "systolic", "diastolic", "P_la_mean")


def read_beside(path: Path) -> tuple[EchoVideo, np.ndarray]:
    """Return the clip on the left, and the label maps of the cavity painted on the right.

    Raises:
        UnreadableClipError: If the file cannot be decoded, or nothing is painted in it.
    """
    import av
    from av.error import FFmpegError

    from jaxtwin.data.simpson import CAVITY

    try:
        with av.open(path) as container:
            rate = container.streams.video[0].average_rate
            colours = np.stack([x.to_ndarray(format="rgb24") for x in container.decode(video=0)])
    except (FFmpegError, IndexError, ValueError) as error:
        raise UnreadableClipError(f"not a clip ({error}): download it again", path.name) from None
    half = colours.shape[2] // 2
    right = colours[:, :, half : 2 * half].astype(int)
    painted = (right[..., 2] > BLUE) & (right[..., 2] - right[..., 0] > BLUER)
    if not rate or not painted.any():
        raise UnreadableClipError(
            "nothing is painted blue on its right half: expected a clip with a segmentation beside "
            "it, as EchoNet-Dynamic's authors show them",
            path.name,
        )
    grey = np.rint(colours[:, :, :half].mean(axis=-1)).astype(np.uint8)
    times = np.arange(len(grey)) / float(rate)
    return EchoVideo(grey, times), np.where(painted, CAVITY, 0).astype(np.uint8)


def compare(segmenter: "Segmenter", recording: EchoVideo, labels: np.ndarray) -> tuple[dict, Any]:
    """Measure a clip, and hold it against the published label maps, measured in the same way."""
    from jaxtwin.imaging.beats import find_beats
    from jaxtwin.imaging.learning import dice
    from jaxtwin.imaging.volumes import cavity_shape

    found = segmenter.measure(recording)
    published = cavity_shape(labels)
    beats = find_beats(recording.times, published.volume)
    ratio = found.shape.area / np.where(published.area > 0, published.area, np.nan)
    large = published.area >= np.quantile(published.area, 0.9)
    small = published.area <= np.quantile(published.area, 0.1)
    row = {
        "dice": float(dice(found.labels, labels).mean()),
        "period": found.beats.period,
        "period_published": beats.period,
        "EF": found.beats.EF if found.beats.volume.size else np.nan,
        "EF_error": found.beats.EF_error if found.beats.volume.size else np.nan,
        "EF_published": beats.EF if beats.volume.size else np.nan,
        "area_ratio_diastole": float(np.nanmean(ratio[large])),
        "area_ratio_systole": float(np.nanmean(ratio[small])),
        "quality": float(found.shape.quality.mean()),
    }
    return row, found


def against_published(run: Run, segmenter: "Segmenter", folder: Path) -> list[dict[str, Any]]:
    """Compare every MP4 file of a folder; write a table and a picture, and print the table."""
    from jaxtwin.commands.tables import write_table

    rows, shown = [], []
    for path in sorted(folder.glob("*.mp4")):
        recording, labels = read_beside(path)
        row, found = compare(segmenter, recording, labels)
        rows.append({"name": path.stem, **row})
        shown.append((rows[-1], found, labels))
        print(path.stem, *(f"{name} {value:.3g}" for name, value in row.items()), sep="  ")
    if not rows:
        raise ValueError(f"--real {folder}: no file NAME.mp4 in this folder")
    write_table(run.folder / "real.csv", {name: [row[name] for row in rows] for name in rows[0]})
    draw_published(run, shown)
    return rows


def draw_published(run: Run, shown: list[tuple[dict, "Measured", np.ndarray]]) -> None:
    """Draw both outlines at the ends of diastole and systole, and both volume curves."""
    from matplotlib.figure import Figure

    from jaxtwin import plotting
    from jaxtwin.imaging.volumes import cavity_shape

    figure = Figure(figsize=(11, 2.6 * len(shown)), layout="constrained")
    for axes, (row, found, labels) in zip(
        figure.subplots(len(shown), 5, width_ratios=(1, 1, 1, 1, 2.2), squeeze=False),
        shown,
        strict=True,
    ):
        volume = cavity_shape(labels).volume
        half = len(volume) // 2
        places = [np.nanargmax(volume[:half]), np.nanargmin(volume[:half])]
        places += [half + np.nanargmax(volume[half:]), half + np.nanargmin(volume[half:])]
        for ax, k in zip(axes[:4], places, strict=True):
            plotting.contours(ax, found.frames[k], found.labels[k], labels[k])
        axes[0].set_title(f"Dice {row['dice']:.2f}", fontsize=8)
        plotting.volume_curve(axes[4], found.times, found.shape.volume, unit="pixels³/1000")
        axes[4].plot(found.times, volume, color="black", lw=0.8, ls="--")
        axes[4].set_ylim(0, 1.05 * np.nanmax([volume, found.shape.volume]))
        axes[4].set_title(f"EF {row['EF']:.0f}%, published {row['EF_published']:.0f}%", fontsize=8)
    run.figure("real", figure)


def experiment(config: Config, run: Run) -> dict[str, Any]:
    """Compare the network and the twins with what was published; return results.json's content.

    Raises:
        ValueError: If the run learnt from two volumes, or the folder has no such file.
    """
    from jaxtwin.commands.twin import load_run
    from jaxtwin.twin.echo import TwinBuilder

    builder = load_run(config.run)
    if not isinstance(builder, TwinBuilder):
        raise ValueError(
            f"{config.run} learnt from two volumes, and has no networks that find a curve: train "
            "with --learn-from curve"
        )
    rows = against_published(run, builder.segmenter, config.real)
    for row in rows:
        recording, _ = read_beside(config.real / f"{row['name']}.mp4")
        found = builder.build(recording)
        row |= {"verdict": found.verdict.kind, "reasons": list(found.verdict.reasons)}
        if found.curve is not None:
            numbers = ("EF", "EF_error", "EDV", "EDV_error", "period")
            row |= {f"calibrated_{name}": getattr(found.curve, name) for name in numbers}
        if found.twin is not None:
            row |= {f"twin_{name}": found.twin.readings[name] for name in TOLD}
        told = {n: v for n, v in row.items() if n.startswith(("calibrated", "twin"))}
        print(row["name"], row["verdict"], *row["reasons"], sep="  ")
        print(*(f"  {name} {value:.3g}" for name, value in told.items()), sep="")
    return {"clips": rows}


if __name__ == "__main__":
    main("published", PRESETS, experiment, __doc__)
