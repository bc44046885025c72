"""What was found in a recording: JSON, summary, figure, moving picture, reasons."""

import json

import equinox as eqx
import imageio.v3 as iio
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtwin.analysis.verdict import Verdict, refuse
from jaxtwin.commands.curve_task import CUFF, curve_task
from jaxtwin.commands.twin_figures import (
    draw_echo_twin,
    over_time,
    scaled_volume,
    write_film,
)
from jaxtwin.data.base import EchoVideo
from jaxtwin.data.echonet import Record
from jaxtwin.data.vitals import UNKNOWN
from jaxtwin.imaging.calibration import CurveCalibration, VolumeCurve, curve_features, turned
from jaxtwin.imaging.network import SegmentationNetwork
from jaxtwin.imaging.orientation import OrientationNetwork
from jaxtwin.imaging.segmenter import Segmenter
from jaxtwin.methods.base import Estimate
from jaxtwin.methods.least_squares import LeastSquares
from jaxtwin.models.left_heart import NINE
from jaxtwin.twin.echo import EchoTwin, TwinBuilder, as_curves, with_cuff
from jaxtwin.twin.measurements import ClipMeasurements, measure_clips
from jaxtwin.twin.report import describe_echo_twin, summary_of_echo
from jaxtwin.twin.signs import SIGNS, Limits, reason
from tests.imaging.test_quality import clip, measured

CURVE = VolumeCurve(
    volume=turned(80 + 30 * np.cos(2 * np.pi * np.arange(80) / 80)),
    error=np.full(80, 4.0),
    period=0.8,
    period_error=0.01,
    EDV=110.0,
    ESV=50.0,
    EF=54.5,
    EDV_error=9.0,
    ESV_error=6.0,
    EF_error=4.0,
)


@pytest.fixture(scope="module")
def found():
    verdict = Verdict("doubtful", ("the outline jumps", "the picture jumps"), {"jump": 1.5})
    return EchoTwin(verdict, measured(*clip()), CURVE, None)


def test_the_json_has_verdict_measurements_and_frames(found):
    told = json.loads(json.dumps(describe_echo_twin(found), allow_nan=False))
    assert (told["verdict"], told["reasons"]) == ("doubtful", list(found.verdict.reasons))
    assert told["measured"]["EDV"] == {"value": 110.0, "error": 9.0, "unit": "mL"}
    assert told["measured"]["period"]["unit"] == "s" and told["pixel_mm"] is None
    assert len(told["frames"]["volume"]) == 75 and len(told["curve"]["volume"]) == 80
    assert "parameters" not in told
    words = summary_of_echo(found)
    assert words.startswith("doubtful: the outline jumps\n  also: the picture jumps\n")
    assert "does not state the size of a pixel" in words


def test_a_cuff_is_beside_the_curve_and_in_the_json(found):
    told = describe_echo_twin(found._replace(cuff={"systolic": 118.0}))
    assert told["cuff"] == {"systolic": {"value": 118.0, "unit": "mmHg"}}
    assert describe_echo_twin(found)["cuff"] == {}
    words = summary_of_echo(found._replace(cuff={"systolic": 118.0}))
    assert "given systolic 118 mmHg" in " ".join(words.split())

    task = curve_task(NINE, beside=CUFF)
    beside = {"systolic": np.array([118.0, np.nan]), "diastolic": np.array([74.0, 81.0])}
    given = task.check(as_curves(task, [CURVE, CURVE], beside))
    rows = task.rows(given)
    np.testing.assert_array_equal(rows.values[:, -2:], [[118, 74], [np.nan, 81]])
    # Each pressure is followed by whether it was measured.
    shown = np.stack([task.seen(jnp.asarray(row)) for row in rows.values])
    np.testing.assert_array_equal(shown[:, -4:], [[118, 1, 74, 1], [np.nan, 0, 81, 1]])
    alone = task.rows(task.check(as_curves(task, [CURVE]))).values
    assert np.isnan(alone[:, -2:]).all() and np.isfinite(alone[:, :-2]).all()
    assert as_curves(curve_task(NINE), [CURVE]).beside is None


@pytest.mark.parametrize(
    ("value", "kind"), [(118.0, "trusted"), (142.0, "doubtful"), (190.0, "refused")]
)
def test_a_cuff_that_is_far_from_the_twin_is_a_reason_to_doubt(value, kind):
    got = Estimate(None, None, np.array([True]), {"systolic": np.array([120.0])})
    told = with_cuff(Verdict("trusted", (), {"still": 0.1}), got, {"systolic": value})
    assert told.kind == kind and (kind == "trusted") == (not told.reasons)
    assert told.signs == {"still": 0.1, "systolic": pytest.approx(abs(value - 120) / 20)}
    assert with_cuff(Verdict("refused", ("x",), {}), got, {"systolic": value}).kind == "refused"


def test_a_refused_clip_without_a_beat_has_no_numbers():
    frames, labels = clip(still=True)
    nothing = EchoTwin(refuse("no heartbeat"), measured(frames, labels), None, None)
    told = json.loads(json.dumps(describe_echo_twin(nothing), allow_nan=False))
    assert told["measured"] is None and "curve" not in told and told["verdict"] == "refused"
    assert draw_echo_twin(nothing).get_suptitle() == "REFUSED: no heartbeat"


def test_the_measured_curve_is_drawn_where_the_frames_are(found):
    middle, raw = over_time(found, CURVE.volume), scaled_volume(found)
    # The clip's areas follow a cosine; volumes go with their power of 3/2, so not exactly.
    assert np.corrcoef(middle, raw)[0, 1] > 0.99
    assert raw.min() == pytest.approx(CURVE.ESV, abs=3) and raw.max() == pytest.approx(110, abs=3)


def test_the_film_moves(found, tmp_path):
    write_film(tmp_path / "film.gif", found)
    film = iio.imread(tmp_path / "film.gif")
    assert 20 <= len(film) <= 40 and film.shape[2] > 500
    assert np.abs(np.diff(film[..., 0].astype(float), axis=0)).max(axis=(1, 2)).min() > 50


def test_every_sign_has_a_reason():
    words = [reason(name, CURVE, 3.2) for name in SIGNS]
    assert len(set(SIGNS)) == len(SIGNS) and all(words)
    assert "75 beats" in reason("rare", CURVE, 3.2) and "3.2" in reason("misfit", CURVE, 3.2)


def test_a_clip_that_cannot_be_read_is_named_and_spoils_no_other(tmp_path, capsys):
    broken = tmp_path / "broken.avi"
    broken.write_bytes(b"RIFF")
    record = Record("broken", broken, 100.0, 40.0, 60.0, 50.0, 100, "TRAIN", UNKNOWN)
    found = measure_clips(
        Segmenter(SegmentationNetwork((4, 4, 4, 4), key=jax.random.key(0)), 0.0),
        OrientationNetwork(key=jax.random.key(0)),
        [record],
        phantoms=False,
    )
    assert capsys.readouterr().out.startswith("skipped broken: ")
    assert found.names == ["broken"] and not found.found(False, (0.0, np.inf)).any()


def measuring(EDV: float) -> CurveCalibration:
    """A calibration that finds this end-diastolic volume in every clip [mL]."""
    some = curve_features(measured(*clip()))
    assert some is not None
    blank = CurveCalibration.blank(len(some.values), 80, 3)
    blank = eqx.tree_at(lambda c: (c.size.spread, c.shape.spread), blank, replace_fn=np.ones_like)
    return eqx.tree_at(lambda c: c.size.level, blank, np.log([EDV]))


def test_a_volume_that_no_ventricle_has_is_refused(monkeypatch):
    monkeypatch.setattr(Segmenter, "measure", lambda *_: measured(*clip()))
    learnt = LeastSquares().learn(curve_task(NINE))
    builder = TwinBuilder(
        Segmenter(SegmentationNetwork((4, 4, 4, 4), key=jax.random.key(0)), 0.0),
        OrientationNetwork(key=jax.random.key(0)),
        (measuring(1e30), measuring(1e30)),
        learnt,
        Limits.blank(),
        (learnt, learnt),
        {},
    )
    frames, _ = clip()
    twin, got = builder.examine(EchoVideo(frames, np.arange(len(frames)) / 50))
    assert got is None and twin.verdict.kind == "refused"
    assert "end-diastolic volume of 1e+30 mL: expected 1 to 1000 mL" in twin.verdict.reasons[0]


def test_clips_with_an_impossible_volume_are_not_learnt_from():
    features = curve_features(measured(*clip()))
    assert features is not None
    table = np.stack([features.values] * 3)
    table[1, :] = np.nan  # without a beat
    clips = ClipMeasurements(
        ["a", "b", "c"],
        quality=np.zeros((3, 8)),
        picture=np.zeros((3, 4)),
        ways=np.zeros((3, 8)),
        features=np.stack([table, table]),
        period=np.full(3, 0.8),
        period_error=np.full(3, 0.01),
    )
    curves, kept = clips.possible_curves(measuring(110.0), False, (0.4, 1.7))
    assert [round(curve.EDV) for curve in curves] == [110, 110]
    assert kept.tolist() == [True, False, True]
    curves, kept = clips.possible_curves(measuring(0.2), False, (0.4, 1.7))
    assert not curves and not kept.any()
