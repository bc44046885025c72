"""What bounds the simulator: operations and bytes a patient beside this machine's peaks.

    python -m benchmarks.bound [--json F]    # two minutes

Operations and bytes (see `benchmarks.work`) are those of the traced program of a chunk of patients,
as `map_patients` runs it, divided by their number. All patients of a chunk wait for the slowest,
whose iterations count; beside them are those that a patient needs on average. Peaks are of the same
kind of program: functions of machine code for blocks of 128 patients in float32, on the same
threads. They take turns with the simulations. Times are core seconds (CPU time), the least of the
turns, so that other load enters little. The functions of the blocks are also timed by themselves.

Each least time is of one resource by itself. "One by one" is a program with one instruction for
each operation and nothing at the same time. "Each waiting for the last" is the longest chain of
operations that need each other, if nothing overlaps, not even the sixteen vectors of a block.
"Between loops" are the numbers that a compiled step's loops over the patients hand to each other
in the first cache, for all operations as for those of the step.
"""

import dataclasses
import functools
import json
import math
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax.extend.core import jaxpr_as_fun

from benchmarks.models import extremes
from benchmarks.simulate import volumes
from benchmarks.work import blocks, compiled_step, longest, size_of, times, with_iterations, work
from experiments.models.studies import STUDIES
from jaxtwin.cohorts.batching import default_chunk, map_patients
from jaxtwin.commands.run import origin
from jaxtwin.models.left_heart import SEVEN
from jaxtwin.parameters import Box
from jaxtwin.physics.kernel import BLOCK, as_one_function

L2 = 512 * 1024  # Bytes of a core's second cache.
LOOPS = "coarse beats", "Newton's steps", "beats"  # The while loops of a search.
KINDS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "addition": lambda y, a, b: y + a,
    "multiply-add": lambda y, a, b: y * a + b,
    "div": lambda y, a, b: a / (y + b),
    "max": lambda y, a, b: jnp.maximum(y + a, b),
    "sqrt": lambda y, a, b: jnp.sqrt(y + a),
    "exp": lambda y, a, b: jnp.exp(a - y),
    "log": lambda y, a, b: jnp.log(y + b),
}
"""A link of a chain of each kind; an addition keeps XLA from leaving out a kind of its own."""


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Compare the simulator with this machine's peaks.

    Attributes:
        patients: Number of patients.
        repeats: Number of turns.
        json: File to write the numbers to.
    """

    patients: int = 4_096
    repeats: int = 4
    json: Path | None = None


def links(kind: str, chains: int, length: int, loops: int) -> Callable[[Any], Any]:
    """Return a function of one patient: `loops` times through chains of `length` links each."""

    def run(x: Any, a: Any, b: Any) -> Any:
        def body(ys: Any, _: Any) -> Any:
            for _ in range(length):
                ys = [KINDS[kind](y, a, b) for y in ys]
            return ys, None

        return jax.lax.scan(body, [x + i for i in range(chains)], length=loops)[0]

    return lambda theta: jnp.stack(as_one_function(run, *theta))


def negated(numbers: int, loops: int) -> Callable[[Any], Any]:
    """Return a function of one patient that reads and writes some numbers again and again."""

    def run(x: Any) -> Any:
        start = x * jnp.arange(numbers, dtype=x.dtype)
        return jax.lax.scan(lambda y, _: (-y, None), start, length=loops)[0][0]

    return lambda theta: as_one_function(run, theta[0])


def peaks(patients: int) -> dict[str, tuple[Callable[[], Any], float]]:
    """Return computations by name, with the operations or bytes of each."""
    theta = np.random.default_rng(0).uniform(0.9, 1.1, (patients, 3)).astype(np.float32)
    shapes = {kind: (4, 2, 8_000) for kind in KINDS}
    shapes |= {"addition": (8, 8, 8_000), "multiply-add": (4, 4, 16_000)}
    found = {kind: (links(kind, *shape), math.prod(shape)) for kind, shape in shapes.items()}
    for kind, length in (("addition", 512), ("div", 64)):
        found[f"{kind}, waiting"] = links(kind, 1, length, 400), 400 * length
    # Each addition is a loop over the patients, which reads two numbers and writes one.
    found["bytes in L1"] = links("addition", 8, 1, 20_000), 8 * 20_000 * 3 * 4
    found["bytes in L2"] = negated(256, 2_000), 2_000 * 256 * 2 * 4
    calls: dict[str, tuple[Callable[[], Any], float]] = {}
    for name, (function, number) in found.items():
        calls[name] = functools.partial(map_patients, function, theta), float(patients * number)
    # XLA cannot compile operations on large arrays as part of one function.
    large = jnp.ones(2**24, jnp.float32)
    again = jax.jit(lambda x: jax.lax.fori_loop(0, 16, lambda _, y: -y, x))
    calls["bytes in memory"] = lambda: jax.block_until_ready(again(large)), 32.0 * large.nbytes
    return calls


def core_seconds(calls: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Return the least CPU time and duration of each call, in turns, after a first one."""
    for call in calls.values():
        call()
    least = {name: [np.inf, np.inf] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            cpu, wall = time.process_time(), time.perf_counter()
            call()
            took = time.process_time() - cpu, time.perf_counter() - wall
            least[name] = [min(pair) for pair in zip(least[name], took, strict=True)]
    return least


def counted(function: Any, theta: np.ndarray, weights: dict[str, float]) -> dict[str, Any]:
    """Return the work of a patient, its longest chain, iterations, and the compiled step."""
    chunk = default_chunk(theta.dtype)
    one = jax.make_jaxpr(function)(theta[0])
    together = jax.make_jaxpr(jax.vmap(function))(theta[:chunk]).jaxpr
    own = map_patients(lambda x: jnp.stack(with_iterations(one, [x])[1]), theta)
    slowest = np.mean([own[i : i + chunk].max(0) for i in range(0, len(own), chunk)], axis=0)
    calls = blocks(together, iter(slowest))
    programs = [(call.params["program"], n) for call, n in calls]
    largest = max((p.jaxpr for p, _ in programs), key=lambda p: size_of(p.invars + p.outvars))
    return {
        "work": times(work(together, iter(slowest)), 1 / chunk),
        "needed": times(work(together, iter(own.mean(0))), 1 / chunk),
        "chain": sum(n * longest(p.jaxpr, weights) for p, n in programs) * (BLOCK // 4) / chunk,
        "inside_us": [inside(program, n, chunk) for program, n in programs],
        "iterations": own.mean(0).tolist(),
        "iterations of the slowest": slowest.tolist(),
        "bytes of a block": size_of(largest.invars + largest.outvars),
        "step": compiled_step(largest),
    }


def inside(program: Any, often: float, chunk: int) -> float:
    """Return a patient's core time in a block's function, called so often, of numbers near 1 [µs].

    Its inputs lie in the caches, which in a chunk they may not.
    """
    numbers = np.random.default_rng(0)
    shapes = [(aval.shape, aval.dtype) for aval in program.in_avals]
    given = [jnp.asarray(numbers.uniform(0.5, 1.5, shape), dtype) for shape, dtype in shapes]

    def again(given: Any, _: Any) -> Any:
        found = as_one_function(jaxpr_as_fun(program), *given)
        # XLA would run equal calls once.
        return [given[0] + 0 * jnp.sum(found[0]), *given[1:]], None

    run = jax.jit(lambda given: jax.lax.scan(again, given, length=100)[0])
    least, _ = core_seconds({"": lambda: jax.block_until_ready(run(given))}, 5)[""]
    return 1e6 * least / 100 * often / chunk


def least_times(found: dict[str, Any], rate: dict[str, float]) -> dict[str, float]:
    """Return the least core time of a patient by what may bound it [µs].

    Args:
        found: What `counted` returned.
        rate: Operations or bytes in a core second.
    """
    count: Counter[str] = found["work"] + Counter(max=found["work"]["min"])
    single, addition, step = count["operation"], 1 / rate["addition"], found["step"]
    costly = {kind: count[kind] for kind in ("div", "max", "sqrt", "exp", "log")}
    slow = {kind: n * (1 / rate[kind] - addition) for kind, n in costly.items()}
    moved = count["streamed"] + count["chunk"]
    steps = (single + costly["div"] + costly["max"]) / step["traced"]
    seconds = {
        "multiply-adds": single / 2 / rate["multiply-add"],
        "divisions": costly["div"] / rate["div"],
        "maxima": slow["max"],
        "roots and functions": slow["sqrt"] + slow["exp"] + slow["log"],
        "one by one": single * addition + sum(slow.values()),
        "each waiting for the last": found["chain"] / rate["addition, waiting"],
        "between loops, from L1": steps * step["bytes between loops"] / rate["bytes in L1"],
        "loops' inputs and outputs, from L2": moved / rate["bytes in L2"],
        "loops' inputs and outputs, from memory": moved / rate["bytes in memory"],
    }
    return {name: 1e6 * value for name, value in seconds.items()}


def show(name: str, row: dict[str, Any]) -> None:
    """Print a model's table."""
    print(f"\n{name}: {row['per_second']:,.0f} a second, {row['us']:.1f} µs of a core a patient")
    print("\n| bound | µs of a core | share of measured |\n|---|---|---|")
    for bound, least in row["least_us"].items():
        print(f"| {bound} | {least:.2f} | {least / row['us']:.0%} |")
    print("\n| a patient | counted | without waiting for the slowest |\n|---|---|---|")
    for kind, number in sorted(row["work"].items()):
        print(f"| {kind} | {number:,.0f} | {row['needed'][kind]:,.0f} |")
    each = zip(LOOPS, row["iterations of the slowest"], row["iterations"], strict=True)
    print(*(f"| {kind} | {a:.2f} | {b:.2f} |" for kind, a, b in each), sep="\n")
    inside_us = row["inside_us"]
    parts = zip((*LOOPS, "outside"), (*inside_us, row["us"] - sum(inside_us)), strict=True)
    print("\nµs in functions of blocks:", *(f"{kind} {us:.1f}" for kind, us in parts))
    print(f"A block's inputs and outputs: {row['bytes of a block'] / L2:.0%} of L2.", end=" Step: ")
    print(", ".join(f"{kind} {number:,.0f}" for kind, number in row["step"].items()))


def main(arguments: Arguments) -> None:
    """Count, measure, and print the tables."""
    four: Any = STUDIES["four_chambers"].task
    models: dict[str, tuple[Any, Box]] = {
        "left heart": (volumes, SEVEN),
        "four chambers": (eqx.Partial(extremes, four.system, four.box), four.box),
    }
    n = arguments.patients
    theta = {name: box.sample(n, seed=0).astype(np.float32) for name, (_, box) in models.items()}
    ceilings = peaks(n)
    calls = {name: call for name, (call, _) in ceilings.items()}
    for name, (function, _) in models.items():
        calls[name] = functools.partial(map_patients, function, theta[name])
    least = core_seconds(calls, arguments.repeats)
    rate = {name: number / least[name][0] for name, (_, number) in ceilings.items()}
    print("| peak | billions in a core second |\n|---|---|")
    print(*(f"| {name} | {value / 1e9:.2f} |" for name, value in rate.items()), sep="\n")
    division = rate["addition, waiting"] / rate["div, waiting"]
    weights = dict(div=division, sqrt=division, max=2, exp=4 * division, log=4 * division)
    result: dict[str, Any] = {"rate": rate, **origin()}
    for name, (function, _) in models.items():
        found = counted(function, theta[name], weights)
        found |= {"us": 1e6 * least[name][0] / n, "per_second": n / least[name][1]}
        result[name] = found | {"least_us": least_times(found, rate)}
        show(name, result[name])
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
