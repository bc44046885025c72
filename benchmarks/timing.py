"""Durations of repeated calls."""

import time
from collections.abc import Callable
from typing import Any

# JAX is imported where it is used: some benchmarks time its import.


def timed(function: Callable[[], Any], repeats: int = 5) -> tuple[float, float]:
    """Return the median duration [s] of a call, and how much longer the first one took [s].

    Args:
        function: What to call; what it returns is waited for.
        repeats: Number of calls after the first one, which mostly compiles.
    """
    import jax
    import numpy as np

    seconds = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        jax.block_until_ready(function())
        seconds.append(time.perf_counter() - began)
    usual = float(np.median(seconds[1:]))
    return usual, max(seconds[0] - usual, 0.0)
