"""The network that tells turned and mirrored pictures."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxtwin.imaging.orientation import (
    EXCHANGED,
    MIRRORED,
    SHOWN,
    SIDE,
    WAYS,
    OrientationNetwork,
    _shown,
    train_orientation,
    ways_shown,
)
from jaxtwin.training.settings import TrainingConfig

FIRST = jnp.asarray(np.random.default_rng(0).uniform(size=(3, 6, 6)), jnp.float32)


def test_the_ways_are_all_quarter_turns_of_a_picture_and_of_its_mirror_image():
    ways = [np.asarray(_shown(FIRST, jnp.asarray(way))) for way in range(WAYS)]
    np.testing.assert_array_equal(ways[0], FIRST)
    np.testing.assert_array_equal(ways[MIRRORED], FIRST[:, :, ::-1])
    assert len({way.tobytes() for way in ways}) == WAYS
    for k in range(1, 4):
        np.testing.assert_array_equal(ways[k], np.rot90(ways[k - 1], axes=(1, 2)))
        after = np.rot90(ways[MIRRORED], k, axes=(1, 2))
        np.testing.assert_array_equal(ways[MIRRORED + k], after)
    assert np.isclose(SHOWN.sum(), 1)


def test_a_mirrored_picture_has_the_same_logits_in_another_order():
    network = OrientationNetwork(key=jax.random.key(0))
    picture = jax.random.uniform(jax.random.key(1), (3, SIDE, SIDE), jnp.float32)
    shown = network(picture)
    np.testing.assert_allclose(network(picture[:, :, ::-1]), shown[EXCHANGED], atol=1e-5)
    for way in range(WAYS):
        np.testing.assert_array_equal(
            _shown(FIRST, jnp.asarray(way))[:, :, ::-1],
            _shown(FIRST, jnp.asarray(EXCHANGED[way])),
        )


def letters(seed, n):
    """Pictures of an L of different sizes and places: none of the eight ways looks like another."""
    random = np.random.default_rng(seed)
    pictures = np.full((n, 3, 112, 112), 20, np.uint8)
    for picture in pictures:
        top, left = random.integers(24, 40, 2)
        high, wide, thick = random.integers(40, 50), random.integers(24, 32), random.integers(6, 10)
        picture[:, top : top + high, left : left + thick] = 200
        picture[:, top + high - thick : top + high, left : left + wide] = 200
    return pictures


def test_it_learns_to_tell_them():
    config = TrainingConfig(steps=60, batch_size=16, learning_rate=3e-3, evaluate_every=60)
    fitted = train_orientation(
        OrientationNetwork(key=jax.random.key(0)),
        letters(0, 64),
        letters(1, 16),
        config,
        folder=None,
        seed=0,
        resume=False,
    )
    assert fitted.validation["accuracy"] > 0.9
    (unseen,) = letters(2, 1)
    for picture, way in ((unseen, 0), (unseen[:, :, ::-1], MIRRORED)):
        shares = np.exp(ways_shown(fitted.model, np.ascontiguousarray(picture)))
        assert np.isclose(shares.sum(), 1, atol=1e-4)
        assert shares.argmax() == way
