"""Time to a first answer, each from a fresh process without any compiled program.

    python -m benchmarks.first_answer                # two minutes, and three to train a tiny run
    python -m benchmarks.first_answer --run DIR      # the twin from the networks of another run
    python -m benchmarks.first_answer --cached       # beside it with JAX's persistent cache
    python -m benchmarks.first_answer --json FILE    # also write the numbers to a file

- import_s: `import jaxtwin`, and what a periodic orbit needs.
- orbit_s: after it, the periodic orbit of one left heart, with EDV and EF.
- gradient_s: after the import, in another process, the gradient of all readings' sum by all
  parameters.
- twin_s: after `import jaxtwin`, the networks of a saved run, a phantom's recording, its twin.

Each is the median of a few processes. `equations` counts the traced equations of orbit and gradient
(those inside loops once), and `twin_programs` the programs that the twin needs, which compilation
takes time for; unlike seconds they do not depend on the machine. `twin_cpu_s` is the processor time
of the twin, of all cores together.
"""

import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import tyro

PARTS = ("orbit", "gradient", "twin")


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Measure the time to a first answer.

    Attributes:
        run: Folder of a training run of `jaxtwin train`; by default a tiny one is made first.
        repeats: Number of processes for each number.
        cached: Measure also a second process that finds the programs of the first in JAX's
            persistent cache.
        json: File to write the numbers to.
        part: What to measure in this process (internal).
    """

    run: Path | None = None
    repeats: int = 3
    cached: bool = False
    json: Path | None = None
    part: str | None = None


def measure(part: str, run: Path | None) -> dict[str, float]:
    """Return the seconds of one part in this process, in which nothing was imported before."""
    began = time.perf_counter()
    import jaxtwin as jt

    if part == "twin":
        assert run is not None
        return _twin(run)
    heart = jt.models.LeftHeart()
    p, orbit, read = heart.parameters(), jt.periodic_orbit, jt.read
    imported = time.perf_counter()

    import jax  # Imported already.

    if part == "orbit":
        jax.block_until_ready(read(heart, orbit(heart, p).recording(240), ["EDV", "EF"]))
        name = "orbit_s"
    else:

        def readings(p: Any) -> Any:
            return sum(jax.tree.leaves(read(heart, orbit(heart, p).recording(240))))

        jax.block_until_ready(jax.grad(readings)(p))
        name = "gradient_s"
    return {"import_s": imported - began, name: time.perf_counter() - imported}


def _twin(run: Path) -> dict[str, float]:
    began, busy = time.perf_counter(), time.process_time()
    from jax import monitoring

    from jaxtwin.commands.twin import load_run
    from jaxtwin.data.echonet import read_echonet
    from jaxtwin.data.recording import read_recording
    from jaxtwin.imaging.examples import read_labels
    from jaxtwin.twin.echo import TwinBuilder

    programs: list[str] = []

    def listen(event: str, duration_secs: float, **told: Any) -> None:
        if event.endswith("jaxpr_to_mlir_module_duration"):
            programs.append(str(told.get("fun_name")))

    monitoring.register_event_duration_secs_listener(listen)
    builder = load_run(run)
    assert isinstance(builder, TwinBuilder)
    for record in read_echonet(run / "phantom").split("TEST"):
        found = builder.build(read_recording(record.path), read_labels(record).pixel)
        if found.twin is not None:
            break
    else:
        raise ValueError(f"{run} makes no twin of any of its unseen phantoms: train for longer")
    return {
        "twin_s": time.perf_counter() - began,
        "twin_cpu_s": time.process_time() - busy,
        "twin_programs": len(programs),
    }


def equations() -> dict[str, int]:
    """Return the numbers of traced equations of an orbit and of its gradient."""
    import jax

    import jaxtwin as jt

    heart = jt.models.LeftHeart()

    def readings(p: Any) -> Any:
        solution = jt.periodic_orbit(heart, p, throw=False)
        return sum(jax.tree.leaves(jt.read(heart, solution.recording(240))))

    p = heart.parameters()
    return {
        "orbit": count(jax.make_jaxpr(readings)(p).jaxpr),
        "gradient": count(jax.make_jaxpr(jax.grad(readings))(p).jaxpr),
    }


def count(jaxpr: Any) -> int:
    """Return the number of equations of a program, with those of its loops and calls."""
    total = 0
    for equation in jaxpr.eqns:
        total += 1
        for value in equation.params.values():
            for part in value if isinstance(value, tuple | list) else (value,):
                inner = getattr(part, "jaxpr", part)
                if hasattr(inner, "eqns"):
                    total += count(inner)
    return total


def main(arguments: Arguments) -> dict[str, Any]:
    """Measure every part in processes of their own, and print the medians."""
    with tempfile.TemporaryDirectory() as place:
        run = arguments.run
        if run is None:
            run = Path(place) / "run"
            command = ["-m", "experiments.pssl", "--preset", "tiny", "--out", str(run)]
            subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
        found: dict[str, Any] = {}
        for part in PARTS:
            rows = [_process(part, run) for _ in range(arguments.repeats)]
            found |= {name: statistics.median(row[name] for row in rows) for name in rows[0]}
        if arguments.cached:
            for part in PARTS:
                cache = str(Path(place) / f"cache-{part}")
                _process(part, run, cache)
                again = _process(part, run, cache)
                found |= {f"{name}_cached": value for name, value in again.items()}
    found["equations"] = equations()
    for name, value in found.items():
        print(f"{name:20}{value:.2f}" if isinstance(value, float) else f"{name:20}{value}")
    if arguments.json is not None:
        from jaxtwin.commands.run import origin

        arguments.json.write_text(json.dumps({**found, **origin()}, indent=1))
    return found


def _process(part: str, run: Path, cache: str | None = None) -> dict[str, float]:
    """Measure one part in a fresh process, without a cache unless one is given."""
    kept = {name: x for name, x in os.environ.items() if "COMPILATION_CACHE" not in name}
    if cache is not None:
        kept["JAX_COMPILATION_CACHE_DIR"] = cache
        kept["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    command = ["-m", "benchmarks.first_answer", "--part", part, "--run", str(run)]
    done = subprocess.run(
        [sys.executable, *command], env=kept, check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    given = tyro.cli(Arguments, description=__doc__)
    if given.part is None:
        main(given)
    else:
        print(json.dumps(measure(given.part, given.run)))
