"""Labels that lie beside clips of real data sets, in files written in their layouts."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxtwin.data.base import UnreadableClipError
from jaxtwin.data.camus import read_camus
from jaxtwin.data.echonet import Record, read_echonet
from jaxtwin.data.echoxflow import read_echoxflow
from jaxtwin.data.outlines import resampled
from jaxtwin.data.phantom.files import write_cohort
from jaxtwin.data.recording import read_recording
from jaxtwin.data.simpson import ATRIUM, CAVITY, MYOCARDIUM, NOT_CAVITY, UNKNOWN
from jaxtwin.data.tracings import read_tracings
from jaxtwin.imaging.augmentation import augment
from jaxtwin.imaging.examples import LabelSource, find_labels, label_source, read_examples
from jaxtwin.imaging.learning import dice, label, segmentation_loss, train_segmentation
from jaxtwin.imaging.network import SegmentationNetwork
from jaxtwin.imaging.segmenter import scaled, with_context
from jaxtwin.training.settings import TrainingConfig
from tests.camus_files import write_camus
from tests.data.echonet_files import ellipse, half_ellipse, write_discs, write_outlines
from tests.data.echoxflow_files import write_echoxflow
from tests.data.recordings import flat_frames, write_video
from tests.imaging.test_network import WIDTHS, discs
from tests.phantom import make_beat

LINES = half_ellipse((50, 90), (62, 25), 34)
loss, slope_of = jax.jit(segmentation_loss), jax.jit(jax.grad(segmentation_loss))


def clip(folder, name="a", frames=20, size=112):
    path = folder / "Videos" / f"{name}.avi"
    path.parent.mkdir(exist_ok=True)
    write_video(path, flat_frames(frames, size, size))
    return Record(name, path, 100.0, 40.0, 60.0, 50.0, frames, "TRAIN")


def found(record):
    return find_labels(record, read_recording(record.path))


# --- what lies beside a clip ------------------------------------------------------------------


def test_tracings_of_two_frames(tmp_path):
    record = clip(tmp_path)
    write_discs(tmp_path, {("a", 17): LINES, ("a", 3): 0.8 * LINES})
    labels = found(record)
    assert labels.source is LabelSource.TRACINGS and labels.frames.tolist() == [3, 17]
    assert set(np.unique(labels.maps)) == {CAVITY, NOT_CAVITY}
    areas = (labels.maps == CAVITY).sum(axis=(1, 2))
    assert areas[1] == pytest.approx(np.pi / 4 * 34 * np.hypot(12, 65), rel=0.02)
    assert labels.maps[1, 60, 56] == CAVITY and labels.maps[1, 10, 56] == NOT_CAVITY
    write_outlines(tmp_path, {("a", 5): ellipse((56, 50), 15, 30)})
    assert found(record).frames.tolist() == [5]


@pytest.mark.slow
def test_tracings_of_phantoms_are_their_label_maps(tmp_path):
    beats = [make_beat(edv, ef) for edv, ef in ((60.0, 65.0), (120.0, 60.0), (240.0, 25.0))]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *beats)
    write_cohort(tmp_path, stacked, {"T_c": np.full(3, 0.9)}, ["TRAIN"] * 3, seed=0, variety=1.0)
    for record in read_echonet(tmp_path).records:
        true = find_labels(record, read_recording(record.path))
        assert true.source is LabelSource.PHANTOM and len(true.frames) == record.frames
        for frame, traced in read_tracings(tmp_path).label_maps(record.name, record.frames).items():
            cavity = np.where(true.maps[frame] == CAVITY, CAVITY, 0).astype(np.uint8)
            assert dice(traced, cavity) > 0.98


def test_masks_of_camus(tmp_path):
    write_camus(tmp_path / "new", 1)
    write_camus(tmp_path / "old", 1, "mhd")
    (new, *_), (old, *_) = (
        read_camus(tmp_path / name, frame_rate=50.0).records for name in ("new", "old")
    )
    recording = read_recording(new.path)
    every = find_labels(new, recording)
    assert every.source is LabelSource.MASKS
    assert every.frames.tolist() == list(range(len(recording.frames)))
    assert set(np.unique(every.maps)) == {0, CAVITY, MYOCARDIUM, ATRIUM}
    # Blood is dark and the wall is bright in these pictures.
    seen = scaled(recording.frames).astype(float)
    blood, wall = (seen[every.maps == part].mean() for part in (CAVITY, MYOCARDIUM))
    assert wall > 5 * blood
    two = find_labels(old, read_recording(old.path, 50.0))
    assert two.frames.tolist() == [0, len(recording.frames) - 1]
    for mine, other in zip(two.maps, every.maps[[0, -1]], strict=True):
        assert np.mean(mine != other) < 0.002
    gt = new.path.with_name(new.path.name.replace("sequence", "sequence_gt"))
    gt.write_bytes(gt.read_bytes()[:2000])
    with pytest.raises(UnreadableClipError, match="damaged"):
        find_labels(new, recording)


def test_contours_of_echoxflow(tmp_path):
    write_echoxflow(tmp_path, exams=1)
    record = read_echoxflow(tmp_path).records[0]
    labels = found(record)
    assert labels.source is LabelSource.CONTOURS and labels.frames.tolist() == list(range(4, 12))
    assert set(np.unique(labels.maps)) <= {0, CAVITY, MYOCARDIUM, NOT_CAVITY}
    shrinking = (labels.maps == CAVITY).sum(axis=(1, 2))
    assert (np.diff(shrinking) < 0).all()


def test_labels_move_to_another_size_as_pictures_do():
    random = np.random.default_rng(0)
    maps = random.choice([0, 1, 2, NOT_CAVITY, UNKNOWN], (2, 14, 28)).astype(np.uint8)
    large = np.repeat(np.repeat(maps, 8, axis=1), 8, axis=2)
    small = resampled(large, scaled)
    np.testing.assert_array_equal(small[:, 28:84], np.repeat(np.repeat(maps, 4, 1), 4, 2))
    assert small[:, :28].max() == 0 and small[:, 84:].max() == 0


def test_a_clip_without_labels_is_named_and_does_not_spoil_the_others(tmp_path):
    with pytest.raises(UnreadableClipError, match=r"no labels beside a\.avi: expected Masks/a"):
        label_source(clip(tmp_path))
    records = [clip(tmp_path, name) for name in "abcd"]
    (tmp_path / "Videos" / "d.avi").write_bytes(b"text")
    write_discs(tmp_path, {("a", 3): LINES, ("a", 9): LINES, ("b", 99): LINES})
    with pytest.warns(UserWarning, match="3 of 4 clips have .*b: traced in frame 99.*c: Volume"):
        examples = read_examples(records, 5, seed=0)
    assert examples.frames.shape == (2, 6, 112, 112)
    chosen = with_context(read_recording(records[0].path))[[3, 9]]
    np.testing.assert_array_equal(np.sort(examples.frames, axis=0), np.sort(chosen, axis=0))
    with pytest.raises(ValueError, match="2 of 2 clips have no labels that can be used"):
        read_examples(records[1:3], 5, seed=0)
    large = clip(tmp_path, "e", size=160)
    frames = dataclasses.replace(read_recording(records[0].path), frames=flat_frames(20, 160, 160))
    with pytest.raises(UnreadableClipError, match="frames of 160 x 160 pixels: expected 112"):
        find_labels(large, frames)


# --- what is left open ------------------------------------------------------------------------


def partial(seed=0):
    random = np.random.default_rng(seed)
    logits = jnp.asarray(random.normal(size=(12, 10, 4)), jnp.float32)
    return logits, random.integers(0, 4, (12, 10)).astype(np.uint8)


def test_unknown_pixels_do_not_count():
    logits, labels = partial()
    labels[4:9, 3:] = UNKNOWN
    slope = slope_of(logits, jnp.asarray(labels))
    assert (slope[labels == UNKNOWN] == 0).all()
    assert (jnp.abs(slope[labels != UNKNOWN]).max(axis=-1) > 0).all()
    other = jnp.where((labels == UNKNOWN)[..., None], 5 * logits[::-1], logits)
    np.testing.assert_allclose(*(loss(x, jnp.asarray(labels)) for x in (logits, other)), rtol=1e-6)
    nothing = jnp.full(labels.shape, UNKNOWN, jnp.uint8)
    slope = slope_of(logits, nothing)
    assert (slope == 0).all()


def test_a_complete_map_has_the_cross_entropy_and_the_dice_loss():
    logits, labels = partial()
    share, truth = jax.nn.softmax(logits), jax.nn.one_hot(labels, 4)
    both, total = jnp.sum(share * truth, (0, 1)), jnp.sum(share + truth, (0, 1))
    missed = 1 - (2 * both + 10) / (total + 10)
    entropy = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.asarray(labels)).mean()
    expected = entropy + 0.5 * missed[1] + 0.25 * (missed[2] + missed[3])
    np.testing.assert_allclose(loss(logits, jnp.asarray(labels)), expected, rtol=1e-5)


def test_not_the_cavity_is_the_probability_of_all_other_labels():
    logits, labels = partial()
    labels = np.where(labels == CAVITY, CAVITY, NOT_CAVITY).astype(np.uint8)
    p = jax.nn.softmax(logits)[..., CAVITY]
    entropy = -jnp.mean(jnp.where(labels == CAVITY, jnp.log(p), jnp.log(1 - p)))
    both, total = jnp.sum(p * (labels == CAVITY)), jnp.sum(p + (labels == CAVITY))
    of_cavity = 0.5 * (1 - (2 * both + 10) / (total + 10))
    # The others are known only where the cavity is, in which they have no place.
    elsewhere = jnp.sum(jax.nn.softmax(logits)[..., 2:] * (labels == CAVITY)[..., None], (0, 1))
    of_others = 0.25 * jnp.sum(1 - 10 / (elsewhere + 10))
    found = loss(logits, jnp.asarray(labels))
    np.testing.assert_allclose(found, entropy + of_cavity + of_others, rtol=1e-5)
    # Which of the other labels it is makes no difference.
    swapped = logits[..., jnp.array([2, 1, 3, 0])]
    outside = jnp.where((labels == NOT_CAVITY)[..., None], swapped, logits)
    np.testing.assert_allclose(loss(outside, jnp.asarray(labels)), found, rtol=1e-6)


def test_extreme_logits_have_finite_slopes():
    logits, labels = partial()
    labels[:6], labels[6:] = NOT_CAVITY, UNKNOWN
    slope = slope_of(logits.at[..., CAVITY].add(200), jnp.asarray(labels))
    assert jnp.isfinite(slope).all() and (slope[:6, :, CAVITY] > 0).all()


def test_dice_leaves_out_what_is_unknown():
    true, got = np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint8)
    true[0], true[1], true[2:] = CAVITY, UNKNOWN, NOT_CAVITY
    got[:2] = CAVITY
    assert dice(got, true) == 1
    got[2] = CAVITY
    assert dice(got, true) == pytest.approx(2 * 4 / 12)
    got[3], true[0, 0] = MYOCARDIUM, MYOCARDIUM
    assert dice(got, true, MYOCARDIUM) == 0  # row 3 may be myocardium; one pixel is and was missed


def test_augmentation_keeps_what_is_unknown():
    labels = np.full((112, 112), NOT_CAVITY, np.uint8)
    labels[:, :30], labels[40:80, 40:80] = UNKNOWN, CAVITY
    frames = np.full((6, 112, 112), 200, np.uint8)
    keys = jax.random.split(jax.random.key(0), 16)
    given = jnp.asarray(frames), jnp.asarray(labels)
    moved = np.asarray(jax.jit(jax.vmap(lambda key: augment(*given, key=key)[1]))(keys))
    assert set(np.unique(moved)) == {0, CAVITY, NOT_CAVITY, UNKNOWN}
    for value in (CAVITY, NOT_CAVITY, UNKNOWN):
        assert all((one == value).any() for one in moved)


@pytest.mark.slow
def test_a_network_learns_the_cavity_from_tracings_alone():
    config = TrainingConfig(steps=80, batch_size=8, learning_rate=1e-2, evaluate_every=40)
    network = SegmentationNetwork(WIDTHS, key=jax.random.key(0))

    def traced(n, seed):
        whole = discs(n, seed)
        maps = np.where(whole.labels == CAVITY, CAVITY, NOT_CAVITY).astype(np.uint8)
        maps[:, :, :8] = UNKNOWN
        return whole._replace(labels=maps)

    trained = train_segmentation(
        network, traced(64, 0), traced(16, 1), config, folder=None, seed=0, resume=False
    )
    unseen = discs(16, 2)
    assert dice(label(trained.model, unseen.frames), unseen.labels).mean() > 0.85
