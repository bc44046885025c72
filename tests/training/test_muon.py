"""The optimiser of convolutional networks."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtwin.training.muon import ROOT_MEAN_SQUARE, muon_optimiser
from jaxtwin.training.settings import TrainingConfig


def first_step(config, gradients, params) -> dict[str, Any]:
    optim = muon_optimiser(config)
    change, _ = jax.jit(optim.update)(gradients, optim.init(params), params)
    assert isinstance(change, dict)
    return change


def test_a_kernels_step_is_orthogonal_and_of_the_size_of_adams():
    config = TrainingConfig(100, 1, learning_rate=0.1)
    random = np.random.default_rng(0)
    # One output has a gradient thirty times as strong as the others.
    gradient = random.normal(size=(3, 3, 4, 8)) * np.array([30, 1, 1, 1, 1, 1, 1, 1])
    assert np.linalg.cond(gradient.reshape(36, 8)) > 20
    params = {"kernel": jnp.zeros((3, 3, 4, 8), jnp.float32), "scale": jnp.zeros(8, jnp.float32)}
    gradients = {"kernel": jnp.float32(gradient), "scale": jnp.ones(8, jnp.float32)}
    change = first_step(config, gradients, params)
    assert all(leaf.dtype == jnp.float32 for leaf in change.values())
    matrix = np.asarray(change["kernel"]).reshape(36, 8)
    strengths = np.linalg.svd(matrix)[1]
    # Newton-Schulz leaves singular values within about a third of each other.
    assert strengths.max() / strengths.min() < 2.5
    rate = config.learning_rate / 100
    assert np.sqrt(np.mean(matrix**2)) == pytest.approx(ROOT_MEAN_SQUARE * rate, rel=0.3)
    # Nesterov's momentum makes Adam's first step half as long again.
    np.testing.assert_allclose(change["scale"], -rate, rtol=0.6)


def test_weight_decay_is_on_kernels_only():
    config = TrainingConfig(100, 1, learning_rate=0.1, weight_decay=0.5)
    params = {"kernel": jnp.ones((3, 3, 2, 2)), "scale": jnp.ones(2)}
    change = first_step(config, jax.tree.map(jnp.zeros_like, params), params)
    assert np.all(change["kernel"] < 0) and np.all(change["scale"] == 0)
