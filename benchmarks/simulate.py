"""Periodic states a second of the left heart, with accuracy beside: python -m benchmarks.simulate.

One batch of θ from the seven-parameter box in float32. The error is against the same patients
in float64 with eight times as many steps.
"""

import time

import equinox as eqx
import jax
import numpy as np

from jaxtwin.physics.left_heart import SEVEN, LeftHeart
from jaxtwin.physics.observables import observables
from jaxtwin.physics.periodic import periodic_orbit

BATCH, REPEATS, REFERENCE = 1_024, 5, 256


@eqx.filter_jit
@eqx.filter_vmap(in_axes=(0, None))
def solve(theta, steps: int):
    """Observables and convergence of a batch."""
    orbit = periodic_orbit(LeftHeart(), SEVEN.complete(theta), steps=steps, throw=False)
    return observables(orbit), orbit.converged


def main() -> None:
    """Measure and print one line."""
    theta = SEVEN.sample(BATCH, seed=0)
    began = time.perf_counter()
    got, converged = jax.block_until_ready(solve(theta.astype(np.float32), 400))
    first = time.perf_counter() - began
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        jax.block_until_ready(solve(theta.astype(np.float32), 400))
        seconds.append(time.perf_counter() - began)
    rate = BATCH / np.median(seconds)
    with jax.enable_x64(True):
        reference, _ = solve(theta[:REFERENCE], 3_200)
    errors = {
        name: np.abs(
            np.asarray(getattr(got, name))[:REFERENCE] - np.asarray(getattr(reference, name))
        )
        for name in ("EDV", "ESV", "P_lv_max", "P_ao_min")
    }
    print(
        f"batch {BATCH}, float32: {rate:.0f} periodic states/s (median of {REPEATS}, slowest "
        f"{BATCH / max(seconds):.0f}), first call {first:.1f} s, "
        f"{int((~converged).sum())} not converged"
    )
    for name, error in errors.items():
        print(f"  {name}: median error {np.median(error):.4f}, worst {error.max():.4f}")


if __name__ == "__main__":
    main()
