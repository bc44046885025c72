"""Segmentation of echo clips, and what it measures: volume curve, period, ejection fraction.

    python -m experiments.segmentation [--preset tiny|default|full] [--out DIR] [--run RUN]
        [--real DIR]

Renders phantom clips of a clinic's patients, as varied as its pictures, with label maps of cavity,
myocardium and left atrium; trains a network to find them; and measures on clips that it has not
seen how well the labels agree (Dice coefficient), how far the volume curve is off relative to the
end-diastolic volume, and how far heart period and EF are off. The size of the pixels is taken as
known. `segmenter/` in the run's folder holds the network, for `load_segmenter`. With `--real` it
is also held against published segmentations of real clips, see `experiments.published`.

The default preset takes about a quarter of an hour on two quiet CPU cores, of which ten minutes
are training. Expect a Dice coefficient of 0.95, a volume curve that is 8% of the end-diastolic
volume off and an EF that is 4 points off: the systolic cavities of small hearts are drawn too wide.
"""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.command import Run, RunConfig, main
from jaxtwin.commands.settings import ClipConfig, ClipFlags
from jaxtwin.imaging.settings import SEGMENTATION_TRAINING
from jaxtwin.training.settings import TrainingConfig

if TYPE_CHECKING:
    from jaxtwin.data.echonet import Record
    from jaxtwin.imaging.segmenter import Measured, Segmenter


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(RunConfig):
    """Train and measure a segmentation network.

    Attributes:
        clips: Clips to learn from.
        per_clip: Number of frames of each clip to learn from.
        variety: How far views and pictures vary, from textbook views (0) to a clinic's (1).
        training: Training of the network.
        run: Folder of a training run of `jaxtwin train`: its network is measured on its unseen
            phantoms, and none is trained.
        real: Folder of MP4 files that show a real clip and, right of it, the same with a
            segmentation in blue; skipped if None.
    """

    clips: ClipFlags = ClipConfig()
    per_clip: int = 12
    variety: float = 1.0
    training: TrainingConfig = SEGMENTATION_TRAINING
    run: Path | None = None
    real: Path | None = None

    def check_inputs(self) -> None:
        """Raise a ValueError if a folder is missing."""
        if self.real is not None and not self.real.is_dir():
            raise ValueError(f"--real {self.real}: no such folder")
        if self.run is not None and not (self.run / "segmenter").is_dir():
            raise ValueError(
                f"--run {self.run}: no segmentation network there (folder segmenter); give the "
                "output folder of `jaxtwin train`"
            )


PRESETS = {
    "tiny": Config(
        preset="tiny",
        clips=ClipConfig(counts=(16, 2, 4)),
        training=TrainingConfig(steps=10, batch_size=8, learning_rate=4e-3, evaluate_every=5),
    ),
    "default": Config(),
    "full": Config(
        preset="full",
        clips=ClipConfig(counts=(8_000, 500, 1_000)),
        training=dataclasses.replace(
            SEGMENTATION_TRAINING, steps=20_000, batch_size=32, evaluate_every=500
        ),
    ),
}


def score(segmenter: "Segmenter", record: "Record", T_c: float) -> tuple[dict, "Measured"]:
    """Measure one clip and compare with its label maps, its table and its beats.

    The period is compared with the mean of the clip's own beats; with the patient's `T_c` [s] if it
    shows no whole beat.
    """
    from jaxtwin.data.recording import read_recording
    from jaxtwin.imaging.examples import read_labels
    from jaxtwin.imaging.learning import dice
    from jaxtwin.imaging.volumes import cavity_shape

    true = read_labels(record)
    recording = read_recording(record.path)
    found = segmenter.measure(recording, true.pixel)
    period = true.period(recording.times)
    period = period if np.isfinite(period) else T_c
    truth = cavity_shape(true.labels, true.pixel).volume
    row = {
        "name": record.name,
        "dice": float(dice(found.labels, true.labels).mean()),
        "volume_error_percent": float(
            100 * np.nanmean(np.abs(found.shape.volume - truth)) / np.nanmax(truth)
        )
        if np.isfinite(found.shape.volume).any()
        else np.nan,
        "missing_frames": int(np.isnan(found.shape.volume).sum()),
        "period_error_percent": 100 * abs(found.beats.period / period - 1),
        "EF": np.nan,
        "EF_error": np.nan,
        "EF_error_of_true_labels": np.nan,
        "EDV_error_percent": np.nan,
        "quality": float(found.shape.quality.mean()),
    }
    if np.isfinite(found.beats.period):
        row["EF"] = found.beats.EF
        row["EF_error"] = found.beats.EF - record.ef
        row["EDV_error_percent"] = 100 * (found.beats.EDV / record.edv - 1)
    row["EDV_error_percent_of_true_labels"] = 100 * (np.nanmax(truth) / record.edv - 1)
    row["EF_error_of_true_labels"] = 100 * (1 - np.nanmin(truth) / np.nanmax(truth)) - record.ef
    return row, found


def _mean(values: np.ndarray) -> float | None:
    """Return the mean; None without values, as of a network that finds no cavity."""
    return float(values.mean()) if values.size else None


def train(config: Config, run: Run) -> tuple["Segmenter", dict[str, Any]]:
    """Render phantoms in the run's folder and train a network on them."""
    import jax

    from jaxtwin.cohorts.clinic import ECHO_LABORATORY
    from jaxtwin.data.echonet import read_echonet
    from jaxtwin.data.phantom.cohort import make_phantoms
    from jaxtwin.imaging.examples import read_examples
    from jaxtwin.imaging.learning import train_segmentation
    from jaxtwin.imaging.network import SegmentationNetwork
    from jaxtwin.imaging.segmenter import Segmenter, save_segmenter
    from jaxtwin.models.left_heart import NINE, LeftHeart

    data = run.folder / "phantom"
    make_phantoms(
        data,
        LeftHeart(),
        NINE,
        config.clips.counts,
        seed=config.seed,
        population=ECHO_LABORATORY,
        variety=config.variety,
    )
    dataset = read_echonet(data)
    training = read_examples(dataset.split("TRAIN"), config.per_clip, seed=config.seed)
    validation = read_examples(dataset.split("VAL"), 3, seed=config.seed)
    fitted = train_segmentation(
        SegmentationNetwork(key=jax.random.key(config.seed)),
        training,
        validation,
        config.training,
        folder=run.folder,
        seed=config.seed,
        resume=config.resume,
    )
    segmenter = Segmenter(fitted.model, fitted.validation["dice"])
    save_segmenter(run.folder / "segmenter", segmenter)
    return segmenter, {
        "validation": fitted.validation,
        "training": {
            "best_step": fitted.best_step,
            "steps": fitted.steps,
            "seconds": fitted.seconds,
        },
    }


def experiment(config: Config, run: Run) -> dict[str, Any]:
    """Train a network, or load one, and measure. Imports are local, so that --help is fast."""
    from scipy.stats import rankdata

    from experiments.published import against_published
    from jaxtwin.commands.tables import write_table
    from jaxtwin.data.echonet import read_echonet, read_theta
    from jaxtwin.imaging.segmenter import load_segmenter

    if config.run is None:
        segmenter, trained = train(config, run)
    else:
        segmenter, trained = load_segmenter(config.run / "segmenter"), {}
    data = (config.run or run.folder) / "phantom"
    truth, records = read_theta(data), read_echonet(data).split("TEST")
    rows, shown = [], []
    for record in records:
        row, found = score(segmenter, record, truth[record.name]["T_c"])
        rows.append(row)
        if len(shown) < 8:
            shown.append((record, row, found))
    write_table(
        run.folder / "segmentation.csv", {name: [row[name] for row in rows] for name in rows[0]}
    )
    draw_figures(run, shown, rows, [record.ef for record in records])
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0] if name != "name"}
    held = np.isfinite(columns["EF"])
    ranks = [rankdata(x[held]) for x in (columns["EF"], np.array([r.ef for r in records]))]
    off = {name: np.abs(column[np.isfinite(column)]) for name, column in columns.items()}
    bias = columns["EF_error"][held]
    scores = {
        "clips": len(rows),
        "dice": float(columns["dice"].mean()),
        "dice_worst_tenth": float(np.quantile(columns["dice"], 0.1)),
        "volume_error_percent": _mean(off["volume_error_percent"]),
        "missing_frames": int(columns["missing_frames"].sum()),
        "period_error_percent": _mean(off["period_error_percent"]),
        "period_error_percent_median": float(np.median(off["period_error_percent"]))
        if held.any()
        else None,
        "without_beats": int((~held).sum()),
        "EF_error": _mean(off["EF_error"]),
        "EF_bias": _mean(bias),
        "EF_rank_correlation": float(np.corrcoef(*ranks)[0, 1]) if held.sum() > 2 else None,
        "EF_error_of_true_labels": _mean(off["EF_error_of_true_labels"]),
        "EDV_error_percent": _mean(off["EDV_error_percent"]),
        "EDV_bias_percent": _mean(columns["EDV_error_percent"][held]),
        "EDV_bias_percent_of_true_labels": float(
            columns["EDV_error_percent_of_true_labels"].mean()
        ),
    }
    for name, value in scores.items():
        print(f"{name:30}{'–' if value is None else format(value, '.4g'):>10}")
    real = [] if config.real is None else against_published(run, segmenter, config.real)
    return scores | {"real": real, **trained}


def draw_figures(
    run: Run, shown: list[tuple["Record", dict, "Measured"]], rows: list[dict], EF: list[float]
) -> None:
    """Draw contours on frames with the volume curve beside them, and EF against the truth."""
    from matplotlib.figure import Figure

    from jaxtwin import plotting
    from jaxtwin.imaging.examples import read_labels

    figure = Figure(figsize=(11, 1.9 * len(shown)), layout="constrained")
    for axes, (record, row, found) in zip(
        figure.subplots(len(shown), 5, width_ratios=(1, 1, 1, 1, 2.2), squeeze=False),
        shown,
        strict=True,
    ):
        true = read_labels(record).labels
        places = np.linspace(0, min(len(true) - 1, 40), 4).astype(int)
        for ax, k in zip(axes[:4], places, strict=True):
            plotting.contours(ax, found.frames[k], found.labels[k], true[k])
        axes[0].set_title(f"Dice {row['dice']:.2f}", fontsize=8)
        plotting.volume_curve(axes[4], found.times, found.shape.volume)
        axes[4].set_title(
            f"EF {row['EF']:.0f}% (true {record.ef:.0f}%), EDV {record.edv:.0f} mL", fontsize=8
        )
    run.figure("clips", figure)
    figure = Figure(figsize=(4, 4), layout="constrained")
    held = [k for k, row in enumerate(rows) if np.isfinite(row["EF"])]
    if held:
        plotting.agreement(
            figure.subplots(),
            np.array([EF[k] for k in held]),
            np.array([rows[k]["EF"] for k in held]),
            label="EF [%]",
        )
        run.figure("EF", figure)


if __name__ == "__main__":
    main("segmentation", PRESETS, experiment, __doc__)
