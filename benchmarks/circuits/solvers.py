"""The two tasks, solved by jaxtwin, and by SciPy's Radau for reference."""

from collections.abc import Callable
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.circuits.loop import BOX, LoopState, TwoHillLoop
from benchmarks.circuits.published import PERIOD
from jaxtwin.cohorts.batching import default_chunk, map_patients
from jaxtwin.physics.iteration import BeatIteration, NewtonIteration
from jaxtwin.physics.periodic import periodic_orbit

Task = Literal["third", "settled"]


def extremes(task: Task, steps: int, tolerance: float, theta: Any) -> Any:
    """Return one patient's largest and smallest outputs, [2, output], and if the beat settled."""
    if task == "third":
        method = BeatIteration(tolerance=0.0, max_beats=3)  # It never settles that far.
    else:
        method = NewtonIteration(tolerance)
    orbit = periodic_orbit(
        TwoHillLoop(), BOX.complete(theta), steps=steps, method=method, accuracy=1.0, throw=False
    )
    beat = orbit.recording(1)
    values = jnp.stack([jnp.stack(beat.maximum), jnp.stack(beat.minimum)])
    return values, orbit.success | (task == "third")


def jaxtwin(task: Task, steps: int, dtype: str) -> Callable[[np.ndarray], np.ndarray]:
    """Return jaxtwin's solver, from patients' θ to the extremes of the task's beat."""
    function = eqx.Partial(extremes, task, steps, 1e-5 if dtype == "float32" else 1e-6)

    def solve(theta: np.ndarray) -> np.ndarray:
        theta = theta.astype(dtype)
        chunk = min(len(theta), default_chunk(theta.dtype))
        values, settled = map_patients(function, theta, chunk=chunk)
        return np.where(settled[:, None, None], values, np.nan)

    return solve


def reference(task: Task, theta: np.ndarray) -> np.ndarray:
    """Return the extremes by SciPy's Radau at 1e-9; needs JAX's x64 mode.

    The settled beat starts where jaxtwin's with 3,840 steps does. That this is so is checked: a
    beat must end where it began.
    """
    from scipy.integrate import solve_ivp

    system = TwoHillLoop()

    @jax.jit
    def rates(t: Any, y: Any, theta: Any) -> Any:
        return jnp.stack(system.vector_field(t, LoopState(*y), BOX.complete(theta)))

    jacobian = jax.jit(jax.jacfwd(rates, 1))
    outputs = jax.jit(
        jax.vmap(
            lambda t, y, theta: jnp.stack(system.outputs(t, LoopState(*y), BOX.complete(theta))),
            in_axes=(0, 1, None),
        )
    )

    def one_beat(row: np.ndarray, start: np.ndarray) -> Any:
        """Solve one beat; each by itself, since the activation has a kink at its end."""
        return solve_ivp(
            lambda t, y: np.asarray(rates(t, y, row)),
            (0.0, PERIOD),
            start,
            method="Radau",
            jac=lambda t, y: np.asarray(jacobian(t, y, row)),
            rtol=1e-9,
            atol=1e-9,
            dense_output=True,
        )

    found = []
    for row in theta:
        p = BOX.complete(jnp.asarray(row))
        if task == "third":
            beat = one_beat(row, np.array(system.initial_state(p)))
            for _ in range(2):
                beat = one_beat(row, beat.y[:, -1])
        else:
            fine = NewtonIteration(1e-11)
            orbit = periodic_orbit(system, p, steps=3_840, method=fine, throw=False)
            beat = one_beat(row, np.array([leaf[0] for leaf in orbit.states]))
            if not np.allclose(beat.y[:, -1], beat.y[:, 0], rtol=1e-4, atol=1e-3):
                raise RuntimeError(f"the reference of θ = {row} has not settled")
        t = np.linspace(0.0, PERIOD, 20_001)
        curves = np.asarray(outputs(t, beat.sol(t), row))
        found.append([curves.max(0), curves.min(0)])
    return np.array(found)
