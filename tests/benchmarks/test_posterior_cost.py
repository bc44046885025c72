"""The cost of posteriors: without sbi its row is left out, and all see the same patients."""

import json
import sys

import pytest

from benchmarks import posterior_cost
from benchmarks.rivals import Missing


def test_without_sbi_its_row_is_left_out(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(Missing, match="bench"):
        posterior_cost.sbi(None, 1, 1, 1)
    own = posterior_cost.row("ours", draws=7)
    monkeypatch.setattr(posterior_cost, "curves", lambda n: (None, None))
    monkeypatch.setattr(posterior_cost, "ours", lambda *given: [own])
    monkeypatch.setattr(sys, "argv", ["posterior_cost", "--json", str(tmp_path / "rows.json")])
    posterior_cost.main()
    told = json.loads((tmp_path / "rows.json").read_text())
    assert told["rows"] == [own] and tuple(own) == posterior_cost.HEADER
    assert told["notes"] == ['sbi: skipped, not installed: torch (pip install -e ".[bench]")']
    assert "| ours | – |" in capsys.readouterr().out


def test_a_first_call_is_kept_apart():
    left = iter((0, 1))
    first, again, found = posterior_cost.twice(lambda: next(left))
    assert found == 1 and first >= 0 and again >= 0
