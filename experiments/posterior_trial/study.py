"""Study of `experiments.posterior_trial`: learn, treat, dose, and compare with the truth."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments.posterior_trial.settings import Config
from experiments.posterior_trial.table import markdown
from jaxtwin.cohorts.cohort import Cohort
from jaxtwin.cohorts.simulate import simulate_cohort
from jaxtwin.commands.emulator import CHANNELS
from jaxtwin.commands.run import Run
from jaxtwin.inference.neural import NeuralPosterior
from jaxtwin.methods.posterior import Posterior
from jaxtwin.methods.tasks import Curves, CurveTask
from jaxtwin.models.left_heart import SEVEN, LeftHeart
from jaxtwin.training.progress import progress_bar
from jaxtwin.treatments import (
    AbstractIntervention,
    DoseChoice,
    Nothing,
    PosteriorTrial,
    Pump,
    Trial,
    Vasodilator,
    choose_dose,
    run_posterior_trial,
    run_trial,
)

SAMPLES = 60
RESOLUTION = 0.5
CONTROL = "no treatment"
ARMS: dict[str, AbstractIntervention] = {
    CONTROL: Nothing(),
    "vasodilator": Vasodilator(-0.25),
    "pump at 9,000 rpm": Pump(9_000.0),
}
ENDPOINTS = ("output", "P_ao_mean", "P_la_mean", "stroke_work")
EVENT = "suction"
AIM = "output"


def pump_at(doses: Any) -> Pump:
    """Return the pump at the first dose, its speed."""
    return Pump(doses[0])


def recruit(config: Config, task: CurveTask) -> tuple[Cohort[Any], Curves]:
    """Draw and measure patients of the prior, and return those of low measured EF.

    Raises:
        ValueError: If too few of them have.
    """
    drawn = 8 * config.patients
    seed = 2**20 + config.seed
    theta = np.random.default_rng(seed).permutation(SEVEN.sample(drawn, seed=seed))
    cohort = simulate_cohort(task.system, SEVEN, theta, phases=SAMPLES, throw=True)
    curves = task.measure(cohort, config.seed + 1)
    values = np.asarray(curves.values)
    EF = 100 * (1 - values.min(axis=1) / values.max(axis=1))
    chosen = np.flatnonzero(config.highest_EF >= EF)[: config.patients]
    if len(chosen) < config.patients:
        raise ValueError(
            f"{len(chosen)} of {drawn} patients have a measured EF of at most "
            f"{config.highest_EF:g}%: expected {config.patients}; raise --highest-EF"
        )
    return cohort.take(chosen), curves.take(chosen)


def compare_effects(
    truth: Trial, trial: PosteriorTrial, twins: Mapping[str, PosteriorTrial], seed: int
) -> list[dict[str, Any]]:
    """Compare each arm's effects with the true ones: one row per arm and endpoint."""
    rows = []
    before = truth.arm(CONTROL)
    for endpoint in ENDPOINTS:
        own = trial.effects(endpoint, control=CONTROL, seed=seed)
        exact = truth.effects(endpoint, control=CONTROL, seed=seed)
        of_twins = {n: t.effects(endpoint, control=CONTROL, seed=seed) for n, t in twins.items()}
        for i, effect in enumerate(own):
            change = truth.arm(effect.arm)[endpoint] - before[endpoint]
            each = trial.patient_effects(endpoint, effect.arm, control=CONTROL)
            both = np.isfinite(change) & np.isfinite(each.mean)
            held = (each.low <= change) & (change <= each.high)
            row: dict[str, Any] = {
                "arm": effect.arm,
                "endpoint": endpoint,
                "unit": trial.units[endpoint],
                "patients": int(both.sum()),
                "failed": effect.failed,
                "failed_draws": effect.failed_draws,
                "true": exact[i].difference._asdict(),
                "posterior": effect.difference._asdict(),
                "coverage90": float(held[both].mean()),
                "error": float(np.abs(each.mean - change)[both].mean()),
                "twins": {},
            }
            for name, twin in twins.items():
                guess = twin.patient_effects(endpoint, effect.arm, control=CONTROL).mean
                row["twins"][name] = {
                    **of_twins[name][i].difference._asdict(),
                    "failed": of_twins[name][i].failed,
                    "error": float(np.nanmean(np.abs(guess - change))),
                }
            rows.append(row)
    return rows


def compare_events(
    truth: Trial, trial: PosteriorTrial, twins: Mapping[str, PosteriorTrial]
) -> dict[str, Any]:
    """Compare the number of patients with suction in the pump's arm with the expected one."""
    arm = truth.arms[-1]
    chance = trial.event_probabilities()[arm][EVENT]
    return {
        "arm": arm,
        "true": truth.events()[arm][EVENT],
        "posterior": float(np.nansum(chance)),
        "posterior_without": int(np.isnan(chance).sum()),
        "twins": {
            name: int(np.nansum(twin.event_probabilities()[arm][EVENT]))
            for name, twin in twins.items()
        },
    }


def choose(posterior: Posterior, config: Config) -> DoseChoice:
    """Choose one patient's speed."""
    low, high, step = config.speeds
    return choose_dose(
        posterior,
        pump_at,
        [np.arange(low, high + step / 2, step)],
        maximise=AIM,
        within={"P_ao_mean": config.pressure, "P_lv_min": (config.filling, np.inf)},
    )


def dose_patient(
    patient: int, truth: Cohort[Any], posterior: Posterior, twins: Mapping[str, Any], config: Config
) -> dict[str, Any]:
    """Choose a patient's speed in every way, and try each in the true patient."""
    exact = choose(_known(truth.theta[patient]), config)
    own = choose(posterior.take([patient]), config)
    chosen = {"95% safe": own.safe, "best in expectation": own.expected}
    chosen |= {
        name: choose(_known(theta[patient]), config).safe if success[patient] else None
        for name, (theta, success) in twins.items()
    }
    row: dict[str, Any] = {
        "patient": int(patient),
        "best": exact.safe.expected[AIM] if exact.safe else None,
        "highest_probability": own.most_probable.safety,
        "expected_if_known": own.known,
        "chosen": {},
    }
    for name, dose in chosen.items():
        if dose is None:
            row["chosen"][name] = None
            continue
        value = float(exact.values[AIM][dose.candidate, 0])
        row["chosen"][name] = {
            "speed": float(dose.doses[0]),
            "safe": bool(exact.within[dose.candidate, 0]),
            AIM: value if np.isfinite(value) else None,
            "expected": dose.expected[AIM],
        }
    return row


def _known(theta: np.ndarray) -> Posterior:
    """Return the posterior of a patient whose parameters are known exactly."""
    return Posterior(LeftHeart(), SEVEN, np.asarray(theta)[None, None], np.ones(1, bool))


def summarise_doses(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Summarise the true consequences of each way of choosing.

    What is lost is the output below the true optimum, over patients for whom the chosen speed is
    safe in truth: an unsafe one is no match for a safe one. Ways that give no dose to the difficult
    patients are fairly compared on the patients to whom every way gives one, the shared ones.
    """
    found = {}
    shared = [row for row in rows if all(row["chosen"].values())]
    for name in rows[0]["chosen"]:
        given = [(row["chosen"][name], row["best"]) for row in rows if row["chosen"][name]]
        safe = [(dose, best) for dose, best in given if dose["safe"]]
        lost = [best - dose[AIM] for dose, best in safe]
        found[name] = {
            "patients": len(rows),
            "no_dose": len(rows) - len(given),
            "no_dose_though_treatable": sum(
                row["chosen"][name] is None and row["best"] is not None for row in rows
            ),
            "given": len(given),
            "unsafe": len(given) - len(safe),
            "shared": len(shared),
            "unsafe_of_shared": sum(not row["chosen"][name]["safe"] for row in shared),
            "lost": float(np.mean(lost)) if lost else None,
            "lost_percent": 100 * float(np.mean([(b - d[AIM]) / b for d, b in safe]))
            if safe
            else None,
        }
    return found


def experiment(config: Config, run: Run) -> dict[str, Any]:
    """Learn the posterior, run the trials, choose doses, and write the tables."""
    system = LeftHeart()
    task = CurveTask(
        system, SEVEN, CHANNELS[0], RESOLUTION, samples=SAMPLES, known="T_c", noise=config.noise
    )
    truth, curves = recruit(config, task)
    began = time.monotonic()
    method = NeuralPosterior(config=config.training, patients=config.bank)
    learnt = method.learn(
        task, seed=config.seed, folder=run.folder / "posterior", resume=config.resume
    )
    learning = time.monotonic() - began
    posterior = learnt.posterior(curves, draws=config.draws, seed=config.seed)
    points = {"twin at the posterior mean": (posterior.theta.mean(axis=1), posterior.success)}

    began = time.monotonic()
    arms = run.folder / "arms"
    treated, trial = run_trial(truth, ARMS, folder=arms), _trial(posterior, arms)
    twins = {
        # One draw each, so that a twin without an estimate has failed.
        name: _trial(
            Posterior(system, SEVEN, np.asarray(theta, np.float32)[:, None], success), arms
        )
        for name, (theta, success) in points.items()
    }
    treating = time.monotonic() - began
    effects = compare_effects(treated, trial, twins, config.seed)
    events = compare_events(treated, trial, twins)

    began = time.monotonic()
    rows = [
        dose_patient(patient, truth, posterior, points, config)
        for patient in progress_bar(
            np.flatnonzero(posterior.success)[: config.dosed], desc="doses", unit="patient"
        )
    ]
    dosing = time.monotonic() - began
    doses = summarise_doses(rows)
    treatable = sum(row["best"] is not None for row in rows)
    table = markdown(effects, events, doses, treatable)
    (run.folder / "posterior_trial.md").write_text(table)
    run.written.append(run.folder / "posterior_trial.md")
    print(f"\n{table}")
    return {
        "effects": effects,
        "events": events,
        "doses": doses,
        "treatable": treatable,
        "each": rows,
        "without_posterior": int(np.sum(~posterior.success)),
        "seconds": {"learning": learning, "treating": treating, "dosing": dosing},
    }


def _trial(posterior: Posterior, folder: Path) -> PosteriorTrial:
    return run_posterior_trial(posterior, ARMS, folder=folder)
