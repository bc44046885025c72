"""Script run by test_spread.py in separate processes: a cohort on many devices or many hosts."""

import argparse
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh

from jaxtwin.cohorts.simulate import simulate_cohort
from jaxtwin.cohorts.store import read_cohort, simulate_into
from jaxtwin.models.left_heart import SEVEN, LeftHeart
from jaxtwin.treatments import Nothing, Pump
from jaxtwin.treatments.trials import run_trial


def arrays(cohort) -> list:
    """What the processes are compared in; the residual, which is rounding alone, comes last."""
    parts = (cohort.theta, cohort.recording, cohort.success, cohort.residual)
    return jax.tree.leaves(parts)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--devices", type=int, required=True, help="of each process")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--process", type=int, default=0)
    parser.add_argument("--address", default=None)
    parser.add_argument("--patients", type=int, default=44)
    parser.add_argument("--cache", required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", arguments.devices)
    jax.config.update("jax_compilation_cache_dir", arguments.cache)
    if arguments.processes > 1:
        jax.distributed.initialize(arguments.address, arguments.processes, arguments.process)
    devices = jax.devices()
    assert len(devices) == arguments.devices * arguments.processes
    assert len(jax.local_devices()) == arguments.devices

    theta = SEVEN.sample(arguments.patients, seed=2)
    # All axes of the mesh are used, whatever their names.
    mesh = Mesh(np.array(devices).reshape(2, -1), ("a", "b"))
    options = {"phases": 8, "chunk": 2, "mesh": mesh}
    place = arguments.out / f"{arguments.process}.npz"
    spread = simulate_cohort(LeftHeart(), SEVEN, theta, **options)
    np.savez(place, *arrays(spread))

    cohort = simulate_cohort(LeftHeart(), SEVEN, theta[:20], source="20 points of the box")
    trial = run_trial(cohort, {"control": Nothing(), "pump": Pump(9_000.0)}, mesh=mesh)
    np.savez(
        arguments.out / f"trial-{arguments.process}.npz", success=trial.success, **trial.values
    )

    store = arguments.out / "store"
    simulate_into(store, LeftHeart(), SEVEN, theta, block=20, **options)
    stored = read_cohort(store, LeftHeart())
    for a, b in zip(arrays(stored), arrays(spread), strict=True):
        np.testing.assert_array_equal(a, b)
    # What only the first host sees fails on all.
    try:
        simulate_into(store, LeftHeart(), SEVEN, theta, block=10, **options)
    except (ValueError, RuntimeError) as error:
        expected = "block is 20, not 10" if arguments.process == 0 else "the first host failed"
        assert expected in str(error), error
    else:
        raise AssertionError("it took another block size")


if __name__ == "__main__":
    main()
