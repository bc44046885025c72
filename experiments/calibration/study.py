"""Study of `experiments.calibration`: learn, draw, and compare with the truth."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.calibration.clips import clip_table, on_clips
from experiments.calibration.figures import draw_calibration, draw_ranks
from experiments.calibration.settings import Config
from experiments.calibration.table import markdown, summarise
from jaxtwin.cohorts.cohort import Cohort
from jaxtwin.cohorts.simulate import simulate_cohort
from jaxtwin.commands.emulator import CHANNELS
from jaxtwin.commands.run import Run, origin
from jaxtwin.commands.tables import write_table
from jaxtwin.forward.simulator import Simulator
from jaxtwin.inference.calibration import Calibration, calibrate, ranks, tarp
from jaxtwin.inference.importance import ImportanceSampling
from jaxtwin.inference.laplace import Laplace
from jaxtwin.inference.neural import NeuralPosterior
from jaxtwin.inference.nuts import NUTS
from jaxtwin.inference.variational import VariationalPSSL
from jaxtwin.methods.base import Learnt
from jaxtwin.methods.posterior import Posterior
from jaxtwin.methods.saving import load_learnt, save_learnt
from jaxtwin.methods.tasks import Curves, CurveTask
from jaxtwin.models.left_heart import SEVEN, LeftHeart
from jaxtwin.training.progress import progress_bar

SAMPLES = 60
RESOLUTION = 0.5
PRIOR = 16_384
"""Number of patients that stand for the prior."""
HIDDEN = CHANNELS[1:]


class Case(NamedTuple):
    """One kind of measurement and one method.

    Attributes:
        method: Name of the method; "flow" is the neural posterior.
        noise: Standard deviation of the noise [mL].
        known: Whether the period is known.
        missing: Share of the samples that are missing.
    """

    method: str
    noise: float
    known: bool
    missing: float = 0.0

    @property
    def name(self) -> str:
        """Name of the case and its folder."""
        period = "known" if self.known else "unknown"
        gaps = f"-missing{100 * self.missing:.0f}" if self.missing else ""
        return f"{self.method}-noise{self.noise:g}-{period}{gaps}"

    def task(self) -> CurveTask:
        """Return the task of the measurement."""
        return CurveTask(
            LeftHeart(),
            SEVEN,
            CHANNELS[0],
            RESOLUTION,
            HIDDEN,
            SAMPLES,
            known="T_c" if self.known else (),
            noise=self.noise,
            missing=self.missing,
        )


def draw(n: int, seed: int) -> Cohort[Any]:
    """Draw patients from the prior, and simulate them."""
    theta = np.random.default_rng(seed).permutation(SEVEN.sample(n, seed=2**20 + seed))
    return simulate_cohort(LeftHeart(), SEVEN, theta, phases=SAMPLES, throw=True)


def main_case(config: Config) -> Case:
    """Return the case that other methods are compared in."""
    return Case("flow", sorted(config.noises)[len(config.noises) // 2], True)


def cases(config: Config) -> list[Case]:
    """Return all cases, the flows first."""
    main = main_case(config)
    found = [main]
    found += [Case("flow", noise, True) for noise in config.noises if noise != main.noise]
    if config.unknown_period:
        found += [Case("flow", noise, False) for noise in config.noises]
    if config.missing:
        found.append(main._replace(missing=config.missing))
    return found + [main._replace(method=method) for method in config.methods]


def neural(config: Config) -> NeuralPosterior:
    """Return the method that learns flows from its own simulations."""
    return NeuralPosterior(config=config.training, patients=config.bank)


def variational(config: Config, task: CurveTask) -> VariationalPSSL:
    """Return the method that learns flows from curves alone, through the simulator."""
    forward = Simulator(task.system, task.box, task.channels, task.samples)
    return VariationalPSSL(forward, config=config.variational)


def learn(
    case: Case,
    config: Config,
    folder: Path,
    before: Callable[[str], Learnt[CurveTask, Curves]],
) -> Learnt[CurveTask, Curves]:
    """Learn one case; `before` gives what another method learnt of the same measurement."""
    task, seed = case.task(), config.seed
    training = validation = None
    if case.method == "flow":
        method: Any = neural(config)
    elif case.method == "importance":
        method = ImportanceSampling(before("flow"), config.proposals)
    elif case.method == "variational_importance":
        method = ImportanceSampling(before("variational"), config.proposals)
    elif case.method == "variational":
        method = variational(config, task)
        cohort = draw(sum(config.cohort), seed + 2)
        curves = task.measure(cohort, seed + 2)
        training, validation = (
            curves.take(slice(*part)) for part in ((config.cohort[0],), (config.cohort[0], None))
        )
    elif case.method == "laplace":
        method = Laplace()
    else:
        method = NUTS(before("flow"), chains=config.chains, warmup=config.warmup)
    return method.learn(task, training, validation, seed=seed, folder=folder, resume=True)


def fill_case(
    case: Case,
    config: Config,
    folder: Path,
    test: Cohort[Any],
    before: dict[str, np.ndarray],
    others: Callable[[str], Learnt[CurveTask, Curves]],
) -> None:
    """Learn a case, draw the posteriors of unseen patients, and write what was found."""
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    learnt = learn(case, config, folder, others)
    learning = time.monotonic() - began
    if case.method in ("flow", "variational"):
        save_learnt(folder / "learnt", learnt)
    few = dict.fromkeys(("importance", "variational_importance"), config.weighed)
    few |= {"laplace": config.chained, "nuts": config.chained}
    patients = test.take(slice(few.get(case.method)))
    curves = case.task().measure(patients, config.seed + 1)
    draws = config.chain_draws if case.method == "nuts" else config.draws
    began = time.monotonic()
    posterior = learnt.posterior(curves, draws=draws, seed=config.seed)
    drawing = time.monotonic() - began
    good = posterior.success
    if good.sum() < 2:
        raise ValueError(
            f"{case.name}: {good.sum()} of {len(good)} patients have a posterior: train the flow "
            "for longer, or take more proposals or draws"
        )
    log_score = np.full(len(good), np.nan)
    if case.method != "nuts":  # Markov chains have no density.
        log_score = learnt.log_density(curves, np.asarray(patients.theta))
    found, placed, joint = measure(case, posterior.take(good), patients.take(good), before, config)
    np.savez(
        folder / "draws.npz",
        allow_pickle=False,
        theta=posterior.theta[: config.chained],
        success=good[: config.chained],
    )
    write_table(folder / "ranks.csv", placed)
    told = {
        "case": case._asdict(),
        "patients": len(good),
        "without_posterior": int(np.sum(~good)),
        "log_score": _mean(log_score[good]),
        "tarp_p": joint,
        "calibration": {
            name: {**one._asdict(), "coverage": one.coverage.tolist()}
            for name, one in found.items()
        },
        "seconds": {"learning": learning, "drawing": drawing, "draws": draws},
        "r_hat": None if posterior.r_hat is None else float(np.nanmax(posterior.r_hat)),
        "effective": _quantiles(posterior.effective),
        "commit": origin()["commit"],
    }
    (folder / "result.json").write_text(json.dumps(told, indent=1, ensure_ascii=False))


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) and np.isfinite(values).all() else None


def _quantiles(effective: np.ndarray | None) -> list[float] | None:
    """Return the 0, 10 and 50% quantiles of the smallest effective number of draws per patient."""
    if effective is None:
        return None
    return np.quantile(np.nanmin(effective, axis=1), (0, 0.1, 0.5)).tolist()


def measure(
    case: Case,
    posterior: Posterior,
    truth: Cohort[Any],
    before: dict[str, np.ndarray],
    config: Config,
) -> tuple[dict[str, Calibration], dict[str, np.ndarray], float]:
    """Compare draws with the truth.

    Returns:
        The calibration of each unknown parameter, each reading and each hidden waveform; the rank
        of each true parameter and reading; and the p-value of TARP on all unknown parameters.
    """
    names = [n for n in SEVEN.names if not (case.known and n == "T_c")]
    predicted = posterior.simulate(
        waveforms=HIDDEN, phases=SAMPLES, draws=min(config.simulated, posterior.theta.shape[1])
    )
    good = predicted.success.all(axis=1)
    true = {**dict(zip(SEVEN.names, truth.theta.T, strict=True)), **truth.read()}
    drawn = {name: x[good] for name, x in posterior.parameters().items() if name in names}
    # A reading that the known period alone determines has no posterior.
    drawn |= {
        name: x[good] for name, x in predicted.readings.items() if np.ptp(x[good], 1).max() > 0
    }
    found, placed = {}, {}
    for name, x in drawn.items():
        own = np.asarray(true[name], float)[good]
        found[name] = calibrate(x.astype(float), own, before[name], seed=config.seed)
        placed[name] = ranks(x, own, seed=config.seed)
    for name in HIDDEN:
        wave, own = predicted.waveforms[name][good], getattr(truth.recording.waveforms, name)[good]
        each = [
            calibrate(wave[..., k], own[:, k], before[name][:, k], seed=config.seed)
            for k in range(SAMPLES)
        ]
        middle = calibrate(
            wave.mean(axis=-1), own.mean(axis=1), before[name].mean(axis=1), seed=config.seed
        )
        # Over all phases; the rank test is that of the mean over the beat.
        found[f"{name}(t)"] = Calibration(
            patients=int(good.sum()),
            coverage=np.mean([one.coverage for one in each], axis=0),
            coverage90=float(np.mean([one.coverage90 for one in each])),
            rank_test_p=middle.rank_test_p,
            width90=float(np.mean([one.width90 for one in each])),
            narrowing90=float(np.mean([one.narrowing90 for one in each])),
            crps=float(np.mean([one.crps for one in each])),
        )
    columns = [SEVEN.names.index(name) for name in names]
    joint = tarp(
        posterior.theta[..., columns], np.asarray(truth.theta)[:, columns], seed=config.seed
    )
    return found, placed, joint.p


def prior_draws(seed: int) -> dict[str, np.ndarray]:
    """Return parameters, readings and hidden waveforms of patients of the prior, by name."""
    cohort = draw(PRIOR, seed + 3)
    found = dict(zip(SEVEN.names, np.asarray(cohort.theta).T, strict=True))
    found |= {name: np.asarray(values) for name, values in cohort.read().items()}
    return found | {name: getattr(cohort.recording.waveforms, name) for name in HIDDEN}


def experiment(config: Config, run: Run) -> dict[str, Any]:
    """Fill the cells that are missing, and write tables and figures."""
    test, before = draw(config.patients, config.seed + 1), prior_draws(config.seed)
    every, main = cases(config), main_case(config)
    place = run.folder / "cells"

    def others(name: str) -> Learnt[CurveTask, Curves]:
        case, task = main._replace(method=name), main.task()
        method = neural(config) if name == "flow" else variational(config, task)
        return load_learnt(place / case.name / "learnt", method, task)

    for case in progress_bar(every, desc="cases", unit="case"):
        if not (place / case.name / "result.json").exists():
            fill_case(case, config, place / case.name, test, before, others)
    results = {
        case.name: json.loads((place / case.name / "result.json").read_text()) for case in every
    }
    rows = summarise(results, place)
    write_table(run.folder / "calibration.csv", {name: [r[name] for r in rows] for name in rows[0]})
    (run.folder / "calibration.md").write_text(markdown(results, rows))
    run.written += [run.folder / "calibration.csv", run.folder / "calibration.md"]
    draw_calibration(run, results)
    draw_ranks(run, place / main.name)
    print(markdown(results, rows))
    clips = on_clips(config, run.folder / "clips") if config.run is not None else {}
    if clips:
        (run.folder / "clips.md").write_text(clip_table(clips))
        run.written.append(run.folder / "clips.md")
        print(clip_table(clips))
    own = results[main.name]
    return {
        "coverage90": {n: one["coverage90"] for n, one in own["calibration"].items()},
        "rank_test_p": {n: one["rank_test_p"] for n, one in own["calibration"].items()},
        "seconds": own["seconds"],
        "cases": {
            name: {
                "coverage90": {n: one["coverage90"] for n, one in told["calibration"].items()},
                "rank_test_p": {n: one["rank_test_p"] for n, one in told["calibration"].items()},
                **{key: told[key] for key in ("log_score", "tarp_p", "seconds", "patients")},
            }
            for name, told in results.items()
        },
        "clips": {
            title: {
                "coverage90": {name: one.coverage90 for name, one in found.items()},
                "rank_test_p": {name: one.rank_test_p for name, one in found.items()},
            }
            for title, found in clips.items()
        },
    }
