"""Posteriors from volume curves, and the probability that a parameter is beyond health."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from experiments.detection.curves import CurveVariant, curve_task, everyone, usable_curves
from experiments.detection.scores import MARKED, Answers
from experiments.detection.settings import Config
from jaxtwin.analysis.reliability import event_probability
from jaxtwin.cohorts.diseases import beyond_health
from jaxtwin.commands.run import Run, origin
from jaxtwin.data.echonet import Record
from jaxtwin.inference.neural import NeuralPosterior
from jaxtwin.methods.base import Learnt
from jaxtwin.methods.clips import VOLUMES
from jaxtwin.methods.saving import save_learnt
from jaxtwin.methods.tasks import Curves, CurveTask
from jaxtwin.models.left_heart import EIGHT

TOGETHER = 500
"""Number of patients whose draws are made together."""
DRAWS = 1_000


def beyond_probabilities(
    learnt: Learnt[CurveTask, Curves], curves: Curves, *, draws: int, seed: int
) -> tuple[Float[np.ndarray, "patient free"], Float[np.ndarray, "disease patient"]]:
    """Return medians of the parameters, and of each disease the probability of its parameter.

    It is the probability that the parameter that the disease changes is beyond its healthy range.
    Both are NaN for a patient without a posterior.

    Args:
        learnt: What gives the posteriors.
        curves: The patients' curves.
        draws: Number of draws per patient.
        seed: Seed of the draws.
    """
    medians, found = [], []
    for start in range(0, len(curves.values), TOGETHER):
        part = curves.take(slice(start, start + TOGETHER))
        posterior = learnt.posterior(part, draws=draws, seed=seed + start)
        good = posterior.success
        medians.append(np.where(good[:, None], np.median(posterior.theta, axis=1), np.nan))
        events = [beyond_health(d, posterior.box, posterior.theta) for d in MARKED]
        found.append([event_probability(event, good) for event in events])
    return np.concatenate(medians), np.concatenate(found, axis=1)


def fill_posterior_cell(
    run: Run,
    records: Sequence[Record],
    curves: Curves,
    variant: CurveVariant,
    seed: int,
    config: Config,
) -> Answers:
    """Learn one posterior from simulated patients of the box, and ask it about every clip."""
    name = variant.replace(",", "").replace(" ", "-")
    folder = run.folder / "cells" / f"posterior-{name}-{seed - config.seed}"
    learnt = NeuralPosterior(config=config.posterior_training, patients=config.bank).learn(
        curve_task(variant, config.noise), seed=seed, folder=folder, resume=True
    )
    save_learnt(folder / "posterior", learnt)
    Run(folder).json("result", {"training_seconds": learnt.seconds, **origin()})
    return ask(learnt, curves, len(records), seed)


def ask(learnt: Learnt[CurveTask, Curves], curves: Curves, clips: int, seed: int) -> Answers:
    """Return what a posterior says of every clip; see `everyone` for those without a curve."""
    usable = usable_curves(learnt.task, curves)
    seen = curves.take(usable)
    got = learnt.estimate(seen)
    assert got.theta is not None
    _, chance = beyond_probabilities(learnt, seen, draws=DRAWS, seed=seed)
    box = learnt.task.box
    theta = np.asarray(got.theta)[:, [box.names.index(name) for name in EIGHT.names]]
    volumes = np.stack([got.readings[name] for name in VOLUMES], axis=1)
    return Answers(
        everyone(theta, usable),
        np.zeros((clips, 0)),
        everyone(volumes, usable),
        np.zeros((clips, 0)),
        dict(zip((d.name for d in MARKED), everyone(chance.T, usable).T, strict=True)),
    )
