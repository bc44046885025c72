"""How the cost of periodic orbits grows with states, patients, steps and devices.

    python -m benchmarks.growth [--figure docs/pictures/growth.png] [--json F]   # three minutes
    python -m benchmarks.growth --quick                                          # tiny

- states: a chain of n compartments between a pulsating inflow and the veins, with the resistance
  and compliance of one windkessel shared among them; microseconds per beat and state, 4,096 chains.
- patients: beats a second of left hearts, in batches of 1 to 65,536.
- steps: microseconds per beat and step of 4,096 left hearts, with 60 to 960 steps a beat.
- devices: beats a second of 4,096 left hearts on 1, 2, 4 and 8 virtual devices of this machine's
  cores, each number in its own process: it shows what spreading costs, not what more cores give.

All in float32, the median of a few runs after a first one.
"""

import argparse
import collections
import functools
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from jaxtwin.cohorts.batching import map_patients
from jaxtwin.models.left_heart import SEVEN, LeftHeart
from jaxtwin.parameters import AbstractParameters, Box, Scalar, Theta, parameter
from jaxtwin.physics.base import AbstractPeriodicSystem
from jaxtwin.physics.record import record


class ChainParameters(AbstractParameters):
    """Parameters of a chain of compartments, of all of them together."""

    T: Scalar = parameter(0.8, (0.5, 1.5), symbol="T", unit="s", meaning="period")
    R: Scalar = parameter(1.0, (0.5, 2.0), symbol="R", unit="mmHg·s/mL", meaning="resistance")
    C: Scalar = parameter(1.0, (0.5, 2.0), symbol="C", unit="mL/mmHg", meaning="compliance")


class Chain(AbstractPeriodicSystem[Any, ChainParameters, Any]):
    """n compartments in a row: (C/n) dP_i/dt = q_{i−1} − q_i with q_i = (P_i − P_{i+1}) n/R.

    The inflow is q_0 = 200 max(sin(2πt/T), 0) mL/s, and the last compartment empties into 5 mmHg.

    Attributes:
        names: Names of the states.
    """

    parameters: ClassVar = ChainParameters
    names: tuple[str, ...] = eqx.field(static=True)

    def initial_state(self, p: ChainParameters) -> Any:
        """Return the pressure of the veins everywhere."""
        return _state(self.names)(*(5.0 + 0.0 * p.R for _ in self.names))

    def vector_field(self, t: Scalar, state: Any, p: ChainParameters) -> Any:
        """Evaluate the equations of the class."""
        n = len(self.names)
        inflow = 200 * jnp.maximum(jnp.sin(2 * jnp.pi * t / p.T), 0.0)
        pressures = [*state, 5.0]
        flows = [(a - b) * n / p.R for a, b in zip(state, pressures[1:], strict=True)]
        into = [inflow, *flows[:-1]]
        return _state(self.names)(*((a - b) * n / p.C for a, b in zip(into, flows, strict=True)))

    def outputs(self, t: Scalar, state: Any, p: ChainParameters) -> Any:
        """Return the pressure of the first compartment."""
        return state[0]

    def period(self, p: ChainParameters) -> Scalar:
        """Return T."""
        return p.T


@functools.cache
def _state(names: tuple[str, ...]) -> Any:
    """Return the type of a chain's state, always the same one for the same names."""
    return collections.namedtuple("ChainState", names)


def beat(system: Any, box: Box, steps: int, theta: Theta) -> tuple[Any, Any]:
    """Return the largest value of the first output over a beat, and whether it was found."""
    found = record(system, box.complete(theta), steps=steps)
    return jnp.max(jax.tree.leaves(found.outputs)[0]), found.success


def seconds(system: Any, box: Box, patients: int, steps: int, repeats: int, mesh: Any = None):
    """Return the median duration of all patients' beats [s], after a first one.

    Raises:
        RuntimeError: If an orbit was not found: the numbers would be of something else.
    """
    theta = box.sample(patients, seed=0).astype(np.float32)
    function = eqx.Partial(beat, system, box, steps)
    durations = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        _, success = map_patients(function, theta, chunk=min(patients, 512), mesh=mesh)
        durations.append(time.perf_counter() - began)
        if not success.all():
            raise RuntimeError(f"{(~success).sum()} of {patients} orbits were not found")
    return float(np.median(durations[1:]))


def chain(n: int) -> Chain:
    """Return a chain of n compartments."""
    return Chain(tuple(f"P_{i}" for i in range(1, n + 1)))


def by_devices(number: int, patients: int, repeats: int) -> float:
    """Return beats a second on virtual devices, measured in a process that has as many."""
    flags = f"--xla_force_host_platform_device_count={number}"
    environment = os.environ | {"XLA_FLAGS": flags}
    command = [sys.executable, "-m", "benchmarks.growth", "--on", str(number)]
    sizes = ["--patients", str(patients), "--repeats", str(repeats)]
    done = subprocess.run(
        [*command, *sizes], env=environment, capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def measure(quick: bool, repeats: int) -> dict[str, dict[int, float]]:
    """Return the four series, from a size to its number."""
    patients, heart = (64, LeftHeart()) if quick else (4_096, LeftHeart())
    box = Box.of(ChainParameters, ("T", "R", "C"))
    states = {
        n: 1e6 * seconds(chain(n), box, patients, 240, repeats) / patients / n
        for n in ((1, 2) if quick else (1, 2, 4, 8, 16, 30))
    }
    batches = {
        n: n / seconds(heart, SEVEN, n, 240, repeats)
        for n in ((1, 16) if quick else (1, 16, 256, 4_096, 65_536))
    }
    steps = {
        n: 1e6 * seconds(heart, SEVEN, patients, n, repeats) / patients / n
        for n in ((60, 120) if quick else (60, 120, 240, 480, 960))
    }
    devices = {n: by_devices(n, patients, repeats) for n in ((1, 2) if quick else (1, 2, 4, 8))}
    return {"states": states, "patients": batches, "steps": steps, "devices": devices}


LABELS = {
    "states": ("states of a chain", "µs per beat and state"),
    "patients": ("patients in a batch", "beats a second"),
    "steps": ("steps a beat", "µs per beat and step"),
    "devices": ("virtual devices on two cores", "beats a second"),
}


def draw(found: dict[str, dict[int, float]], path: Path) -> None:
    """Draw the four series."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3), layout="constrained")
    for ax, (name, series) in zip(figure.subplots(1, 4), found.items(), strict=True):
        ax.plot(list(series), list(series.values()), "o-")
        ax.set_xscale("log", base=2)
        ax.set_xticks(list(series), [f"{n:,}" for n in series])
        ax.set_xlabel(LABELS[name][0])
        ax.set_ylabel(LABELS[name][1])
        ax.set_ylim(0, 1.15 * max(series.values()))
        ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Measure and print the series."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few and small sizes")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write the numbers to a file")
    parser.add_argument("--figure", type=Path, help="also draw them")
    parser.add_argument("--on", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--patients", type=int, default=4_096, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.on:
        mesh = jax.make_mesh((given.on,), ("batch",)) if given.on > 1 else None
        took = seconds(LeftHeart(), SEVEN, given.patients, 240, given.repeats, mesh)
        print(given.patients / took)
        return
    found = measure(given.quick, given.repeats)
    for name, series in found.items():
        print(f"\n| {LABELS[name][0]} | {LABELS[name][1]} |\n|---|---|")
        for size, number in series.items():
            print(f"| {size:,} | {number:,.4g} |")
    if given.json:
        given.json.write_text(json.dumps(found, indent=1))
    if given.figure:
        draw(found, given.figure)


if __name__ == "__main__":
    main()
