"""Script run by test_spread_training.py in processes of their own: many devices, many hosts."""

import argparse
import json
import os
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

import jaxtwin as jt
from jaxtwin.forward.learning import learn_emulator
from jaxtwin.imaging.learning import Examples, train_segmentation
from jaxtwin.imaging.network import CHANNELS, SegmentationNetwork
from jaxtwin.training import checkpoint
from tests.processes import started
from tests.systems import LeakyParameters, Windkessel

BOX = jt.Box.of(LeakyParameters, ("T", "R", "C"))
TASK = jt.CurveTask(Windkessel(), BOX, "P", 0.01, samples=24, known="T", noise=0.05)
BRIEF = jt.TrainingConfig(steps=12, batch_size=32, learning_rate=3e-3, evaluate_every=4)
STAGES = ("emulator", "pssl", "posterior", "segmentation")


def discs(n: int, seed: int) -> Examples:
    """Bright discs, with their label maps."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:64, :64]
    middle = random.uniform(20, 44, (n, 2, 1, 1))
    inside = np.hypot(rows - middle[:, 0], columns - middle[:, 1]) < 12
    grey = 200 * inside + random.integers(0, 20, inside.shape)
    frames = np.repeat(grey[:, None], CHANNELS, axis=1).astype(np.uint8)
    return Examples(frames, inside.astype(np.uint8))


def train(folder: Path, mesh: Mesh | None) -> None:
    """Train one of each kind, and go on where a folder holds the beginning of it."""
    emulator, _ = learn_emulator(
        folder, TASK.system, BOX, ("P",), phases=24, simulations=256, unseen=16, training=BRIEF,
        mesh=mesh,
    )  # fmt: skip
    cohort = jt.simulate_cohort(TASK.system, BOX, BOX.sample(96, seed=5), phases=24, mesh=mesh)
    curves = TASK.measure(cohort, 0)
    given = {"folder": folder, "resume": True, "mesh": mesh}
    method = jt.CurvePSSL(emulator, config=BRIEF, width=16, depth=1)
    method.learn(TASK, curves.take(slice(64)), curves.take(slice(64, None)), **given)
    jt.NeuralPosterior(config=BRIEF, patients=1_024, width=16, layers=2).learn(TASK, **given)
    network = SegmentationNetwork((4, 6), key=jax.random.key(0))
    few = jt.TrainingConfig(steps=4, batch_size=8, learning_rate=1e-2, evaluate_every=2)
    train_segmentation(network, discs(16, 0), discs(4, 1), few, seed=0, **given)


def losses(folder: Path) -> list[list[float]]:
    """Losses in training and validation at every evaluation, in order of the stages."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [[STAGES.index(r["stage"]), r["step"], r["train_loss"], r["loss"]] for r in rows]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--killed-after", type=int, default=0, help="number of states saved")
    arguments, mesh = started(parser)
    if arguments.killed_after:
        saved = []
        save = checkpoint.save

        def save_and_die(*given):
            save(*given)
            saved.append(None)
            if len(saved) == arguments.killed_after:
                os._exit(7)

        checkpoint.save = save_and_die
    train(arguments.out / "run", mesh)
    if mesh is not None:
        odd = jt.TrainingConfig(steps=1, batch_size=mesh.size + 1)
        with pytest.raises(ValueError, match=f"a batch of {mesh.size + 1} on {mesh.size} devices"):
            jt.NeuralPosterior(config=odd, patients=1_024).learn(TASK, mesh=mesh)
    np.savez(arguments.out / f"{arguments.process}.npz", losses(arguments.out / "run"))


if __name__ == "__main__":
    main()
