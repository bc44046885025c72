"""What a posterior costs: ours, sbi's from the same simulations, and BlackJAX's Markov chains.

    pip install -e ".[bench]" && python -m benchmarks.posterior_cost [--json FILE]
    python -m benchmarks.posterior_cost --patients 32768 --steps 9000    # as one would use them

The task is that of `benchmarks.methods`: parameters of the left heart from a noisy volume curve.

- jaxtwin: `NeuralPosterior`, coupling flows, which learns for a number of steps, with fresh noise
  in each.
- sbi: `NPE` with its defaults (a masked autoregressive flow), which learns from the same simulated
  patients, measured once, in the same coordinates (in which the prior is standard normal) and with
  the same inputs, until it stops of itself.
- BlackJAX: its NUTS through our simulator, as `jt.inference.NUTS` runs it, which learns nothing
  before it meets a patient: in the coordinates of a fit, and in those of the learnt flow.

`first_s` is the duration of the first sampling, with compilation, `sample_s` that of the second.
The log score is the mean log density at the true parameters over the prior's [nats], of the same
patients; chains have no density, but the smallest number of effective draws of a parameter.
"""

import argparse
import dataclasses
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.markdown import table
from benchmarks.methods import curves
from benchmarks.rivals import Missing
from jaxtwin.commands.run import origin
from jaxtwin.inference.coordinates import PriorCoordinates
from jaxtwin.inference.distribution import shown_row
from jaxtwin.inference.neural import VALIDATION, NeuralPosterior, simulate_bank
from jaxtwin.inference.nuts import NUTS
from jaxtwin.inference.observing import TaskObservation
from jaxtwin.inference.settings import POSTERIOR_TRAINING
from jaxtwin.methods.tasks import Curves, CurveTask
from jaxtwin.training.progress import silent

HEADER = (
    "method",
    "simulations",
    "simulate_s",
    "learn_s",
    "patients",
    "draws",
    "first_s",
    "sample_s",
    "log_score",
    "least_effective",
)


def row(method: str, **values: Any) -> dict[str, Any]:
    """Return a row of the table."""
    return {name: method if name == "method" else values.get(name) for name in HEADER}


def twice(function: Callable[[], Any]) -> tuple[float, float, Any]:
    """Return the durations of a first and a second call [s], and the second's result."""
    began = time.perf_counter()
    function()
    between = time.perf_counter()
    found = function()
    return between - began, time.perf_counter() - between, found


def sbi_or_missing() -> tuple[Any, Any]:
    """Return PyTorch and sbi's `NPE`.

    Raises:
        Missing: If one is not installed.
    """
    try:
        import torch  # pyright: ignore[reportMissingImports]
        from sbi.inference import NPE  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise Missing(f'{error.name} (pip install -e ".[bench]")') from None
    return torch, NPE


def inputs(task: CurveTask, bank: Any, seed: int) -> np.ndarray:
    """Return what a network sees of simulated patients that were measured once."""
    observation = TaskObservation()

    @jax.jit
    @jax.vmap
    def measured(exact: Any, known: Any, key: Any) -> Any:
        values, known = observation(task, exact, known, key)
        return shown_row(task, known, values)

    keys = jax.random.split(jax.random.key(seed), len(bank.known))
    return np.array(measured(jnp.asarray(bank.exact), jnp.asarray(bank.known), keys))


def sbi(task: CurveTask, patients: int, seen: int, draws: int) -> dict[str, Any]:
    """Measure sbi.

    Raises:
        Missing: If it is not installed.
    """
    torch, NPE = sbi_or_missing()
    began = time.perf_counter()
    coordinates = PriorCoordinates.of(task)
    theta = TaskObservation().patients(task, patients + VALIDATION, seed=0)
    bank = simulate_bank(task, coordinates, theta)
    x, z = inputs(task, bank, 0), np.array(bank.z)
    simulated = time.perf_counter()
    torch.manual_seed(0)
    size = z.shape[1]
    prior = torch.distributions.MultivariateNormal(torch.zeros(size), torch.eye(size))
    learning = NPE(prior=prior, show_progress_bars=False)
    estimator = learning.append_simulations(torch.as_tensor(z), torch.as_tensor(x)).train()
    posterior = learning.build_posterior(estimator)
    learnt = time.perf_counter()
    unseen = simulate_bank(task, coordinates, TaskObservation().patients(task, seen, seed=1))
    shown = torch.as_tensor(inputs(task, unseen, 1))
    first, again, _ = twice(
        lambda: posterior.sample_batched((draws,), x=shown, show_progress_bars=False)
    )
    true = torch.as_tensor(np.array(unseen.z))
    with torch.no_grad():
        density = estimator.log_prob(true[None], condition=shown)[0]
    return row(
        "sbi NPE",
        simulations=len(z),
        simulate_s=simulated - began,
        learn_s=learnt - simulated,
        patients=len(shown),
        draws=draws,
        first_s=first,
        sample_s=again,
        log_score=float((density - prior.log_prob(true)).mean()),
    )


def unseen_curves(task: CurveTask, seen: int) -> tuple[Curves, np.ndarray]:
    """Return the curves and the θ of the same patients as `sbi` sees."""
    coordinates = PriorCoordinates.of(task)
    theta = TaskObservation().patients(task, seen, seed=1)
    bank = simulate_bank(task, coordinates, theta)
    random = np.random.default_rng(1)
    noise = task.noise * random.normal(size=np.shape(bank.exact))
    known = np.asarray(bank.known)
    measured = Curves((np.asarray(bank.exact) + noise).astype(np.float32), known)
    z = jnp.asarray(bank.z)
    return measured, np.asarray(jax.vmap(coordinates.theta)(z, jnp.asarray(known)))


def ours(
    task: CurveTask, patients: int, steps: int, seen: int, draws: int, chains: tuple[int, int]
) -> Iterator[dict[str, Any]]:
    """Measure our posterior, and BlackJAX's chains for the first patients."""
    config = dataclasses.replace(
        POSTERIOR_TRAINING, steps=steps, evaluate_every=max(steps // 10, 1)
    )
    measured, theta = unseen_curves(task, seen)
    began = time.perf_counter()
    learnt = NeuralPosterior(config=config, patients=patients).learn(task, seed=0, progress=silent)
    took = time.perf_counter() - began
    first, again, _ = twice(lambda: np.asarray(learnt.posterior(measured, draws=draws).theta))
    yield row(
        "jaxtwin NeuralPosterior",
        simulations=patients + VALIDATION,
        simulate_s=took - learnt.seconds,
        learn_s=learnt.seconds,
        patients=seen,
        draws=draws,
        first_s=first,
        sample_s=again,
        log_score=float(np.mean(learnt.log_density(measured, theta))),
    )
    few, each = chains
    some = measured.take(slice(few))
    for name, flow in (("a fit's coordinates", None), ("the flow's coordinates", learnt)):
        sampler = NUTS(flow=flow).learn(task, seed=0, progress=silent)
        first, again, found = twice(lambda sampler=sampler: sampler.posterior(some, draws=each))
        yield row(
            f"BlackJAX NUTS in {name}",
            patients=few,
            draws=each,
            first_s=first,
            sample_s=again,
            least_effective=float(np.nanmin(found.effective)),
        )


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", type=int, default=8_192, help="simulated, to learn from")
    parser.add_argument("--steps", type=int, default=2_000, help="of our training")
    parser.add_argument("--seen", type=int, default=100, help="patients whose posteriors are drawn")
    parser.add_argument("--draws", type=int, default=1_000)
    parser.add_argument("--chains", type=int, nargs=2, default=(4, 500), help="patients, draws")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    print(json.dumps(origin()))
    task, _ = curves(2)
    size = arguments.patients, arguments.seen, arguments.draws
    rows, notes = [], []
    try:
        rows.append(sbi(task, *size))
        print(table(rows), flush=True)
    except Missing as missing:
        notes.append(f"sbi: skipped, not installed: {missing}")
    few, each = arguments.chains
    for found in ours(task, size[0], arguments.steps, *size[1:], (few, each)):
        rows.append(found)
        print(table([found]), flush=True)
    print("", table(rows), *notes, sep="\n")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"rows": rows, "notes": notes, **origin()}, indent=1))


if __name__ == "__main__":
    main()
