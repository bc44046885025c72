"""Script run by test_spread.py in separate processes: a cohort on many devices or many hosts."""

import jax
import numpy as np
import pytest

from jaxtwin.cohorts.simulate import simulate_cohort
from jaxtwin.cohorts.store import read_cohort, simulate_into
from jaxtwin.models.left_heart import SEVEN, LeftHeart
from jaxtwin.treatments import Nothing, Pump
from jaxtwin.treatments.trials import run_trial
from tests.processes import started


def arrays(cohort) -> list:
    """What the processes are compared in; the residual, which is rounding alone, comes last."""
    parts = (cohort.theta, cohort.recording, cohort.success, cohort.residual)
    return jax.tree.leaves(parts)


def main() -> None:
    arguments, mesh = started()
    theta = SEVEN.sample(44, seed=2)
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
    expected = "block is 20, not 10" if arguments.process == 0 else "the first host failed"
    with pytest.raises((ValueError, RuntimeError), match=expected):
        simulate_into(store, LeftHeart(), SEVEN, theta, block=10, **options)


if __name__ == "__main__":
    main()
