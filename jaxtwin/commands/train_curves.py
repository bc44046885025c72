"""Twins learnt from the volume curve that a clip shows: segmentation, calibration, P-SSL.

No patient's parameters are ever a label. The networks that look at pictures learn from phantoms,
whose label maps are exact; the encoder learns from volume curves alone, through the emulator.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxtwin.cohorts.clinic import ECHO_LABORATORY
from jaxtwin.cohorts.draw import draw_cohort
from jaxtwin.cohorts.population import draw_population
from jaxtwin.commands.clips import check_splits, draw_contact_sheet
from jaxtwin.commands.curve_scores import (
    Scores,
    draw_figures,
    score_labels,
    score_phantoms,
    score_posteriors,
)
from jaxtwin.commands.curve_task import CUFF, WITHOUT_CUFF, clinic_prior, curve_task
from jaxtwin.commands.emulator import BOXES, PHASES, obtain_emulator
from jaxtwin.commands.run import Run
from jaxtwin.commands.settings import PSSLConfig
from jaxtwin.commands.twin import real_clip, write_echo_twin
from jaxtwin.data.base import UnreadableClipError
from jaxtwin.data.echonet import EchoNet, Record, read_echonet, read_theta
from jaxtwin.data.phantom.cohort import make_phantoms
from jaxtwin.data.recording import read_recording
from jaxtwin.devices import first_devices
from jaxtwin.imaging.calibration import CurveCalibration
from jaxtwin.imaging.examples import label_source, read_examples, read_pictures
from jaxtwin.imaging.learning import joined, train_segmentation
from jaxtwin.imaging.network import SegmentationNetwork
from jaxtwin.imaging.orientation import OrientationNetwork, train_orientation
from jaxtwin.imaging.segmenter import Segmenter
from jaxtwin.inference.neural import NeuralPosterior
from jaxtwin.methods.base import Learnt
from jaxtwin.methods.pssl_curves import CurvePSSL
from jaxtwin.methods.tasks import Curves, CurveTask
from jaxtwin.training.progress import progress_bar
from jaxtwin.twin.curve_errors import ClipObservation
from jaxtwin.twin.echo import (
    Beside,
    TwinBuilder,
    as_curves,
    estimate,
    measured_beside,
    periods,
)
from jaxtwin.twin.measurements import ClipMeasurements, keep_measurements, measure_clips
from jaxtwin.twin.phantoms import Phantoms, with_truth
from jaxtwin.twin.saving import POSTERIORS, save_builder
from jaxtwin.twin.signs import Limits

TEACHING = 0.7
"""Fraction of the phantoms that teaches the networks. Its clips are measured better than others:
what measurements are worth is learnt from the rest."""
BEFORE = 2_048
"""Number of patients that stand for all before anything is measured."""
SELECTING = 100
"""Number of real clips by which the segmentation is selected. Labelling more takes long."""


def learn_networks(
    dataset: EchoNet,
    teaching: Sequence[Record],
    traced: EchoNet | None,
    config: PSSLConfig,
    folder: Path,
) -> tuple[Segmenter, OrientationNetwork, dict[str, Any]]:
    """Train the networks that look at pictures.

    Args:
        dataset: Phantom clips with label maps.
        teaching: Clips to learn from; those of VAL select.
        traced: Real clips with labels, from which the segmentation learns and by which it is
            selected too.
        config: Settings.
        folder: Folder of the run.
    """
    key = jax.random.key(config.seed)
    training = read_examples(
        teaching, config.per_clip, seed=config.seed, progress=_progress("reading", teaching)
    )
    validation = read_examples(dataset.split("VAL"), 3, seed=config.seed)
    if traced is not None:
        real = traced.split("TRAIN"), traced.split("VAL")[:SELECTING]
        more = [
            read_examples(part, 3, seed=config.seed, progress=_progress("reading labels", part))
            for part in real
        ]
        training, validation = joined(training, more[0]), joined(validation, more[1])
    found = train_segmentation(
        SegmentationNetwork(config.widths, key=key),
        training,
        validation,
        config.segmentation,
        folder=folder,
        seed=config.seed,
        resume=config.resume,
        mesh=first_devices(config.devices),
        precision=config.precision,
    )
    pictures, others = (read_pictures(part) for part in (teaching, dataset.split("VAL")))
    orientation = train_orientation(
        OrientationNetwork(key=key),
        pictures,
        others,
        config.orientation,
        folder=folder,
        seed=config.seed,
        resume=config.resume,
        mesh=first_devices(config.devices),
        precision=config.precision,
    )
    told = {"segmentation": found.validation, "orientation": orientation.validation}
    return Segmenter(found.model, found.validation["dice"]), orientation.model, told


def together(*parts: Curves) -> Curves:
    """Return the curves of several groups of patients as one."""
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def exact_curves(
    task: CurveTask, clips: Phantoms, T_c: np.ndarray, beside: Beside, seed: int
) -> Curves:
    """Return the true volumes of phantoms with the task's noise."""
    random = np.random.default_rng(seed).normal(size=clips.volumes.shape)
    return Curves(
        (clips.volumes + task.noise * random).astype(np.float32),
        T_c[:, None],
        beside=measured_beside(task, beside, len(T_c)),
    )


def cuff_of_some(clips: Phantoms, seed: int) -> dict[str, np.ndarray]:
    """Simulate blood pressures measured with a cuff; NaN in those phantoms that have none."""
    without = np.random.default_rng(seed).random(len(clips.theta)) < WITHOUT_CUFF
    vitals = clips.vitals(seed=seed)
    return {c.name: np.where(without, np.nan, vitals[c.name]) for c in CUFF}


def learn_posteriors(
    task: CurveTask,
    clips: Phantoms,
    calibrations: tuple[CurveCalibration, CurveCalibration],
    T_c: np.ndarray,
    of_clinic: bool,
    config: PSSLConfig,
    folder: Path,
) -> tuple[tuple[Learnt[CurveTask, Curves], Learnt[CurveTask, Curves]], dict[str, np.ndarray]]:
    """Learn posteriors of simulated patients, measured with the errors that phantoms show.

    Args:
        task: The task of the twin.
        clips: Phantoms in which a beat was found.
        calibrations: From their measurements to volume curves, with and without the size of a
            pixel.
        T_c: True periods of the phantoms [s].
        of_clinic: Whether the patients are distributed as a clinic's, or uniformly over the box.
        config: Settings.
        folder: Folder of the run.

    Returns:
        What was learnt with each calibration; and parameters and readings of the patients before
        anything is measured, by name.
    """
    seed, n = config.seed + 1, config.posterior_patients
    patients = (
        draw_population(task.system, task.box, ECHO_LABORATORY, n, seed=seed, points=16 * n)
        if of_clinic
        else draw_cohort(task.system, task.box, n, seed=seed)
    )
    found = []
    for name, calibration in zip(POSTERIORS, calibrations, strict=True):
        observation = ClipObservation.fit(
            calibration, clips.volumes, T_c, clips.measured.period, np.asarray(patients.theta)
        )
        print(f"learning the {name.replace('_', ' ')}")
        method = NeuralPosterior(config=config.posterior, observation=observation)
        found.append(
            method.learn(
                task,
                seed=seed,
                folder=folder / f"{name}_state",
                resume=config.resume,
                mesh=first_devices(config.devices),
            )
        )
    some = patients.take(slice(BEFORE))
    before = dict(zip(task.box.names, np.asarray(some.theta).T, strict=True))
    before |= {name: np.asarray(values) for name, values in some.read().items()}
    return (found[0], found[1]), before


def train_curves(config: PSSLConfig, run: Run) -> dict[str, Any]:
    """Train everything and build one twin; return results.json's content.

    Raises:
        ValueError: If there are too few clips, or in too few of them a heartbeat was found.
    """
    began, folder, seed = time.monotonic(), run.folder, config.seed
    data = None
    if config.data is not None:
        data = read_echonet(config.data)
        check_splits(data)
    box = BOXES[config.twin]
    of_clinic = config.twin == "nine"
    task = curve_task(box, clinic_prior(box, seed) if of_clinic else None, CUFF)
    mesh = first_devices(config.devices)
    emulator, emulator_errors = obtain_emulator(folder, box, config.emulator, seed=seed, mesh=mesh)
    drawn = BOXES["nine" if of_clinic else "seven"]
    make_phantoms(
        folder / "phantom",
        task.system,
        drawn,
        config.clips.counts,
        seed=seed,
        population=ECHO_LABORATORY if of_clinic else None,
        variety=1.0,
    )
    phantom, truth = read_echonet(folder / "phantom"), read_theta(folder / "phantom")
    check_splits(phantom)
    train = phantom.split("TRAIN")
    teaching = train[: max(int(TEACHING * len(train)), 4)]
    labels = "label maps of phantoms"
    try:
        source = label_source(data.records[0]) if data is not None else None
        labels += f", {source.value}" if source else ""
    except UnreadableClipError as error:
        source, labels = None, f"{labels}; {error.reason}"
    print(f"the segmentation learns from {labels}")
    segmenter, orientation, told = learn_networks(
        phantom, teaching, data if source else None, config, folder
    )

    def measure(name: str, records: Sequence[Record], phantoms: bool) -> ClipMeasurements:
        return keep_measurements(
            folder / f"measured_{name}.npz",
            records,
            lambda: measure_clips(
                segmenter,
                orientation,
                records,
                phantoms=phantoms,
                progress=_progress(f"measuring {name}", records),
            ),
        )

    def phantoms(name: str, records: Sequence[Record]) -> Phantoms:
        measured = measure(name, records, True)
        return with_truth(measured, records, truth, task.system, drawn, PHASES)

    learning = phantoms("phantoms", [*train[len(teaching) :], *phantom.split("VAL")])
    usable = learning.take(learning.measured.found(True, periods(task)))
    if len(usable.theta) < 8:
        raise ValueError(
            f"a heartbeat was found in {len(usable.theta)} of {len(learning.theta)} clips: "
            "expected at least 8; train the segmentation network for longer"
        )
    calibrations = usable.calibration(True), usable.calibration(False)
    curves = usable.measured.curves(calibrations[0], True)
    T_c = learning.theta[:, drawn.names.index("T_c")]
    given = [exact_curves(task, learning, T_c, cuff_of_some(learning, seed), seed)]
    cuff = cuff_of_some(usable, seed + 1)
    first, second = ({name: x[k::2] for name, x in cuff.items()} for k in range(2))
    given.append(as_curves(task, curves[::2], first))
    if data is not None:
        records = data.split("TRAIN")
        real = measure("data_train", records, False)
        found, kept = real.possible_curves(calibrations[1], False, periods(task))
        print(
            f"learning from {len(found)} of {len(records)} clips; the others have no beat, or a "
            "volume that no left ventricle has"
        )
        theirs = {
            c.name: np.array([getattr(r.vitals, c.name) for r in records])[kept] for c in CUFF
        }
        if found:
            given.append(as_curves(task, found, theirs))
    learnt = CurvePSSL(forward=emulator, config=config.curve).learn(
        task,
        together(*given),
        as_curves(task, curves[1::2], second),
        seed=seed,
        folder=folder,
        resume=config.resume,
        mesh=mesh,
    )
    misfit = estimate(learnt, curves).misfit
    assert misfit is not None
    shown = ~usable.mirrored  # of a mirrored clip the verdict shall say so
    limits = Limits.fit(
        usable.take(shown).measured.observations(),
        usable.take(shown).measured.curve_features(True),
        [curve for curve, kept in zip(curves, shown, strict=True) if kept],
        misfit[shown],
    )
    posteriors, before = learn_posteriors(
        task,
        usable,
        calibrations,
        usable.theta[:, drawn.names.index("T_c")],
        of_clinic,
        config,
        folder,
    )
    builder = TwinBuilder(segmenter, orientation, calibrations, learnt, limits, posteriors, before)
    save_builder(folder, builder)
    records = phantom.split("TEST")
    test = phantoms("test", records)
    scores: dict[str, Scores] = {"test": score_phantoms(builder, test, records, drawn)}
    calibration = score_posteriors(builder, test, drawn)
    if data is not None:
        unseen = data.split("TEST")
        scores["data"] = score_labels(builder, measure("data_test", unseen, False), unseen)
    draw_figures(run, builder, test, records, drawn)
    clip = real_clip()
    draw_contact_sheet(run, clip, records[:5])
    write_echo_twin(run, "twin_real_clip", builder.build(read_recording(clip)))
    for part, values in scores.items():
        print(f"\n{part}")
        for name, value in values.items():
            print(f"{name:32}{'–' if value is None else format(value, '.4g'):>10}")
    return {
        "emulator": emulator_errors,
        "labels": labels,
        "validation": told | {"curve": dict(learnt.validation)},
        **scores,
        "posterior": {
            name: {
                "coverage90": one.coverage90,
                "rank_test_p": one.rank_test_p,
                "width90": one.width90,
                "narrowing90": one.narrowing90,
            }
            for name, one in calibration.items()
        },
        "skipped": [
            {"name": clip.name, "reason": clip.reason} for clip in (data.skipped if data else ())
        ],
        "seconds_since_last_start": time.monotonic() - began,
    }


def _progress(description: str, clips: Sequence[Any]) -> Callable[[Iterable[Any]], Iterable[Any]]:
    """Return a progress bar over clips."""
    return lambda some: progress_bar(some, total=len(clips), desc=description, unit="clip")
