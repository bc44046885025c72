import csv

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from imageio import v3 as iio

from jaxtwin.data.echonet import read_echonet
from jaxtwin.data.phantom import files as phantom
from jaxtwin.data.phantom.files import write_cohort
from jaxtwin.data.phantom.geometry import (
    SIZE,
    chords,
    frame_phases,
    frame_times,
    heart_to_image,
    image_to_heart,
    pixel_size,
)
from jaxtwin.data.phantom.heart import PhantomBeat, is_within, motion_of, outline, to_material
from jaxtwin.data.phantom.image import render, render_labelled
from jaxtwin.data.phantom.masks import label_maps
from jaxtwin.data.phantom.view import SCHEDULE, draw_view
from jaxtwin.data.simpson import ATRIUM, CAVITY, MYOCARDIUM
from tests.phantom import PHASES, make_beat


def short_view(beat, seed=0, **changes):
    """A view of a short clip, for speed."""
    view = draw_view(jax.random.key(seed), beat)
    changes = {"duration": 0.3, "frame_rate": 50.0, **changes}
    return view._replace(**{name: jnp.float32(value) for name, value in changes.items()})


@jax.jit
def revolved_volumes(beat, view, phase):
    """Volumes [mL] of the cavity and of 6 mm of wall around it, by revolving a fine image.

    The image is mapped to end diastole and compared there with the shape that the method states,
    a truncated ellipse, so neither the closed form of the volume nor the tracing is involved.
    """
    motion = jax.tree.map(lambda leaf: leaf[phase], motion_of(beat, view.heart))
    step = 0.02
    x, z = jnp.meshgrid(jnp.arange(-6, 6, step, jnp.float32), jnp.arange(-1, 14, step, jnp.float32))
    x_rest, z_rest = to_material(view.heart, motion, x, z)
    level = z_rest / view.heart.length
    border = view.heart.radius * jnp.sqrt(jnp.maximum(level * (1.24 - level), 0)) / 0.62
    cavity = (level > 0) & (level < 1) & (jnp.abs(x_rest) < border)
    wall = (level > 0.3) & (level < 1) & ~cavity & (jnp.abs(x_rest) < border + 0.6)
    ring = jnp.pi * jnp.abs(x) * step**2
    return jnp.sum(ring * cavity), jnp.sum(ring * wall)


def float32_beat(*args):
    return jax.tree.map(jnp.asarray, make_beat(*args))


def simpson_volume(lines, width, height):
    """Volume [mL] of a tracing: discs of equal thickness along the long axis."""
    scale = np.array([width, height])
    spans = (lines[:, 2:] - lines[:, :2]) * scale
    lengths = np.linalg.norm(spans, axis=1)
    return np.sum(np.pi / 4 * lengths[1:] ** 2) * lengths[0] / (len(lines) - 1)


def test_same_key_same_clip_other_key_other_clip():
    beat = make_beat()
    view = short_view(beat)
    first = render(beat, view, jax.random.key(1))
    assert first.dtype == np.uint8
    assert first.shape == (15, SIZE, SIZE)
    np.testing.assert_array_equal(first, render(beat, view, jax.random.key(1)))
    assert np.mean(first != render(beat, view, jax.random.key(2))) > 0.1


@pytest.mark.parametrize("end_diastolic, ejection_fraction", [(60, 70), (130, 55), (250, 15)])
def test_revolved_cavity_has_the_volume_of_the_beat(end_diastolic, ejection_fraction):
    beat = float32_beat(end_diastolic, ejection_fraction)
    view = short_view(beat)
    moved = {"longitudinal": 0.3, "apical": 0.8, "taper": 0.7}
    moved = view.heart._replace(**{name: jnp.float32(value) for name, value in moved.items()})
    for phase in range(0, PHASES, 8):
        tapered, _ = revolved_volumes(beat, view._replace(heart=moved), phase)
        np.testing.assert_allclose(tapered, beat.V_lv[phase], rtol=0.01)
        cavity, _ = revolved_volumes(beat, view, phase)
        np.testing.assert_allclose(cavity, beat.V_lv[phase], rtol=0.01)


def test_wall_keeps_its_volume_while_the_cavity_halves():
    beat = float32_beat(120, 60)
    view = short_view(beat)
    walls = [revolved_volumes(beat, view, phase)[1] for phase in range(0, PHASES, 8)]
    np.testing.assert_allclose(walls, walls[0], rtol=0.02)


def test_tracing_has_the_volume_of_the_beat():
    beat = make_beat()
    view = short_view(beat, foreshortening=0.0, start_phase=0.0, aspect=1.0)
    width, height = (float(size) for size in pixel_size(view))
    for phase in (0, 10, 24):
        lines = chords(beat, view, phase / PHASES * float(beat.period))
        volume = simpson_volume(lines, width, height)
        # The bow of the long axis lengthens the chords' spacing a little.
        np.testing.assert_allclose(volume, beat.V_lv[phase], rtol=0.02)


def test_foreshortening_shortens_the_tracing():
    beat = make_beat()
    volumes = []
    for foreshortening in (0.0, 0.1):
        view = short_view(beat, foreshortening=foreshortening)
        width, height = (float(size) for size in pixel_size(view))
        volumes.append(simpson_volume(chords(beat, view, 0.0), width, height))
    np.testing.assert_allclose(volumes[1] / volumes[0], 0.9, rtol=0.01)


def test_mitral_leaflets_open_into_the_ventricle():
    """The leaflets' tips reach up into the cavity in early filling, and leave it in systole."""
    beat = make_beat()
    dark = {"haze": -90.0, "noise": -90.0, "leaflets": -8.0, "drift": 0.0, "start_phase": 0.0}
    view = short_view(beat, 0, **dark, duration=0.9)
    frames = render(beat, view, jax.random.key(0)).astype(float)
    brightest = {}
    for name, time in {"systole": 0.2, "filling": 0.48}.items():
        # Chords from 15% to 25% of the long axis above the annulus, walls left out.
        inner = chords(beat, view, time)[16:18]
        centre, half = (inner[:, :2] + inner[:, 2:]) / 2, (inner[:, 2:] - inner[:, :2]) / 2
        points = centre[None] + np.linspace(-0.75, 0.75, 21)[:, None, None] * half[None]
        columns, rows = np.round(points).astype(int).reshape(-1, 2).T
        brightest[name] = frames[round(time * 50), rows, columns].max()
    assert brightest["filling"] > brightest["systole"] + 60


def test_image_and_heart_planes_are_inverse_maps():
    view = short_view(make_beat())
    x, z = jnp.float32([-3.0, 0.0, 2.0]), jnp.float32([1.0, 5.0, 9.0])
    drift = jnp.float32(0.2)
    back = image_to_heart(view, drift, *heart_to_image(view, drift, x, z))
    np.testing.assert_allclose(jnp.stack(back), jnp.stack([x, z]), atol=1e-4)


def test_walls_are_bright_blood_is_dark_and_the_outside_is_black():
    beat = make_beat()
    view = short_view(beat, shadow_loss=np.full(3, -1.0), drift=0.0, start_phase=0.0, haze=-60.0)
    frame = render(beat, view, jax.random.key(0))[0].astype(float)
    width, height = (float(size) for size in pixel_size(view))
    chord = chords(beat, view, 0.0)[13]
    blood = (chord[:2] + chord[2:]) / 2
    towards_septum = (chord[:2] - chord[2:]) / np.linalg.norm(chord[:2] - chord[2:])
    septum = chord[:2] + towards_septum * float(view.heart.wall) / 2 / width

    def brightness(point):
        column, row = np.round(point).astype(int)
        return frame[row - 1 : row + 2, column - 1 : column + 2].mean()

    assert brightness(septum) > brightness(blood) + 60

    across = (np.arange(SIZE)[None, :] - (SIZE - 1) / 2) * width
    down = (np.arange(SIZE)[:, None] - float(view.top)) * height
    outside = np.hypot(across, down) > 1.001 * float(view.depth)
    outside |= np.abs(np.arctan2(across, down)) > 1.001 * float(view.half_angle)
    assert 0.2 < outside.mean() < 0.8
    np.testing.assert_array_equal(frame[outside], 0)


def test_clips_differ_in_rate_and_length():
    beat = make_beat()
    views = [draw_view(jax.random.key(seed), beat) for seed in range(40)]
    rates = np.array([float(view.frame_rate) for view in views])
    assert np.all((rates >= 18) & (rates <= 138))
    assert 0.4 < np.mean(rates == 50) < 0.95
    np.testing.assert_allclose(rates, np.round(rates, 2), atol=1e-5)
    lengths = [len(frame_times(view)) / view.frame_rate for view in views]
    assert min(lengths) > 0.9 and max(lengths) < 6.1


@pytest.fixture
def cohort(monkeypatch):
    """Arguments of `write_cohort` for three short clips."""

    def short(key, beat, variety):
        return draw_view(key, beat, variety)._replace(duration=jnp.float32(0.25))

    monkeypatch.setattr(phantom, "draw_view", short)
    beats = [make_beat(80, 60, 0.7), make_beat(120, 40, 1.0), make_beat(200, 25, 1.2)]
    stacked = PhantomBeat(*(np.stack(leaves) for leaves in zip(*beats, strict=True)))
    theta = {"T_c": stacked.period, "E_max": np.array([2.0, 1.0, 0.7])}
    return {"beats": stacked, "theta": theta, "splits": ["TRAIN", "VAL", "TEST"], "seed": 3}


def read_table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_layout_is_that_of_echonet(tmp_path, cohort):
    write_cohort(tmp_path, **cohort)
    rows = read_table(tmp_path / "FileList.csv")
    assert list(rows[0]) == [
        *("FileName", "EF", "ESV", "EDV"),
        *("FrameHeight", "FrameWidth", "FPS", "NumberOfFrames", "Split"),
    ]
    assert [row["Split"] for row in rows] == cohort["splits"]
    for row, volumes in zip(rows, cohort["beats"].V_lv, strict=True):
        assert float(row["EDV"]) == pytest.approx(volumes.max())
        assert float(row["ESV"]) == pytest.approx(volumes.min())
        assert float(row["EF"]) == pytest.approx(100 * (1 - volumes.min() / volumes.max()))
        path = tmp_path / "Videos" / f"{row['FileName']}.avi"
        frames = iio.imread(path, plugin="pyav")
        assert frames.shape == (int(row["NumberOfFrames"]), SIZE, SIZE, 3)
        assert np.ptp(frames, axis=-1).max() == 0
        assert frames[:, 40:80, 40:80].max() > 80
        assert iio.immeta(path, plugin="pyav")["fps"] == pytest.approx(float(row["FPS"]))

    tracings = read_table(tmp_path / "VolumeTracings.csv")
    assert list(tracings[0]) == ["FileName", "X1", "Y1", "X2", "Y2", "Frame"]
    assert {row["FileName"] for row in tracings} == {row["FileName"] + ".avi" for row in rows}
    assert len(tracings) == 3 * 2 * 21
    truth = read_table(tmp_path / "Theta.csv")
    assert [float(row["E_max"]) for row in truth] == [2.0, 1.0, 0.7]


def test_vitals_are_read_back(tmp_path, cohort):
    vitals = {"period": cohort["beats"].period + 0.01, "systolic": np.array([120.0, 90.5, 150.0])}
    write_cohort(tmp_path, **cohort, vitals=vitals)
    for i, record in enumerate(read_echonet(tmp_path).records):
        assert record.vitals.period == pytest.approx(vitals["period"][i], rel=1e-5)
        assert record.vitals.systolic == vitals["systolic"][i]
        assert np.isnan(record.vitals.diastolic)
    with pytest.raises(ValueError, match="different inputs"):
        write_cohort(tmp_path, **cohort)


def test_resumed_cohort_equals_an_unbroken_one(tmp_path, cohort, monkeypatch):
    write_cohort(tmp_path / "unbroken", **cohort)
    rendered = []

    def failing(beat, view, key):
        if rendered:
            raise KeyboardInterrupt
        rendered.append(beat)
        return render_labelled(beat, view, key)

    monkeypatch.setattr(phantom, "render_labelled", failing)
    monkeypatch.setattr(phantom, "THREADS", 1)
    with pytest.raises(KeyboardInterrupt):
        write_cohort(tmp_path / "broken", **cohort)
    assert not (tmp_path / "broken" / "FileList.csv").exists()
    (video,) = (tmp_path / "broken" / "Videos").iterdir()
    written = video.stat().st_mtime_ns

    monkeypatch.setattr(phantom, "render_labelled", render_labelled)
    write_cohort(tmp_path / "broken", **cohort)
    assert video.stat().st_mtime_ns == written
    assert contents(tmp_path / "broken") == contents(tmp_path / "unbroken")


def test_files_hold_the_rendered_clip_and_missing_ones_are_made_again(
    tmp_path, cohort, monkeypatch
):
    rendered = []

    def keeping(beat, view, key):
        rendered.append(render_labelled(beat, view, key))
        return rendered[-1]

    monkeypatch.setattr(phantom, "render_labelled", keeping)
    monkeypatch.setattr(phantom, "THREADS", 1)
    write_cohort(tmp_path, **cohort)
    before = contents(tmp_path)
    for clip, (frames, labels) in enumerate(rendered):
        seen = iio.imread(tmp_path / f"Videos/PHANTOM{clip:06d}.avi", plugin="pyav")[..., 0]
        # One picture is encoded again and again: every frame must show its own brightness.
        difference = np.abs(seen[:, None].astype(float) - frames).mean(axis=(2, 3))
        np.testing.assert_array_equal(difference.argmin(axis=1), np.arange(len(frames)))
        assert np.diag(difference).max() < 2
        with np.load(tmp_path / f"Masks/PHANTOM{clip:06d}.npz") as arrays:
            np.testing.assert_array_equal(arrays["labels"], labels)

    (tmp_path / "FileList.csv").unlink()
    (tmp_path / "Masks/PHANTOM000001.npz").unlink()
    written = (tmp_path / "Videos/PHANTOM000001.avi").stat().st_mtime_ns
    write_cohort(tmp_path, **cohort)
    assert len(rendered) == 4
    assert contents(tmp_path) == before
    assert (tmp_path / "Videos/PHANTOM000001.avi").stat().st_mtime_ns == written


def test_clip_does_not_depend_on_the_size_of_the_cohort(tmp_path, cohort):
    write_cohort(tmp_path / "three", **cohort)
    one = {
        "beats": PhantomBeat(*(leaf[:1] for leaf in cohort["beats"])),
        "theta": {name: values[:1] for name, values in cohort["theta"].items()},
        "splits": cohort["splits"][:1],
    }
    write_cohort(tmp_path / "one", **{**cohort, **one})
    name = "PHANTOM000000.avi"
    assert contents(tmp_path / "one")[name] == contents(tmp_path / "three")[name]


def test_folder_of_another_cohort_is_refused(tmp_path, cohort):
    write_cohort(tmp_path, **cohort)
    with pytest.raises(ValueError, match="different seed"):
        write_cohort(tmp_path, **{**cohort, "seed": 4})
    theta = {**cohort["theta"], "E_max": np.array([2.0, 1.0, 0.8])}
    with pytest.raises(ValueError, match="different inputs"):
        write_cohort(tmp_path, **{**cohort, "theta": theta})


def test_folder_of_real_data_is_refused(tmp_path, cohort):
    (tmp_path / "FileList.csv").write_text("FileName,EF\n")
    with pytest.raises(ValueError, match="no phantom"):
        write_cohort(tmp_path, **cohort)
    assert (tmp_path / "FileList.csv").read_text() == "FileName,EF\n"


def test_wrong_lengths_and_splits_teach(tmp_path, cohort):
    with pytest.raises(ValueError, match="one value per clip"):
        write_cohort(tmp_path, **{**cohort, "splits": ["TRAIN"]})
    with pytest.raises(ValueError, match="TRAIN, VAL or TEST"):
        write_cohort(tmp_path, **{**cohort, "splits": ["TRAIN", "VAL", "test"]})
    none = {
        "beats": PhantomBeat(*(leaf[:0] for leaf in cohort["beats"])),
        "theta": {name: values[:0] for name, values in cohort["theta"].items()},
        "splits": [],
    }
    with pytest.raises(ValueError, match="at least one clip"):
        write_cohort(tmp_path, **{**cohort, **none})


def test_textbook_views_show_nothing_in_the_cavity_and_no_overlay():
    view = draw_view(jax.random.key(0), make_beat())
    assert float(view.outflow) == 0 and float(view.overlays) == 0 and not view.mirrored
    np.testing.assert_array_equal(view.rhythm, 1.0)
    assert float(view.top) == -5 and float(view.zoom) == 1


def test_variety_widens_every_spread():
    beat = make_beat()
    plain, varied = (
        [draw_view(jax.random.key(seed), beat, variety) for seed in range(60)]
        for variety in (0.0, 1.0)
    )
    for name in set(SCHEDULE) & set(varied[0]._fields):
        before, after = (
            np.std([np.asarray(getattr(view, name)).ravel()[0] for view in views])
            for views in (plain, varied)
        )
        assert after >= 0.9 * before, name
    assert 0 < np.mean([bool(view.mirrored) for view in varied]) < 0.5


def test_an_irregular_rhythm_changes_diastole_only():
    beat = make_beat(period=0.8)
    rhythm = np.ones(24, np.float32)
    rhythm[1] = 1.5
    view = short_view(beat, duration=3.0, start_phase=0.0, rhythm=rhythm)
    times, phases = frame_times(view), frame_phases(view, 0.8)
    np.testing.assert_allclose(phases[times < 0.79], times[times < 0.79] / 0.8, atol=1e-3)
    second = (times > 0.81) & (times < 1.99)
    assert np.all(np.diff(phases[second]) > 0)
    early = second & (times < 0.8 + 0.45 * 0.8)
    np.testing.assert_allclose(phases[early], (times[early] - 0.8) / 0.8, atol=1e-3)
    np.testing.assert_allclose(
        phases[times > 2.01][:5], (times[times > 2.01][:5] - 2.0) / 0.8, atol=2e-3
    )


def test_a_mirrored_clip_is_the_mirror_image_with_its_labels_and_tracing():
    beat = make_beat()
    view = short_view(beat, duration=0.1)
    mirror = view._replace(mirrored=jnp.array(True))
    key = jax.random.key(0)
    np.testing.assert_array_equal(render(beat, mirror, key), render(beat, view, key)[:, :, ::-1])
    np.testing.assert_array_equal(label_maps(beat, mirror), label_maps(beat, view)[:, :, ::-1])
    across = chords(beat, view, 0.0)[:, [0, 2]]
    np.testing.assert_allclose(chords(beat, mirror, 0.0)[:, [0, 2]], SIZE - 1 - across, atol=1e-4)


@pytest.mark.parametrize("variety", [0.0, 1.0])
def test_labels_of_a_rendered_clip_are_its_label_maps(variety):
    beat = make_beat()
    view = draw_view(jax.random.key(1), beat, variety)._replace(duration=jnp.float32(0.7))
    labels = render_labelled(beat, view, jax.random.key(0)).labels
    # Two programs may round differently at a border.
    assert np.mean(labels != label_maps(beat, view)) < 1e-5
    assert set(np.unique(labels)) == {0, CAVITY, MYOCARDIUM, ATRIUM}


def test_points_within_a_margin_are_those_of_the_outline():
    heart = short_view(make_beat()).heart
    x, z = np.meshgrid(np.linspace(-6, 6, 240), np.linspace(-2, 16, 360))
    x, z = x.astype(np.float32), z.astype(np.float32)
    left = np.asarray(jax.jit(outline)(heart, x, z).left)
    for margin in (0.0, float(heart.wall), 2.0):
        within = np.asarray(jax.jit(is_within)(heart, x, z, margin))
        clear = np.abs(left - margin) > 1e-4  # not within rounding
        np.testing.assert_array_equal(within[clear], left[clear] < margin)
        assert 0.05 < within.mean() < 0.6


def test_labels_agree_with_the_tracing_and_the_picture():
    beat = make_beat()
    view = short_view(beat, shadow_loss=np.full(3, -1.0), haze=-60.0, duration=0.1)
    labels, frames = label_maps(beat, view), render(beat, view, jax.random.key(0))
    lines = chords(beat, view, 0.0)
    for line in lines[3:-2]:
        inside = np.round(np.linspace(line[:2], line[2:], 9)[1:-1]).astype(int)
        assert (labels[0, inside[:, 1], inside[:, 0]] == CAVITY).all()
    grey = frames[0].astype(float)
    assert grey[labels[0] == MYOCARDIUM].mean() > 2 * grey[labels[0] == CAVITY].mean()
    # Below the annulus is the atrium.
    end = lines[0, 2:] + 4 * (lines[0, 2:] - lines[0, :2]) / np.hypot(
        *(lines[0, 2:] - lines[0, :2])
    )
    column, row = np.round(end).astype(int)
    assert labels[0, row, column] == ATRIUM


def test_overlays_are_burnt_in_where_the_view_says():
    beat = make_beat()
    view = short_view(beat, duration=0.4)
    key = jax.random.key(0)
    plain = render(beat, view, key)
    for item in range(4):
        overlay = np.ones(4, np.float32)
        overlay[item] = 0.1
        shown = view._replace(overlay=jnp.asarray(overlay), overlays=jnp.float32(0.4))
        assert 0 < np.mean(render(beat, shown, key) != plain) < 0.12
