"""The encoders beside the same networks in PyTorch, and their errors for equal training.

    python -m benchmarks.encoders [--run runs/pssl-default --steps 60]

The speed is that of a gradient, whose computation dominates a training step, for 16 clips. The
networks take turns, so that other load on the machine affects them equally. Without PyTorch
(`pip install -e ".[bench]"`) only ours are measured. With a run, both of our encoders are also
trained from scratch on its clips for the same number of steps with 16 clips each, and scored on its
validation clips.
"""

import argparse
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.markdown import table
from benchmarks.paper import seeded, torch_or_missing
from benchmarks.rivals import Missing
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


def noise(format: ClipFormat, batch: int) -> np.ndarray:
    """Return clips of noise."""
    shape = (batch, format.frames, format.size, format.size)
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


def ours(name: EncoderName, format: ClipFormat, batch: int) -> tuple[int, Callable[[], Any]]:
    """Return the number of parameters of an encoder, and the function to time."""
    encoder = create_encoder(name, format, 7, key=jax.random.key(0))
    clips = jnp.asarray(noise(format, batch))
    size = sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(encoder, eqx.is_array)))
    return size, lambda: jax.block_until_ready(gradient(encoder, clips))


def in_pytorch(name: EncoderName, format: ClipFormat, batch: int) -> tuple[int, Callable[[], Any]]:
    """Return the same of the same network in PyTorch, with its own layers and weights.

    Raises:
        Missing: If PyTorch is not installed.
    """
    torch = torch_or_missing()
    with seeded(torch):
        network = (torch_tubelet if name == "tubelet" else torch_conv3d)(torch, format)
    clips = torch.as_tensor(noise(format, batch))

    def step() -> None:
        network.zero_grad()
        grey = clips.float()
        centred = grey - grey.mean(dim=(1, 2, 3), keepdim=True)
        grey = centred / (grey.std(dim=(1, 2, 3), keepdim=True, correction=0) + 1.0)
        (network(grey) ** 2).mean().backward()

    return sum(weights.numel() for weights in network.parameters()), step


def torch_tubelet(torch: Any, format: ClipFormat, free: int = 7) -> Any:
    """Return `TubeletEncoder` in PyTorch: same layers, sizes and operations."""
    nn, F = torch.nn, torch.nn.functional
    stem, channels, width, pairs = 48, 64, 128, format.frames // 2

    class Scale(nn.Module):
        """Normalisation over the channels, with a scale only."""

        def __init__(self, n: int):
            super().__init__()
            self.norm = nn.LayerNorm(n, bias=False)

        def forward(self, x: Any) -> Any:
            return self.norm(x.movedim(1, -1)).movedim(-1, 1)

    class Tubelet(nn.Module):
        def __init__(self):
            super().__init__()
            self.patch = nn.Conv2d(2, stem, 4, stride=4)
            self.scales = nn.ModuleList([Scale(stem), Scale(channels)])
            self.first = nn.Conv2d(stem, channels, 3, stride=2, padding=1, bias=False)
            self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
            self.place = nn.Linear((format.size // 16) ** 2 * channels, width)
            self.along_time = nn.ModuleList(nn.Conv1d(width, width, 3, padding=1) for _ in range(2))
            self.head = nn.Sequential(nn.Linear(3 * width, 128), nn.SiLU(), nn.Linear(128, free))

        def forward(self, clips: Any) -> Any:
            x = F.avg_pool2d(clips, 2).reshape(len(clips) * pairs, 2, *[format.size // 2] * 2)
            x = F.silu(self.patch(x))
            x = F.silu(self.first(self.scales[0](x)))
            x = x + F.silu(self.second(self.scales[1](x)))
            x = F.silu(self.place(x.flatten(1))).reshape(len(clips), pairs, width).transpose(1, 2)
            for layer in self.along_time:
                x = x + F.silu(layer(x))
            return self.head(torch.cat([x.mean(dim=2), x.amax(dim=2), x.amin(dim=2)], dim=1))

    return Tubelet()


def torch_conv3d(torch: Any, format: ClipFormat, free: int = 7) -> Any:
    """Return `Conv3DEncoder` in PyTorch: same layers, sizes and operations."""
    del format
    nn = torch.nn
    layers = [nn.Unflatten(1, (1, -1))]
    for a, b in itertools.pairwise((1, 8, 16, 32, 64, 128)):
        layers += [nn.Conv3d(a, b, 3, padding=1), nn.GroupNorm(4, b), nn.ReLU(), nn.MaxPool3d(2)]
    layers += [nn.AdaptiveAvgPool3d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, free))


def speeds(format: ClipFormat, batch: int, repeats: int) -> list[dict[str, Any]]:
    """Return the rows of the table: clips a second (median), and the duration of the first call."""
    made, seconds = {}, {}
    for name in ("tubelet", "conv3d"):
        for library, make in (("jaxtwin", ours), ("PyTorch", in_pytorch)):
            try:
                made[name, library] = make(name, format, batch)
            except Missing as missing:
                print(f"skipped {name} in {library}, not installed: {missing}")
    for _ in range(repeats + 1):
        for key, (_, step) in made.items():
            began = time.perf_counter()
            step()
            seconds.setdefault(key, []).append(time.perf_counter() - began)
    return [
        {
            "encoder": key[0],
            "library": key[1],
            "parameters": size,
            "clips_a_second": batch / float(np.median(seconds[key][1:])),
            "first_call_s": seconds[key][0],
        }
        for key, (size, _) in made.items()
    ]


def trained(name: EncoderName, run: Path, steps: int) -> str:
    """Train an encoder on the clips of a run, and tell its validation errors."""
    format = ClipFormat()
    emulator = load_emulator(run / "emulator", LeftHeart())
    records = read_echonet(run / "phantom").records
    cache = ClipCache.build(records, format, run / "clips")
    config = TrainingConfig(steps, BATCH, weight_decay=1e-2, evaluate_every=steps)
    learnt = PSSL(forward=emulator, encoder=name, config=config).learn(
        ClipTask(emulator.system, emulator.box, format),
        Clips.from_split(cache, "TRAIN"),
        Clips.from_split(cache, "VAL"),
    )
    return (
        f"{name} after {learnt.steps} steps: EF error {learnt.validation['EF_error']:.2f}, EDV "
        f"error {learnt.validation['EDV_error']:.1f} mL, {learnt.seconds:.0f} s"
    )


def main() -> None:
    """Print one row per encoder and library."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    print(table(speeds(ClipFormat(), BATCH, arguments.repeats)))
    if arguments.run:
        for name in ("tubelet", "conv3d"):
            print(trained(name, arguments.run, arguments.steps))


if __name__ == "__main__":
    main()
