"""The default encoder against the paper's: speed of a training step, and error for equal training.

    python -m benchmarks.encoders [--run runs/pssl-default --steps 60]

Without a run, only the speed is measured. With a run, both encoders are trained from scratch on
its clips for the same number of steps with 16 clips each, and scored on its validation clips.
"""

import argparse
import time
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from jaxtwin.data.base import ClipFormat
from jaxtwin.data.cache import ClipCache
from jaxtwin.data.echonet import read_echonet
from jaxtwin.encoders.base import AbstractEncoder
from jaxtwin.encoders.create import EncoderName, create_encoder
from jaxtwin.forward.emulator import load_emulator
from jaxtwin.methods.clips import Clips, ClipTask
from jaxtwin.methods.pssl_clips import PSSL
from jaxtwin.models.left_heart import LeftHeart
from jaxtwin.training.loop import TrainingConfig

BATCH = 16


@eqx.filter_jit
def gradient(encoder: AbstractEncoder, clips: jax.Array) -> AbstractEncoder:
    """Return the gradient, whose computation dominates a training step."""
    return eqx.filter_grad(lambda e: jnp.mean(jax.vmap(e)(clips) ** 2))(encoder)


def speed(encoder: AbstractEncoder, format: ClipFormat, repeats: int) -> tuple[float, float]:
    """Return clips per second for the gradient (median), and the duration of the first call [s]."""
    shape = (BATCH, format.frames, format.size, format.size)
    clips = jnp.asarray(np.random.default_rng(0).integers(0, 256, shape), jnp.uint8)
    seconds = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        jax.block_until_ready(gradient(encoder, clips))
        seconds.append(time.perf_counter() - began)
    return BATCH / float(np.median(seconds[1:])), seconds[0]


def main() -> None:
    """Measure and print one line per encoder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--steps", type=int, default=60)
    arguments = parser.parse_args()
    format = ClipFormat()
    names: tuple[tuple[EncoderName, int], ...] = (("tubelet", 10), ("conv3d", 2))
    for name, repeats in names:
        encoder = create_encoder(name, format, 7, key=jax.random.key(0))
        size = sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(encoder, eqx.is_array)))
        rate, first = speed(encoder, format, repeats)
        line = f"{name}: {size} parameters, {rate:.1f} clips/s, first call {first:.1f} s"
        if arguments.run:
            emulator = load_emulator(arguments.run / "emulator", LeftHeart())
            records = read_echonet(arguments.run / "phantom").records
            cache = ClipCache.build(records, format, arguments.run / "clips")
            config = TrainingConfig(
                arguments.steps, BATCH, weight_decay=1e-2, evaluate_every=arguments.steps
            )
            learnt = PSSL(forward=emulator, encoder=name, config=config).learn(
                ClipTask(emulator.system, emulator.box, format),
                Clips.from_split(cache, "TRAIN"),
                Clips.from_split(cache, "VAL"),
            )
            line += (
                f"; after {learnt.steps} steps: EF error {learnt.validation['EF_error']:.2f}, EDV "
                f"error {learnt.validation['EDV_error']:.1f} mL, {learnt.seconds:.0f} s"
            )
        print(line)


if __name__ == "__main__":
    main()
