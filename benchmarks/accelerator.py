"""What matters on a GPU, in one table of at most ten minutes; `benchmarks/gpu.sh` runs it.

    python -m benchmarks.accelerator                     # sizes for a GPU, or small ones on a CPU
    python -m benchmarks.accelerator --quick             # small sizes everywhere
    python -m benchmarks.accelerator --parts forward     # some parts

Every part has a process and a time limit of its own: what one has measured before it fails or is
late stays in the table, with a line that says why the rest is missing. `table.md` and `rows.json`
in `--out` have the rows, the device, and the versions.

- ceilings: what the device can do at most, measured: operations a second of a product of matrices
  (float32 as JAX computes it by default, which on NVIDIA's GPUs since Ampere is TF32, and
  bfloat16), and bytes a second of a copy.
- forward, gradient: periodic states of the left heart a second, and with the gradients of both
  volumes by seven parameters; float32.
- emulator: simulations a second for its training set, and steps of its training.
- encoder: clips a second in a training step of the encoders (gradient and AdamW, on a batch that is
  on the device), in both precisions. Its operations, counted by XLA, give the share of the ceiling.
- segmentation: frames and clips (of 12 frames) a second in the real training loop, with
  augmentation and the transfer of batches, in both precisions.
- posterior: steps of the training of a neural posterior, and draws a second.
- orbit, gradient_of_one: time to a first answer in a fresh process without any compiled program.

`first_s` is the duration of the first call beyond that of a later one: mostly compilation.
"""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import tyro

# Nothing that imports JAX is imported here: two parts time its import.

Row: TypeAlias = dict[str, Any]
HEADER = ("part", "what", "size", "per_second", "unit", "first_s", "share_of_peak")
REPEATS = 5


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    matrix: int
    copy_MB: int
    forward: tuple[int, ...]
    gradient: tuple[int, ...]
    simulations: int
    emulator_steps: int
    clips: tuple[int, ...]
    frames: tuple[int, ...]
    segmentation_steps: int
    widths: tuple[int, ...]
    posterior_patients: int
    posterior_steps: int
    draws: tuple[int, int]


FULL = Sizes(
    matrix=8_192,
    copy_MB=2_048,
    forward=(65_536, 262_144, 1_048_576, 4_194_304),
    gradient=(65_536, 1_048_576),
    simulations=65_536,
    emulator_steps=3_500,
    clips=(16, 128),
    frames=(16, 128),
    segmentation_steps=200,
    widths=(24, 40, 64, 96),
    posterior_patients=65_536,
    posterior_steps=2_000,
    draws=(1_000, 1_000),
)
"""For a GPU."""
QUICK = Sizes(
    matrix=512,
    copy_MB=64,
    forward=(1_024,),
    gradient=(512,),
    simulations=256,
    emulator_steps=40,
    clips=(2,),
    frames=(4,),
    segmentation_steps=4,
    widths=(8, 12),
    posterior_patients=3_072,
    posterior_steps=40,
    draws=(20, 100),
)
"""For a CPU, and to test that everything runs."""


def row(what: str, size: Any, per_second: float | None, unit: str, **others: Any) -> Row:
    """Return a row; numbers are rounded to four digits."""
    values = {"per_second": per_second, **others}
    rounded = {
        name: float(f"{value:.4g}") if isinstance(value, float) else value
        for name, value in values.items()
    }
    return {"what": what, "size": size, "unit": unit, **rounded}


def timed(function: Callable[[], Any], repeats: int = REPEATS) -> tuple[float, float]:
    """Return the median duration [s] of a call, and how much longer the first one took [s]."""
    import jax
    import numpy as np

    seconds = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        jax.block_until_ready(function())
        seconds.append(time.perf_counter() - began)
    usual = float(np.median(seconds[1:]))
    return usual, max(seconds[0] - usual, 0.0)


def matrix_ceiling(n: int, precision: str) -> float:
    """Return operations a second of a product of two n × n matrices."""
    import jax
    import jax.numpy as jnp

    a = jax.random.normal(jax.random.key(0), (n, n), precision)
    times = 10
    # Each product needs the last one, so none is left out.
    chain = jax.jit(lambda a: jax.lax.fori_loop(0, times, lambda _, x: (a @ x) / jnp.sqrt(n), a))
    return times * 2 * n**3 / timed(lambda: chain(a))[0]


def ceilings(sizes: Sizes) -> Iterator[Row]:
    """Measure what the device can do at most."""
    import jax
    import jax.numpy as jnp

    for precision in ("float32", "bfloat16"):
        n = sizes.matrix
        found = matrix_ceiling(n, precision)
        yield row(f"product of matrices, {precision}", f"{n} × {n}", found, "FLOP")
    x = jnp.zeros(sizes.copy_MB * 1_000_000 // 4, jnp.float32)
    copy = jax.jit(lambda x: x + 1)
    seconds = timed(lambda: copy(x))[0]
    yield row("copy: read and written", f"{sizes.copy_MB} MB", 2 * x.nbytes / seconds, "byte")


def simulate(mode: str, batches: tuple[int, ...]) -> Iterator[Row]:
    """Measure the simulator; see `benchmarks.simulate`."""
    import numpy as np

    from benchmarks.simulate import jaxtwin
    from jaxtwin.models.left_heart import SEVEN

    solve, table = jaxtwin(mode), SEVEN.sample(max(batches), seed=0).astype(np.float32)
    for batch in batches:
        failed = []

        def once(theta: Any = table[:batch], failed: list[int] = failed) -> Any:
            values, wrong = solve(theta)
            failed.append(int(np.sum(wrong)))
            return values

        seconds, first = timed(once, 3)
        name = "periodic states" if mode == "forward" else "periodic states with gradients"
        yield row(name, batch, batch / seconds, "state", first_s=first, failures=failed[-1])


def forward(sizes: Sizes) -> Iterator[Row]:
    """Measure periodic states."""
    yield from simulate("forward", sizes.forward)


def gradient(sizes: Sizes) -> Iterator[Row]:
    """Measure periodic states with their gradients."""
    yield from simulate("gradient", sizes.gradient)


def emulator(sizes: Sizes) -> Iterator[Row]:
    """Train an emulator."""
    from jaxtwin.commands.emulator import obtain_emulator
    from jaxtwin.commands.settings import EmulatorConfig
    from jaxtwin.forward.settings import EMULATOR_TRAINING
    from jaxtwin.models.left_heart import SEVEN

    steps = sizes.emulator_steps
    training = dataclasses.replace(
        EMULATOR_TRAINING, steps=steps, evaluate_every=max(steps // 4, 1)
    )
    config = EmulatorConfig(simulations=sizes.simulations, unseen=256, training=training)
    with tempfile.TemporaryDirectory() as folder:
        _, told = obtain_emulator(Path(folder), SEVEN, config, seed=0)
    simulated = sizes.simulations / told["simulation_seconds"]
    yield row("its simulations, compilation included", sizes.simulations, simulated, "patient")
    yield row(
        f"its training, batches of {training.batch_size}, compilation included",
        steps,
        steps / told["training_seconds"],
        "step",
        waveform_median=told["waveform_median"],
    )


FORWARD_WORK = {"tubelet": 0.12e9, "conv3d": 0.79e9}
"""Operations of a forward pass of one clip, as XLA counts them; the gradient takes twice as many
more."""


def encoder(sizes: Sizes) -> Iterator[Row]:
    """Measure training steps of the encoders of clips."""
    from benchmarks.methods import encoder_step

    for precision in ("float32", "bfloat16"):
        peak = matrix_ceiling(sizes.matrix, precision)
        for name in ("tubelet", "conv3d"):
            if (name, precision) == ("conv3d", "bfloat16") and _on_a_cpu():
                continue  # XLA's own 3D convolutions, which take minutes there.
            for batch in sizes.clips:
                step = encoder_step(name, batch, precision)
                seconds, first = timed(step)
                work = 3 * FORWARD_WORK[name] * batch
                yield row(
                    f"training step of {name}, {precision}",
                    batch,
                    batch / seconds,
                    "clip",
                    first_s=first,
                    share_of_peak=work / seconds / peak,
                )


def segmentation(sizes: Sizes) -> Iterator[Row]:
    """Measure the training of the segmentation network on noise."""
    import jax
    import numpy as np

    from jaxtwin.imaging.learning import Examples, train_segmentation
    from jaxtwin.imaging.network import CHANNELS, LABELS, SegmentationNetwork
    from jaxtwin.training.settings import TrainingConfig

    random, per_clip = np.random.default_rng(0), 12
    for precision in ("float32", "bfloat16"):
        for batch in sizes.frames:
            n = 2 * batch
            examples = Examples(
                random.integers(0, 256, (n, CHANNELS, 112, 112)).astype(np.uint8),
                random.integers(0, LABELS, (n, 112, 112)).astype(np.uint8),
            )
            steps = sizes.segmentation_steps
            config = TrainingConfig(steps, batch, evaluate_every=max(steps // 4, 1), patience=99)
            found = train_segmentation(
                SegmentationNetwork(sizes.widths, key=jax.random.key(0)),
                examples,
                Examples(examples.frames[:4], examples.labels[:4]),
                config,
                folder=None,
                seed=0,
                resume=False,
                precision=precision,
            )
            frames = batch / found.step_seconds
            yield row(f"training, {precision}", batch, frames, "frame")
            yield row(f"training, {precision}", batch, frames / per_clip, "clip of 12 frames")


def posterior(sizes: Sizes) -> Iterator[Row]:
    """Train a neural posterior of volume curves, and draw from it."""
    from benchmarks.methods import curves
    from jaxtwin.inference.neural import NeuralPosterior
    from jaxtwin.inference.settings import POSTERIOR_TRAINING
    from jaxtwin.training.progress import silent

    steps, (patients, draws) = sizes.posterior_steps, sizes.draws
    config = dataclasses.replace(POSTERIOR_TRAINING, steps=steps, evaluate_every=max(steps // 4, 1))
    task, measured = curves(patients)
    method = NeuralPosterior(config=config, patients=sizes.posterior_patients)
    learnt = method.learn(task, seed=0, progress=silent)
    yield row(f"training, batches of {config.batch_size}", steps, 1 / learnt.step_seconds, "step")
    seconds, first = timed(lambda: learnt.posterior(measured, draws=draws).theta)
    size = f"{patients} × {draws}"
    yield row("draws, patients × draws", size, patients * draws / seconds, "draw", first_s=first)


def orbit(sizes: Sizes) -> Iterator[Row]:
    """Time a first periodic orbit; see `benchmarks.first_answer`."""
    yield from first("orbit", "first orbit and its readings")


def gradient_of_one(sizes: Sizes) -> Iterator[Row]:
    """Time a first gradient; see `benchmarks.first_answer`."""
    yield from first("gradient", "first gradient of all readings")


def first(part: str, what: str) -> Iterator[Row]:
    """Time one part of `benchmarks.first_answer`."""
    from benchmarks.first_answer import measure

    found = measure(part, None)
    yield row("import", 1, None, "", first_s=found["import_s"])
    yield row(what, 1, None, "", first_s=found[f"{part}_s"])


PARTS: dict[str, tuple[Callable[[Sizes], Iterator[Row]], float]] = {
    "ceilings": (ceilings, 60),
    "orbit": (orbit, 60),
    "gradient_of_one": (gradient_of_one, 60),
    "forward": (forward, 120),
    "gradient": (gradient, 120),
    "encoder": (encoder, 120),
    "segmentation": (segmentation, 120),
    "emulator": (emulator, 120),
    "posterior": (posterior, 120),
}
"""Function that yields the rows, and its time limit [s]."""


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Measure what matters on a GPU.

    Attributes:
        out: Folder for the table and its rows.
        quick: Small sizes on a GPU too; a CPU always has them.
        parts: Parts to measure, in this order.
        minutes: Time limit of all of them.
        patience: What a part's own time limit is multiplied by, for slower devices.
        part: Part to measure in this process (internal).
    """

    out: Path = Path("runs/gpu")
    quick: bool = False
    parts: tuple[str, ...] = tuple(PARTS)
    minutes: float = 10.0
    patience: float = 1.0
    part: str | None = None

    def __post_init__(self):
        unknown = set(self.parts) - set(PARTS)
        if unknown:
            raise ValueError(f"no parts {unknown}: expected some of {', '.join(PARTS)}")


def measure(part: str, file: Path, quick: bool) -> None:
    """Append the rows of one part to a file, each as soon as it is measured."""
    timed_import = part in ("orbit", "gradient_of_one")
    small = quick or (not timed_import and _on_a_cpu())
    with file.open("a") as lines:
        for found in PARTS[part][0](QUICK if small else FULL):
            lines.write(json.dumps({"part": part, **found}) + "\n")
            lines.flush()


def _on_a_cpu() -> bool:
    import jax

    return jax.default_backend() == "cpu"


def run(part: str, folder: Path, quick: bool, limit: float) -> tuple[list[Row], str]:
    """Measure a part in a process of its own; return its rows, and what went wrong ("" if not)."""
    if limit <= 0:
        return [], "no time was left"
    file = folder / f"{part}.jsonl"
    file.unlink(missing_ok=True)
    command = [sys.executable, "-m", "benchmarks.accelerator", "--part", part, "--out", str(folder)]
    command += ["--quick"] if quick else []
    # Every part compiles: what a first call takes is in the table.
    kept = {name: x for name, x in os.environ.items() if "COMPILATION_CACHE" not in name}
    wrong = ""
    with (folder / f"{part}.log").open("w+") as log:
        try:
            done = subprocess.run(command, stdout=log, stderr=log, timeout=limit, env=kept)
            if done.returncode:
                log.seek(0)
                last = (log.read().strip().splitlines() or ["no output"])[-1]
                wrong = f"ended with {done.returncode}: {last[:300]}"
        except subprocess.TimeoutExpired:
            wrong = f"stopped after {limit:.0f} s"
    text = file.read_text() if file.exists() else ""
    # A process that was stopped may have left half a line.
    return [json.loads(line) for line in text.splitlines(True) if line.endswith("\n")], wrong


def table(rows: list[Row], notes: list[str], heading: str) -> str:
    """Return the rows as a Markdown table."""

    def cell(name: str, value: Any) -> str:
        if value is None:
            return "–"
        if name == "share_of_peak":
            return f"{100 * value:.2g}%"
        if name == "per_second" and value >= 1e9:
            return f"{value:.3g}"
        return f"{value:,.4g}" if isinstance(value, float) and value < 1e4 else f"{value:,}"

    def show(name: str, value: Any) -> str:
        return value if isinstance(value, str) else cell(name, value)

    lines = [heading, "", "| " + " | ".join(HEADER) + " |", "|---" * len(HEADER) + "|"]
    for found in rows:
        lines.append("| " + " | ".join(show(name, found.get(name)) for name in HEADER) + " |")
    return "\n".join([*lines, "", *(f"- {note}" for note in notes)]) + "\n"


def main(arguments: Arguments) -> None:
    """Measure all parts, and write the table after each."""
    if arguments.part is not None:
        measure(arguments.part, arguments.out / f"{arguments.part}.jsonl", arguments.quick)
        return
    # Otherwise every process, this one too, would reserve most of the GPU's memory at once.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    from jaxtwin.commands.run import origin

    arguments.out.mkdir(parents=True, exist_ok=True)
    began, rows, notes = time.monotonic(), [], []
    told = origin()
    heading = f"{told['machine']}; jaxtwin at {told['commit']}, JAX {told['versions']['jax']}"
    for part in arguments.parts:
        left = 60 * arguments.minutes - (time.monotonic() - began)
        limit = min(PARTS[part][1] * arguments.patience, left)
        found, wrong = run(part, arguments.out, arguments.quick, limit)
        rows += found
        if wrong:
            notes.append(f"{part}: {wrong}; see {part}.log")
        content = {"rows": rows, "notes": notes, "seconds": time.monotonic() - began, **told}
        (arguments.out / "rows.json").write_text(json.dumps(content, indent=1) + "\n")
        (arguments.out / "table.md").write_text(table(rows, notes, heading))
    print((arguments.out / "table.md").read_text())
    print(f"{time.monotonic() - began:.0f} s in all; written to {arguments.out}")
    if notes:
        raise SystemExit(1)


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
