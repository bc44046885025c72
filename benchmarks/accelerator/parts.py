"""What is measured: every part yields rows, each as soon as it has it."""

import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.timing import timed

# Nothing that imports JAX is imported here: two parts time its import.

Row: TypeAlias = dict[str, Any]


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


GRADIENT_WORK = {"tubelet": 0.34e9, "conv3d": 2.2e9}
"""Operations of the gradient of one clip's loss, as XLA counts them.

Conv3d's are those of XLA's own 3D convolutions. On a CPU in float32 it computes them otherwise, in
3.2e9 operations; its share of the peak counts the 2.2e9 there, too.
"""


def encoder(sizes: Sizes) -> Iterator[Row]:
    """Measure training steps of the encoders of clips."""
    from benchmarks.methods import encoder_step

    for precision in ("float32", "bfloat16"):
        peak = matrix_ceiling(sizes.matrix, precision)
        for name in ("tubelet", "conv3d"):
            if (name, precision) == ("conv3d", "bfloat16") and on_a_cpu():
                continue  # XLA's own 3D convolutions, which take minutes there.
            for batch in sizes.clips:
                step = encoder_step(name, batch, precision)
                seconds, first = timed(step)
                work = GRADIENT_WORK[name] * batch
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


def on_a_cpu() -> bool:
    """Return whether JAX computes on a CPU."""
    import jax

    return jax.default_backend() == "cpu"
