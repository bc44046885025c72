"""Script run by test_spread_trial.py in processes of their own: trials and posteriors."""

import argparse
import os
import signal
from pathlib import Path

import numpy as np

import jaxtwin as jt
from jaxtwin.cohorts.simulate import simulate_cohort
from jaxtwin.methods.posterior import Posterior
from jaxtwin.models.windkessel import Windkessel, WindkesselParameters
from jaxtwin.training.progress import silent
from jaxtwin.treatments import Drug, Nothing, run_posterior_trial, run_trial, run_trial_into
from tests.processes import started
from tests.systems import LeakyParameters
from tests.systems import Windkessel as Leaky

BOX = jt.Box.of(WindkesselParameters, ("SV", "R"), {"R": (0.6, 2.5)})
TASK = jt.CurveTask(
    Leaky(), jt.Box.of(LeakyParameters, ("T", "R", "C")), "P", 0.01, samples=24, known="T",
    noise=0.05,
)  # fmt: skip
BRIEF = jt.TrainingConfig(steps=20, batch_size=64, learning_rate=1e-2, evaluate_every=20)


def posteriors(mesh) -> dict[str, np.ndarray]:
    """Draws of every method, and their simulations."""
    # BlackJAX computes when it is imported, after which the number of devices is fixed.
    from jaxtwin.inference import NUTS, ImportanceSampling, Laplace

    cohort = simulate_cohort(TASK.system, TASK.box, TASK.box.sample(11, seed=3), phases=24)
    curves = TASK.measure(cohort, 0)
    flow = jt.NeuralPosterior(config=BRIEF, patients=1_024, width=16, layers=2).learn(
        TASK, progress=silent
    )
    methods = {
        "flow": flow,
        "laplace": Laplace(starts=2).learn(TASK, progress=silent),
        "importance": ImportanceSampling(flow, proposals=64).learn(TASK, progress=silent),
        "nuts": NUTS(flow, chains=2, warmup=20).learn(TASK, progress=silent),
    }
    found = {}
    for name, learnt in methods.items():
        posterior = learnt.posterior(curves, draws=6, seed=1, mesh=mesh)
        found[name] = posterior.theta
        if name == "flow":
            simulated = posterior.simulate((), "P", phases=24, mesh=mesh)
            found["simulated"] = simulated.waveforms["P"]
    return found


def trials(mesh, folder: Path, kill: bool) -> dict[str, np.ndarray]:
    """Endpoints of a trial and of one of posteriors; another one goes to disk."""
    arms = {"control": Nothing(), "drug": Drug({"R": -0.2})}
    theta = BOX.sample(44, seed=2)
    cohort = simulate_cohort(Windkessel(), BOX, theta)
    trial = run_trial(cohort, arms, mesh=mesh)
    known = Posterior(
        Windkessel(), BOX, theta[:33].reshape(11, 3, 2).astype(np.float32), np.ones(11, bool)
    )
    of_posteriors = run_posterior_trial(known, arms, mesh=mesh)

    def progress(starts):
        for i, start in enumerate(starts):
            if kill and i == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            yield start

    run_trial_into(
        folder / "trial", Windkessel(), BOX, theta, arms, block=12, mesh=mesh, progress=progress
    )
    of_draws = {f"posterior {name}": v for name, v in of_posteriors.values.items()}
    return {f"trial {name}": v for name, v in trial.values.items()} | of_draws


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kill", action="store_true", help="in the third block")
    arguments, mesh = started(parser)
    found = trials(mesh, arguments.out, arguments.kill) | posteriors(mesh)
    np.savez(arguments.out / f"{arguments.process}.npz", **found)


if __name__ == "__main__":
    main()
