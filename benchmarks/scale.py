"""A million patients in six arms into Zarr, killed in the middle and resumed.

    python -m benchmarks.scale --patients 1000000 --folder DIR --json FILE   # minutes to an hour
    python -m benchmarks.scale --quick --folder DIR                          # 2,000 patients

Points of the left heart's seven-parameter box, in the arms of `ARMS`, with every reading as an
endpoint. A child process simulates them; it gets SIGKILL in the middle of the block after half of
the patients, and a second one goes on. Both use one persistent compilation cache, in the folder.

Rows: `per_second` are patients × arms a second in the median block, `whole_per_second` with the
start of both processes, compilation and the kill. `lost_s` is the part of a block that the kill
destroyed and what the second process took longer for its first block than for a usual one, its
start included. `peak_MB` is the resident memory of the larger process, the analysis of one endpoint
after the last block included. `write_MB_s` is the rate at which one process compresses and writes a
block's endpoints.

The last table is on paper: what 100 million patients would take. Its GPUs are an aim, not measured.
"""

import dataclasses
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tyro

from benchmarks.markdown import table
from benchmarks.simulate import peak_memory
from jaxtwin.commands.run import origin
from jaxtwin.models.left_heart import SEVEN, LeftHeart
from jaxtwin.treatments import (
    MitralRepair,
    Nothing,
    Pump,
    RateControl,
    Vasodilator,
    combine,
    ef_level,
    open_trial,
    run_trial_into,
)

QUICK = 2_000
ARMS = {
    "no treatment": Nothing(),
    "vasodilator": Vasodilator(-0.25),
    "rate control": RateControl(75.0),
    "mitral repair": MitralRepair(),
    "pump at 9,000 rpm": Pump(9_000.0),
    "pump at 9,000 rpm, vasodilator": combine(Vasodilator(-0.25), Pump(9_000.0)),
}


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Run a large trial.

    Attributes:
        folder: Empty folder for the trial and the compilation cache; what is written stays there.
        patients: Number of patients.
        block: Number of patients written together; 250 with `quick`.
        quick: 2,000 patients, to test that everything runs.
        json: File to write the rows to.
        child: Simulate in this process (internal).
    """

    folder: Path
    patients: int = 1_000_000
    block: int = 32_768
    quick: bool = False
    json: Path | None = None
    child: bool = False


def told(starts: Iterable[int]) -> Iterator[int]:
    """Print when each block begins, and when the last one has ended."""
    for start in starts:
        print(json.dumps({"start": start, "at": time.time()}), flush=True)
        yield start
    print(json.dumps({"start": None, "at": time.time()}), flush=True)


def simulate(arguments: Arguments) -> None:
    """Simulate what is still to be simulated, analyse it, and print the results as JSON."""
    theta = SEVEN.sample(arguments.patients, seed=0)
    place = arguments.folder / "trial"
    run_trial_into(
        place, LeftHeart(), SEVEN, theta, ARMS, block=arguments.block, progress=told, source="box"
    )
    simulated = peak_memory()
    began = time.time()
    trial = open_trial(place)
    control = trial.arms[0]
    effects = trial.effects("output", control=control, by=ef_level)
    events = trial.events()
    print(
        json.dumps(
            {
                "analysis_s": round(time.time() - began, 2),
                "failed": {arm: counts["failed"] for arm, counts in events.items()},
                "effects": [e._asdict() for e in effects if e.group == "all"],
                "simulation_peak_MB": round(simulated),
                "peak_MB": round(peak_memory()),
            }
        ),
        flush=True,
    )


class Process(NamedTuple):
    """What a child process did.

    Attributes:
        began: When it was started [s].
        blocks: First patient of each block and when it began [s].
        ended: When it ended or was killed [s].
        peak: Peak of its resident memory [MB].
        results: What it found; empty if it was killed.
    """

    began: float
    blocks: list[tuple[int, float]]
    ended: float
    peak: float
    results: dict[str, Any]


def watch(arguments: Arguments, kill_in: int | None) -> Process:
    """Run a child process; kill it in the middle of the block that begins with a patient."""
    command = [sys.executable, "-m", "benchmarks.scale", "--child"]
    command += ["--folder", str(arguments.folder), "--patients", str(arguments.patients)]
    command += ["--block", str(arguments.block)]
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(arguments.folder / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    began = time.time()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | cache)
    assert process.stdout is not None
    blocks: list[tuple[int, float]] = []
    peak, results = 0.0, {}
    for line in process.stdout:
        row = json.loads(line)
        peak = max(peak, _peak_of(process.pid))
        if "peak_MB" in row:
            results, peak = row, max(peak, row["peak_MB"])
        elif row["start"] is not None:
            blocks.append((row["start"], row["at"]))
        else:
            blocks.append((arguments.patients, row["at"]))
        if kill_in is not None and row.get("start") == kill_in:
            times = [b - a for (_, a), (_, b) in itertools.pairwise(blocks)]
            time.sleep(0.5 * float(np.median(times)) if times else 1.0)
            peak = max(peak, _peak_of(process.pid))
            process.send_signal(signal.SIGKILL)
            break
    code = process.wait()
    process.stdout.close()  # After a kill it was not read to its end.
    if code != (0 if kill_in is None else -signal.SIGKILL):
        raise RuntimeError(f"a process ended with {code}; its error is above")
    return Process(began, blocks, time.time(), peak, results)


def _peak_of(pid: int) -> float:
    """Peak of a process's resident memory [MB]; 0 where the system does not tell."""
    try:
        return int(Path(f"/proc/{pid}/status").read_text().split("VmHWM:")[1].split()[0]) / 1e3
    except (OSError, IndexError):
        return 0.0


def write_rate(trial: Path, block: int) -> float:
    """Return the endpoints of a block that are compressed and written in a second [MB/s]."""
    import zarr

    group: Any = zarr.open_group(trial, mode="r")
    values = {name: array[:, :block] for name, array in group["endpoints"].arrays()}
    with tempfile.TemporaryDirectory(dir=trial.parent) as folder:
        copy: Any = zarr.open_group(folder, mode="w")
        began = time.perf_counter()
        for name, rows in values.items():
            copy.create_array(name, data=rows, chunks=rows.shape)
        seconds = time.perf_counter() - began
    return sum(rows.nbytes for rows in values.values()) / 1e6 / seconds


def measured(arguments: Arguments, first: Process, second: Process) -> dict[str, Any]:
    """Return the row of a trial that was killed and resumed."""
    orbits = arguments.patients * len(ARMS)
    usual = []
    for process in (first, second):
        # Without each process's first block, which compiles, and the last, which may be shorter.
        times = [b - a for (_, a), (_, b) in itertools.pairwise(process.blocks)]
        usual += times[1:] if process is first else times[1:-1] or times[1:]
    block_s = float(np.median(usual))
    done = second.blocks[0][0]
    again = second.blocks[1][1] - second.began
    files = [p for p in (arguments.folder / "trial").rglob("*") if p.is_file()]
    simulated_s = first.ended - first.began + second.blocks[-1][1] - second.began
    return {
        "patients": arguments.patients,
        "arms": len(ARMS),
        "per_second": round(arguments.block * len(ARMS) / block_s),
        "whole_per_second": round(orbits / simulated_s),
        "simulated_s": round(simulated_s, 1),
        "first_block_s": round(first.blocks[1][1] - first.began, 1),
        "block_s": round(block_s, 2),
        "killed_after_patients": done,
        "lost_s": round(first.ended - first.blocks[-1][1] + again - block_s, 1),
        "bytes": sum(p.stat().st_size for p in files),
        "files": len(files),
        "write_MB_s": round(write_rate(arguments.folder / "trial", arguments.block)),
        **second.results,
        "peak_MB": round(max(first.peak, second.peak)),
    }


class Machine(NamedTuple):
    """What a trial is calculated for.

    Attributes:
        name: What it is.
        per_second: Patients × arms a second of one device.
        devices: Number of devices.
        efficiency: Share of the devices' sum that they have together.
        dollars_per_hour: Price of one device for an hour.
        start_s: From the start of the processes to the first compiled block [s].
        basis: Where `per_second` is from.
    """

    name: str
    per_second: float
    devices: int
    efficiency: float
    dollars_per_hour: float
    start_s: float
    basis: str


AIM = 5_000_000
"""Periodic states a second that are aimed at on one H100; nobody has measured them."""


def on_paper(
    machine: Machine, *, patients: int, arms: int, bytes_each: float, write_MB_s: float
) -> dict[str, Any]:
    """Calculate hours, dollars and bytes of a trial.

    The first process writes while no device computes, so that both times are added.

    Args:
        machine: The devices and what they are assumed to do.
        patients: Number of patients.
        arms: Number of arms.
        bytes_each: Bytes on disk of one patient in one arm.
        write_MB_s: Rate at which the first process compresses and writes [MB/s].
    """
    orbits = patients * arms
    computing = orbits / (machine.per_second * machine.devices * machine.efficiency)
    total = orbits * bytes_each
    writing = total / (write_MB_s * 1e6)
    hours = (machine.start_s + computing + writing) / 3600
    return {
        "machine": machine.name,
        "basis": machine.basis,
        "start_s": round(machine.start_s),
        "computing_s": round(computing),
        "writing_s": round(writing),
        "hours": float(f"{hours:.3g}"),
        "dollars": float(f"{hours * machine.devices * machine.dollars_per_hour:.3g}"),
        "gigabytes": float(f"{total / 1e9:.3g}"),
    }


def machines(row: dict[str, Any]) -> list[Machine]:
    """Return this machine, as measured, and GPUs, as aimed at. All prices are assumptions."""
    start = row["first_block_s"]
    return [
        Machine("this machine", row["per_second"], 1, 1.0, 0.10, start, "measured"),
        Machine("one H100", AIM, 1, 1.0, 3.0, 120.0, "an aim, not measured"),
        Machine("64 H100 on 8 hosts", AIM, 64, 0.9, 3.0, 300.0, "an aim, not measured"),
    ]


def main(arguments: Arguments) -> None:
    """Run the trial, kill it, resume it, and print what it took."""
    if arguments.quick:
        arguments = dataclasses.replace(arguments, patients=QUICK, block=250)
    if arguments.child:
        simulate(arguments)
        return
    if arguments.folder.exists() and any(arguments.folder.iterdir()):
        sys.exit(f"{arguments.folder} is not empty: choose another --folder")
    blocks = -(-arguments.patients // arguments.block)
    if blocks < 6:
        sys.exit(f"{blocks} blocks: choose a --block of at most a sixth of the patients")
    arguments.folder.mkdir(parents=True, exist_ok=True)
    first = watch(arguments, kill_in=blocks // 2 * arguments.block)
    second = watch(arguments, kill_in=None)
    row = measured(arguments, first, second)
    each = row["bytes"] / (row["patients"] * row["arms"])
    paper = [
        on_paper(
            machine,
            patients=100_000_000,
            arms=len(ARMS),
            bytes_each=each,
            write_MB_s=row["write_MB_s"],
        )
        for machine in machines(row)
    ]
    content = {"origin": origin(), "measured": row, "on_paper": paper}
    print(json.dumps(content["origin"]))
    print(*(f"{name}: {value}" for name, value in row.items()), sep="\n")
    print("\n100 million patients, on paper:\n", table(paper), sep="\n")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
