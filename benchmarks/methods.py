"""Cost of the methods: training steps against the paper's versions, more patients, more layers.

    python -m benchmarks.methods [--quick] [--json rows.json]

The first table compares the paper's methods, as one would run them today (`benchmarks.paper`,
PyTorch), with jaxtwin's. They alternate in one process: a step of the Neural ODE and an epoch of
the PINN for each patient, and a training step of the encoders for each clip. The second table is
the cost of each method, in its own process, for 1, 20 and 1,000 patients and with 2, 4 and 8
hidden layers: time of an optimiser step, of all patients' twins, of one new patient's twin, and
peak memory, of which an idle process with JAX uses about 300 MB. Methods that learn from a cohort
learn from the row's patients, in batches of at most the size used in the comparison; the cost of
an emulator is not included. For methods that take thousands of steps for each patient, the total
time is extrapolated from two runs with fewer steps. Nothing else should run at the same time.
"""

import argparse
import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.markdown import table
from benchmarks.paper import PAPER
from benchmarks.rivals import Missing
from benchmarks.simulate import peak_memory
from experiments.methods.cells import draw
from experiments.methods.compared import METHODS, SAMPLES
from experiments.methods.measured import measure
from experiments.methods.settings import Config
from jaxtwin.commands.emulator import CHANNELS
from jaxtwin.data.base import ClipFormat
from jaxtwin.encoders.create import EncoderName, create_encoder
from jaxtwin.forward.emulator import Emulator
from jaxtwin.methods.base import Learnt
from jaxtwin.methods.neural_ode import NeuralODE
from jaxtwin.methods.pinn import PINN
from jaxtwin.methods.settings import CURVE_TRAINING
from jaxtwin.methods.tasks import Curves, CurveTask
from jaxtwin.models.left_heart import SEVEN, LeftHeart
from jaxtwin.training.precision import computing_in
from jaxtwin.training.progress import silent
from jaxtwin.training.settings import Precision

PATIENTS = (1, 20, 1_000)
DEPTHS = (2, 4, 8)
# Number of steps to time; the methods themselves take thousands.
STEPS = 50
# Methods that fit each patient separately, with all steps in one compiled loop.
ALONE = ("pinn", "neural_ode")
LEARNT = ("pssl", "ssl_simulator", "supervised", "neural_ode_shared")
HEADER = (
    "method",
    "patients",
    "depth",
    "step_ms",
    "steps",
    "all_twins_s",
    "new_patient_ms",
    "first_call_s",
    "peak_MB",
)


def curves(n: int) -> tuple[CurveTask, Curves]:
    """Return noisy curves of n patients drawn from the box."""
    cohort = draw(dataclasses.replace(Config(), cohort=(max(n, 2), 2), patients=2), seed=0)
    task, training, _, _ = measure(cohort, 3.0, True, 0)
    return task, training.take(slice(0, n))


def timed(function: Callable[[], Any]) -> float:
    """Return the duration of one call [s], including waiting for its results."""
    began = time.perf_counter()
    jax.block_until_ready(function())
    return time.perf_counter() - began


def with_steps(method: str, steps: int, depth: int | None) -> Any:
    """Return a method of the comparison with a given number of steps and, optionally, depth."""
    brief = dataclasses.replace(CURVE_TRAINING, steps=4 * steps, evaluate_every=steps, patience=99)
    shared = dataclasses.replace(brief, batch_size=Config().shared_training.batch_size)
    config = Config(
        training=brief,
        simulator_training=brief,
        shared_training=shared,
        pinn_steps=steps,
        ode_steps=steps,
    )
    untrained = Emulator.create(LeftHeart(), SEVEN, CHANNELS, SAMPLES, key=jax.random.key(0))
    made = METHODS[method].create(config, untrained)
    return made if depth is None else dataclasses.replace(made, **{"depth": depth})


def own_steps(method: str) -> int:
    """Return the number of steps of a method in the comparison."""
    config = Config()
    return {
        "pssl": config.training.steps,
        "supervised": config.training.steps,
        "ssl_simulator": config.simulator_training.steps,
        "neural_ode_shared": config.shared_training.steps,
        "pinn": config.pinn_steps,
        "neural_ode": config.ode_steps,
    }.get(method, 0)


def cost(method: str, n: int, depth: int | None) -> dict[str, Any]:
    """Measure the cost of n patients' twins in this process; return one row."""
    task, measured = curves(n)
    peak_memory(reset=True)  # Drawing patients takes more memory than the method.
    one = measured.take(slice(0, 1))
    steps = own_steps(method)

    def run(count: int) -> tuple[Any, Learnt, float, float, float]:
        """Run the method with `count` steps.

        Returns:
            The method, what it learnt, and durations [s]: the first and second estimate of all
            twins, and the estimate of one.
        """
        made = with_steps(method, count, depth)
        learnt = made.learn(task, measured, measured, progress=silent)
        first = timed(lambda: learnt.estimate(measured)[:3])
        again = timed(lambda: learnt.estimate(measured)[:3])
        learnt.estimate(one)
        return made, learnt, first, again, timed(lambda: learnt.estimate(one)[:3])

    made, learnt, first, again, alone = run(STEPS)
    if method in ALONE:
        # The difference of two runs removes the part that does not depend on the number of steps.
        *_, more, alone_more = run(3 * STEPS)
        step, step_alone = (more - again) / (2 * STEPS), (alone_more - alone) / (2 * STEPS)
        if min(step, step_alone) <= 0:
            raise RuntimeError(
                f"{method}: {3 * STEPS} steps took {more:.3g} s (one patient: {alone_more:.3g} s), "
                f"{STEPS} steps {again:.3g} s ({alone:.3g} s): other processes disturb this "
                "measurement; repeat it on a quiet machine"
            )
        total, new = again + step * (steps - STEPS), alone + step_alone * (steps - STEPS)
    else:
        step = learnt.step_seconds
        total, new = step * steps + again, alone
    row = (
        method,
        n,
        getattr(made, "depth", None) if depth is None else depth,
        1e3 * step if steps else None,
        steps,
        total,
        1e3 * new,
        first + learnt.seconds,
        peak_memory(),
    )
    return dict(zip(HEADER, row, strict=True))


def per_patient(method: PINN | NeuralODE, n: int) -> Callable[[], Any]:
    """Return a function to time: `STEPS` steps of a method for n patients."""
    task, measured = curves(n)
    estimate = method.learn(task, measured, measured, seed=0).estimate
    return lambda: estimate(measured)[:3]


def encoder_step(
    name: EncoderName, batch: int = 16, precision: Precision = "float32"
) -> Callable[[], Any]:
    """Return a function to time: a training step of an encoder with AdamW on a batch of noise."""
    format = ClipFormat()
    encoder = create_encoder(name, format, 3, key=jax.random.key(0))
    shape = (batch, format.frames, format.size, format.size)
    clips = jnp.asarray(np.random.default_rng(0).integers(0, 256, shape), jnp.uint8)
    optim = optax.adamw(1e-3)
    state = optim.init(eqx.filter(encoder, eqx.is_inexact_array))

    @eqx.filter_jit
    def step(encoder, state):
        def loss(encoder):
            encoder = computing_in(precision, encoder, lambda encoder: encoder.head)
            return jnp.mean(jax.vmap(encoder)(clips) ** 2)

        gradient = eqx.filter_grad(loss)(encoder)
        change, state = optim.update(gradient, state, eqx.filter(encoder, eqx.is_inexact_array))
        return eqx.apply_updates(encoder, change), state

    kept = [encoder, state]

    def once():
        kept[:] = step(*kept)
        return jax.tree.leaves(eqx.filter(kept[0], eqx.is_inexact_array))

    return once


def beside_the_paper(repeats: int) -> list[dict[str, Any]]:
    """Return the rows of the first table: duration of a step per patient or per clip [s]."""
    n, batch = 20, 16
    same_work = PINN(width=256, depth=4, collocation=3_000, steps=STEPS)
    ours: dict[tuple[str, str], tuple[Callable[[], Any], int]] = {
        ("neural ODE", "jaxtwin, 20 patients"): (
            per_patient(NeuralODE(steps=STEPS), n),
            n * STEPS,
        ),
        ("neural ODE", "jaxtwin, 1 patient"): (per_patient(NeuralODE(steps=STEPS), 1), STEPS),
        ("PINN", "jaxtwin, 20 patients"): (per_patient(PINN(steps=STEPS), n), n * STEPS),
        ("PINN", "jaxtwin, 1 patient"): (per_patient(PINN(steps=STEPS), 1), STEPS),
        ("PINN", "jaxtwin, 1 patient, the paper's size"): (per_patient(same_work, 1), STEPS),
        ("3D-CNN", "jaxtwin's default encoder"): (encoder_step("tubelet", batch), batch),
        ("3D-CNN", "the paper's network in jaxtwin"): (encoder_step("conv3d", batch), batch),
    }
    runs = dict(ours)
    for name, make in PAPER.items():
        try:
            runs[name, "the paper's, PyTorch"] = (make(), batch if name == "3D-CNN" else 1)
        except Missing as missing:
            print(f"skipped the paper's {name}: {missing}")
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in runs}
    for turn in range(repeats + 1):
        for key, (run, share) in runs.items():
            value = timed(run) / share
            if turn:  # The first turn compiles.
                seconds[key].append(value)
    return [
        {
            "task": task,
            "version": version,
            "median_s": float(np.median(values)),
            "best_s": float(np.min(values)),
        }
        for (task, version), values in sorted(seconds.items())
    ]


def main() -> None:
    """Measure and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one repeat, one patient")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--cost", nargs=3, metavar=("METHOD", "N", "DEPTH"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.cost:
        method, n, depth = arguments.cost
        print(json.dumps(cost(method, int(n), int(depth) or None)))
        return
    steps = beside_the_paper(1 if arguments.quick else 5)
    print(table(steps))
    wanted = [
        (method, n, 0)
        for method in (*LEARNT, *ALONE, "least_squares")
        for n in (PATIENTS[:1] if arguments.quick else PATIENTS)
    ]
    if not arguments.quick:
        wanted += [(method, 20, depth) for method in (*LEARNT, *ALONE) for depth in DEPTHS]
    costs = []
    for method, n, depth in wanted:
        command = [sys.executable, "-m", "benchmarks.methods", "--cost", method, str(n), str(depth)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            print(f"{method}, {n} patients, depth {depth} failed:\n{done.stderr[-2000:]}")
            continue
        costs.append(json.loads(done.stdout.splitlines()[-1]))
        print(" ".join(f"{k}={v}" for k, v in costs[-1].items()), flush=True)
    print(table(costs))
    if arguments.json:
        arguments.json.write_text(json.dumps({"steps": steps, "costs": costs}, indent=1))


if __name__ == "__main__":
    main()
