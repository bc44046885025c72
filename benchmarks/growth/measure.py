"""Durations of batches of beats, as each of their sizes grows."""

import math
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from benchmarks.growth.chain import ChainParameters, chain
from benchmarks.timing import timed
from jaxtwin.cohorts.batching import default_chunk, map_patients
from jaxtwin.models.left_heart import SEVEN, LeftHeart
from jaxtwin.parameters import Box, Theta
from jaxtwin.physics.record import record

STEPS = 240
"""Number of steps of a beat, where it is not the number of steps that grows."""


class Size(NamedTuple):
    """What grows in a series.

    Attributes:
        name: Its name in a table or on an axis.
        cost: Unit of the cost in the table.
        calculate: Cost, given the size, the number of patients, and the duration of all [s].
    """

    name: str
    cost: str
    calculate: Callable[[int, int, float], float]


def _rate(size: int, patients: int, duration: float) -> float:
    return patients / duration


def _of_each(size: int, patients: int, duration: float) -> float:
    return 1e6 * duration / patients / size


SIZES = {
    "patients": Size("patients in a batch", "beats/s", _rate),
    "states": Size("states of a chain", "µs per beat and state", _of_each),
    "steps": Size("steps (samples) of a beat", "µs per beat and step", _of_each),
    "devices": Size("virtual devices on the same cores", "beats/s", _rate),
}


class Series(NamedTuple):
    """Durations of a batch as one of `SIZES` grows.

    Attributes:
        kind: Name of what grows.
        sizes: Sizes in ascending order.
        patients: Number of patients at each size.
        seconds: Duration of all their beats [s].
    """

    kind: str
    sizes: tuple[int, ...]
    patients: tuple[int, ...]
    seconds: tuple[float, ...]

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of a table: size, duration and cost."""
        size = SIZES[self.kind]
        return [
            {size.name: n, "s": s, size.cost: size.calculate(n, patients, s)}
            for n, patients, s in zip(self.sizes, self.patients, self.seconds, strict=True)
        ]


def beat(system: Any, box: Box, steps: int, theta: Theta) -> tuple[jax.Array, jax.Array]:
    """Return the largest value of the first output over a beat, and whether it was found.

    An orbit counts however inaccurate it is: the cost of few steps is measured, not their error.
    """
    found = record(system, box.complete(theta), steps=steps, accuracy=math.inf)
    return jnp.max(jax.tree.leaves(found.outputs)[0]), found.success


def seconds(
    system: Any, box: Box, patients: int, steps: int, repeats: int, mesh: Mesh | None = None
) -> float:
    """Return the median duration of all patients' beats [s], after a first one.

    Raises:
        RuntimeError: If an orbit was not found: the numbers would be of something else.
    """
    theta = box.sample(patients, seed=0).astype(np.float32)
    function = eqx.Partial(beat, system, box, steps)

    def once() -> None:
        _, success = map_patients(
            function, theta, chunk=min(patients, default_chunk(theta.dtype)), mesh=mesh
        )
        if not success.all():
            raise RuntimeError(f"{(~success).sum()} of {patients} orbits were not found")

    return timed(once, repeats)[0]


def seconds_on(devices: int, patients: int, repeats: int) -> float:
    """Return `seconds` of left hearts on virtual devices, in a process that has as many."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    command = [sys.executable, "-m", "benchmarks.growth", "--on", str(devices)]
    command += ["--patients", str(patients), "--repeats", str(repeats)]
    environment = os.environ | {"XLA_FLAGS": flags}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout)


def measure(quick: bool, repeats: int) -> list[Series]:
    """Measure a series for each of `SIZES`."""
    patients, heart = 64 if quick else 4_096, LeftHeart()
    box = Box.of(ChainParameters, ("T", "R", "C"))
    batches = (1, 16) if quick else (1, 16, 256, 4_096, 65_536)
    states = (1, 2) if quick else (1, 2, 4, 8, 16, 30)
    steps = (60, 120) if quick else (60, 120, 240, 480, 960)
    devices = (1, 2) if quick else (1, 2, 4, 8)

    def series(kind: str, sizes: tuple[int, ...], duration: Callable[[int], float]) -> Series:
        batch = sizes if kind == "patients" else (patients,) * len(sizes)
        return Series(kind, sizes, batch, tuple(map(duration, sizes)))

    return [
        series("patients", batches, lambda n: seconds(heart, SEVEN, n, STEPS, repeats)),
        series("states", states, lambda n: seconds(chain(n), box, patients, STEPS, repeats)),
        series("steps", steps, lambda n: seconds(heart, SEVEN, patients, n, repeats)),
        series("devices", devices, lambda n: seconds_on(n, patients, repeats)),
    ]
