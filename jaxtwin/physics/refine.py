"""The number of steps that an accuracy needs."""

import math
from collections.abc import Callable
from numbers import Integral
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxtwin.physics.solution import RESULTS, Solution

MOST = 16
"""Largest factor by which a system's steps are multiplied."""
ORDER = 1.5
"""Order of the discretisation error: valves that switch within a step lower that of `SDIRK2` by one
half."""
RESOLVED = 100.0
"""Smallest accuracy in units of rounding: with less, rounding counts as a discretisation error."""


def solve_accurately(
    solve: Callable[[int], Solution], system: Any, steps: int | None, accuracy: float
) -> Solution:
    """Solve with as many steps as the accuracy needs.

    If the estimated error of a solution with the system's own number of steps is too large, the
    number is doubled as often as the order of the method suggests, up to `MOST` times the system's;
    it is doubled, too, where the equations of a step were not solved.
    Where values are not known yet, under `jax.jit` and `jax.vmap`, the number of steps cannot
    depend on them: there it is the system's own, and `result` reports who needs more.

    Args:
        solve: Function from a number of steps to a solution of one patient.
        system: The model.
        steps: The number of steps, or None to choose it.
        accuracy: Largest estimated error that is accepted.

    Raises:
        ValueError: If the number of steps or the accuracy is invalid.
    """
    if not accuracy > 0:
        raise ValueError(f"accuracy={accuracy!r}: expected a positive number, such as 0.01 for 1%")
    number: Any = system.steps if steps is None else steps
    if not isinstance(number, Integral) or number < 1:
        raise ValueError(
            f"steps={number!r}: expected a whole number of at least 1, for a heart about 240"
        )
    found = solve(int(number))
    check_resolved(accuracy, jax.tree.leaves(found.stats.errors)[0].dtype)
    while (
        steps is None
        and number < MOST * system.steps
        and _fails(found)
        and needs_more(found.result)
    ):
        factor = refinement(found.stats.error, accuracy)
        number = min(number * factor, MOST * system.steps)
        found = solve(number)
    return found


def refinement(error: Any, accuracy: float) -> int:
    """Return the power of two by which steps are to be multiplied for one patient, at least 2."""
    ratio = float(error) / accuracy
    # Without an estimate, of any error.
    doublings = math.log2(ratio) / ORDER if np.isfinite(ratio) and ratio > 1 else 1.0
    return 2 ** min(max(1, math.ceil(doublings)), round(math.log2(MOST)))


def check_resolved(accuracy: float, dtype: Any) -> None:
    """Raise a ValueError if numbers of a type do not resolve an accuracy."""
    least = RESOLVED * float(jnp.finfo(dtype).eps)
    if accuracy < least:
        raise ValueError(
            f"accuracy={accuracy:g} in {np.dtype(dtype).name}: expected at least {least:.1g}, "
            "because below it rounding decides"
            + ("; float64 resolves more" if np.dtype(dtype) == np.float32 else "")
        )


def needs_more(result: RESULTS) -> Any:
    """Return where a solution failed for lack of steps."""
    return (result == RESULTS.inaccurate) | (result == RESULTS.step_not_solved)


def _fails(found: Solution) -> bool:
    """Return whether a solution is known to have failed."""
    try:
        return not found.success
    except jax.errors.TracerBoolConversionError:
        return False
