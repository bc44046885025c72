"""Batches over threads."""

import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtwin.cohorts.batching import _factorises, map_patients
from jaxtwin.cohorts.simulate import simulate_patient
from jaxtwin.forward.simulator import Simulator
from tests.cohorts.tank import (
    BOX,
    Tank,
)


def inverse(theta):
    return jnp.linalg.inv(3 * jnp.eye(3) + theta[:1, None])


def test_factorisations_are_found_wherever_they_are():
    rows = np.ones((4, 3))
    assert _factorises(inverse, rows)
    assert _factorises(lambda t: jax.lax.fori_loop(0, 3, lambda i, x: inverse(x)[0], t), rows)
    assert _factorises(jax.grad(lambda t: jnp.linalg.cholesky(jnp.eye(3) + t[0])[0, 0]), rows)
    assert not _factorises(lambda t: jnp.eye(3) @ t, rows)
    assert not _factorises(eqx.Partial(simulate_patient, Tank(), BOX, 8, 240), rows)


WAITING = """
import jax.numpy as jnp, numpy as np
from jaxtwin.cohorts.batching import map_patients

def function(theta):
    matrix = 3 * jnp.eye(67, 7) + theta[:1, None] + jnp.arange(469).reshape(67, 7) ** 0.5
    return jnp.linalg.qr(matrix)[0][0]

theta = np.random.default_rng(0).random((8_000, 7), np.float32)
for _ in range(20):
    map_patients(function, theta, chunk=1_000)
"""


@pytest.mark.slow
def test_batches_of_factorisations_end():
    """As many executions as cores, each waiting for the others' threads, soon did not."""
    subprocess.run([sys.executable, "-c", WAITING], check=True, timeout=600)


def test_a_precision_that_jax_would_not_compute_in_is_named():
    with jax.enable_x64(False):
        assert BOX.sample(2, seed=0).dtype == np.float32
        with pytest.raises(ValueError, match="θ is in float64, and JAX's x64 mode is off"):
            map_patients(jnp.sum, np.ones((2, 3)))


def test_arguments_in_another_order_are_named(as_a_user):
    with pytest.raises(ValueError, match="got ndarray first: expected a function"):
        map_patients(np.ones((2, 3), np.float32), jnp.sum)


def test_points_outside_the_box_of_a_forward_model_are_named():
    forward = Simulator(Tank(), BOX, "V_lv", 8)
    theta = BOX.sample(2, seed=0)
    theta[1, 0] = 1e3
    with pytest.raises(ValueError, match="is outside the box"):
        map_patients(forward, theta)
