"""Verdicts: limits with a given fraction of false alarms, and reasons."""

import numpy as np
import pytest

from jaxtwin.analysis.verdict import FAR, Screen, refuse

NAMES = ("picture", "curve", "rate")
REASONS = ("a strange picture", "a strange curve", "a strange rate")


def signs(seed, n):
    random = np.random.default_rng(seed)
    # One heavy tail, one bounded, and one that follows another.
    first = np.exp(random.normal(size=n))
    return np.column_stack([first, random.uniform(size=n), first + 0.1 * random.normal(size=n)])


@pytest.mark.parametrize("false_alarms", [0.02, 0.05, 0.2])
def test_as_many_good_clips_are_doubted_as_was_asked_for(false_alarms, monkeypatch):
    monkeypatch.setattr("jaxtwin.analysis.verdict.MARGIN", 0.0)
    screen = Screen.fit(NAMES, signs(0, 2_000), false_alarms=false_alarms)
    seen = [screen.judge(row, REASONS).kind for row in signs(0, 2_000)]
    assert np.mean([kind != "trusted" for kind in seen]) == pytest.approx(false_alarms, abs=2e-3)
    others = [screen.judge(row, REASONS).kind for row in signs(1, 2_000)]
    assert np.mean([kind != "trusted" for kind in others]) == pytest.approx(false_alarms, abs=0.03)


def test_the_limits_are_a_tenth_beyond_the_clips_they_were_set_on():
    table = signs(0, 500)
    screen = Screen.fit(NAMES, table, false_alarms=1e-9)
    centre = np.asarray(screen.centre)
    np.testing.assert_allclose(screen.limit - centre, 1.1 * (table.max(axis=0) - centre))
    assert all(screen.judge(row, REASONS).kind == "trusted" for row in table)


def test_a_verdict_has_its_reasons_the_strongest_first():
    screen = Screen.fit(NAMES, signs(0, 500))
    usual = np.asarray(screen.centre)
    assert screen.judge(usual, REASONS) == ("trusted", (), dict.fromkeys(NAMES, 0.0))
    room = np.asarray(screen.limit) - usual
    doubtful = screen.judge(usual + room * (1.2, 1.4, 0.9), REASONS)
    assert doubtful.kind == "doubtful"
    assert doubtful.reasons == ("a strange curve", "a strange picture")
    assert doubtful.signs["rate"] == pytest.approx(0.9)
    refused = screen.judge(usual + room * (0, 0, FAR + 0.1), REASONS)
    assert (refused.kind, refused.reasons) == ("refused", ("a strange rate",))


def test_a_sign_that_is_not_a_number_is_a_reason_to_refuse():
    screen = Screen.fit(NAMES, signs(0, 500))
    verdict = screen.judge(np.array([np.nan, 0.5, 1.0]), REASONS)
    assert (verdict.kind, verdict.reasons) == ("refused", ("a strange picture",))
    assert refuse("no heart").reasons == ("no heart",)


def test_a_sign_without_spread_gets_some_room():
    table = signs(0, 100)
    table[:, 1] = 0.0
    screen = Screen.fit(NAMES, table)
    assert np.asarray(screen.limit)[1] > 0
    assert screen.judge(table[table[:, 0].argsort()[50]], REASONS).kind == "trusted"


def test_some_signs_of_good_clips_may_be_missing():
    table = signs(0, 200)
    table[:3, 1] = np.nan
    screen = Screen.fit(NAMES, table, false_alarms=0.1)
    assert np.isfinite(np.asarray(screen.limit)).all()
    kinds = [screen.judge(row, REASONS).kind for row in table]
    assert kinds[:3] == ["refused"] * 3 and 0.02 < np.mean([k != "trusted" for k in kinds]) < 0.11


def test_too_few_clips_or_names_are_refused():
    with pytest.raises(ValueError, match=r"signs of shape \(3, 3\) with 3 names: expected"):
        Screen.fit(NAMES, signs(0, 3))
    with pytest.raises(ValueError, match="with 2 names"):
        Screen.fit(NAMES[:2], signs(0, 10))
