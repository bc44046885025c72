"""The figures on which the search's constants rest, at points of each model's box."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtwin.cohorts.batching import map_patients
from jaxtwin.models import (
    bjordalsbakke,
    ferreira,
    four_chambers,
    her,
    left_heart,
    lung,
    stergiopulos,
    two_lungs,
    windkessel,
)
from jaxtwin.physics.beat import BeatMap
from jaxtwin.physics.coarse import COARSENING, coarse_orbit
from jaxtwin.physics.record import record
from jaxtwin.physics.sdirk import SDIRK2
from jaxtwin.physics.solution import ACCURACY


@pytest.mark.slow
@pytest.mark.parametrize(
    ("system", "box"),
    [
        (windkessel.Windkessel(), windkessel.THREE_ELEMENTS),
        (stergiopulos.Stergiopulos(), stergiopulos.COUPLING),
        (ferreira.Ferreira(), ferreira.NINE),
        (her.Her(), her.REGURGITANT),
        (bjordalsbakke.Bjordalsbakke(), bjordalsbakke.SYSTEMIC),
        (left_heart.LeftHeart(), left_heart.SEVEN),
        (four_chambers.FourChambers(), four_chambers.BOTH_SIDES),
        (lung.Lung(), lung.AIRWAY),
        (two_lungs.TwoLungs(), two_lungs.COMPARTMENTS),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "vector_field") else "",
)
def test_orbits_are_stable_and_determined(system, box):
    """Growth from 32 to 64 periods here by NumPy's powers of the Jacobian."""

    def search(theta):
        beats = BeatMap(system, box.complete(theta), SDIRK2(), system.steps)
        orbit = coarse_orbit(beats, beats.initial_state(), 40)
        steps = beats.coarser(COARSENING).steps()
        later, jacobian = steps.jacobian(orbit.start)
        sizes = jnp.stack([jnp.max(jnp.abs(leaf)) for leaf in jax.tree.leaves(later)])
        return orbit.amplification, orbit.unstable, jacobian, sizes

    theta = box.sample(256, seed=0).astype(np.float64)
    amplification, unstable, jacobian, sizes = map_patients(search, theta)
    scaled = np.asarray(jacobian * sizes[:, None, :] / sizes[:, :, None])
    half, whole = (abs(np.linalg.matrix_power(scaled, n)).max((1, 2)) for n in (32, 64))
    assert not unstable.any() and np.all(whole <= 1.01 * half)
    assert amplification.max() < 15


@pytest.mark.slow
@pytest.mark.parametrize(
    ("box", "estimated", "true"),
    [(left_heart.SEVEN, 0.0112, 0.0076), (left_heart.THREE, 0.0231, 0.0096)],
    ids=["seven", "three"],
)
def test_the_left_hearts_errors_are_below_their_estimates(box, estimated, true):
    heart = left_heart.LeftHeart()

    def errors(theta):
        orbit = record(heart, box.complete(theta))
        return orbit.success, orbit.stats.error

    theta = box.sample(8_192, seed=0).astype(np.float32)
    success, estimates = map_patients(errors, theta)
    worst = int(np.argmax(estimates))
    assert success.all() and estimates[worst] < ACCURACY
    np.testing.assert_allclose(estimates[worst], estimated, rtol=0.01)

    def states(steps):
        return jax.jit(lambda theta: record(heart, box.complete(theta), steps=steps).states)(
            jnp.asarray(theta[worst], float)
        )

    error = 0.0
    both = (states(heart.steps), states(16 * heart.steps))
    for got, finer in zip(*map(jax.tree.leaves, both), strict=True):
        scale = max(np.ptp(finer), np.abs(finer).max() / 10)
        error = max(error, np.abs(got - finer[::16]).max() / scale)
    np.testing.assert_allclose(error, true, rtol=0.05)
