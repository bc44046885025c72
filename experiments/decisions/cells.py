"""What twins and posteriors say about the parameter that each disease changes."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from experiments.decisions.settings import Config
from experiments.detection.cohort import make_diseased_phantoms
from experiments.detection.curves import CurveVariant, curve_task
from experiments.detection.posteriors import beyond_probabilities
from experiments.detection.scores import MARKED
from jaxtwin.cohorts.cohort import Cohort
from jaxtwin.cohorts.diseases import DISEASES, Disease, beyond_health, draw_diseased
from jaxtwin.cohorts.simulate import simulate_cohort
from jaxtwin.commands.emulator import PHASES
from jaxtwin.commands.measure import measure_phantoms
from jaxtwin.commands.run import Run, origin
from jaxtwin.data.echonet import read_echonet, read_theta
from jaxtwin.forward.emulator import Emulator
from jaxtwin.inference.neural import NeuralPosterior
from jaxtwin.inference.observing import AbstractObservation, observe
from jaxtwin.methods.pssl_curves import CurvePSSL
from jaxtwin.methods.tasks import CurveTask
from jaxtwin.parameters import Box
from jaxtwin.twin.echo import TwinBuilder, as_curves, estimate, periods
from jaxtwin.twin.measurements import ClipMeasurements

PRIOR = 2**14
"""Number of patients that stand for a prior."""
# Seeds of patients that nobody else draws.
OTHERS = 2**20

Table = Float[np.ndarray, "disease patient"]
Beyond = Bool[np.ndarray, "disease patient"]


class Answers(NamedTuple):
    """What was learnt with one seed says about patients, disease by disease.

    Attributes:
        twin: Parameter of the P-SSL twin, signed so that it rises with the disease.
        median: Median of the posterior, with the same sign.
        chance: Probability of the posterior that the parameter is beyond its healthy range.
        informed: The same of a posterior whose prior is the clinic; NaN without one.
        own: Probabilities of patients of the posterior's own prior.
    """

    twin: Table
    median: Table
    chance: Table
    informed: Table
    own: Table


class Case(NamedTuple):
    """One kind of measurement, with what was learnt from it.

    Attributes:
        beyond: Which of the clinic's patients are beyond health.
        validation: Number of these, the first ones, that thresholds are chosen on.
        own_beyond: Which patients of the posterior's own prior are beyond health.
        before: Share of the prior that is beyond health, of each disease.
        limit: Healthy limit of each disease, signed as the twin's parameter.
        answers: What each seed says.
    """

    beyond: Beyond
    validation: int
    own_beyond: Beyond
    before: tuple[float, ...]
    limit: tuple[float, ...]
    answers: list[Answers]


class ClinicObservation(AbstractObservation):
    """Patients of the clinic, healthy and ill, measured with the task's noise."""

    def patients(self, task: CurveTask, n: int, *, seed: int) -> Float[np.ndarray, "patient free"]:
        """Return the parameters of n patients, in random order."""
        drawn = draw_diseased(task.system, task.box, n, seed=OTHERS + seed, phases=PHASES)
        return np.asarray(drawn.cohort.theta, np.float32)

    def __call__(self, task: Any, exact: Any, known: Any, key: Any) -> tuple[Any, Any]:
        """See `observe`; known parameters are exact."""
        return observe(task, exact, key), known


def beyond(box: Box, theta: Float[np.ndarray, "patient free"]) -> Beyond:
    """Return which patients are beyond health, disease by disease."""
    return np.stack([beyond_health(disease, box, theta) for disease in MARKED])


def limits() -> tuple[float, ...]:
    """Return the healthy limit of each disease, negative if the parameter falls with it."""

    def limit(disease: Disease) -> float:
        assert disease.marker is not None
        name, sign = disease.marker
        return sign * DISEASES[0].ranges[name][1 if sign > 0 else 0]

    return tuple(limit(disease) for disease in MARKED)


def markers(box: Box, theta: Float[np.ndarray, "patient free"]) -> Table:
    """Return the parameter that each disease changes, signed so that it rises with the disease."""
    found = [
        sign * theta[:, box.names.index(name)].astype(float)
        for name, sign in (disease.marker for disease in MARKED if disease.marker is not None)
    ]
    return np.stack(found)


def fill_cell(
    run: Run,
    variant: CurveVariant,
    seed: int,
    clinic: Cohort[Any],
    own: Cohort[Any],
    emulator: Emulator,
    config: Config,
) -> Answers:
    """Learn twins and posteriors with one seed, and keep what they say."""
    name = variant.replace(",", "").replace(" ", "-")
    folder = run.folder / "cells" / f"{name}-{seed - config.seed}"
    kept = folder / "answers.npz"
    if not kept.exists():
        task = curve_task(variant, config.noise)
        curves = task.measure(clinic, config.seed)
        first, second = np.cumsum(config.patients)[:2]
        twins = CurvePSSL(forward=emulator, config=config.curve_training).learn(
            task,
            curves.take(slice(first)),
            curves.take(slice(first, second)),
            seed=seed,
            folder=folder / "twin",
            resume=True,
        )
        seen = curves.take(slice(first, None))
        theta = twins.estimate(seen).theta
        assert theta is not None
        posteriors = [
            method.learn(task, seed=seed, folder=folder / part, resume=True)
            for part, method in (
                ("posterior", NeuralPosterior(config=config.posterior, patients=config.bank)),
                (
                    "informed",
                    NeuralPosterior(
                        config=config.posterior,
                        patients=config.bank,
                        observation=ClinicObservation(),
                    ),
                ),
            )
        ]
        (median, chance), (_, informed) = (
            beyond_probabilities(learnt, seen, draws=config.draws, seed=seed)
            for learnt in posteriors
        )
        _, of_own = beyond_probabilities(
            posteriors[0], task.measure(own, config.seed + 1), draws=config.draws, seed=seed
        )
        found = Answers(
            markers(task.box, np.asarray(theta)),
            markers(task.box, median),
            chance,
            informed,
            of_own,
        )
        _keep(kept, found)
        Run(folder).json("result", origin())
    return _load(kept)


def _keep(path: Path, answers: Answers) -> None:
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, allow_pickle=False, **answers._asdict())
    partial.replace(path)


def _load(path: Path) -> Answers:
    with np.load(path, allow_pickle=False) as file:
        return Answers(*(file[name] for name in Answers._fields))


def of_curves(run: Run, variant: CurveVariant, emulator: Emulator, config: Config) -> Case:
    """Return the case of a simulated volume curve."""
    task = curve_task(variant, config.noise)
    drawn = draw_diseased(
        task.system, task.box, sum(config.patients), seed=config.seed, phases=PHASES
    )
    box_draws = task.box.sample(config.prior_patients, seed=OTHERS + config.seed)
    own = simulate_cohort(task.system, task.box, box_draws, phases=PHASES)
    own = own.take(np.flatnonzero(own.success))
    clinic = drawn.cohort
    answers = [
        fill_cell(run, variant, seed, clinic, own, emulator, config)
        for seed in range(config.seed, config.seed + config.seeds)
    ]
    first = config.patients[0]
    before = beyond(task.box, task.box.sample(PRIOR, seed=0)).mean(axis=1)
    return Case(
        beyond(task.box, np.asarray(clinic.theta)[first:]),
        config.patients[1],
        beyond(task.box, np.asarray(own.theta)),
        tuple(before.tolist()),
        limits(),
        answers,
    )


def of_clips(run: Run, config: Config) -> Case:
    """Return the case of phantom clips, whose curves, twins and posteriors a training run has.

    Raises:
        ValueError: If the run's twins lack a parameter that a disease changes, or no clip has a
            curve.
    """
    assert config.run is not None
    folder = run.folder / "phantom"
    make_diseased_phantoms(folder, (0, *config.clips), seed=config.seed)
    records = read_echonet(folder).records
    truth = read_theta(folder)
    builder, measured = measure_phantoms(config.run, run, records)
    names = [d.marker[0] for d in MARKED if d.marker is not None]
    box = builder.learnt.task.box
    if missing := [name for name in names if name not in box.names]:
        raise ValueError(
            f"{config.run} has twins without {', '.join(missing)}, which a disease changes: give "
            "a run with --twin nine"
        )
    theta = np.array([[truth[r.name][name] for name in names] for r in records])
    own_truth = read_theta(config.run / "phantom")
    own = ClipMeasurements.load(config.run / "measured_test.npz")
    own_theta = np.array([[own_truth[name][x] for x in names] for name in own.names])
    twin, median, chance = _say(builder, measured, config)
    _, _, of_own = _say(builder, own, config)
    prior = np.stack([builder.before[name] for name in names], axis=1)
    markers_only = Box.of(box.parameters, names, {n: (0.0, 1e3) for n in names})
    return Case(
        beyond(markers_only, theta),
        config.clips[0],
        beyond(markers_only, own_theta),
        tuple(beyond(markers_only, prior).mean(axis=1).tolist()),
        limits(),
        [Answers(twin, median, chance, np.full(chance.shape, np.nan), of_own)],
    )


def _say(
    builder: TwinBuilder, measured: ClipMeasurements, config: Config
) -> tuple[Table, Table, Table]:
    """Return the twin's parameter, median and probability of every clip; NaN without a curve."""
    task = builder.learnt.task
    found = measured.found(True, periods(task))
    if not found.any():
        raise ValueError(f"none of {len(found)} clips has a curve: train the networks for longer")
    curves = measured.take(found).curves(builder.calibrations[0], True)
    theta = estimate(builder.learnt, curves).theta
    assert theta is not None
    median, chance = beyond_probabilities(
        builder.posteriors[0], as_curves(task, curves), draws=config.draws, seed=config.seed
    )
    tables = []
    for some in (markers(task.box, np.asarray(theta)), markers(task.box, median), chance):
        table = np.full((len(MARKED), len(found)), np.nan)
        table[:, found] = some
        tables.append(table)
    return tables[0], tables[1], tables[2]
