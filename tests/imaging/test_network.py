"""The segmentation network, its augmentation and its training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtwin.data.base import EchoVideo
from jaxtwin.imaging import learning
from jaxtwin.imaging.augmentation import augment
from jaxtwin.imaging.learning import Examples, dice, label, train_segmentation
from jaxtwin.imaging.network import SegmentationNetwork
from jaxtwin.imaging.segmenter import AWAY, Segmenter, load_segmenter, save_segmenter, with_context
from jaxtwin.training.checkpoint import CheckpointError
from jaxtwin.training.settings import TrainingConfig

WIDTHS = (8, 12, 16)


def discs(n, seed=0):
    """Frames of clips of dark discs in grey rings, which grow and shrink, with their label maps."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:112, :112]
    times = np.arange(12) / 25
    frames, labels = [], []
    for k in range(n):
        away = np.hypot(
            *(
                grid - middle
                for grid, middle in zip((rows, columns), random.uniform(40, 72, 2), strict=True)
            )
        )
        radius = random.uniform(12, 20) * (1 + 0.25 * np.cos(2 * np.pi * times / 0.48))
        label = np.where(
            away < radius[:, None, None], 1, np.where(away < radius[:, None, None] + 8, 2, 0)
        )
        grey = np.array([0, 40, 200])[label] + random.integers(0, 20, label.shape)
        frames.append(with_context(EchoVideo(grey.astype(np.uint8), times))[k % 12])
        labels.append(label[k % 12])
    return Examples(np.stack(frames), np.stack(labels).astype(np.uint8))


@pytest.fixture(scope="module")
def trained():
    config = TrainingConfig(steps=80, batch_size=8, learning_rate=1e-2, evaluate_every=40)
    network = SegmentationNetwork(WIDTHS, key=jax.random.key(0))
    return train_segmentation(
        network, discs(64), discs(16, 1), config, folder=None, seed=0, resume=False
    )


@pytest.mark.slow
def test_it_learns_what_a_disc_is(trained):
    assert trained.validation["dice"] > 0.85
    unseen = discs(16, 2)
    assert dice(label(trained.model, unseen.frames), unseen.labels).mean() > 0.85


@pytest.mark.slow
def test_resumed_training_equals_unbroken_training(tmp_path):
    config = TrainingConfig(steps=4, batch_size=8, learning_rate=1e-2, evaluate_every=2)
    blank = SegmentationNetwork(WIDTHS, key=jax.random.key(0))

    def train(folder, resume):
        given = {"folder": folder, "seed": 0, "resume": resume}
        return train_segmentation(blank, discs(16), discs(4, 1), config, **given).model

    class Stopped(Exception):
        pass

    def stop(*args):
        if len(list(tmp_path.glob("cut/*_state"))):
            raise Stopped
        return validated(*args)

    whole = train(tmp_path / "whole", False)
    validated = learning.label
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(learning, "label", stop)
        train(tmp_path / "cut", False)
    resumed = train(tmp_path / "cut", True)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(resumed), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.slow
def test_gain_does_not_matter(trained):
    unseen = discs(4, 3)
    found = label(trained.model, unseen.frames)
    darker = label(trained.model, (unseen.frames * 0.6).astype(np.uint8))
    assert np.mean(found == darker) > 0.98


@pytest.mark.slow
def test_a_segmenter_is_kept(trained, tmp_path):
    segmenter = Segmenter(trained.model, trained.validation["dice"])
    save_segmenter(tmp_path / "kept", segmenter)
    loaded = load_segmenter(tmp_path / "kept")
    assert loaded.dice == segmenter.dice
    unseen = discs(4, 3).frames
    np.testing.assert_array_equal(label(loaded.network, unseen), label(trained.model, unseen))
    with pytest.raises(CheckpointError):
        load_segmenter(tmp_path / "other")


@pytest.mark.slow
def test_frames_become_a_curve_with_beats(trained):
    """A disc that grows and shrinks, as a ventricle does, with a period of 0.8 s."""
    times = np.arange(120) / 50
    radius = 18 + 5 * np.cos(2 * np.pi * times / 0.8)
    rows, columns = np.mgrid[:112, :112]
    away = np.hypot(rows - 56, columns - 56)[None]
    grey = np.select([away < radius[:, None, None], away < radius[:, None, None] + 8], [40, 200], 0)
    found = Segmenter(trained.model, 0.9).measure(
        EchoVideo(grey.astype(np.uint8), times), (0.5, 0.5)
    )
    assert found.beats.period == pytest.approx(0.8, rel=0.03)
    true = 4 / 3 * np.pi * np.array([23.0, 13.0]) ** 3 * 0.5**3 / 1000
    np.testing.assert_allclose((found.beats.EDV, found.beats.ESV), true, rtol=0.25)
    assert found.shape.quality.mean() > 0.8 and found.labels.shape == (120, 112, 112)


def test_neighbours_are_at_a_fixed_distance_in_time():
    for rate in (20.0, 50.0, 120.0):
        times = np.arange(30) / rate
        # Brightness is time itself: 100 grey values a second.
        frames = np.broadcast_to((100 * times)[:, None, None], (30, 112, 112))
        seen = with_context(EchoVideo(np.rint(frames).astype(np.uint8), times))
        middle = seen[10:20].mean(axis=(2, 3))
        np.testing.assert_allclose(middle[:, 2] - middle[:, 0], 200 * AWAY, atol=1.5)
        np.testing.assert_allclose(middle[:, 3], 0)
        np.testing.assert_allclose(middle[:, 5], np.rint(100 * times[-1]))
    wide = np.zeros((4, 60, 240), np.uint8)
    wide[:, :, 120:] = 200
    (first, *_) = with_context(EchoVideo(wide, np.arange(4) / 50))
    assert first.shape == (6, 112, 112)
    assert (first[1, 45:67, 60:] > 150).all() and first[1, :40].max() == 0


def test_augmentation_moves_pictures_and_labels_alike():
    examples = discs(8)
    keys = jax.random.split(jax.random.key(0), 8)
    frames, labels = jax.jit(jax.vmap(lambda x, y, key: augment(x, y, key=key)))(
        jnp.asarray(examples.frames), jnp.asarray(examples.labels), keys
    )
    assert frames.min() >= 0 and frames.max() <= 1 and frames.shape == (8, 6, 112, 112)
    moved = np.asarray(labels)
    assert np.mean(moved != examples.labels) > 0.02
    ring, disc = np.asarray(frames[:, 1])[moved == 2], np.asarray(frames[:, 1])[moved == 1]
    assert np.median(ring) > np.median(disc) + 0.2
    assert set(np.unique(moved)) <= {0, 1, 2}


def test_dice_of_known_maps():
    a, b = np.zeros((2, 4, 4), np.uint8), np.zeros((2, 4, 4), np.uint8)
    a[0, :2], b[0, 1:3] = 1, 1
    np.testing.assert_allclose(dice(a, b), [0.5, 1.0])
