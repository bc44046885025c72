"""Phantom clips: calibration of posteriors from the curves that a segmentation finds."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.calibration.settings import Config
from jaxtwin.commands.curve_scores import score_posteriors
from jaxtwin.commands.emulator import BOXES, PHASES
from jaxtwin.commands.train_curves import cuff_of_some, together
from jaxtwin.commands.twin import load_run
from jaxtwin.data.echonet import Record, read_echonet, read_theta
from jaxtwin.inference.calibration import Calibration
from jaxtwin.inference.variational import VariationalPSSL
from jaxtwin.methods.base import Learnt
from jaxtwin.methods.pssl_curves import CurvePSSL
from jaxtwin.methods.tasks import Curves, CurveTask
from jaxtwin.parameters import Box
from jaxtwin.twin.curve_errors import ClipObservation
from jaxtwin.twin.echo import TwinBuilder, as_curves, periods
from jaxtwin.twin.measurements import ClipMeasurements
from jaxtwin.twin.phantoms import Phantoms, with_truth

SELECTING = 5
"""One in so many curves selects the step of the training."""
SCALES = {"pixel size known": True, "pixel size inferred": False}


def phantom_clips(trained: Path, name: str) -> tuple[TwinBuilder, Phantoms, Box]:
    """Return what makes twins, measured phantom clips of a training run, and their box.

    Args:
        trained: Folder of the run.
        name: Which clips: `test`, unseen ones; or `phantoms`, from which the calibration of the
            curves was learnt.

    Raises:
        ValueError: If the folder holds no finished run on volume curves.
    """
    builder, place = load_run(trained), trained / f"measured_{name}.npz"
    if not isinstance(builder, TwinBuilder) or not place.exists():
        raise ValueError(
            f"{trained} holds no finished run that learnt from volume curves: give the output "
            "folder of `jaxtwin train` with --run"
        )
    measured = ClipMeasurements.load(place)
    kept = {record.name: record for record in read_echonet(trained / "phantom").records}
    records: Sequence[Record] = [kept[name] for name in measured.names]
    truth, task = read_theta(trained / "phantom"), builder.learnt.task
    drawn = BOXES["nine" if task.box == BOXES["nine"] else "seven"]
    return builder, with_truth(measured, records, truth, task.system, drawn, PHASES), drawn


def learn_pssl(config: Config, folder: Path, scaled: bool) -> Learnt[CurveTask, Curves]:
    """Learn posteriors from clips' curves alone, through the emulator of a training run.

    No parameters are shown. The run's phantoms that the segmentation did not learn from are seen;
    where the size of a pixel is not known, also the real clips that the run learnt from. The errors
    of the curves are those of the phantoms, see `ClipObservation`.

    Args:
        config: Settings, with the training run.
        folder: Folder for checkpoints.
        scaled: Whether the size of a pixel is known.
    """
    assert config.run is not None
    builder, clips, drawn = phantom_clips(config.run, "phantoms")
    encoder = builder.learnt.method
    assert isinstance(encoder, CurvePSSL)
    task, seed = builder.learnt.task, config.seed
    clips = clips.take(clips.measured.found(True, periods(task)))  # As the calibrations.
    calibration = builder.calibrations[0 if scaled else 1]
    before = np.stack([builder.before[name] for name in task.box.names], axis=-1)
    observation = ClipObservation.fit(
        calibration,
        clips.volumes,
        clips.theta[:, drawn.names.index("T_c")],
        clips.measured.period,
        before,
    )
    cuff = cuff_of_some(clips, seed) if task.beside else {}
    curves = as_curves(task, clips.measured.curves(calibration, scaled), cuff)
    random = np.random.default_rng(seed).permutation(len(curves.values))
    curves, n = curves.take(random), max(len(random) // SELECTING, 1)
    training, validation = curves.take(slice(n, None)), curves.take(slice(n))
    real = config.run / "measured_data_train.npz"
    if not scaled and real.exists():
        measured = ClipMeasurements.load(real)
        found, _ = measured.possible_curves(calibration, False, periods(task))
        if found:
            training = together(training, as_curves(task, found))
    method = VariationalPSSL(
        encoder.forward, observation, config.clip_variational, width=128, depth=2
    )
    return method.learn(task, training, validation, seed=seed, folder=folder, resume=True)


def on_clips(config: Config, folder: Path) -> dict[str, dict[str, Calibration]]:
    """Measure posteriors on the unseen phantom clips of a training run.

    Args:
        config: Settings, with the training run.
        folder: Folder for checkpoints.

    Returns:
        The calibration of each parameter and reading by the run's posteriors and by those of
        `learn_pssl`, where the size of a pixel is known, and where it is inferred.

    Raises:
        ValueError: If the folder holds no finished run on volume curves.
    """
    assert config.run is not None
    builder, test, drawn = phantom_clips(config.run, "test")
    found = {
        title: score_posteriors(builder, test, drawn, scaled=scaled)
        for title, scaled in SCALES.items()
    }
    for title, scaled in SCALES.items():
        learnt = learn_pssl(config, folder / title.replace(" ", "_"), scaled)
        other = dataclasses.replace(builder, posteriors=(learnt, learnt))
        found[f"P-SSL, {title}"] = score_posteriors(other, test, drawn, scaled=scaled)
    return found


def clip_table(found: dict[str, dict[str, Calibration]]) -> str:
    """Return the calibration on clips as Markdown, one row per parameter and reading."""
    if not all(found.values()):
        return "Fewer than ten unseen clips of the training run have a beat: too few to tell."
    columns = [f"{title}: held [%] | p | width [%]" for title in found]
    lines = [
        f"| unseen phantom clips | {' | '.join(columns)} |",
        "|---" * (1 + 3 * len(found)) + "|",
    ]
    for name in next(iter(found.values())):
        cells = [
            f"{100 * one[name].coverage90:.1f} | {one[name].rank_test_p:.2g} | "
            f"{100 * one[name].narrowing90:.0f}"
            if name in one
            else "– | – | –"
            for one in found.values()
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    clips = [next(iter(one.values())).patients for one in found.values()]
    lines += [
        "",
        f"Of {' and '.join(map(str, clips))} clips with a beat: share of the truths within central "
        "90% intervals, rank test, and mean width of the intervals relative to the prior's.",
    ]
    return "\n".join(lines)
